//! SFS: groups of like hotness, which is write count over age.
//!
//! Min et al., "SFS: Random Write Considered Harmful in Solid State Drives", FAST'12. A block's hotness is its write count by the time since its
//! last user write; a new block's is that of its file, counted alike; a segment's is the mean count of its live blocks by their mean age. Groups are found by
//! iterative quantization of segments: each segment joins the group whose centre is nearest, each centre becomes the mean of its group, at most three
//! times, beginning from the centres there are; a block goes to the group whose centre is nearest. Six groups and a group that got nothing at 0, as in SepBIT's published
//! simulator; class 0 is the hottest.
//!
//! Bounds: write counts are bytes on a logarithmic scale (`counter`), in a table by block and in one of 4096 files; ages come from the extents. Segments are
//! not looked at: what a group took in, a segment at a time, is remembered for the last [`SEGMENTS`] segments filled, and grows older without losing
//! blocks. Groups are found anew after each segment cleaned. State: 592 KiB.

mod centres;
mod counter;

use super::block_table::BlockTable;
use super::{MoveFacts, Placement, WriteFacts};
use crate::segment::SegmentFacts;
use centres::{Centres, Filled};

const CLASSES: usize = 6;
/// Segments from which the groups are found.
const SEGMENTS: usize = 512;
/// Blocks of a segment, until one was cleaned.
const SEGMENT_BLOCKS: u32 = 512;
/// Files of which the hotness is known.
const FILES: usize = 4096;

#[derive(Clone, Copy, Debug, Default)]
struct File {
    ino: u64,
    last: u64,
    /// As in `counter`.
    count: u8,
}

/// See the module.
#[derive(Debug)]
pub struct Sfs {
    counts: BlockTable,
    files: Box<[File]>,
    centres: Centres,
    /// What each group is taking in.
    filling: [Filled; CLASSES],
    segments: Box<[Filled]>,
    /// Where the next goes.
    oldest: usize,
    segment_blocks: u32,
}

impl Default for Sfs {
    fn default() -> Self {
        Self {
            counts: BlockTable::default(),
            files: vec![File::default(); FILES].into(),
            centres: Centres::default(),
            filling: Default::default(),
            segments: vec![Filled::default(); SEGMENTS].into(),
            oldest: 0,
            segment_blocks: SEGMENT_BLOCKS,
        }
    }
}

impl Sfs {
    /// Counts a user's write of a file; answers how hot it was before.
    fn file_hotness(&mut self, ino: u64, now: u64) -> f64 {
        let file = &mut self.files[(ino.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as usize % FILES];
        if file.ino != ino || file.count == 0 {
            *file = File { ino, last: now, count: 0 };
        }
        let hotness = hotness(counter::value(file.count.max(1)), now.saturating_sub(file.last));
        *file = File { ino, last: now, count: counter::next(file.count, now) };
        hotness
    }

    /// The group of a block, and notes that it takes in the run that the block stands for.
    fn take(&mut self, hotness: f64, count: u8, blocks: u32, written: u64) -> u8 {
        let class = self.centres.nearest(hotness);
        let filling = &mut self.filling[class];
        filling.add(counter::value(count), blocks.max(1), written);
        if filling.blocks >= self.segment_blocks {
            self.segments[self.oldest] = std::mem::take(filling);
            self.oldest = (self.oldest + 1) % SEGMENTS;
        }
        class as u8
    }
}

/// Writes per block of age. What was written just now is one block old.
fn hotness(count: f64, age: u64) -> f64 {
    count / age.max(1) as f64
}

impl Placement for Sfs {
    fn name(&self) -> &'static str {
        "sfs"
    }

    fn classes(&self) -> u8 {
        CLASSES as u8
    }

    fn user_write(&mut self, w: &WriteFacts) -> u8 {
        let of_file = self.file_hotness(w.ino, w.now);
        let (hotness, count) = match w.previous {
            None => (of_file, counter::next(0, w.now)),
            Some(previous) => {
                let count = self.counts.get(w.ino, w.first_block).max(1);
                let hotness = hotness(counter::value(count), w.now.saturating_sub(previous));
                (hotness, counter::next(count, w.now))
            }
        };
        self.counts.set_run(w.ino, w.first_block, w.blocks, count);
        self.take(hotness, count, w.blocks, w.now)
    }

    fn cleaning_write(&mut self, m: &MoveFacts) -> u8 {
        let count = self.counts.get(m.ino, m.first_block).max(1);
        let hotness = hotness(counter::value(count), m.now.saturating_sub(m.birth));
        self.take(hotness, count, m.blocks, m.birth)
    }

    fn segment_cleaned(&mut self, s: &SegmentFacts, now: u64) {
        self.segment_blocks = s.capacity.max(1);
        self.centres.find(self.segments.iter().filter(|s| s.blocks > 0).map(|s| s.hotness(now)));
    }

    fn bytes(&self) -> usize {
        size_of_val(self) + self.counts.bytes() + size_of_val(&*self.files) + size_of_val(&*self.segments)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(block: u64, now: u64, previous: Option<u64>) -> WriteFacts {
        WriteFacts { ino: 7, first_block: block, blocks: 1, now, previous, ..Default::default() }
    }

    #[test]
    fn what_is_written_often_and_lately_is_hottest() {
        let mut p = Sfs::default();
        p.segment_cleaned(&SegmentFacts { capacity: 64, ..Default::default() }, 0);
        // Every other write goes to 8 blocks, the rest to 8192 in turn; twice through.
        let mut last = [None; 8200];
        let mut classes = [0; 8200];
        for now in 0..32_768u64 {
            let block = if now % 2 == 0 { now / 2 % 8 } else { 8 + now / 2 % 8192 };
            classes[block as usize] = p.user_write(&write(block, now, last[block as usize]));
            last[block as usize] = Some(now);
            if now % 64 == 0 {
                p.segment_cleaned(&SegmentFacts { capacity: 64, ..Default::default() }, now);
            }
        }
        let hottest = classes[..8].iter().max().copied().unwrap_or(9);
        let coldest = classes[8..].iter().min().copied().unwrap_or(0);
        assert!(hottest < coldest, "{hottest} {coldest}");
        let m = MoveFacts { ino: 7, first_block: 0, blocks: 1, now: 1 << 30, birth: 32_766, ..Default::default() };
        assert_eq!(p.cleaning_write(&m), 5, "age makes the hottest cold");
    }

    #[test]
    fn a_new_block_is_as_hot_as_its_file() {
        let mut p = Sfs::default();
        for now in 0..1000 {
            p.user_write(&write(now, now, None));
        }
        let hot = p.file_hotness(7, 1000);
        assert!((500.0..2000.0).contains(&hot), "about a thousand writes, the last a block ago: {hot}");
        let cooled = p.file_hotness(7, 101_000);
        assert!(cooled < 0.02 && cooled > 0.005, "{cooled}");
        assert_eq!(p.file_hotness(8, 5), 1.0, "an unknown file was written once, just now");
    }
}
