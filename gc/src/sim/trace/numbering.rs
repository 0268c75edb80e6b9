//! Dense numbers for the blocks of sparse volumes, by first write, and which of them are in use.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::ops::Range;

/// Every number is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Full;

/// The numbers of all blocks written so far, from 0 without gaps.
#[derive(Debug, Default)]
pub(super) struct Numbering {
    volumes: Vec<HashMap<u64, u32, BuildHasherDefault<AddressHasher>>>,
    in_use: Vec<bool>,
    live_blocks: u32,
    live_blocks_max: u32,
}

impl Numbering {
    pub(super) fn for_volumes(volumes: usize) -> Self {
        Self { volumes: (0..volumes).map(|_| HashMap::default()).collect(), ..Self::default() }
    }

    /// Blocks that have a number.
    pub(super) fn blocks(&self) -> u32 {
        self.in_use.len() as u32
    }

    /// The most blocks in use at any time so far.
    pub(super) fn live_blocks_max(&self) -> u32 {
        self.live_blocks_max
    }

    /// Uses a block: its number.
    pub(super) fn write(&mut self, volume: usize, address: u64) -> Result<u32, Full> {
        // The last number is left out: the simulator's mark for "none".
        let next = u32::try_from(self.in_use.len()).ok().filter(|&n| n < u32::MAX).ok_or(Full)?;
        let number = *self.volumes[volume].entry(address).or_insert(next);
        if number == next {
            self.in_use.push(false);
        }
        self.set_in_use(number);
        Ok(number)
    }

    /// What of a range is in use, in order, is no longer: address and number of each.
    pub(super) fn discard(&mut self, volume: usize, addresses: Range<u64>) -> Vec<(u64, u32)> {
        let known = &self.volumes[volume];
        // Whole volumes are discarded by one request: then the blocks that there are cost less to look through than the range.
        let mut found: Vec<(u64, u32)> = if addresses.end - addresses.start < known.len() as u64 {
            addresses.filter_map(|address| known.get(&address).map(|&number| (address, number))).collect()
        } else {
            known.iter().filter(|(a, _)| addresses.contains(a)).map(|(&a, &number)| (a, number)).collect()
        };
        found.retain(|&(_, number)| std::mem::take(&mut self.in_use[number as usize]));
        found.sort_unstable();
        self.live_blocks -= found.len() as u32;
        found
    }

    /// The same by number, for one that was given out before.
    pub(super) fn set_in_use(&mut self, number: u32) {
        if !std::mem::replace(&mut self.in_use[number as usize], true) {
            self.live_blocks += 1;
            self.live_blocks_max = self.live_blocks_max.max(self.live_blocks);
        }
    }

    pub(super) fn set_unused(&mut self, number: u32) {
        self.live_blocks -= u32::from(std::mem::take(&mut self.in_use[number as usize]));
    }
}

/// Folds the product with an odd constant, as wyhash does. The standard hash would take longer than all else, and a trace is no enemy.
#[derive(Debug, Default)]
struct AddressHasher(u64);

impl Hasher for AddressHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|&byte| self.write_u64(u64::from(byte)));
    }

    fn write_u64(&mut self, value: u64) {
        let product = u128::from(self.0 ^ value ^ 0xa076_1d64_78bd_642f) * 0xe703_7ed1_a0b4_28db;
        self.0 = (product >> 64) as u64 ^ product as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_dense_and_by_first_write() {
        let mut numbering = Numbering::for_volumes(2);
        let written = [(0, 700), (1, 700), (0, 5), (0, 700), (1, 1 << 50)];
        assert_eq!(written.map(|(v, a)| numbering.write(v, a)), [Ok(0), Ok(1), Ok(2), Ok(0), Ok(3)]);
        assert_eq!((numbering.blocks(), numbering.live_blocks_max()), (4, 4));
    }

    #[test]
    fn only_what_is_in_use_is_discarded() {
        let mut numbering = Numbering::for_volumes(1);
        for address in [9, 3, 4, 100] {
            assert!(numbering.write(0, address).is_ok());
        }
        assert_eq!(numbering.discard(0, 3..5), [(3, 1), (4, 2)]);
        assert_eq!(numbering.discard(0, 0..1 << 60), [(9, 0), (100, 3)]);
        assert_eq!(numbering.discard(0, 0..1 << 60), []);
        assert_eq!((numbering.write(0, 4), numbering.live_blocks, numbering.live_blocks_max()), (Ok(2), 1, 4));
    }
}
