//! Data and nodes that no record of their chunk claims are written elsewhere, where one does: what the cleaner does, in an image that is
//! sound but for that.

use std::collections::BTreeSet;
use std::sync::Arc;

use gleanfs_gc::victim::Greedy;

use crate::cleaner::Cleaner;
use crate::device::Device;
use crate::error::Result;
use crate::format::value::ExtentKind;
use crate::fsck::Finding;
use crate::fsck::walk::TreeWalk;
use crate::fsck::{Report, blocks::Bits};
use crate::meta::apply::{Mapped, overlapping};
use crate::meta::load::load_node;
use crate::meta::moves::Moves;
use crate::meta::radix::Looked;
use crate::meta::volume::{Volume, VolumeOptions, WRITE_BLOCKS_MAX};
use crate::types::{BlockAddr, Ino, NodeId};

use super::owners::owners_of;

/// Segments that are ready before a block is written.
const PREPARED: usize = 4;

/// Addresses that are claimed by no record.
pub fn unclaimed(findings: &[Finding]) -> BTreeSet<u64> {
    let runs = findings.iter().filter_map(|found| match found {
        Finding::Unclaimed { addr, blocks } => Some(addr.0..addr.0 + u64::from(*blocks)),
        _ => None,
    });
    runs.flatten().collect()
}

/// Moves what stands at `addresses`. Each move of data is an operation by itself and nodes move with a checkpoint, so the image is sound at
/// any time.
pub fn run(device: &Arc<dyn Device>, addresses: &BTreeSet<u64>, cache_bytes: usize) -> Result<()> {
    let volume = Arc::new(Volume::open(Arc::clone(device), VolumeOptions::of_tool(false, cache_bytes))?);
    // Whoever finds no room is helped by it.
    let _cleaner = Cleaner::new(Arc::clone(&volume), Box::new(Greedy), true);
    let mut moves = Moves::default();
    for (ino, first) in owners_of(&volume, addresses).into_values().flatten() {
        move_block(&volume, ino, first, addresses, &mut moves)?;
    }
    move_nodes(&volume, addresses)?;
    volume.checkpoint(true)
}

/// A node moves when a checkpoint writes it.
fn move_nodes(volume: &Volume, addresses: &BTreeSet<u64>) -> Result<()> {
    let none = Bits::default();
    let mut walk = TreeWalk::new(volume, &none);
    walk.run(&mut Report::new(0), &mut |_, _, _| {});
    for id in walk.reached.iter().map(NodeId) {
        // The walk has brought in the table's pages.
        let looked = volume.state.read().nodes.slot(0, id.0);
        if !matches!(looked, Looked::Found(at) if addresses.contains(&at.addr.0)) {
            continue;
        }
        if volume.dirty_is_full() {
            volume.checkpoint(false)?;
        }
        load_node(&volume.state, &volume.log, id)?;
        volume.state.write().tree.mark_dirty(id);
    }
    Ok(())
}

/// Moves file block `first` and those behind it that stand in one extent and are to be moved, if they are not moved yet.
fn move_block(volume: &Volume, ino: Ino, first: u64, addresses: &BTreeSet<u64>, moves: &mut Moves) -> Result<()> {
    let found = volume.view(|view| overlapping(view, ino, first, first + 1))?;
    let Some(Mapped { first: start, extent }) = found.first().filter(|m| m.extent.kind == ExtentKind::Data) else {
        return Ok(());
    };
    let skip = (first - start) as u32;
    let old = extent.addr.offset(u64::from(skip));
    let unclaimed = |n: u32| addresses.contains(&(old.0 + u64::from(n)));
    let run = (0..(extent.blocks - skip).min(WRITE_BLOCKS_MAX)).take_while(|n| unclaimed(*n)).count() as u32;
    if run == 0 {
        return Ok(());
    }
    let part = extent.slice(skip, run);
    let mut bytes = crate::device::aligned::AlignedBuf::new(run as usize);
    if !volume.read_at(BlockAddr(part.addr.0), &part.crcs, &mut bytes)? {
        return Ok(());
    }
    volume.log().prepare(PREPARED)?;
    volume.append_moved(0, &bytes, moves, |new, moves| {
        let appended = moves.crcs.len() as u32;
        moves.clear();
        moves.push(ino, first, old, new, 0, appended);
    })?;
    Ok(())
}
