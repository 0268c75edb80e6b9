//! How much of a device users may fill, and what is kept back so that cleaning and checkpoints always find room (I5).

use crate::error::{Error, Result};
use crate::format::superblock::HEADS_MAX;
use crate::log::Reserves;

/// Part of the device hidden from users unless they say otherwise, in percent.
pub const OVERPROVISION_PERCENT: f64 = 6.0;
/// Most data heads.
pub const DATA_HEADS_MAX: u8 = 6;
/// Blocks beyond the users' capacity for operations that give space back.
pub const RELEASE_TRANCHE_BLOCKS: u64 = 64;
/// Most segments: their table takes 24 MiB of memory.
pub const SEGMENTS_MAX: u32 = 1 << 19;
/// Fewer segments than this are few: the cleaner goes from checkpoint to checkpoint with one segment at a time.
const FEW_SEGMENTS: u32 = 256;

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
        (self.segments.saturating_sub(128) / 48).clamp(1, u32::from(DATA_HEADS_MAX)) as u8
    }

    /// Segments that a worst-case checkpoint may take, and one more: the cleaner may need another checkpoint before what the first
    /// one gave back is enough.
    fn checkpoint_segments(&self) -> u32 {
        (self.node_blocks_wanted() + self.table_pages()).div_ceil(self.payload_blocks()) + 1
    }

    /// Nodes, and leaves of the node table, that one checkpoint should be able to write. Where segments are few and large, what fits two
    /// of them would be far more than is ever dirty at once.
    fn node_blocks_wanted(&self) -> u32 {
        let segments = (self.segments / 100).clamp(2, 64);
        segments.saturating_mul(self.segment_blocks).min(self.segments.saturating_mul(24))
    }

    /// Blocks of a segment that are not chunk headers.
    pub(super) fn payload_blocks(&self) -> u32 {
        self.segment_blocks - self.segment_blocks.div_ceil(64) - 1
    }

    /// Pages of both tables that one checkpoint can have to write, the node table's leaves aside (they count as nodes).
    pub(super) fn table_pages(&self) -> u32 {
        self.segments / 100 + 12
    }

    /// Most dirty nodes before operations wait for a checkpoint: with the tables they fit the reserve. Each can dirty a leaf of the node table of its
    /// own, but no more than the `leaves` that there are.
    pub fn dirty_nodes_max(&self, leaves: u64) -> usize {
        let blocks = u64::from((self.checkpoint_segments() - 1) * self.payload_blocks() - self.table_pages());
        (blocks / 2).max(blocks.saturating_sub(leaves)) as usize
    }

    pub fn reserves(&self) -> Reserves {
        let cleaner = if self.segments < FEW_SEGMENTS { 1 } else { 2 };
        Reserves { checkpoint: self.checkpoint_segments() as usize, cleaner, release: 1 }
    }

    /// Segments below which the cleaner works in an emergency: what users may not open, and one more.
    pub fn low_segments(&self) -> u32 {
        let r = self.reserves();
        (r.checkpoint + r.cleaner + r.release) as u32 + 1
    }

    /// Segments that users cannot fill: the reserves, one for each head that has just opened it, and dead blocks, without which a full log
    /// would leave the cleaner nothing to gain.
    pub fn kept_segments(&self) -> u32 {
        let heads = u32::from(self.data_heads()) + 1;
        // Two checkpoints at the least: what the cleaner gains by one must be more than what writing it takes.
        let checkpoints = (2 * (self.table_pages() + 16)).div_ceil(self.payload_blocks());
        let dead = (self.segments / 128).clamp(1, 3).max(checkpoints);
        self.low_segments() - 1 + heads + dead
    }

    /// Blocks that users may fill: all of the device but `overprovision_percent`, and never so many that [`LogRoom::kept_segments`] and the log's
    /// own headers do not fit beside them. `superblock_segments` stand before the log.
    pub fn capacity_blocks(&self, superblock_segments: u32, overprovision_percent: f64) -> Result<u64> {
        let blocks = u64::from(self.segments + superblock_segments) * u64::from(self.segment_blocks);
        let wanted = (blocks as f64 * (1.0 - overprovision_percent / 100.0)) as u64;
        let kept = u64::from(self.kept_segments());
        // Headers and summaries take up to two blocks of every 130 at the best packing, and one of any segment.
        let best = u64::from(self.segment_blocks - self.segment_blocks.div_ceil(64));
        let packed = u64::from(self.segments).saturating_sub(kept) * best;
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

    /// The share of the device that users may fill, if `capacity_blocks` are what they may.
    pub fn users_percent(&self, superblock_segments: u32, capacity_blocks: u64) -> f64 {
        let blocks = u64::from(self.segments + superblock_segments) * u64::from(self.segment_blocks);
        100.0 * capacity_blocks as f64 / blocks as f64
    }

    /// The smallest number of segments, the superblock's included, from which on users get `percent` of a device with segments of this size.
    pub fn segments_for(&self, superblock_segments: u32, percent: f64) -> Option<u32> {
        let enough = |segments: u32| {
            let room = Self { segments: segments - superblock_segments, ..*self };
            let capacity = room.capacity_blocks(superblock_segments, OVERPROVISION_PERCENT);
            capacity.is_ok_and(|blocks| room.users_percent(superblock_segments, blocks) >= percent)
        };
        // From here on the reserves grow far slower than the device.
        let fewest = (superblock_segments + 1..1024).rev().take_while(|segments| enough(*segments)).last();
        fewest.filter(|segments| *segments < 1023)
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
            let capacity = room.capacity_blocks(1, OVERPROVISION_PERCENT).unwrap();
            assert!(capacity as f64 >= 0.93 * (gib << 18) as f64, "{gib} GiB: {capacity} blocks");
        }
    }

    #[test]
    fn users_get_93_percent_of_zoned_devices_from_some_number_of_zones_on() {
        let share = |zones: u32, segment_blocks| {
            let room = LogRoom { segments: zones - 2, segment_blocks };
            room.users_percent(2, room.capacity_blocks(2, OVERPROVISION_PERCENT).unwrap())
        };
        // Zone capacity in blocks (1, 16 and 64 MiB), the number from which on, and the share of 128 zones.
        for (segment_blocks, from, of_128) in [(256, 200, 90.0), (4096, 182, 91.5), (16_384, 163, 91.5)] {
            let room = LogRoom { segments: 126, segment_blocks };
            assert_eq!(room.segments_for(2, 93.0), Some(from), "{segment_blocks}");
            assert!((from..2048).all(|zones| share(zones, segment_blocks) >= 93.0));
            assert!(share(128, segment_blocks) >= of_128 - 0.05, "{}", share(128, segment_blocks));
        }
    }

    #[test]
    fn what_cannot_hold_the_reserves_is_refused() {
        assert!(LogRoom { segments: 12, segment_blocks: 32 }.capacity_blocks(1, 6.0).is_err());
        assert!(LogRoom { segments: 100, segment_blocks: 32 }.capacity_blocks(1, 6.0).is_ok());
    }
}
