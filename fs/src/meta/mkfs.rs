//! Making a filesystem: one checkpoint with nothing in it but what the caller puts there.

use std::sync::Arc;

use crate::device::Device;
use crate::device::aligned::AlignedBuf;
use crate::error::{Error, Result};
use crate::format::edit::Edit;
use crate::format::superblock::{Checkpoint, Features, Identity, LABEL_MAX, SLOTS, Superblock};
use crate::lock_order::{Place, RwLock};
use crate::types::SegNo;

use super::checkpoint;
use super::grow::check_capacities;
use super::roll_forward::{new_log, segment_capacity};
use super::slots::Slots;
use super::space::{LogRoom, OVERPROVISION_PERCENT};
use super::state::State;
use super::volume::VolumeOptions;

/// What the user may choose.
#[derive(Clone, Debug)]
pub struct FormatOptions {
    pub label: String,
    pub uuid: [u8; 16],
    /// Part of the device hidden from users, in percent.
    pub overprovision_percent: f64,
    /// Secret of the directory hash.
    pub hash_key: [u8; 16],
    /// Seconds since 1970.
    pub made_at_secs: i64,
}

impl FormatOptions {
    /// An unnamed filesystem with the default over-provisioning.
    pub fn new(uuid: [u8; 16], hash_key: [u8; 16], made_at_secs: i64) -> Self {
        Self { label: String::new(), uuid, overprovision_percent: OVERPROVISION_PERCENT, hash_key, made_at_secs }
    }
}

/// Makes a filesystem that consists of `contents` (the root directory, see `namespace::root_edits`). Whatever was on the device is lost.
pub fn format(device: Arc<dyn Device>, options: &FormatOptions, contents: &[Edit]) -> Result<Identity> {
    let mut slots = Slots::new(Arc::clone(&device))?;
    let identity = identify(&*device, options, slots.first_segment())?;
    let capacity = segment_capacity(&*device, identity.first_segment)?;
    let room = LogRoom { segments: identity.segments - identity.first_segment.0, segment_blocks: capacity };
    wipe(&*device, &identity)?;
    let volume_options = VolumeOptions::of_tool(false, 0);
    let log = new_log(Arc::clone(&device), &identity, &room, capacity, &volume_options);
    let mut state = State::create();
    state.prepare(contents)?;
    state.apply(contents, &log);
    let state = RwLock::new(Place::State, state);
    {
        let mut inner = log.lock();
        let first = inner.segments.take_free(1);
        inner.heads.set_allocation(first);
    }
    let mut taken = checkpoint::take(&mut state.write(), &log, &Checkpoint::default(), 1, true, Default::default())?;
    checkpoint::write(&mut taken, &state, &log)?;
    device.flush()?;
    taken.checkpoint.device_bytes = device.traffic().written_bytes;
    slots.write(&Superblock { identity: identity.clone(), checkpoint: taken.checkpoint })?;
    slots.write_copy(&identity)?;
    device.flush()?;
    Ok(identity)
}

fn identify(device: &dyn Device, options: &FormatOptions, first_segment: SegNo) -> Result<Identity> {
    if options.label.len() > LABEL_MAX {
        return Err(Error::Refused(format!("the label is longer than {LABEL_MAX} bytes")));
    }
    if !(0.0..=90.0).contains(&options.overprovision_percent) {
        return Err(Error::Refused("over-provisioning must be between 0 and 90 percent".into()));
    }
    let geometry = device.geometry();
    let segments = whole_segments(device)?;
    if segments <= first_segment.0 || geometry.zone_blocks < 16 {
        let least = 16 * 4;
        return Err(Error::Refused(format!(
            "too small: a filesystem has segments of {least} KiB or more, and many of them"
        )));
    }
    let capacity = segment_capacity(device, first_segment)?;
    if geometry.zoned {
        check_capacities(device, first_segment.0..segments, capacity)?;
    }
    let room = LogRoom { segments: segments - first_segment.0, segment_blocks: capacity };
    Ok(Identity {
        uuid: options.uuid,
        fsid: Identity::fsid_of(&options.uuid),
        label: options.label.clone(),
        features: Features::default(),
        segment_blocks: geometry.zone_blocks,
        segments,
        first_segment,
        capacity_blocks: room.capacity_blocks(first_segment.0, options.overprovision_percent)?,
        hash_key: options.hash_key,
        made_at_secs: options.made_at_secs,
    })
}

/// Segments of the device; the log uses whole ones only.
pub(crate) fn whole_segments(device: &dyn Device) -> Result<u32> {
    let geometry = device.geometry();
    if !geometry.zoned {
        return Ok((geometry.total_blocks / u64::from(geometry.zone_blocks)) as u32);
    }
    let last = device.zone(geometry.zones - 1)?;
    let full = device.zone(0)?.size_blocks;
    Ok(if last.size_blocks < full { geometry.zones - 1 } else { geometry.zones })
}

/// Empties the superblock area and every zone, so that nothing of what stood here is taken for part of this filesystem.
fn wipe(device: &dyn Device, identity: &Identity) -> Result<()> {
    if !device.geometry().zoned {
        device.reset(0)?;
        for slot in SLOTS {
            device.write(slot, &AlignedBuf::new(1))?;
        }
        return Ok(());
    }
    for zone in 0..identity.segments {
        device.reset(zone)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::MemoryDevice;
    use crate::device::rules::ZonedSpec;

    #[test]
    fn zones_of_two_capacities_are_refused() {
        let zones = |conventional, capacity_blocks| {
            let spec = ZonedSpec {
                zones: 64,
                zone_blocks: 64,
                capacity_blocks,
                conventional,
                open_max: None,
                active_max: None,
            };
            format(Arc::new(MemoryDevice::zoned(spec)), &FormatOptions::new([7; 16], [9; 16], 0), &[]).map(drop)
        };
        assert!(zones(1, 56).is_ok() && zones(2, 64).is_ok());
        let refused = zones(2, 56).expect_err("the log would write past the capacity of zone 2");
        assert_eq!(refused.to_string(), "zone 2 holds 56 blocks and the others 64");
    }
}
