//! From a path to a device whose zones are the image's segments.

use std::path::Path;

use crate::device::aligned::AlignedBuf;
use crate::device::open::{OpenMode, OpenedDevice, Probe, probe};
use crate::error::{Error, Result};
use crate::format::DecodeError;
use crate::format::superblock::{SLOTS, Superblock};

use super::slots::copy_address;

/// Opens and locks the image at `path`. Errors are whole sentences for the user.
pub fn open_image(path: &Path, mode: OpenMode) -> Result<OpenedDevice> {
    let probe = probe(path, mode)?;
    let segment_blocks = match probe.zone_blocks() {
        Some(blocks) => blocks,
        None => stored_segment_blocks(&probe)
            .map_err(|e| Error::Refused(format!("{}: {}", path.display(), not_ours(&e))))?,
    };
    probe.with_segment_blocks(segment_blocks)
}

fn stored_segment_blocks(probe: &Probe) -> Result<u32> {
    let mut why = Error::Decode(DecodeError::BadMagic { what: "superblock", found: 0 });
    let total = probe.geometry().total_blocks;
    for slot in SLOTS.into_iter().filter(|slot| slot.0 < total) {
        let mut block = AlignedBuf::new(1);
        if let Err(e) = probe.read(slot, &mut block) {
            // One bad slot leaves the other.
            why = e.into();
            continue;
        }
        match Superblock::decode(&block) {
            Ok(superblock) => return Ok(superblock.identity.segment_blocks),
            Err(DecodeError::BadMagic { .. }) => {}
            Err(e) => why = e.into(),
        }
    }
    Err(why)
}

/// Blocks of a segment, from the copy of what the image is in the last block of its first segment, wherever that ends.
pub(crate) fn stored_copy_segment_blocks(probe: &Probe) -> Option<u32> {
    let total = probe.geometry().total_blocks;
    (4..=20).map(|log| 1u32 << log).filter(|blocks| u64::from(*blocks) <= total).find(|blocks| {
        let mut block = AlignedBuf::new(1);
        let read = probe.read(copy_address(*blocks), &mut block).is_ok();
        read && Superblock::decode(&block).is_ok_and(|found| found.identity.segment_blocks == *blocks)
    })
}

fn not_ours(error: &Error) -> String {
    match error {
        Error::Decode(DecodeError::BadMagic { .. }) => "not a gleanfs image".into(),
        Error::Decode(e) => format!("no usable superblock: {e}"),
        e => e.to_string(),
    }
}
