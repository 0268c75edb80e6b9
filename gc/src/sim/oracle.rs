//! Placements that know the future: bounds that no filesystem can have, to compare with.
//!
//! A first pass over a load of the same seed notes how long each write lives ([`Future`]). The write clock names a write, so the facts that any placement
//! sees are enough to look it up: `now` at a user's write, `birth` at a move.

use std::sync::Arc;

use super::load::{Load, Op};
use crate::placement::{MoveFacts, Placement, WriteFacts};

const NEVER: u32 = u32::MAX;

/// How long each write of a load lives: 4 bytes a write.
#[derive(Debug)]
pub struct Future {
    /// By write clock at the write.
    lifetimes: Vec<u32>,
}

impl Future {
    /// Of the next `writes` writes of a load, which it uses up. What is alive at the end counts as living for ever, so look further than will be simulated.
    pub fn of(load: &mut dyn Load, writes: u32) -> Arc<Self> {
        let mut lifetimes = Vec::with_capacity(writes as usize);
        let mut born = vec![NEVER; load.blocks() as usize];
        while lifetimes.len() < writes as usize {
            let now = lifetimes.len() as u32;
            let (block, is_write) = match load.next_op() {
                Op::Write(w) => (w.block, true),
                Op::Discard(block) => (block, false),
            };
            let birth = std::mem::replace(&mut born[block as usize], if is_write { now } else { NEVER });
            if birth != NEVER {
                lifetimes[birth as usize] = now - birth;
            }
            if is_write {
                lifetimes.push(NEVER);
            }
        }
        Arc::new(Self { lifetimes })
    }

    /// User-written blocks until a block dies that was written at `birth`.
    pub fn residual(&self, birth: u64, now: u64) -> u64 {
        let lifetime = usize::try_from(birth).ok().and_then(|b| self.lifetimes.get(b)).filter(|&&l| l != NEVER);
        lifetime.map_or(u64::MAX, |&l| (birth + u64::from(l)).saturating_sub(now))
    }
}

/// How wide classes of residual lifetime are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Width {
    /// A segment each.
    Segment,
    /// Below one segment, below 2, 4 and so on.
    Doubling,
}

/// A placement by true residual lifetimes. Whatever lives longer than its classes reach goes to the last.
#[derive(Clone, Debug)]
pub struct Oracle {
    future: Arc<Future>,
    segment_blocks: u32,
    classes: u8,
    width: Width,
}

impl Oracle {
    /// FK, future knowledge as in SepBIT's comparisons (FAST'22) and published simulator: six classes, as many segments away as the number says.
    pub fn fk(future: Arc<Future>, segment_blocks: u32) -> Self {
        Self { future, segment_blocks: segment_blocks.max(1), classes: 6, width: Width::Segment }
    }

    /// Geometric classes; twelve reach beyond the size of any volume that is simulated.
    pub fn geometric(future: Arc<Future>, segment_blocks: u32) -> Self {
        Self { classes: 12, width: Width::Doubling, ..Self::fk(future, segment_blocks) }
    }

    fn class(&self, birth: u64, now: u64) -> u8 {
        let segments = self.future.residual(birth, now) / u64::from(self.segment_blocks);
        let class = match self.width {
            Width::Segment => segments,
            Width::Doubling => u64::from(u64::BITS - segments.leading_zeros()),
        };
        class.min(u64::from(self.classes - 1)) as u8
    }
}

impl Placement for Oracle {
    fn name(&self) -> &'static str {
        match self.width {
            Width::Segment => "fk",
            Width::Doubling => "geometric",
        }
    }

    fn classes(&self) -> u8 {
        self.classes
    }

    fn user_write(&mut self, w: &WriteFacts) -> u8 {
        self.class(w.now, w.now)
    }

    fn cleaning_write(&mut self, m: &MoveFacts) -> u8 {
        self.class(m.birth, m.now)
    }

    fn per_block(&self) -> bool {
        true
    }

    fn bytes(&self) -> usize {
        size_of_val(self) + size_of_val(&*self.future.lifetimes)
    }
}

#[cfg(test)]
mod tests {
    use super::super::load::{BlockWrite, Overwrites, Pattern};
    use super::super::{Geometry, run};
    use super::*;
    use crate::features::FileKind;
    use crate::placement::NoSeparation;
    use crate::victim::{CostAge, Greedy};

    /// Plays a list of operations.
    struct Listed(std::vec::IntoIter<Op>);

    impl Load for Listed {
        fn blocks(&self) -> u32 {
            8
        }

        fn next_op(&mut self) -> Op {
            self.0.next().expect("as many writes as are asked for")
        }
    }

    fn write(block: u32) -> Op {
        let whole = BlockWrite {
            block,
            ino: 1,
            kind: FileKind::default(),
            file_block: 0,
            request_blocks: 1,
            request_at: 0,
            append: false,
            file_blocks: 8,
        };
        Op::Write(whole)
    }

    fn future() -> Arc<Future> {
        let ops = [write(0), write(1), write(0), Op::Discard(1), Op::Discard(7), write(1), write(2), write(0)];
        Future::of(&mut Listed(Vec::from(ops).into_iter()), 6)
    }

    #[test]
    fn lives_end_at_the_next_write_or_discard() {
        let f = future();
        assert_eq!(f.lifetimes, [2, 2, 3, NEVER, NEVER, NEVER]);
        assert_eq!((f.residual(2, 2), f.residual(2, 4), f.residual(2, 9)), (3, 1, 0));
        assert_eq!((f.residual(3, 5), f.residual(600, 700)), (u64::MAX, u64::MAX));
    }

    #[test]
    fn classes_are_of_segments_or_geometric() {
        // The first write lives for `residual` blocks, the others for ever.
        let after = |residual: u32| Arc::new(Future { lifetimes: vec![residual] });
        let fk = |residual| Oracle::fk(after(residual), 10).class(0, 0);
        assert_eq!([0, 9, 10, 49, 50, NEVER].map(fk), [0, 0, 1, 4, 5, 5]);
        let geometric = |residual| Oracle::geometric(after(residual), 10).class(0, 0);
        let residuals = [0, 9, 10, 19, 20, 39, 40, 10 << 9, 10 << 10, NEVER];
        assert_eq!(residuals.map(geometric), [0, 0, 1, 1, 2, 2, 3, 10, 11, 11]);
        assert_eq!(Oracle::fk(after(55), 10).class(0, 30), 2, "half of its life is over");
    }

    #[test]
    fn knowing_the_future_pays() {
        const BLOCKS: u32 = 8192;
        let load = || Overwrites::new(BLOCKS, Pattern::Zipf(1.0), 3);
        let future = Future::of(&mut load(), BLOCKS * 14);
        let n = u64::from(BLOCKS);
        let wa = |heads, placement: &mut dyn Placement, greedy| {
            let geometry = Geometry::garbage(BLOCKS, 64, 0.15, heads);
            if greedy {
                run(geometry, &mut load(), placement, &mut Greedy, n * 3, n * 3).wa()
            } else {
                run(geometry, &mut load(), placement, &mut CostAge, n * 3, n * 3).wa()
            }
        };
        let blind = wa(1, &mut NoSeparation, true);
        let fk = wa(6, &mut Oracle::fk(Arc::clone(&future), 64), false);
        let geometric = wa(12, &mut Oracle::geometric(future, 64), false);
        assert!(geometric - 1.0 < 0.2 * (blind - 1.0) && geometric < fk && fk < blind, "{geometric} {fk} {blind}");
    }
}
