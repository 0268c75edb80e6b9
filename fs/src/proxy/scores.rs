//! How well a choice of class foretold what happened: evidence for trust, gathered while the model only watches.
//!
//! A class is a promise that its blocks die at about the same time. So the price of a choice is how far the block's lifetime was from what
//! its class lives on average: squared, in log2, the average taken from earlier outcomes only. Model and fallback are both priced on
//! the same sampled blocks, whoever decided them; the model twice, for what it says and for what would be made of it, and the worse price counts: that one has more classes than the other is its own merit. A sampled block's lifetime
//! is known when it is written again; one that lives longer than there are live blocks counts as living twice as long as it has.

use gleanfs_gc::placement::{DiscardFacts, LIFETIME_CLASSES, MoveFacts, WriteFacts};

/// Sampled blocks that are remembered: 256 KiB.
const SAMPLES: usize = 8192;
/// One block in so many is sampled, but of a request its first alone: its blocks mostly share a fate.
const SAMPLED_SHARE: u64 = 8;
/// Weight of an outcome in its class's average, once there were so many.
const MEMORY: f64 = 256.0;
/// A class has a reputation after so many outcomes; before, a choice of it is not priced.
const KNOWN_AFTER: f64 = 16.0;

/// Classes of a decider, at most.
const CLASSES: usize = 8;

#[derive(Clone, Copy, Default)]
struct Sample {
    /// Hash of the block; 0 if the slot is unused.
    block: u64,
    written: u64,
    model: u8,
    leashed: u8,
    fallback: u8,
}

/// The average lifetime of a class's blocks, log2 of the share of the live blocks.
#[derive(Clone, Copy, Debug, Default)]
struct Reputation {
    mean: f64,
    outcomes: f64,
}

impl Reputation {
    /// The price of a choice of this class; then learns from the outcome.
    fn price(&mut self, outcome: f64) -> Option<f64> {
        let price = (self.outcomes >= KNOWN_AFTER).then(|| (outcome - self.mean).powi(2));
        self.outcomes = (self.outcomes + 1.0).min(MEMORY);
        self.mean += (outcome - self.mean) / self.outcomes;
        price
    }
}

/// What two deciders' choices for the same blocks cost.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Prices {
    pub count: u64,
    pub model: f64,
    /// Of the model's choices as they would be put into force.
    pub leashed: f64,
    pub fallback: f64,
    /// Had all blocks been put into one class.
    pub alike: f64,
}

impl Prices {
    pub fn add(&mut self, more: &Self) {
        self.count += more.count;
        self.model += more.model;
        self.leashed += more.leashed;
        self.fallback += more.fallback;
        self.alike += more.alike;
    }
}

/// The samples.
pub struct Scores {
    samples: Box<[Sample]>,
    model: [Reputation; CLASSES],
    leashed: [Reputation; CLASSES],
    fallback: [Reputation; CLASSES],
    alike: Reputation,
    prices: Prices,
}

/// What is placed, and when.
#[derive(Clone, Copy, Debug)]
pub struct Placed {
    pub ino: u64,
    /// The first of `blocks`.
    pub block: u64,
    pub blocks: u32,
    pub is_move: bool,
    /// Write clock.
    pub now: u64,
    pub live_blocks: u64,
}

impl From<&WriteFacts> for Placed {
    fn from(w: &WriteFacts) -> Self {
        let (block, live_blocks) = (w.first_block, w.live_blocks);
        Self { ino: w.ino, block, blocks: w.blocks, is_move: false, now: w.now, live_blocks }
    }
}

impl From<&MoveFacts> for Placed {
    fn from(m: &MoveFacts) -> Self {
        let (block, live_blocks) = (m.first_block, m.live_blocks);
        Self { ino: m.ino, block, blocks: m.blocks, is_move: true, now: m.now, live_blocks }
    }
}

/// A choice that both have made.
#[derive(Clone, Copy, Debug)]
pub struct Choices {
    pub model: u8,
    /// What would be put into force of the model's.
    pub leashed: u8,
    pub fallback: u8,
}

impl Scores {
    pub fn new() -> Self {
        Self {
            samples: vec![Sample::default(); SAMPLES].into(),
            model: [Reputation::default(); CLASSES],
            leashed: [Reputation::default(); CLASSES],
            fallback: [Reputation::default(); CLASSES],
            alike: Reputation::default(),
            prices: Prices::default(),
        }
    }

    /// Heap bytes held.
    pub fn bytes(&self) -> usize {
        size_of_val(&*self.samples)
    }

    /// A user writes blocks, or the cleaner moves them; `choices` if both have a say on where they go now.
    pub fn placed(&mut self, p: &Placed, choices: Option<Choices>) {
        let hash = hash_of(p.ino, p.block);
        let is_sampled = hash % SAMPLED_SHARE < u64::from(p.blocks.max(1));
        let slot = (hash >> 32) as usize % SAMPLES;
        let old = self.samples[slot];
        let is_same = old.block == hash;
        if !is_same && !is_sampled {
            return;
        }
        let lived = p.now.saturating_sub(old.written).max(1);
        if is_same && !p.is_move {
            self.outcome(old, lived, p.live_blocks);
        } else if old.block != 0 && !is_same {
            if lived < p.live_blocks {
                return;
            }
            self.outcome(old, lived * 2, p.live_blocks);
        }
        self.samples[slot] = match choices.filter(|_| is_sampled) {
            Some(Choices { model, leashed, fallback }) => {
                Sample { block: hash, written: p.now, model, leashed, fallback }
            }
            None => Sample::default(),
        };
    }

    /// Blocks of a file are no longer used.
    pub fn discarded(&mut self, d: &DiscardFacts) {
        for block in d.first_block..d.first_block + d.blocks {
            let hash = hash_of(d.ino, block);
            let slot = (hash >> 32) as usize % SAMPLES;
            let old = self.samples[slot];
            if old.block == hash {
                self.samples[slot] = Sample::default();
                self.outcome(old, d.now.saturating_sub(old.written).max(1), d.live_blocks);
            }
        }
    }

    fn outcome(&mut self, sample: Sample, lived: u64, live_blocks: u64) {
        let outcome = (lived as f64 / live_blocks.max(1) as f64).log2();
        let model = self.model[usize::from(sample.model) % CLASSES].price(outcome);
        let leashed = self.leashed[usize::from(sample.leashed) % CLASSES].price(outcome);
        let fallback = self.fallback[usize::from(sample.fallback) % CLASSES].price(outcome);
        let alike = self.alike.price(outcome);
        if let (Some(model), Some(leashed), Some(fallback), Some(alike)) = (model, leashed, fallback, alike) {
            self.prices.add(&Prices { count: 1, model, leashed, fallback, alike });
        }
    }

    /// What was priced since the last call.
    pub fn take(&mut self) -> Prices {
        std::mem::take(&mut self.prices)
    }

    /// Another model: what the old one's classes meant is forgotten.
    pub fn model_changed(&mut self) {
        self.model = [Reputation::default(); CLASSES];
        self.leashed = [Reputation::default(); CLASSES];
        self.samples.fill(Sample::default());
        self.prices = Prices::default();
    }

    /// Another fallback.
    pub fn fallback_changed(&mut self) {
        self.fallback = [Reputation::default(); CLASSES];
        self.samples.fill(Sample::default());
        self.prices = Prices::default();
    }

    /// The class of lifetime that the blocks of a fallback's class turned out to have; by its rank until that is known.
    pub fn lifetime_class_of(&self, fallback: u8, fallback_classes: u8) -> u8 {
        let known = self.fallback[usize::from(fallback) % CLASSES];
        if known.outcomes >= KNOWN_AFTER {
            gleanfs_gc::placement::lifetime_class(known.mean as f32)
        } else {
            let rank = u16::from(fallback) * u16::from(LIFETIME_CLASSES) / u16::from(fallback_classes.max(1));
            (rank as u8).min(LIFETIME_CLASSES - 1)
        }
    }
}

fn hash_of(ino: u64, block: u64) -> u64 {
    let mixed = (ino.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ block).wrapping_mul(0xd6e8_feb8_6659_fd93);
    // Not 0, which marks an unused slot; the low bits choose the samples.
    (mixed ^ (mixed >> 29)).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIVE: u64 = 4096;

    fn write(ino: u64, block: u64, blocks: u32, now: u64) -> Placed {
        Placed { ino, block, blocks, is_move: false, now, live_blocks: LIVE }
    }

    /// Blocks below 64 are written again after 64 writes, the others after 4096.
    fn run(choose: impl Fn(u64) -> Choices) -> (Scores, Prices) {
        let mut scores = Scores::new();
        let mut now = 0;
        let mut cold = 64;
        for round in 0..20_000u64 {
            now += 1;
            let block = if round % 2 == 0 {
                (round / 2) % 64
            } else {
                cold = 64 + (cold - 63) % 2048;
                cold
            };
            scores.placed(&write(1, block, 1, now), Some(choose(block)));
        }
        let prices = scores.take();
        (scores, prices)
    }

    #[test]
    fn whoever_knows_the_lifetimes_is_cheaper() {
        let choices = |model, fallback| Choices { model, leashed: model, fallback };
        let knows = |block: u64| choices(if block < 64 { 0 } else { 5 }, (block % 2) as u8);
        let (mut scores, prices) = run(knows);
        assert!(prices.count > 100 && prices.model < 0.2 * prices.fallback, "{prices:?}");
        assert_eq!(scores.take(), Prices::default());
        let same = |block: u64| choices((block % 2) as u8, (block % 2) as u8);
        let (_, prices) = run(same);
        assert_eq!(prices.model, prices.fallback);
    }

    #[test]
    fn what_is_removed_has_an_outcome_too() {
        let mut scores = Scores::new();
        for now in 0..20_000u64 {
            let short = now.is_multiple_of(2);
            let choices = Choices { model: u8::from(short), leashed: u8::from(short), fallback: 0 };
            scores.placed(&write(now, 0, 1, now), Some(choices));
            let lived = if short { 16 } else { 2048 };
            if let Some(born) = now.checked_sub(lived).filter(|born| born.is_multiple_of(2) == short) {
                let facts =
                    DiscardFacts { ino: born, blocks: 2, now, birth: born, live_blocks: LIVE, ..Default::default() };
                scores.discarded(&facts);
            }
        }
        let prices = scores.take();
        assert!(prices.count > 500 && prices.model < 0.1 * prices.fallback, "{prices:?}");
    }

    #[test]
    fn large_requests_tell_as_much_as_their_blocks_would_up_to_one_sample_each() {
        let told = |blocks: u32| {
            let mut scores = Scores::new();
            let choices = Choices { model: 0, leashed: 0, fallback: 0 };
            for now in 0..20_000u64 {
                // Files of that size, each written again after a thousand requests.
                scores.placed(&write(now % 1000, 0, blocks, now), Some(choices));
            }
            scores.take().count
        };
        let (single, large) = (told(1), told(128));
        assert!((1500..3500).contains(&single), "an eighth of 19,000: {single}");
        assert!(large > 6 * single && large < 19_001, "{large}");
        assert!(told(2) > single && told(8) > 6 * single);
    }

    #[test]
    fn classes_of_the_fallback_are_known_by_what_became_of_them() {
        let (scores, _) = run(|block| Choices { model: 0, leashed: 0, fallback: u8::from(block < 64) });
        // 128 of 4096 writes: log2 is -5; 4096: 0.
        assert!(scores.lifetime_class_of(1, 2) <= 2 && scores.lifetime_class_of(0, 2) >= 4);
        assert_eq!(scores.lifetime_class_of(3, 6), 3, "unknown: by rank");
        assert_eq!(scores.lifetime_class_of(7, 2), 5);
    }
}
