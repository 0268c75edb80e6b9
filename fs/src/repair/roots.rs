//! Images without a usable superblock slot: what they are, and the newest checkpoint that is whole.
//!
//! What an image is, the copy in the superblock's segment says; without one its geometry is the device's, its name that of its structures,
//! and its names get another hash. A checkpoint is known by the root page of its node table, which it writes last.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::device::Device;
use crate::device::aligned::AlignedBuf;
use crate::error::{Error, Result};
use crate::format::chunk::{Record, TableId};
use crate::format::superblock::{BlockRef, Checkpoint, Features, Identity, Superblock};
use crate::format::table::{NODE_LEVELS, Page, SEGMENT_LEVELS};
use crate::format::value::Time;
use crate::fsck::blocks::{Bits, LogSpace};
use crate::fsck::walk::TreeWalk;
use crate::fsck::{ProgressFn, Report};
use crate::log::scan::FoundChunk;
use crate::meta::mkfs::whole_segments;
use crate::meta::roll_forward::segment_capacity;
use crate::meta::slots::{Slots, identity_copy};
use crate::meta::space::{LogRoom, OVERPROVISION_PERCENT};
use crate::types::{BlockAddr, Lsn, SegNo, WriteClock};

use super::change::Repair;
use super::medium;
use super::open::{Source, tables_of};
use super::replay::Where;

/// Sequences that a mount or a repair can go through before the next epoch: one that begins at a multiple of it, by its epoch, is above whatever a
/// slot holds that could not be read now.
const SEQUENCES: u64 = 1 << 32;
/// Checkpoints that are looked at, the newest first.
const ROOTS_MAX: usize = 8;

/// When a checkpoint was written: its operation, and the mount and the life of the segment that tell two of one operation apart.
type When = (Lsn, u64, u64, BlockAddr);

/// What is found on the medium.
#[derive(Default)]
struct Found {
    /// Whole root pages of the node table and the segment table, with their checksums.
    nodes: BTreeMap<When, u32>,
    segments: BTreeMap<When, u32>,
    next_generation: u64,
    epoch: u64,
    write_clock: WriteClock,
    last_segment: SegNo,
}

/// A superblock for an image that has none, or only one, `slot`, that is in doubt; an error if there is nothing of a filesystem either.
pub fn recover(
    device: &Arc<dyn Device>,
    slot: Option<(Superblock, Slots)>,
    hash_key: [u8; 16],
    cache_bytes: usize,
    now: Time,
    progress: ProgressFn<'_>,
) -> Result<Source> {
    let (mut identity, from) = match &slot {
        Some((superblock, _)) => (superblock.identity.clone(), "the other slot"),
        None => identify(device, &Slots::new(Arc::clone(device))?, hash_key, now)?,
    };
    let mut space = LogSpace::of(&identity, segment_capacity(&**device, identity.first_segment)?);
    // The image may have grown since that was written.
    space.segments = space.segments.max(whole_segments(&**device)?);
    let mut found = Found::default();
    medium::chunks(&**device, identity.fsid, space, progress, &mut |segment, chunk| {
        found.note(&**device, identity.fsid, segment, &chunk);
        Ok(())
    })?;
    if found.next_generation == 0 && slot.is_none() {
        return Err(Error::Refused("nothing of a filesystem is left".into()));
    }
    if found.last_segment.0 >= identity.segments {
        identity.segments = space.segments;
        identity.capacity_blocks = room_for_users(&identity, space.capacity)?;
    }
    let repair = Repair::Superblock { from };
    let best = choose(device, &identity, &found, cache_bytes, now, progress)?;
    if let Some((superblock, slots)) = slot {
        let opened = tables_of(
            device,
            found.source(device, &identity, superblock.checkpoint.clone())?,
            cache_bytes,
            now,
            progress,
        )?;
        let (root, nodes) = (superblock.checkpoint.node_table.addr, opened.shop.whole_nodes());
        if best.is_none_or(|best| best.root.3 == root || best.nodes < nodes) {
            let repairs = vec![repair];
            return Ok(Source { last_epoch: found.epoch, repairs, ..Source::listed(superblock, slots) });
        }
    }
    let (root, rootless) = match best {
        Some(best) => (found.checkpoint(&best.root), false),
        None => (found.checkpoint(&(Lsn(u64::MAX), 0, 0, BlockAddr::NONE)), true),
    };
    let mut source = Source { at: Where::Anywhere, rootless, ..found.source(device, &identity, root)? };
    source.repairs.push(repair);
    if !rootless {
        source.repairs.push(Repair::GoBack { lsn: source.superblock.checkpoint.lsn });
    }
    Ok(source)
}

/// A checkpoint to go back to.
#[derive(Clone, Copy)]
struct Best {
    root: When,
    /// Nodes that are left of it.
    nodes: usize,
}

/// The newest checkpoint that is whole, if no newer one has more nodes left; else the one that has most of them. An old state is whole, too, where it was
/// that of an empty filesystem.
fn choose(
    device: &Arc<dyn Device>,
    identity: &Identity,
    found: &Found,
    cache_bytes: usize,
    now: Time,
    progress: ProgressFn<'_>,
) -> Result<Option<Best>> {
    let mut best: Option<Best> = None;
    for root in found.nodes.keys().rev().take(ROOTS_MAX) {
        let opened =
            tables_of(device, found.source(device, identity, found.checkpoint(root))?, cache_bytes, now, progress)?;
        let none = Bits::default();
        let mut walk = TreeWalk::new(&opened.shop.volume, &none);
        walk.run(&mut Report::new(0), &mut |_, _, _| {});
        let lost = opened.lost_pages + walk.lost.len() as u64 + u64::from(walk.crooked);
        let nodes = opened.shop.whole_nodes();
        if best.is_none_or(|best| nodes > best.nodes) {
            best = Some(Best { root: *root, nodes });
        }
        if lost == 0 {
            break;
        }
    }
    Ok(best)
}

impl Found {
    fn note(&mut self, device: &dyn Device, fsid: u64, segment: SegNo, chunk: &FoundChunk) {
        let header = &chunk.header;
        self.next_generation = self.next_generation.max(header.generation + 1);
        self.epoch = self.epoch.max(header.epoch);
        self.write_clock = self.write_clock.max(header.write_clock);
        self.last_segment = self.last_segment.max(segment);
        for record in &chunk.records {
            let Record::Page { index, page } = *record else { continue };
            let roots = match (page.table, page.level) {
                (TableId::Nodes, level) if level + 1 == NODE_LEVELS => &mut self.nodes,
                (TableId::Segments, level) if level + 1 == SEGMENT_LEVELS => &mut self.segments,
                _ => continue,
            };
            let addr = header.payload(index);
            let mut block = AlignedBuf::new(1);
            if device.read(addr, &mut block).is_err() {
                continue;
            }
            // The page says by itself what its reference says.
            let crc = u32::from_le_bytes(block[8..12].try_into().expect("four bytes"));
            let lsn = Lsn(u64::from_le_bytes(block[32..40].try_into().expect("eight bytes")));
            if Page::decode(&block, page, fsid, crc).is_ok() {
                roots.insert((lsn, header.epoch, header.generation, addr), crc);
            }
        }
    }

    fn checkpoint(&self, root: &When) -> Checkpoint {
        let at = |when: &When, crc: &u32| BlockRef { addr: when.3, crc: *crc };
        let segments = self.segments.range(..=(root.0, root.1, u64::MAX, BlockAddr(u64::MAX))).next_back();
        Checkpoint {
            sequence: self.epoch.saturating_add(1).saturating_mul(SEQUENCES),
            epoch: root.1,
            lsn: root.0,
            write_clock: self.write_clock,
            next_ino: crate::types::Ino::FIRST_USER.0,
            next_generation: self.next_generation,
            node_table: self.nodes.get(root).map_or(BlockRef::ABSENT, |crc| at(root, crc)),
            segment_table: segments.map_or(BlockRef::ABSENT, |(when, crc)| at(when, crc)),
            frontier: SegNo(self.last_segment.0 + 1),
            ..Checkpoint::default()
        }
    }

    fn source(&self, device: &Arc<dyn Device>, identity: &Identity, checkpoint: Checkpoint) -> Result<Source> {
        let superblock = Superblock { identity: identity.clone(), checkpoint };
        Ok(Source { last_epoch: self.epoch, ..Source::listed(superblock, Slots::new(Arc::clone(device))?) })
    }
}

/// What the image is, and where that is from.
fn identify(
    device: &Arc<dyn Device>,
    slots: &Slots,
    hash_key: [u8; 16],
    now: Time,
) -> Result<(Identity, &'static str)> {
    if let Some(copy) = identity_copy(&**device, slots.first_segment())? {
        return Ok((copy, "the copy of what the image is"));
    }
    let first_segment = slots.first_segment();
    let segment_blocks = device.geometry().zone_blocks;
    let segments = whole_segments(&**device)?;
    let capacity = segment_capacity(&**device, first_segment)?;
    let space = LogSpace { first_segment, segments, segment_blocks, capacity };
    let Some(fsid) = medium::fsid_of_chunks(&**device, space) else {
        return Err(Error::Refused("not a gleanfs image".into()));
    };
    let mut uuid = [0; 16];
    uuid[..8].copy_from_slice(&fsid.to_le_bytes());
    let mut identity = Identity {
        uuid,
        fsid,
        label: String::new(),
        features: Features::default(),
        segment_blocks,
        segments,
        first_segment,
        capacity_blocks: 0,
        hash_key,
        made_at_secs: now.secs,
    };
    identity.capacity_blocks = room_for_users(&identity, capacity)?;
    Ok((identity, "what is on the medium; names get a new hash"))
}

/// What users may fill by default.
fn room_for_users(identity: &Identity, segment_blocks: u32) -> Result<u64> {
    let room = LogRoom { segments: identity.segments - identity.first_segment.0, segment_blocks };
    room.capacity_blocks(identity.first_segment.0, OVERPROVISION_PERCENT)
}
