//! The superblock slots and what the newest checkpoint says by itself.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::device::Device;
use crate::device::aligned::AlignedBuf;
use crate::error::{Error, Result};
use crate::format::DecodeError;
use crate::format::superblock::{Checkpoint, Identity, Superblock};
use crate::format::table::{StoredSegment, StoredState};
use crate::log::segments::SegmentState;
use crate::meta::roll_forward::check_identity;
use crate::meta::slots::Slots;
use crate::meta::volume::Volume;
use crate::types::{BlockAddr, SegNo};

use super::finding::Finding;
use super::report::Report;

/// Reads every slot; the newest superblock. `None` if none is usable, which is a finding. What was never a gleanfs image, or is one
/// that this code must not judge, is an error.
pub(super) fn read(device: &Arc<dyn Device>, report: &mut Report) -> Result<Option<Superblock>> {
    let slots = Slots::new(Arc::clone(device))?;
    let mut good: Vec<Superblock> = Vec::new();
    let mut bad: Vec<(BlockAddr, Option<String>)> = Vec::new();
    for (addr, _) in slots.candidates()? {
        let mut block = AlignedBuf::new(1);
        match device.read(addr, &mut block) {
            Err(e) => bad.push((addr, Some(e.to_string()))),
            Ok(()) => match Superblock::decode(&block) {
                Ok(superblock) => good.push(superblock),
                Err(DecodeError::BadMagic { .. }) => bad.push((addr, None)),
                Err(e) => bad.push((addr, Some(e.to_string()))),
            },
        }
    }
    let Some(newest) = good.iter().max_by_key(|s| s.checkpoint.sequence).cloned() else {
        let Some(why) = bad.into_iter().find_map(|(_, why)| why) else {
            return Err(Error::Refused(super::NOT_OURS.into()));
        };
        report.add(Finding::NoSuperblock { why });
        return Ok(None);
    };
    check_identity(&newest.identity, &**device, &slots, true)?;
    if good.iter().any(|s| !s.identity.may_precede(&newest.identity)) {
        report.add(Finding::SlotsDisagree);
    }
    // mkfs writes one slot and leaves the other empty.
    let fresh = newest.checkpoint.sequence == 1;
    for (slot, why) in bad {
        match why {
            None if fresh => {}
            why => report.add(Finding::BadSlot { slot, why: why.unwrap_or_else(|| "it is empty".into()) }),
        }
    }
    Ok(Some(newest))
}

/// Segments that the checkpoint names outside the tables: their entries are wanted by [`check_lists`].
pub(super) fn named_segments(checkpoint: &Checkpoint) -> HashMap<SegNo, StoredSegment> {
    let heads = checkpoint.heads.iter().map(|p| p.segment);
    checkpoint.allocation.iter().copied().chain(heads).map(|seg| (seg, StoredSegment::default())).collect()
}

/// The allocation list names free segments only (I2), each once; heads go on in used ones. What an extension lists is [`check_extension`]'s.
pub(super) fn check_lists(
    identity: &Identity,
    checkpoint: &Checkpoint,
    capacity: u32,
    stored: &HashMap<SegNo, StoredSegment>,
    report: &mut Report,
) {
    let mut seen = HashSet::new();
    let state_of = |segment: &SegNo| stored.get(segment).map_or(StoredState::Free, |entry| entry.state);
    for segment in checkpoint.allocation.iter().copied() {
        let mut bad = |why| report.add(Finding::AllocationList { segment, why });
        match state_of(&segment) {
            StoredState::Free => {}
            StoredState::Used if checkpoint.extended.is_some() => {}
            StoredState::Used => bad("which is in use"),
            StoredState::Bad => bad("which the device has refused"),
        }
        if segment >= checkpoint.frontier {
            bad("which is beyond the frontier");
        }
        if !seen.insert(segment) {
            bad("twice");
        }
    }
    let mut heads = HashSet::new();
    for p in &checkpoint.heads {
        let mut bad = |why| report.add(Finding::HeadPosition { head: p.head, segment: p.segment, next: p.next, why });
        if state_of(&p.segment) != StoredState::Used {
            bad("which is not in use");
        }
        if p.next > capacity {
            bad("which ends before it");
        }
        if p.generation >= checkpoint.next_generation {
            bad("in a life that has not begun");
        }
        if !heads.insert(p.head) || checkpoint.heads.iter().filter(|q| q.segment == p.segment).count() > 1 {
            bad("which has more than one head, or the head more than one segment");
        }
    }
    if checkpoint.frontier < identity.first_segment {
        let (used, next) = (u64::from(identity.first_segment.0), u64::from(checkpoint.frontier.0));
        report.add(Finding::NextNumber { what: "segment", used, next });
    }
}

/// An extension lists segments that are in use in the checkpoint and empty once the log is replayed (I2).
pub(super) fn check_extension(volume: &Volume, report: &mut Report) {
    let inner = volume.log.lock();
    for segment in inner.heads.listed() {
        if matches!(inner.segments.get(segment).state, SegmentState::Open | SegmentState::Sealed) {
            report.add(Finding::AllocationList { segment, why: "which is in use after the log, too" });
        }
    }
}
