//! Superblock slots, table pages and the nodes that they name: each against the reference that names it now.
//!
//! A checkpoint gives its blocks addresses before it writes them, so what is not as its reference says is looked at once more between two looks
//! under the checkpoint lock: then the reference is durable, and if it is the same after the read, so was the block.

use std::sync::Arc;

use crate::device::AlignedBuf;
use crate::error::Result;
use crate::format::chunk::{PageId, TableId};
use crate::format::superblock::{BlockRef, Superblock};
use crate::format::table::{NODE_LEVELS, Page, REFS_PER_PAGE, SEGMENT_LEVELS};
use crate::fsck::{Finding, Owner};
use crate::log::segments::SegmentTable;
use crate::meta::load::{read_node, read_page};
use crate::meta::radix::{Looked, Radix};
use crate::meta::slots::Slots;
use crate::meta::state::State;
use crate::meta::volume::Volume;
use crate::types::{BLOCK_SIZE, BlockAddr, NodeId, SegNo};

use super::tally::Tally;

/// Times that a block is looked up again while each checkpoint moves it.
const LOOKS_MAX: u32 = 16;

/// Reads the slots. The newest must be the one that the mount wrote last; the other may be what a crash left of it.
pub(super) fn verify_slots(volume: &Volume, tally: &mut Tally) -> Result<()> {
    for _ in 0..LOOKS_MAX {
        let before = volume.checkpoints.lock().last.sequence;
        let mut bad = Vec::new();
        let mut newest = 0;
        let slots = Slots::new(Arc::clone(volume.device()))?;
        let candidates = slots.candidates()?;
        for (addr, _) in &candidates {
            let mut block = AlignedBuf::new(1);
            tally.summary.read_bytes += BLOCK_SIZE as u64;
            let read = volume.device().read(*addr, &mut block).map_err(|e| e.to_string());
            match read.and_then(|()| Superblock::decode(&block).map_err(|e| e.to_string())) {
                Ok(superblock) => newest = newest.max(superblock.checkpoint.sequence),
                Err(why) => bad.push((*addr, why)),
            }
        }
        if volume.checkpoints.lock().last.sequence != before {
            continue;
        }
        tally.summary.slots = candidates.len() as u64;
        // mkfs leaves one empty, and the first checkpoint fills it.
        if before > 1 {
            let is_newest_bad = newest != before;
            bad.into_iter().for_each(|(slot, why)| tally.add(Finding::BadSlot { slot, why }));
            if is_newest_bad {
                tally.summary.bad_blocks += 1;
                renew(volume, tally, |volume| volume.checkpoint(false).is_ok());
            }
        }
        return Ok(());
    }
    Ok(())
}

/// A reference of a table and the block that it names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Named {
    Node(NodeId),
    Page(PageId),
}

impl Named {
    fn owner(self) -> Owner {
        match self {
            Self::Node(node) => Owner::Node { node },
            Self::Page(page) => page.into(),
        }
    }

    fn look(self, state: &State) -> Looked {
        match self {
            Self::Node(node) => state.nodes.slot(0, node.0),
            Self::Page(page) => radix(state, page.table).page(page.level, page.index),
        }
    }

    fn verify(self, volume: &Volume, at: BlockRef) -> Result<()> {
        match self {
            Self::Node(node) => read_node(volume.log(), node, at).map(drop),
            Self::Page(page) => read_page(volume.log(), page, at).map(drop),
        }
    }

    /// Has the next checkpoint write it again, if memory holds it.
    fn renew(self, volume: &Volume, at: BlockAddr) -> bool {
        let is_held = match self {
            Self::Node(node) => volume.state.write().tree.mark_dirty(node),
            Self::Page(page) => volume.mark_page(page, at).unwrap_or(false),
        };
        // As for a cleaner: marks must not be more than a checkpoint can write (I5).
        is_held && (!volume.dirty_is_full() || volume.checkpoint(false).is_ok())
    }
}

fn radix(state: &State, table: TableId) -> &Radix {
    match table {
        TableId::Nodes => &state.nodes,
        TableId::Segments => &state.segments,
    }
}

fn renew(volume: &Volume, tally: &mut Tally, how: impl FnOnce(&Volume) -> bool) {
    if volume.writable().is_ok() && how(volume) {
        tally.summary.renewed_blocks += 1;
    }
}

/// The reference that names a block. Pages that are not in memory are read for it and not kept: a scrub needs no room. `None` if a page on
/// the way cannot be read, which is told where that page is verified.
fn resolve(volume: &Volume, named: Named) -> Option<BlockRef> {
    let (table, level, index) = match named {
        Named::Node(node) => (TableId::Nodes, 0, node.0),
        Named::Page(page) => (page.table, page.level + 1, page.index),
    };
    for _ in 0..LOOKS_MAX {
        let looked = named.look(&volume.state.read());
        let (mut page, mut at) = match looked {
            Looked::Found(at) => return Some(at),
            Looked::Missing(page, at) => (page, at),
        };
        // Nothing below a page that is not in memory can have changed since it was written.
        while let Ok(Page::Refs(refs)) = read_page(volume.log(), page, at) {
            let below = index / (REFS_PER_PAGE as u64).pow(u32::from(page.level - level));
            at = refs[(below % REFS_PER_PAGE as u64) as usize];
            if page.level == level || at.is_absent() {
                return Some(at);
            }
            page = PageId { table, level: page.level - 1, index: below };
        }
    }
    None
}

/// The same of a durable state, which no checkpoint is changing.
fn resolve_settled(volume: &Volume, named: Named) -> Option<BlockRef> {
    drop(volume.checkpoints.lock());
    resolve(volume, named)
}

/// Verifies the block that `named` names. False if there is none or it is damaged.
fn verify(volume: &Volume, named: Named, tally: &mut Tally) -> Result<bool> {
    let Some(mut at) = resolve(volume, named).filter(|at| !at.is_absent()) else { return Ok(false) };
    tally.visited(named.owner(), at.addr);
    match named {
        Named::Node(_) => tally.summary.nodes += 1,
        Named::Page(_) => tally.summary.pages += 1,
    }
    tally.summary.read_bytes += BLOCK_SIZE as u64;
    if named.verify(volume, at).is_ok() {
        return Ok(true);
    }
    let first_seen = at;
    for _ in 0..LOOKS_MAX {
        // A checkpoint that failed leaves references to what it never wrote.
        volume.log().failure()?;
        let Some(before) = resolve_settled(volume, named).filter(|at| !at.is_absent()) else { break };
        at = before;
        tally.summary.read_bytes += BLOCK_SIZE as u64;
        let Err(why) = named.verify(volume, at) else {
            tally.summary.moved_blocks += u64::from(at != first_seen);
            return Ok(true);
        };
        if resolve_settled(volume, named) == Some(at) {
            volume.log().failure()?;
            let (owner, addr, text) = (named.owner(), at.addr, why.to_string());
            tally.add(match why {
                crate::error::Error::Device(_) => Finding::Unreadable { owner, addr, why: text },
                _ => Finding::Damaged { owner, addr, why: text },
            });
            renew(volume, tally, |volume| named.renew(volume, at.addr));
            return Ok(false);
        }
    }
    tally.summary.moved_blocks += 1;
    Ok(false)
}

/// Verifies leaf `leaf` of a table, and before it the pages above of which it is the first. How many leaves to go on: those below a page that is
/// absent or cannot be read are passed over.
fn verify_pages(volume: &Volume, table: TableId, levels: u8, leaf: u64, tally: &mut Tally) -> Result<(bool, u64)> {
    for level in (0..levels).rev() {
        let width = (REFS_PER_PAGE as u64).pow(u32::from(level));
        if leaf.is_multiple_of(width) {
            let page = Named::Page(PageId { table, level, index: leaf / width });
            if !verify(volume, page, tally)? && !is_reachable(volume, page) {
                return Ok((false, width));
            }
        }
    }
    Ok((true, 1))
}

/// Whether what stands below a page can be looked up: memory may hold what the medium has lost.
fn is_reachable(volume: &Volume, named: Named) -> bool {
    let Named::Page(PageId { table, level, index }) = named else { return true };
    radix(&volume.state.read(), table).refs(level, index).is_some()
}

/// Verifies a leaf of the node table and its nodes. The next leaf, if there is one.
pub(super) fn verify_nodes(volume: &Volume, leaf: u64, tally: &mut Tally) -> Result<Option<u64>> {
    let (is_there, step) = verify_pages(volume, TableId::Nodes, NODE_LEVELS, leaf, tally)?;
    let next_node = volume.state.read().tree.next_node().0;
    let first = leaf.saturating_mul(REFS_PER_PAGE as u64);
    if is_there {
        for id in first..next_node.min(first.saturating_add(REFS_PER_PAGE as u64)) {
            verify(volume, Named::Node(NodeId(id)), tally)?;
        }
    }
    let next = leaf.saturating_add(step);
    Ok((next.saturating_mul(REFS_PER_PAGE as u64) < next_node).then_some(next))
}

/// Verifies a leaf of the segment table. The next one, if there is one.
pub(super) fn verify_segments(volume: &Volume, leaf: u64, tally: &mut Tally) -> Result<Option<u64>> {
    let (_, step) = verify_pages(volume, TableId::Segments, SEGMENT_LEVELS, leaf, tally)?;
    let frontier = volume.log().lock().segments.frontier();
    let (last, _) = SegmentTable::page_of(SegNo(frontier.0.saturating_sub(1)));
    let next = leaf.saturating_add(step);
    Ok((next <= last).then_some(next))
}
