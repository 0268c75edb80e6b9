//! What a fixed policy alone would have cost on the same load: a miniature of the log, run beside the real one.
//!
//! A miniature simulation (Waldspurger et al., "Cache Modeling and Optimization using Miniature Simulations", USENIX ATC 2017): blocks whose
//! hash falls below a rate are written to a small simulated log, everything else scaled down by the rate, with placement and victims of its own. What it
//! does not know was written before it was made, and counts as cold data that lie apart and cost nothing; so the garbage that the log has room for
//! is what matters, scaled.
//!
//! Two halves: a [`Sampler`] on the path of writes picks what is [`Seen`], and the [`Ghost`] is told later, wherever there is time. All memory is
//! taken when it is made, whatever the size of the volume; work is a few hundred nanoseconds per sampled block.

use std::collections::{HashMap, VecDeque};

use crate::placement::Placement;
use crate::sim::load::{BlockWrite, Load, Op};
use crate::sim::{Geometry, Outcome, Simulator, Trigger};
use crate::victim::VictimPolicy;

/// Blocks that a ghost keeps at most.
pub const BLOCKS_MAX: u64 = 1 << 15;
/// At most one block in so many is sampled: the ghost of a small volume must be cheap beside its writes.
const SHARE_MIN: u64 = 8;
/// Segments that its blocks fill. Volumes of all sizes have the same shape.
const SEGMENTS: u64 = 512;
const SEGMENT_BLOCKS_MIN: u64 = 4;
/// Room for blocks beyond the expected number: hashes are not even.
const SLACK: f64 = 1.25;
/// Garbage that the ghost has room for, as a share of what is stored: a log that is emptier than that costs nothing.
const GARBAGE_MAX: f64 = 0.6;
const HEADS: u8 = 6;
/// So much of what was seen is simulated at once.
const AT_ONCE: usize = 1024;
/// A cut of more blocks than this is told as a whole, sampled or not.
const RANGE_MAX: u64 = 64;

/// What happened to a sampled block, or to a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    Written {
        ino: u64,
        block: u64,
        /// Blocks of the request that it is part of.
        request_blocks: u32,
        append: bool,
        /// Size of the file before.
        file_blocks: u64,
    },
    Discarded {
        ino: u64,
        block: u64,
        blocks: u64,
    },
}

/// Says which blocks are sampled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sampler {
    threshold: u64,
}

impl Sampler {
    /// For a volume of this capacity, and at most so many blocks in the ghost.
    pub fn new(capacity_blocks: u64, ghost_blocks_max: u64) -> Self {
        let share = (capacity_blocks.max(1) as f64 / ghost_blocks_max.max(1) as f64).max(SHARE_MIN as f64);
        Self { threshold: (u64::MAX as f64 / share) as u64 }
    }

    /// The share of the blocks that is sampled.
    pub fn rate(&self) -> f64 {
        self.threshold as f64 / u64::MAX as f64
    }

    pub fn takes(&self, ino: u64, block: u64) -> bool {
        hash_of(ino, block) < self.threshold
    }

    /// Of a range the blocks that are sampled.
    pub fn sampled(&self, ino: u64, first: u64, blocks: u64) -> impl Iterator<Item = u64> {
        let sampler = *self;
        (first..first.saturating_add(blocks)).filter(move |&block| sampler.takes(ino, block))
    }

    /// Whether a discarded range is worth telling.
    pub fn concerns(&self, ino: u64, first: u64, blocks: u64) -> bool {
        blocks > RANGE_MAX || self.sampled(ino, first, blocks).next().is_some()
    }
}

fn hash_of(ino: u64, block: u64) -> u64 {
    let mixed = (ino.wrapping_mul(0xa076_1d64_78bd_642f) ^ block).wrapping_mul(0xe703_7ed1_a0b4_28db);
    (mixed ^ (mixed >> 32)).wrapping_mul(0x8ebc_6af0_9c88_c6e3)
}

/// See the module.
pub struct Ghost {
    sampler: Sampler,
    sim: Simulator,
    placement: Box<dyn Placement>,
    victim: Box<dyn VictimPolicy>,
    /// Where in the simulated volume each block is that is in use, and the places that are not.
    places: HashMap<(u64, u64), u32>,
    unused: Vec<u32>,
    /// Told, and not simulated yet.
    waiting: Waiting,
    segment_blocks: u32,
    /// Blocks that it had no place for.
    lost: u64,
}

impl Ghost {
    pub fn new(
        capacity_blocks: u64,
        sampler: Sampler,
        placement: Box<dyn Placement>,
        victim: Box<dyn VictimPolicy>,
    ) -> Self {
        let expected = (capacity_blocks as f64 * sampler.rate()).max(1.0);
        let blocks = (expected * SLACK) as u32 + 64;
        let segment_blocks = ((expected as u64) / SEGMENTS).max(SEGMENT_BLOCKS_MIN) as u32;
        let geometry = Geometry::garbage(blocks, segment_blocks, GARBAGE_MAX, HEADS);
        Self {
            sampler,
            sim: Simulator::new(geometry, blocks),
            placement,
            victim,
            places: HashMap::with_capacity(blocks as usize),
            unused: (0..blocks).rev().collect(),
            waiting: Waiting { ops: VecDeque::with_capacity(AT_ONCE), blocks },
            segment_blocks,
            lost: 0,
        }
    }

    /// Another placement, from the next block on.
    pub fn set_placement(&mut self, placement: Box<dyn Placement>) {
        self.placement = placement;
    }

    /// The garbage that the real log has room for before it has to be cleaned.
    pub fn set_room(&mut self, garbage_blocks: u64) {
        let garbage = garbage_blocks as f64 * self.sampler.rate();
        // Open segments are not full, which a small log feels more than a large one.
        let stored = self.sim.live_blocks() as f64 + garbage;
        let share = (garbage / stored.max(1.0)).clamp(0.01, GARBAGE_MAX);
        self.sim.set_trigger(Trigger::GarbageShare(share));
    }

    /// Simulates what was seen, in the order in which it happened.
    pub fn see(&mut self, seen: &[Seen]) {
        for seen in seen.chunks(AT_ONCE) {
            let writes = seen.iter().filter(|seen| self.queue(seen)).count() as u64;
            self.sim.drive(&mut self.waiting, self.placement.as_mut(), self.victim.as_mut(), None, writes);
        }
    }

    /// Puts into the queue what the simulation is to do; whether that is a write.
    fn queue(&mut self, seen: &Seen) -> bool {
        match *seen {
            Seen::Written { ino, block, request_blocks, append, file_blocks } => {
                let Some(place) = self.place_of(ino, block) else {
                    self.lost += 1;
                    return false;
                };
                self.waiting.ops.push_back(Op::Write(BlockWrite {
                    block: place,
                    ino,
                    // The simulator remembers the kinds of files for ever, and no fixed placement asks.
                    kind: Default::default(),
                    file_block: block,
                    request_blocks,
                    request_at: 0,
                    append,
                    file_blocks,
                }));
                true
            }
            Seen::Discarded { ino, block, blocks } => {
                self.discard(ino, block, blocks);
                false
            }
        }
    }

    fn place_of(&mut self, ino: u64, block: u64) -> Option<u32> {
        if let Some(&place) = self.places.get(&(ino, block)) {
            return Some(place);
        }
        let place = self.unused.pop()?;
        self.places.insert((ino, block), place);
        Some(place)
    }

    fn discard(&mut self, ino: u64, first: u64, blocks: u64) {
        if blocks > self.places.len() as u64 {
            let range = first..first.saturating_add(blocks);
            let (unused, ops) = (&mut self.unused, &mut self.waiting.ops);
            self.places.retain(|&(of, block), &mut place| {
                let keep = of != ino || !range.contains(&block);
                if !keep {
                    unused.push(place);
                    ops.push_back(Op::Discard(place));
                }
                keep
            });
            return;
        }
        for block in self.sampler.sampled(ino, first, blocks) {
            if let Some(place) = self.places.remove(&(ino, block)) {
                self.unused.push(place);
                self.waiting.ops.push_back(Op::Discard(place));
            }
        }
    }

    /// What it has come to, in its own blocks.
    pub fn outcome(&self) -> Outcome {
        self.sim.outcome()
    }

    pub fn live_blocks(&self) -> u64 {
        self.sim.live_blocks()
    }

    /// Blocks of its segments.
    pub fn segment_blocks(&self) -> u32 {
        self.segment_blocks
    }
}

/// A load that ends with what was told. Never asked for more writes than wait.
struct Waiting {
    ops: VecDeque<Op>,
    blocks: u32,
}

impl Load for Waiting {
    fn blocks(&self) -> u32 {
        self.blocks
    }

    fn next_op(&mut self) -> Op {
        self.ops.pop_front().unwrap_or(Op::Discard(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::placement::Ewma;
    use crate::sim::load::{Overwrites, Pattern};
    use crate::sim::run;
    use crate::victim::CostAgeClass;

    const BLOCKS: u32 = 65_536;

    fn ghost(sampler: Sampler) -> Ghost {
        Ghost::new(u64::from(BLOCKS), sampler, Box::new(Ewma), Box::new(CostAgeClass))
    }

    fn written(ino: u64, block: u64) -> Seen {
        Seen::Written { ino, block, request_blocks: 1, append: false, file_blocks: 0 }
    }

    /// Write amplification of five volumes of a load, and of its miniature by its rate.
    fn compared(pattern: Pattern) -> (f64, f64) {
        let geometry = Geometry::full(BLOCKS, 128, 0.87, HEADS);
        let n = u64::from(BLOCKS);
        let load = || Overwrites::new(BLOCKS, pattern, 3);
        let real = run(geometry, &mut load(), &mut Ewma, &mut CostAgeClass, 3 * n, 5 * n);
        let sampler = Sampler::new(n, n / 8);
        let (mut ghost, mut load) = (ghost(sampler), load());
        let mut moved = 0;
        for step in 0..8 * n {
            let Op::Write(w) = load.next_op() else { continue };
            if sampler.takes(w.ino, w.file_block) {
                ghost.see(&[written(w.ino, w.file_block)]);
            }
            if step % 1000 == 0 {
                ghost.set_room(geometry.physical_blocks() as u64 - (step + 1).min(n));
            }
            if step == 3 * n {
                moved = ghost.outcome().moved;
            }
        }
        let moved = (ghost.outcome().moved - moved) as f64 / sampler.rate();
        (real.wa(), 1.0 + moved / (5 * n) as f64)
    }

    #[test]
    fn a_miniature_costs_about_what_the_log_costs() {
        for pattern in [
            Pattern::Tenants { theta: 1.0, percent: [60, 30, 10] },
            Pattern::Zipf(0.99),
            Pattern::HotCold { traffic: 0.9, space: 0.1 },
        ] {
            let (real, ghost) = compared(pattern);
            // Small logs differ; how much is what an account calibrates away.
            assert!((ghost / real - 1.0).abs() < 0.2, "{pattern:?}: {real}, miniature {ghost}");
        }
    }

    #[test]
    fn its_share_is_bounded_and_blocks_are_taken_by_it() {
        for (capacity, rate) in [(1000, 0.125), (u64::from(BLOCKS), 0.125), (BLOCKS_MAX << 10, 1.0 / 1024.0)] {
            let sampler = Sampler::new(capacity, BLOCKS_MAX);
            assert!((sampler.rate() / rate - 1.0).abs() < 1e-6);
            let taken = (0..100u64).map(|ino| sampler.sampled(ino, 0, 10_000).count()).sum::<usize>() as f64;
            assert!((taken / 1e6 / rate - 1.0).abs() < 0.1, "{taken} of {rate}");
        }
        assert!(Sampler::new(u64::MAX, BLOCKS_MAX).concerns(7, 0, RANGE_MAX + 1));
        assert_eq!(Sampler::new(1000, 10).sampled(1, u64::MAX - 1, 9).count(), 0, "the end of a file of any size");
    }

    #[test]
    fn what_is_discarded_makes_room_and_what_finds_none_is_left_out() {
        let mut ghost = ghost(Sampler::new(u64::from(BLOCKS), BLOCKS_MAX));
        let sampler = Sampler::new(u64::from(BLOCKS), BLOCKS_MAX);
        for round in 0..3 {
            for ino in 0..8 {
                let seen: Vec<_> = sampler.sampled(ino, 0, 8192).map(|block| written(ino, block)).collect();
                ghost.see(&seen);
            }
            let live = ghost.live_blocks() as f64 / sampler.rate();
            assert!((live / f64::from(BLOCKS) - 1.0).abs() < 0.1, "{round}: {live}");
            // One in single blocks, the others as a whole.
            ghost.see(&[Seen::Discarded { ino: 0, block: 0, blocks: 100 }]);
            ghost.see(&[0, 1, 2, 3, 4, 5, 6, 7].map(|ino| Seen::Discarded { ino, block: 0, blocks: u64::MAX }));
            ghost.see(&[written(9, round)]);
            assert_eq!(ghost.live_blocks(), round + 1);
        }
        let endless: Vec<_> = (0..2 * BLOCKS_MAX).map(|block| written(77, block)).collect();
        ghost.see(&endless);
        assert_eq!(ghost.unused.len(), 0);
        assert!(ghost.lost > BLOCKS_MAX / 2);
    }
}
