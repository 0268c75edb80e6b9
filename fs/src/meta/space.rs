//! How much of a device users may fill, and what is kept back so that cleaning and checkpoints always find room (I5).

use crate::error::{Error, Result};
use crate::format::superblock::HEADS_MAX;
use crate::log::Reserves;

/// Part of the log hidden from users unless they say otherwise, in percent.
pub const OVERPROVISION_PERCENT: f64 = 6.0;
/// Most data heads.
pub const DATA_HEADS_MAX: u8 = 6;
/// Blocks beyond the users' capacity for operations that give space back.
pub const RELEASE_TRANCHE_BLOCKS: u64 = 64;

/// The log's shape as far as space is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogRoom {
    /// Segments of the log, without the superblock's.
    pub segments: u32,
    /// Writable blocks of each.
    pub segment_blocks: u32,
}

impl LogRoom {
    /// Data heads that the log can afford: each keeps a segment open that is on average half empty.
    pub fn data_heads(&self) -> u8 {
        (self.segments / 64).clamp(1, u32::from(DATA_HEADS_MAX)) as u8
    }

    /// Segments that a worst-case checkpoint may take.
    fn checkpoint_segments(&self) -> u32 {
        let tables = self.table_pages().div_ceil(self.segment_blocks - 2);
        (self.segments / 100).clamp(2, 64) + tables + 1
    }

    /// Pages of both tables that one checkpoint can have to write, the node table's leaves aside (they count as nodes).
    fn table_pages(&self) -> u32 {
        self.segments / 100 + 12
    }

    /// Most dirty nodes before operations wait for a checkpoint: with the tables they fit the reserve.
    pub fn dirty_nodes_max(&self) -> usize {
        let payload = self.segment_blocks - self.segment_blocks.div_ceil(64) - 1;
        let blocks = (self.checkpoint_segments() - 1) * payload - self.table_pages();
        // A dirty node can dirty a leaf of the node table of its own.
        (blocks / 2) as usize
    }

    pub fn reserves(&self) -> Reserves {
        Reserves { checkpoint: self.checkpoint_segments() as usize, cleaner: 2, release: 1 }
    }

    /// Segments below which the cleaner works in an emergency: what users may not open, and one more.
    pub fn low_segments(&self) -> u32 {
        let r = self.reserves();
        (r.checkpoint + r.cleaner + r.release) as u32 + 1
    }

    /// Blocks that users may fill: all but `overprovision_percent`, and never so many that the reserves, a segment per head and
    /// the log's own headers do not fit beside them.
    pub fn capacity_blocks(&self, overprovision_percent: f64) -> Result<u64> {
        let blocks = u64::from(self.segments) * u64::from(self.segment_blocks);
        let wanted = (blocks as f64 * (1.0 - overprovision_percent / 100.0)) as u64;
        let kept = u64::from(self.low_segments() + u32::from(self.data_heads()) + 1 + 2);
        // Headers and summaries take up to two blocks of every 130 at the best packing.
        let packed = u64::from(self.segments).saturating_sub(kept) * u64::from(self.segment_blocks) * 63 / 64;
        let capacity = wanted.min(packed);
        if u64::from(self.segments) <= kept + 4 || capacity < 64 {
            let least = (kept + 8) * u64::from(self.segment_blocks) * 4;
            return Err(Error::Refused(format!(
                "{} segments of {} KiB are too few for a filesystem: make it at least {least} KiB or the segments smaller",
                self.segments,
                self.segment_blocks * 4,
            )));
        }
        Ok(capacity)
    }
}

const _: () = assert!((DATA_HEADS_MAX as usize) < HEADS_MAX);

/// Segment size for a device of `bytes`: 2 MiB, smaller so that a small image has enough segments, larger so that a huge one
/// has at most 2^19, whose table fits in 24 MiB of memory.
pub fn segment_blocks_for(bytes: u64) -> u32 {
    let at_least = (bytes >> 19).next_power_of_two();
    let at_most = (bytes / 384).next_power_of_two() / 2;
    let bytes = (2 << 20).min(at_most).max(at_least).max(128 << 10);
    (bytes / crate::types::BLOCK_SIZE as u64) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_get_93_percent_of_a_gigabyte_and_more() {
        for gib in [1u64, 4, 64, 1024, 15 * 1024] {
            let blocks = segment_blocks_for(gib << 30);
            let segments = ((gib << 30) / 4096 / u64::from(blocks)) as u32;
            assert!(segments <= 1 << 19);
            let room = LogRoom { segments: segments - 1, segment_blocks: blocks };
            let capacity = room.capacity_blocks(OVERPROVISION_PERCENT).unwrap();
            assert!(capacity as f64 >= 0.93 * (gib << 18) as f64, "{gib} GiB: {capacity} blocks");
        }
    }

    #[test]
    fn what_cannot_hold_the_reserves_is_refused() {
        assert!(LogRoom { segments: 12, segment_blocks: 32 }.capacity_blocks(6.0).is_err());
        assert!(LogRoom { segments: 100, segment_blocks: 32 }.capacity_blocks(6.0).is_ok());
    }
}
