//! DAC, dynamic data clustering: regions of update frequency, up one for a rewrite, down one for a cleaning.
//!
//! Chiang, Lee and Chang, "Using Data Clustering to Improve Cleaning Performance for Flash Memory", Software: Practice and Experience
//! 29(3), 1999. New blocks start in the coldest region, as in SepBIT's published simulator, which knows a level for every block; six regions as there.
//! Here a level is a class, counted from the other end: class 0 is the hottest.
//!
//! A block lies in the region of its level, so the cleaner needs no memory: the segment that a block leaves says it. What a user overwrites lies in a segment that nobody
//! looks up on the path of a write, so the levels of blocks are in a table of constant size (`block_table`). The level that the interval in the extent implies would not do: it
//! knows nothing of how often the cleaner came by in between, which is what DAC compares it with. State: 512 KiB.

use super::block_table::BlockTable;
use super::{MoveFacts, Placement, WriteFacts};

const CLASSES: u8 = 6;
const COLDEST: u8 = CLASSES - 1;

/// See the module.
#[derive(Debug, Default)]
pub struct Dac {
    /// The level, 0 the coldest.
    levels: BlockTable,
}

impl Dac {
    fn note(&mut self, ino: u64, block: u64, blocks: u32, class: u8) -> u8 {
        self.levels.set_run(ino, block, blocks, COLDEST - class);
        class
    }
}

impl Placement for Dac {
    fn name(&self) -> &'static str {
        "dac"
    }

    fn classes(&self) -> u8 {
        CLASSES
    }

    /// The first block of a run speaks for all of it.
    fn user_write(&mut self, w: &WriteFacts) -> u8 {
        let class = match w.previous {
            None => COLDEST,
            Some(_) => COLDEST - (self.levels.get(w.ino, w.first_block) + 1).min(COLDEST),
        };
        self.note(w.ino, w.first_block, w.blocks, class)
    }

    fn cleaning_write(&mut self, m: &MoveFacts) -> u8 {
        let class = m.from_class.saturating_add(1).min(COLDEST);
        self.note(m.ino, m.first_block, m.blocks, class)
    }

    /// The one head that there is then is the coldest.
    fn emergency_move(&mut self, m: &MoveFacts) {
        self.note(m.ino, m.first_block, m.blocks, COLDEST);
    }

    fn bytes(&self) -> usize {
        size_of_val(self) + self.levels.bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rewrites_heat_and_cleaning_cools() {
        let mut p = Dac::default();
        let new = WriteFacts { ino: 3, first_block: 8, blocks: 2, ..Default::default() };
        let again = WriteFacts { previous: Some(0), now: 10, ..new };
        assert_eq!(p.user_write(&new), 5);
        assert_eq!([(); 6].map(|()| p.user_write(&again)), [4, 3, 2, 1, 0, 0]);
        let moved = |from_class| MoveFacts { ino: 3, first_block: 9, blocks: 1, from_class, ..Default::default() };
        assert_eq!((p.cleaning_write(&moved(0)), p.cleaning_write(&moved(1)), p.cleaning_write(&moved(5))), (1, 2, 5));
        // The first block of the run kept its level, the second lost it.
        assert_eq!((p.user_write(&again), p.user_write(&WriteFacts { first_block: 9, ..again })), (0, 0));
        p.emergency_move(&moved(0));
        assert_eq!(p.user_write(&WriteFacts { first_block: 9, ..again }), 4);
    }
}
