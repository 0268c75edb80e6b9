//! Placement by the model's predictions: looks up, never infers, never waits.
//!
//! What the model has not said yet, or may not say at the level of trust in force, the fallback placement decides in the same call. Which of
//! the two is responsible for a block follows from a hash of its *stretch*: a file, or 1 MiB of a larger one, so that the two can
//! be compared on a load of a single file too. How they share the log heads:
//!
//! | level | classes |
//! |---|---|
//! | fallback, learning | the fallback's |
//! | collaboration, recommendation | those of lifetime; a class of a fallback that means something else goes where its blocks have turned out to belong |
//!
//! Heads of their own for either at collaboration would leave both with half as many as they need, and the comparison would say little about either.
//!
//! Whose data it is also says who pays: evidence for trust is blocks moved per block written, for either's stretches. That is the write
//! amplification of each half, whatever segments the blocks are in and whoever chose the victims.

use std::sync::Arc;

use gleanfs_gc::advisor::{Decider, TrustLevel};
use gleanfs_gc::features::PlacementRow;
use gleanfs_gc::features::history::History;
use gleanfs_gc::placement::{DiscardFacts, FileClasses, LIFETIME_CLASSES, MoveFacts, Opinions, Placement, WriteFacts};
use gleanfs_gc::segment::SegmentFacts;
use parking_lot::Mutex;

use super::scores::{Choices, Placed, Scores};
use super::shared::{Authority, Evidence, Shared};

/// Blocks of a stretch.
const STRETCH_BLOCKS: u64 = 256;

/// A model that had to earn its say goes so many classes beyond the fallback's at most, unless it was examined on this mount's own load. With one, a good model keeps nearly all that it gains, and one that
/// answers anything costs a tenth where it would have cost as much again as everything.
const LEASH_CLASSES: u8 = 1;

/// The placement that decides when the model does not; shared with whoever may replace it.
pub type Fallback = Arc<Mutex<Box<dyn Placement>>>;

/// How the heads are shared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sharing {
    Alone,
    Together,
}

/// See the module.
pub struct LearnedPlacement {
    shared: Arc<Shared>,
    fallback: Fallback,
    history: History,
    files: FileClasses,
    scores: Scores,
    heads: u8,
    /// Line of models and fallback that `scores` speak of.
    lineage: u64,
    fallbacks: u64,
    fallback_has_lifetimes: bool,
    evidence: Evidence,
    /// Of the last choice.
    classes: u8,
    by_model: bool,
    opinions: Opinions,
}

impl LearnedPlacement {
    pub fn new(shared: Arc<Shared>, fallback: Fallback, heads: u8) -> Self {
        let (classes, fallback_has_lifetimes) = {
            let fallback = fallback.lock();
            (fallback.classes(), fallback.has_lifetime_classes())
        };
        Self {
            fallback_has_lifetimes,
            lineage: shared.lineage(),
            fallbacks: shared.fallbacks(),
            shared,
            fallback,
            history: History::default(),
            files: FileClasses::default(),
            scores: Scores::new(),
            heads,
            evidence: Evidence::default(),
            classes,
            by_model: false,
            opinions: Opinions::default(),
        }
    }

    fn sharing(&self) -> Sharing {
        match self.shared.level() {
            TrustLevel::Fallback | TrustLevel::Learning => Sharing::Alone,
            TrustLevel::Collaboration | TrustLevel::Recommendation => Sharing::Together,
        }
    }

    /// Makes the choice from what both say.
    fn choose(&mut self, by: Decider, model: Option<u8>, fallback: u8, fallback_classes: u8, sharing: Sharing) -> u8 {
        self.opinions = Opinions { model, rule: Some(fallback) };
        let model = model.filter(|_| by == Decider::Model);
        self.by_model = model.is_some() && sharing != Sharing::Alone;
        match sharing {
            Sharing::Alone => {
                self.classes = fallback_classes;
                fallback
            }
            Sharing::Together => {
                self.classes = LIFETIME_CLASSES;
                let rule = self.lifetime_class_of(fallback, fallback_classes);
                model.map_or(rule, |model| self.leashed(model, rule))
            }
        }
    }

    fn choices(&self, model: u8, fallback: u8, fallback_classes: u8) -> Choices {
        let leashed = self.leashed(model, self.lifetime_class_of(fallback, fallback_classes));
        Choices { model, leashed, fallback }
    }

    /// The model's class, or of those that are near enough to the fallback's the nearest.
    fn leashed(&self, model: u8, rule: u8) -> u8 {
        match self.shared.authority {
            // Where the rule knows nothing, as of new files, it calls all alike, and what is worth knowing is further away than that.
            Authority::Earned(_) if self.shared.is_examined() => model,
            Authority::Earned(_) => model.clamp(rule.saturating_sub(LEASH_CLASSES), rule + LEASH_CLASSES),
            Authority::Forced => model,
        }
    }

    /// The class, as the model and as the fallback mean it, of a segment that this head filled.
    fn class_of_head(&self, head: u8, sharing: Sharing) -> FromClass {
        match sharing {
            Sharing::Alone => FromClass { model: head, fallback: head },
            Sharing::Together => {
                let model = first_class_of(head, LIFETIME_CLASSES, self.heads);
                if self.fallback_has_lifetimes {
                    return FromClass { model, fallback: model };
                }
                let fallback_classes = self.fallback.lock().classes();
                let is_first = model == self.scores.lifetime_class_of(0, fallback_classes);
                // Anything but the fallback's class 0, of which some policies keep statistics.
                FromClass { model, fallback: u8::from(!is_first) }
            }
        }
    }

    fn lifetime_class_of(&self, fallback: u8, fallback_classes: u8) -> u8 {
        if self.fallback_has_lifetimes { fallback } else { self.scores.lifetime_class_of(fallback, fallback_classes) }
    }

    /// Both opinions are known: remembers them for a sample, hands over what there is to tell.
    fn note(&mut self, place: Placed, choices: Option<Choices>, by: Decider) {
        let Placed { ino, block, blocks, is_move, now, live_blocks } = place;
        self.scores.placed(&place, choices);
        // While nothing is left to the model yet, work is told apart as it will be: so it is known how the two groups differ by themselves.
        let group = if self.shared.level() == TrustLevel::Learning {
            TrustLevel::Collaboration.assign(stretch(ino, block))
        } else {
            by
        };
        let of = self.evidence.of(group);
        if is_move {
            of.moved += u64::from(blocks.max(1));
        } else {
            of.written += u64::from(blocks.max(1));
        }
        let prices = self.scores.take();
        self.evidence.prices.add(&prices);
        (self.evidence.now, self.evidence.live_blocks) = (now, live_blocks);
        self.shared.hand_over(&mut self.evidence);
    }

    fn look(&mut self, row: &PlacementRow) -> Option<u8> {
        let lineage = self.shared.lineage();
        if lineage != self.lineage {
            self.lineage = lineage;
            self.scores.model_changed();
        }
        let fallbacks = self.shared.fallbacks();
        if fallbacks != self.fallbacks {
            self.fallbacks = fallbacks;
            self.fallback_has_lifetimes = self.fallback.lock().has_lifetime_classes();
            self.scores.fallback_changed();
        }
        self.shared.predicted(row)
    }

    fn assigned(&self, ino: u64, block: u64) -> Decider {
        self.shared.assign(stretch(ino, block))
    }
}

/// Class of a segment in either's terms.
struct FromClass {
    model: u8,
    fallback: u8,
}

/// What decides who is responsible for a block.
fn stretch(ino: u64, block: u64) -> u64 {
    ino.wrapping_mul(0xd6e8_feb8_6659_fd93) ^ (block / STRETCH_BLOCKS)
}

/// The first class that `placement::merge` maps to this head.
fn first_class_of(head: u8, classes: u8, heads: u8) -> u8 {
    if heads >= classes {
        return head.min(classes - 1);
    }
    let first = (u16::from(head) * u16::from(classes)).div_ceil(u16::from(heads.max(1)));
    (first as u8).min(classes - 1)
}

impl Placement for LearnedPlacement {
    /// The fallback's: it is what users choose by name.
    fn name(&self) -> &'static str {
        self.fallback.lock().name()
    }

    fn classes(&self) -> u8 {
        self.classes
    }

    fn user_write(&mut self, w: &WriteFacts) -> u8 {
        self.shared.sampled.written(w);
        let sharing = self.sharing();
        let row = self.history.user_row(w);
        let model = self.look(&row).map(|class| self.files.class(w, class));
        let (fallback, fallback_classes) = {
            let mut placement = self.fallback.lock();
            (placement.user_write(w), placement.classes())
        };
        let by = self.assigned(w.ino, w.first_block);
        let class = self.choose(by, model, fallback, fallback_classes, sharing);
        let choices = model.map(|model| self.choices(model, fallback, fallback_classes));
        self.note(w.into(), choices, by);
        class
    }

    fn cleaning_write(&mut self, m: &MoveFacts) -> u8 {
        let sharing = self.sharing();
        let from = self.class_of_head(m.from_class, sharing);
        let row = self.history.cleaning_row(&MoveFacts { from_class: from.model, ..*m });
        let model = self.look(&row);
        let (fallback, fallback_classes) = {
            let mut placement = self.fallback.lock();
            (placement.cleaning_write(&MoveFacts { from_class: from.fallback, ..*m }), placement.classes())
        };
        let by = self.assigned(m.ino, m.first_block);
        let class = self.choose(by, model, fallback, fallback_classes, sharing);
        let choices = model.map(|model| self.choices(model, fallback, fallback_classes));
        self.note(m.into(), choices, by);
        class
    }

    fn segment_cleaned(&mut self, s: &SegmentFacts, now: u64) {
        let class = self.class_of_head(s.class, self.sharing()).fallback;
        self.fallback.lock().segment_cleaned(&SegmentFacts { class, ..*s }, now);
    }

    fn emergency_move(&mut self, m: &MoveFacts) {
        let by = self.assigned(m.ino, m.first_block);
        self.by_model = false;
        self.note(m.into(), None, by);
    }

    fn by_model(&self) -> bool {
        self.by_model
    }

    fn opinions(&self) -> Opinions {
        self.opinions
    }

    fn discarded(&mut self, d: &DiscardFacts) {
        self.shared.sampled.discarded(d);
        self.history.discarded(d);
        self.scores.discarded(d);
        self.fallback.lock().discarded(d);
    }

    /// With the fallback, without what the proxy's threads hold.
    fn bytes(&self) -> usize {
        size_of_val(self)
            + self.history.bytes()
            + self.files.bytes()
            + self.scores.bytes()
            + self.fallback.lock().bytes()
    }
}

#[cfg(test)]
mod tests {
    use gleanfs_gc::advisor::TrustConfig;
    use gleanfs_gc::features::LikenessMask;
    use gleanfs_gc::ghost::Sampler;
    use gleanfs_gc::placement::{SepBit, merge};

    use super::*;

    fn placement(heads: u8) -> (Arc<Shared>, LearnedPlacement) {
        let shared = Arc::new(Shared::new(
            Authority::Earned(TrustLevel::Recommendation),
            TrustConfig::default(),
            Sampler::new(1 << 20, 1 << 15),
        ));
        let fallback: Fallback = Arc::new(Mutex::new(Box::new(SepBit::default())));
        let placement = LearnedPlacement::new(Arc::clone(&shared), fallback, heads);
        (shared, placement)
    }

    fn write(now: u64) -> WriteFacts {
        WriteFacts { ino: 1, first_block: 77, blocks: 1, now, live_blocks: 1 << 16, ..Default::default() }
    }

    /// Answers every question that waits with this class.
    fn answer(shared: &Shared, class: u8) -> usize {
        let mut taken = super::super::questions::Questions::spare();
        shared.questions.take(&mut taken, std::time::Duration::ZERO);
        for q in &taken {
            shared.memo.answer(q.like, class, shared.serial(), shared.now_secs());
        }
        taken.len()
    }

    #[test]
    fn heads_and_classes_are_inverse() {
        for (classes, heads) in [(6, 6), (6, 3), (12, 6), (12, 5), (12, 4), (6, 1)] {
            for head in 0..heads {
                assert_eq!(merge(first_class_of(head, classes, heads), classes, heads), head, "{classes} {heads}");
            }
        }
    }

    #[test]
    fn without_an_answer_or_without_trust_the_fallback_decides() {
        let (shared, mut p) = placement(6);
        assert_eq!((p.user_write(&write(10)), p.classes(), p.by_model()), (1, 6, false));
        assert!(shared.questions.push(super::super::questions::Question {
            like: gleanfs_gc::features::Likeness(9),
            row: Default::default()
        }));
        assert_eq!(answer(&shared, 0), 1, "no model: nothing was asked");
        shared.set_model(1, LikenessMask::ALL, 0);
        shared.set_asking(true);
        shared.set_level(TrustLevel::Recommendation);
        // Rows settle: the first says that the file is new.
        for now in 20..24 {
            p.user_write(&write(now));
            answer(&shared, 4);
        }
        let stretches = || (0..64u64).map(|n| n * STRETCH_BLOCKS);
        let by_model = stretches().filter(|block| {
            let w = WriteFacts { first_block: *block, ..write(30) };
            p.user_write(&w);
            answer(&shared, 4);
            let class = p.user_write(&w);
            // The fallback says 1, and the model may go a class beyond.
            assert!(!p.by_model() || class == 2, "{class}");
            p.by_model()
        });
        assert!((50..64).contains(&by_model.count()), "one stretch in sixteen stays the fallback's");
        shared.set_level(TrustLevel::Learning);
        p.user_write(&write(40));
        assert!(!p.by_model() && p.classes() == 6);
    }

    #[test]
    fn at_collaboration_the_model_decides_for_an_eighth_and_all_heads_are_shared() {
        let (shared, mut p) = placement(6);
        shared.set_model(1, LikenessMask::ALL, 0);
        shared.set_asking(true);
        shared.set_level(TrustLevel::Collaboration);
        let (mut model, mut fallback) = (0, 0);
        for n in 0..64 {
            let m = MoveFacts {
                ino: 3,
                first_block: n * STRETCH_BLOCKS,
                now: 1000,
                live_blocks: 4096,
                ..Default::default()
            };
            p.cleaning_write(&m);
            answer(&shared, 5);
            let class = p.cleaning_write(&m);
            // The fallback says 2, and the model may go a class beyond.
            assert_eq!((merge(5, p.classes(), 6), class), (5, if p.by_model() { 3 } else { 2 }));
            *(if p.by_model() { &mut model } else { &mut fallback }) += 1;
        }
        assert!((2..16).contains(&model) && fallback > 48, "{model} {fallback}");
        let evidence = shared.take_evidence();
        assert_eq!(evidence.model.moved + evidence.fallback.moved, 128);
        assert_eq!((evidence.model.written, evidence.now), (0, 1000));
    }

    #[test]
    fn while_the_model_watches_work_is_told_apart_as_it_will_be() {
        let (shared, mut p) = placement(6);
        shared.set_level(TrustLevel::Learning);
        for n in 0..64 {
            p.user_write(&WriteFacts { first_block: n * STRETCH_BLOCKS, ..write(n) });
        }
        let evidence = shared.take_evidence();
        assert!(evidence.model.written > 1 && evidence.fallback.written > 48, "{evidence:?}");
    }
}
