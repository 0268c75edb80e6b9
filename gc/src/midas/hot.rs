//! Which blocks go to the HOT group: those that have been overwritten soon again and again.
//!
//! As in MiDAS's `hot.c`: two bits a block, raised when a version dies young in group 1, lowered when it does not and when the cleaner moves it, by two if that is out
//! of the HOT group; a block is hot at 3. Young means within the mean age that the HOT group's segments reach, at first within a volume's worth of writes. That
//! mean is followed by halves, at most by a factor of 1.5 at once, and looked at once in as many writes. State: 512 KiB.

use crate::placement::{BlockTable, WriteFacts};

const COUNT_MAX: u8 = 3;
const COUNT: u8 = 0b11;
/// The version that is alive was written to the HOT group and not moved since.
const IS_HOT: u8 = 0b100;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct HotBlocks {
    blocks: BlockTable,
    /// Age up to which a death is young; a volume's worth of writes until the first look.
    young: u64,
    has_looked: bool,
    looked_at: u64,
    ages: u64,
    victims: u64,
}

impl HotBlocks {
    pub(crate) fn bytes(&self) -> usize {
        self.blocks.bytes()
    }

    /// Age up to which a death is young.
    pub(crate) fn young(&self) -> u64 {
        self.young
    }

    /// Notes a user's write; says whether the first block is hot, for all of the run.
    pub(crate) fn write(&mut self, w: &WriteFacts) -> bool {
        if !self.has_looked {
            self.young = w.live_blocks.max(1);
        }
        self.follow(w.now);
        let old = self.blocks.get(w.ino, w.first_block);
        let (count, was_hot) = (old & COUNT, old & IS_HOT != 0);
        let count = match w.previous {
            None => 0,
            Some(_) if was_hot => count,
            Some(previous) if w.now.saturating_sub(previous) <= self.young => (count + 1).min(COUNT_MAX),
            Some(_) => count.saturating_sub(1),
        };
        let is_hot = count == COUNT_MAX;
        self.blocks.set_run(w.ino, w.first_block, w.blocks, if is_hot { count | IS_HOT } else { count });
        is_hot
    }

    /// The cleaner moves a run of blocks, out of the HOT group or another.
    pub(crate) fn moved(&mut self, ino: u64, block: u64, blocks: u32, out_of_hot: bool) {
        let count = self.blocks.get(ino, block) & COUNT;
        self.blocks.set_run(ino, block, blocks, count.saturating_sub(1 + u8::from(out_of_hot)));
    }

    /// A segment of the HOT group was cleaned.
    pub(crate) fn cleaned(&mut self, age: u64) {
        self.ages = self.ages.saturating_add(age);
        self.victims += 1;
    }

    fn follow(&mut self, now: u64) {
        if now.saturating_sub(self.looked_at) < self.young || self.victims == 0 {
            return;
        }
        let mean = self.ages / self.victims;
        self.young = self.young.midpoint(mean).min(self.young + self.young / 2).max(2);
        (self.has_looked, self.looked_at, self.ages, self.victims) = (true, now, 0, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(hot: &mut HotBlocks, now: u64, previous: Option<u64>) -> bool {
        hot.write(&WriteFacts { ino: 1, first_block: 5, now, previous, live_blocks: 1000, ..Default::default() })
    }

    #[test]
    fn three_early_deaths_in_a_row_make_hot_and_a_move_cools() {
        let mut hot = HotBlocks::default();
        let writes = [(0, None), (10, Some(0)), (20, Some(10)), (30, Some(20)), (9000, Some(30))];
        assert_eq!(writes.map(|(now, previous)| write(&mut hot, now, previous)), [false, false, false, true, true]);
        hot.moved(1, 5, 1, true);
        assert_eq!([9010, 9020, 9030].map(|now| write(&mut hot, now, Some(now - 10))), [false, true, true]);
        hot.moved(1, 5, 1, false);
        assert!(!write(&mut hot, 90_000, Some(9030)), "what died old is not hot");
    }

    #[test]
    fn young_follows_the_age_of_hot_segments() {
        let mut hot = HotBlocks::default();
        hot.write(&WriteFacts { live_blocks: 1, ..Default::default() });
        write(&mut hot, 1, None);
        hot.cleaned(200);
        hot.cleaned(400);
        write(&mut hot, 999, None);
        assert_eq!(hot.young, 1000);
        write(&mut hot, 1000, None);
        assert_eq!(hot.young, 650);
        hot.cleaned(90_000);
        write(&mut hot, 2000, None);
        assert_eq!(hot.young, 975);
    }
}
