//! Which blocks are live: one bit per block of each segment that has any, 32 MiB per TiB in use.

use std::collections::BTreeMap;

use crate::format::superblock::Identity;
use crate::types::{BlockAddr, SegNo};

/// A set of numbers that are mostly dense, in pieces.
#[derive(Default)]
pub struct Bits {
    pieces: BTreeMap<u64, Box<[u64; 64]>>,
}

impl Bits {
    fn split(n: u64) -> (u64, usize, u64) {
        (n >> 12, (n >> 6 & 63) as usize, 1 << (n & 63))
    }

    /// False if `n` was in the set.
    pub fn insert(&mut self, n: u64) -> bool {
        let (piece, word, bit) = Self::split(n);
        let word = &mut self.pieces.entry(piece).or_insert_with(|| Box::new([0; 64]))[word];
        let fresh = *word & bit == 0;
        *word |= bit;
        fresh
    }

    pub fn contains(&self, n: u64) -> bool {
        let (piece, word, bit) = Self::split(n);
        self.pieces.get(&piece).is_some_and(|words| words[word] & bit != 0)
    }

    pub fn iter(&self) -> impl Iterator<Item = u64> + '_ {
        self.pieces.iter().flat_map(|(piece, words)| {
            (0..4096u64).filter(|n| words[(n >> 6) as usize] >> (n & 63) & 1 != 0).map(move |n| piece << 12 | n)
        })
    }
}

/// The log's address space, as far as a check needs it.
#[derive(Clone, Copy, Debug)]
pub struct LogSpace {
    pub first_segment: SegNo,
    pub segments: u32,
    pub segment_blocks: u32,
    /// Writable blocks of each segment.
    pub capacity: u32,
}

impl LogSpace {
    /// That of an image whose segments can be written up to `capacity`.
    pub fn of(identity: &Identity, capacity: u32) -> Self {
        Self {
            first_segment: identity.first_segment,
            segments: identity.segments,
            segment_blocks: identity.segment_blocks,
            capacity,
        }
    }

    /// Segment and offset of a run that lies within one segment's writable blocks, behind a chunk header.
    pub fn place(&self, addr: BlockAddr, blocks: u32) -> Option<(SegNo, u32)> {
        let size = u64::from(self.segment_blocks);
        let (segment, offset) = (u32::try_from(addr.0 / size).ok()?, (addr.0 % size) as u32);
        let inside = segment >= self.first_segment.0
            && segment < self.segments
            && offset > 0
            && u64::from(offset) + u64::from(blocks) <= u64::from(self.capacity);
        inside.then_some((SegNo(segment), offset))
    }

    pub fn address(&self, segment: SegNo, offset: u32) -> BlockAddr {
        BlockAddr(u64::from(segment.0) * u64::from(self.segment_blocks) + u64::from(offset))
    }
}

/// Live blocks by segment.
#[derive(Default)]
pub struct LiveBlocks {
    segments: BTreeMap<SegNo, (Bits, u32)>,
}

impl LiveBlocks {
    /// Marks a run within `segment`; the blocks that were marked before: how many, and the first.
    pub fn mark(&mut self, segment: SegNo, offset: u32, blocks: u32) -> Option<(u32, u32)> {
        let (bits, count) = self.segments.entry(segment).or_default();
        let mut twice = None;
        for n in offset..offset + blocks {
            if bits.insert(u64::from(n)) {
                *count += 1;
            } else {
                let (_, times) = twice.get_or_insert((n, 0));
                *times += 1;
            }
        }
        twice
    }

    pub fn count(&self, segment: SegNo) -> u32 {
        self.segments.get(&segment).map_or(0, |(_, count)| *count)
    }

    pub fn total(&self) -> u64 {
        self.segments.values().map(|(_, count)| u64::from(*count)).sum()
    }

    /// Live offsets of a segment in order.
    pub fn of(&self, segment: SegNo) -> impl Iterator<Item = u32> + '_ {
        self.segments.get(&segment).into_iter().flat_map(|(bits, _)| bits.iter()).map(|n| n as u32)
    }

    /// Marks everything that `other` has.
    pub fn join(&mut self, other: &Self) {
        for segment in other.segments() {
            for (offset, blocks) in runs(other.of(segment)) {
                self.mark(segment, offset, blocks);
            }
        }
    }

    pub fn segments(&self) -> impl Iterator<Item = SegNo> + '_ {
        self.segments.keys().copied()
    }
}

/// Consecutive numbers as runs: first and length.
pub fn runs(numbers: impl Iterator<Item = u32>) -> Vec<(u32, u32)> {
    let mut runs: Vec<(u32, u32)> = Vec::new();
    for n in numbers {
        match runs.last_mut() {
            Some((first, len)) if *first + *len == n => *len += 1,
            _ => runs.push((n, 1)),
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_marked_twice_is_told() {
        let mut live = LiveBlocks::default();
        assert_eq!(live.mark(SegNo(3), 10, 5), None);
        assert_eq!(live.mark(SegNo(3), 13, 4), Some((13, 2)));
        assert_eq!((live.count(SegNo(3)), live.total()), (7, 7));
        assert_eq!(runs(live.of(SegNo(3))), [(10, 7)]);
        assert_eq!(runs([1, 2, 5, 7, 8].into_iter()), [(1, 2), (5, 1), (7, 2)]);
    }

    #[test]
    fn a_run_must_lie_within_the_writable_part_of_one_segment() {
        let space = LogSpace { first_segment: SegNo(1), segments: 4, segment_blocks: 16, capacity: 12 };
        assert_eq!(space.place(BlockAddr(17), 11), Some((SegNo(1), 1)));
        assert_eq!(space.place(BlockAddr(17), 12), None);
        for bad in [0, 8, 16, 30, 64, u64::MAX] {
            assert_eq!(space.place(BlockAddr(bad), 1), None, "{bad}");
        }
    }
}
