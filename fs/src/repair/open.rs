//! From a superblock to a state that can be mended, however much of what it names is damaged.

use std::collections::HashMap;
use std::sync::Arc;

use crate::device::Device;
use crate::error::Result;
use crate::format::chunk::TableId;
use crate::format::superblock::{BlockRef, Checkpoint, Superblock};
use crate::format::table::StoredSegment;
use crate::format::value::Time;
use crate::fsck::ProgressFn;
use crate::fsck::blocks::{LiveBlocks, LogSpace};
use crate::meta::radix::Radix;
use crate::meta::roll_forward::{check_identity, new_log, segment_capacity};
use crate::meta::slots::Slots;
use crate::meta::space::LogRoom;
use crate::meta::state::{State, Totals};
use crate::meta::tree::Tree;
use crate::meta::volume::{Foundation, Volume, VolumeOptions};
use crate::types::{NodeId, SegNo};

use super::change::Repair;
use super::copies;
use super::index;
use super::replay::{self, Tail, Where};
use super::salvage;
use super::tables;
use super::workshop::{UNCOUNTED, Workshop};

/// Ids that a node table has room for.
const NODE_IDS: u64 = 252 * 252 * 252 * 252;

/// A state under repair, with what its commit has to know of the one before.
pub struct Opened {
    pub shop: Workshop,
    pub checkpoint: Checkpoint,
    /// Entries of the segment table as they were.
    pub segments: HashMap<SegNo, StoredSegment>,
    pub tail: Tail,
    /// No chunk that was seen is of a later mount.
    pub last_epoch: u64,
    /// Items came back whose data nobody vouches for.
    pub salvaged: bool,
    pub lost_pages: u64,
}

/// What to open.
pub struct Source {
    pub superblock: Superblock,
    pub slots: Slots,
    pub at: Where,
    /// Not even a root page of the node table is left: take the newest copy of every node.
    pub rootless: bool,
    /// No chunk is known to be of a later mount.
    pub last_epoch: u64,
    pub repairs: Vec<Repair>,
}

impl Source {
    /// What a slot says.
    pub fn listed(superblock: Superblock, slots: Slots) -> Self {
        let last_epoch = superblock.checkpoint.epoch;
        Self { superblock, slots, at: Where::Listed, rootless: false, last_epoch, repairs: Vec::new() }
    }
}

/// The tables and the nodes as far as they are there, the tree not looked at yet.
pub fn tables_of(
    device: &Arc<dyn Device>,
    source: Source,
    cache_bytes: usize,
    now: Time,
    progress: ProgressFn<'_>,
) -> Result<Opened> {
    let Source { superblock: Superblock { identity, mut checkpoint }, slots, rootless, last_epoch, repairs, .. } =
        source;
    check_identity(&identity, &**device, &slots, false)?;
    let capacity = segment_capacity(&**device, identity.first_segment)?;
    let space = LogSpace::of(&identity, capacity);
    let room = LogRoom { segments: identity.segments - identity.first_segment.0, segment_blocks: capacity };
    let options = VolumeOptions::of_tool(true, cache_bytes);
    let log = new_log(Arc::clone(device), &identity, &room, capacity, &options);
    log.resume(&checkpoint, checkpoint.lsn, checkpoint.epoch + 1);
    let mut wanted = LiveBlocks::default();
    let mut found = tables::read(&log, space, &checkpoint, &mut wanted);
    if rootless {
        found.lost_nodes = std::iter::once(0..NODE_IDS).collect();
    }
    let mut nodes = Radix::new(TableId::Nodes, BlockRef::ABSENT);
    let mut next_node = NodeId(checkpoint.next_node);
    let mut copies = match found.lost_nodes.is_empty() {
        true => HashMap::new(),
        false => copies::find(&**device, identity.fsid, space, &found.lost_nodes, checkpoint.lsn, progress)?,
    };
    if rootless {
        checkpoint.lsn = copies.values().map(|copy| copy.lsn).max().unwrap_or_default();
    }
    // Older copies are for what is salvaged, if the tree has a place for a node that is lost.
    copies.retain(|_, copy| copy.is_newest);
    let copied = copies.len() as u64;
    for (id, at) in found.nodes.into_iter().chain(copies.into_iter().map(|(id, copy)| (id, copy.at))) {
        nodes.set(0, id.0, at);
        next_node = next_node.max(NodeId(id.0 + 1));
        if let Some((segment, offset)) = space.place(at.addr, 1) {
            wanted.mark(segment, offset, 1);
        }
    }
    let totals =
        Totals { data_blocks: UNCOUNTED, promised_blocks: UNCOUNTED, node_blocks: UNCOUNTED, table_blocks: UNCOUNTED };
    let state = State { tree: Tree::open(next_node), nodes, totals, ..State::open(&checkpoint) };
    let epoch = checkpoint.epoch + 1;
    let base = Foundation { identity, state, log, slots, last: checkpoint.clone(), room, epoch };
    let volume = Volume::assemble(base, options);
    let mut shop = Workshop { volume, space, now, repairs, wanted };
    if copied > 0 {
        shop.note(Repair::NodeTable { found: copied });
    }
    let (segments, lost_pages) = (found.segments, found.lost_pages);
    Ok(Opened { shop, checkpoint, segments, tail: Tail::default(), last_epoch, salvaged: false, lost_pages })
}

/// The whole state: the tree made whole, what was lost of it salvaged, the log replayed.
pub fn open(
    device: &Arc<dyn Device>,
    source: Source,
    cache_bytes: usize,
    now: Time,
    progress: ProgressFn<'_>,
) -> Result<Opened> {
    let at = source.at;
    let mut opened = tables_of(device, source, cache_bytes, now, progress)?;
    let losses = index::make_whole(&mut opened.shop)?;
    opened.salvaged = !losses.ranges.is_empty();
    salvage::run(&mut opened.shop, losses, opened.checkpoint.lsn, progress)?;
    if !opened.checkpoint.clean {
        let (log, space) = (Arc::clone(&opened.shop.volume.log), opened.shop.space);
        opened.tail = replay::read(&log, space, &opened.checkpoint, at, progress)?;
        replay::run(&mut opened.shop, &mut opened.tail, &opened.checkpoint)?;
    }
    let named = opened.checkpoint.heads.iter().chain(&opened.checkpoint.scan).map(|p| p.segment);
    for segment in opened.tail.segments.iter().copied().chain(named) {
        opened.shop.wanted.mark(segment, 0, 1);
    }
    Ok(opened)
}
