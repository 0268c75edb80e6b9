//! Growing: a filesystem takes more of its device, mounted and at work.
//!
//! First the device has the room, durably; then a checkpoint names more segments and a larger capacity, and its slot is the commit point;
//! only then may users fill them. A cut before leaves the old size on a device that is longer than it says, which every mount takes. The
//! older slot still names the old size: it serves until the newer one is durable, and its state has nothing in the new segments.

use std::ops::Range;
use std::sync::Arc;

use crate::device::Device;
use crate::error::{Error, Result};
use crate::format::superblock::Identity;
use crate::types::BLOCK_SIZE;

use super::mkfs::whole_segments;
use super::space::{LogRoom, OVERPROVISION_PERCENT, SEGMENTS_MAX};
use super::volume::{Shape, Volume};

/// What a filesystem was and what it became.
#[derive(Clone, Debug)]
pub struct Grown {
    pub before: Arc<Identity>,
    pub after: Arc<Identity>,
}

impl std::fmt::Display for Grown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mib = |blocks: u64| (blocks * BLOCK_SIZE as u64) >> 20;
        let whole = |i: &Identity| mib(u64::from(i.segments) * u64::from(i.segment_blocks));
        let (before, after) = (&*self.before, &*self.after);
        let users = mib(after.capacity_blocks);
        write!(f, "grown from {} MiB to {} MiB, {users} MiB for users", whole(before), whole(after))
    }
}

impl Volume {
    /// Takes the device's whole length, or `bytes` of it, which an image file or a zoned image is made to have first. `None`: there is nothing to
    /// take. Refused, with nothing changed, if it would shrink or be of an impossible size.
    pub fn grow(&self, bytes: Option<u64>) -> Result<Option<Grown>> {
        self.writable()?;
        let mut checkpoints = self.checkpoints.lock();
        let (before, room) = (self.identity(), self.room());
        let wanted = bytes.map(|bytes| wanted_segments(&before, bytes)).transpose()?;
        let step = u64::from(before.segment_blocks);
        let device = self.device();
        device
            .grow(wanted.map(|segments| u64::from(segments) * step))
            .map_err(|e| Error::Refused(e.source.to_string()))?;
        let there = whole_segments(&**device)?;
        let segments = wanted.map_or(there, |wanted| wanted.min(there));
        if segments <= before.segments {
            return Ok(None);
        }
        check_segments(&before, segments)?;
        check_capacities(&**device, before.segments..segments, room.segment_blocks)?;
        let room_after = LogRoom { segments: segments - before.first_segment.0, ..room };
        let percent = overprovision_percent(&before, &room);
        let capacity_blocks = room_after.capacity_blocks(before.first_segment.0, percent)?.max(before.capacity_blocks);
        let after = Arc::new(Identity { segments, capacity_blocks, ..(*before).clone() });
        self.log.lock().segments.grow(segments);
        self.checkpoint_as(&mut checkpoints, &after, false)?;
        if let Err(e) = checkpoints.slots.write_copy(&after) {
            tracing::warn!("{e}; a repair without slots would find the size before");
        }
        self.log.lock().heads.reserves = room_after.reserves();
        self.set_shape(Shape { identity: Arc::clone(&after), room: room_after });
        self.log.notify();
        Ok(Some(Grown { before, after }))
    }
}

/// Refuses segments of another capacity: the log counts on one (see `fs/FORMAT.md`, "The device").
pub(super) fn check_capacities(device: &dyn Device, segments: Range<u32>, capacity: u32) -> Result<()> {
    for segment in segments {
        let found = device.zone(segment)?.capacity_blocks;
        if found != capacity {
            return Err(Error::Refused(format!("zone {segment} holds {found} blocks and the others {capacity}")));
        }
    }
    Ok(())
}

/// Whole segments in `bytes`; an error if they are fewer than there are.
fn wanted_segments(before: &Identity, bytes: u64) -> Result<u32> {
    let step = u64::from(before.segment_blocks) * BLOCK_SIZE as u64;
    let segments = u32::try_from(bytes / step).unwrap_or(u32::MAX);
    if segments < before.segments {
        let (have, wanted) = ((u64::from(before.segments) * step) >> 10, bytes >> 10);
        return Err(Error::Refused(format!(
            "the filesystem has {have} KiB, so {wanted} KiB would shrink it, which is not possible"
        )));
    }
    check_segments(before, segments)?;
    Ok(segments)
}

fn check_segments(before: &Identity, segments: u32) -> Result<()> {
    if segments <= SEGMENTS_MAX {
        return Ok(());
    }
    let step = u64::from(before.segment_blocks) * BLOCK_SIZE as u64;
    let most = (u64::from(SEGMENTS_MAX) * step) >> 20;
    Err(Error::Refused(format!(
        "with segments of {} KiB it can have at most {most} MiB; a larger filesystem needs larger segments, which mkfs chooses",
        step >> 10
    )))
}

/// The share that was hidden so far. A small filesystem hides more than was asked for, so that its reserves fit; where that says nothing of what
/// was asked for, the default is taken to be meant.
fn overprovision_percent(before: &Identity, room: &LogRoom) -> f64 {
    let first = before.first_segment.0;
    if room.capacity_blocks(first, OVERPROVISION_PERCENT).is_ok_and(|usual| usual == before.capacity_blocks) {
        return OVERPROVISION_PERCENT;
    }
    let all = u64::from(room.segments + first) * u64::from(room.segment_blocks);
    100.0 * (1.0 - before.capacity_blocks as f64 / all as f64)
}
