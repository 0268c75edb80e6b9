//! Writes that are watched until their blocks die: what a model is fitted to.
//!
//! Of constant size: so many writes are watched at a time and so many outcomes are kept, whatever the size of the volume. A write is watched by chance, so that
//! those of a window add up to about as many as a fit wants.

use std::collections::hash_map::DefaultHasher;
use std::collections::{HashMap, VecDeque};
use std::hash::BuildHasherDefault;

use crate::features::PlacementRow;
use crate::placement::{Opinions, relative_log2};
use crate::rng::Rng;
use crate::sim::Sample;

/// Writes watched at a time, and outcomes kept.
const WATCHED_MAX: usize = 1 << 16;
const OUTCOMES_MAX: usize = 1 << 16;
/// Samples that a fit wants.
const SAMPLES: u64 = 40_000;
/// Age of the oldest writes that count, in live blocks.
const WINDOW: u64 = 8;
/// Age of the youngest, likewise: of younger ones only those that died early would have an outcome, and all would seem to be short-lived.
const LAG: f64 = 0.5;
/// The cleaner moves about as many blocks as users write.
const WRITES_PER_USER_WRITE: u64 = 2;
/// A block that still lives counts as living so many times as long as it has.
const SURVIVORS: u64 = 3;
/// Shortest and longest lifetimes that are told apart, as log2 of a share of the live blocks: beyond, all go to the same log head.
const LABELS: [f32; 2] = [-8.0, 3.0];

/// A block of a file: inode number and block within the file.
pub type FileBlock = (u64, u64);

#[derive(Clone, Copy, Debug)]
struct Watch {
    row: PlacementRow,
    opinions: Opinions,
    since: u64,
}

/// A write and what became of it.
#[derive(Clone, Copy, Debug)]
pub struct Lesson {
    pub sample: Sample,
    /// What was chosen then.
    pub opinions: Opinions,
    /// Write clock of the write.
    pub since: u64,
}

impl Watch {
    fn lesson(&self, label: f32) -> Lesson {
        Lesson { sample: Sample { row: self.row, label }, opinions: self.opinions, since: self.since }
    }
}

#[derive(Clone, Copy, Debug)]
struct Outcome {
    watch: Watch,
    label: f32,
}

/// See the module.
#[derive(Debug)]
pub struct Watched {
    rng: Rng,
    /// Most blocks are watched once. The hasher is a fixed one, so that the same load gives the same samples in the same order.
    watches: HashMap<FileBlock, Vec<Watch>, BuildHasherDefault<DefaultHasher>>,
    watching: usize,
    outcomes: VecDeque<Outcome>,
}

impl Watched {
    pub fn new(seed: u64) -> Self {
        Self { rng: Rng::new(seed), watches: HashMap::default(), watching: 0, outcomes: VecDeque::new() }
    }

    /// Memory held at most, about.
    pub fn bytes_max() -> usize {
        let watch = size_of::<Watch>() + size_of::<FileBlock>() + size_of::<Vec<Watch>>();
        WATCHED_MAX * 2 * watch + OUTCOMES_MAX * size_of::<Outcome>()
    }

    /// Perhaps watches one of the `blocks` blocks that are written at `now` from `first` on, by a user or by the cleaner, and that looked like `row`.
    pub fn written(
        &mut self,
        first: FileBlock,
        blocks: u32,
        row: &PlacementRow,
        opinions: Opinions,
        now: u64,
        live_blocks: u64,
    ) {
        let share = SAMPLES as f64 / (WINDOW * WRITES_PER_USER_WRITE * live_blocks.max(1)) as f64;
        if self.watching < WATCHED_MAX && self.rng.chance(share * f64::from(blocks)) {
            let block = first.1 + u64::from(self.rng.below(blocks.max(1)));
            self.watches.entry((first.0, block)).or_default().push(Watch { row: *row, opinions, since: now });
            self.watching += 1;
        }
    }

    /// Blocks were overwritten or are no longer used. Costs no more than there are blocks or watches, whichever is less.
    pub fn died_between(&mut self, first: FileBlock, blocks: u64, now: u64, live_blocks: u64) {
        let end = first.1.saturating_add(blocks);
        if blocks <= self.watches.len() as u64 {
            (first.1..end).for_each(|block| self.died((first.0, block), now, live_blocks));
            return;
        }
        let of_file = |block: &&FileBlock| block.0 == first.0 && (first.1..end).contains(&block.1);
        let mut dead: Vec<FileBlock> = self.watches.keys().filter(of_file).copied().collect();
        // In an order that does not depend on the map's.
        dead.sort_unstable();
        dead.into_iter().for_each(|block| self.died(block, now, live_blocks));
    }

    /// Forgets what is being watched. What is known already stays.
    pub fn forget_living(&mut self) {
        self.watches.clear();
        self.watching = 0;
    }

    /// A block was overwritten or is no longer used.
    pub fn died(&mut self, block: FileBlock, now: u64, live_blocks: u64) {
        let Some(watches) = self.watches.remove(&block) else { return };
        self.watching -= watches.len();
        for watch in watches {
            if self.outcomes.len() == OUTCOMES_MAX {
                self.outcomes.pop_front();
            }
            self.outcomes.push_back(Outcome { watch, label: label(now.saturating_sub(watch.since), live_blocks) });
        }
    }

    /// What a model may be fitted to. What is older than the window is forgotten.
    pub fn lessons(&mut self, now: u64, live_blocks: u64) -> Vec<Lesson> {
        self.forget(now.saturating_sub(WINDOW * live_blocks));
        let youngest = now.saturating_sub((LAG * live_blocks as f64) as u64);
        let survivor = |w: &Watch| w.lesson(label(SURVIVORS * (now - w.since), live_blocks));
        let ended = self.outcomes.iter().filter(|o| o.watch.since <= youngest);
        let living = self.watches.values().flatten().filter(|w| w.since <= youngest);
        ended.map(|o| o.watch.lesson(o.label)).chain(living.map(survivor)).collect()
    }

    fn forget(&mut self, oldest: u64) {
        self.outcomes.retain(|o| o.watch.since >= oldest);
        self.watches.retain(|_, watches| {
            watches.retain(|w| w.since >= oldest);
            !watches.is_empty()
        });
        self.watching = self.watches.values().map(Vec::len).sum();
    }
}

fn label(lifetime: u64, live_blocks: u64) -> f32 {
    relative_log2(lifetime, live_blocks).clamp(LABELS[0], LABELS[1])
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIVE: u64 = 1024;
    const ROW: PlacementRow = [0.0; size_of::<PlacementRow>() / 4];

    const NONE: Opinions = Opinions { model: None, rule: None };

    fn labels(w: &mut Watched, now: u64) -> Vec<f32> {
        let mut labels: Vec<f32> = w.lessons(now, LIVE).iter().map(|lesson| lesson.sample.label).collect();
        labels.sort_unstable_by(f32::total_cmp);
        labels
    }

    #[test]
    fn outcomes_count_as_they_came_and_survivors_for_longer() {
        let mut w = Watched::new(1);
        for block in 0..3 {
            w.written((7, block), 1, &ROW, NONE, 0, LIVE);
        }
        w.written((7, 9), 1, &ROW, NONE, LIVE, LIVE);
        w.died((7, 0), LIVE / 4, LIVE);
        w.died((7, 1), 1, LIVE);
        w.died((8, 2), 1, LIVE);
        // The last was written too short a time ago.
        assert_eq!(labels(&mut w, LIVE), [-8.0, -2.0, 3f32.log2()]);
        w.died((7, 9), LIVE + 1, LIVE);
        assert_eq!(labels(&mut w, 9 * LIVE), [-8.0], "all but the last are older than the window");
        assert_eq!((w.watching, w.watches.len(), w.outcomes.len()), (0, 0, 1));
    }

    #[test]
    fn however_much_is_written_the_size_stays() {
        let mut w = Watched::new(1);
        let mut now = 0;
        for _ in 0..3 {
            for block in 0..2 * WATCHED_MAX as u64 {
                now += 1;
                w.written((1, block), 1, &ROW, NONE, now, LIVE);
            }
            assert_eq!(w.watching, WATCHED_MAX);
            w.died_between((1, 0), 2 * WATCHED_MAX as u64, now, LIVE);
            assert_eq!((w.watching, w.outcomes.len()), (0, OUTCOMES_MAX));
        }
        assert!(Watched::bytes_max() < 24 << 20);
    }

    #[test]
    fn a_large_volume_is_sampled_thinly() {
        let mut w = Watched::new(1);
        let live = 1 << 24;
        for block in 0..1 << 20 {
            w.written((1, block * 16), 16, &ROW, NONE, block * 16, live);
        }
        let (found, expected) = (w.watching as u64, SAMPLES / (WINDOW * WRITES_PER_USER_WRITE));
        assert!(found > expected * 9 / 10 && found < expected * 11 / 10, "{found} of {expected}");
    }
}
