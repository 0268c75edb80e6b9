//! Emptying one segment: read its summaries, find what is still live, copy it, and commit the moves (I4).
//!
//! Data blocks are copied to the head of their class and moved by conditional edits. Nodes and table pages are only marked: the next
//! checkpoint writes them elsewhere. All of it happens in a [`Workspace`] that was made at the mount, so an emergency asks nobody for memory.

use std::sync::atomic::{AtomicU64, Ordering};

use gleanfs_gc::placement::{MoveFacts, merge};
use gleanfs_gc::telemetry::{Choice, Event};

use crate::device::DeviceError;
use crate::error::{Error, Result};
use crate::format::chunk::{PAYLOAD_MAX, PageId};
use crate::format::edit::Edit;
use crate::format::value::ExtentKind;
use crate::log::{HeadId, Purpose};
use crate::meta::apply::overlapping;
use crate::meta::radix::Looked;
use crate::meta::volume::{Plan, Volume};
use crate::types::{BlockAddr, NodeId, SegNo};

use super::workspace::{Bench, Run, Taken, Workspace};

/// What came of a victim.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moved {
    pub blocks: u32,
    /// Nodes and table pages that the next checkpoint will write elsewhere.
    pub nodes: u32,
}

/// How a segment is emptied.
pub struct How<'a> {
    pub emergency: bool,
    /// The most live blocks to move in one operation; more only where a single run has more.
    pub moves_max: u32,
    /// Counts blocks that cannot be read.
    pub lost: &'a AtomicU64,
}

/// Moves everything live out of `seg`.
pub fn empty_segment(volume: &Volume, seg: SegNo, how: &How<'_>, space: &mut Workspace) -> Result<Moved> {
    let moves_max = how.moves_max.min(PAYLOAD_MAX);
    let mut moved = Moved::default();
    match space.contents.read(volume, seg) {
        // What a chunk that cannot be read holds, and those behind it, stays where it is; the rest need not.
        Err(e @ Error::Device(_)) => keep(volume, seg, &e),
        read => read?,
    }
    space.live.find(volume, &space.contents)?;
    space.bench.begin(volume, seg, space.live.blocks());
    for run in &space.live.runs {
        let head = head_for(volume, run, how.emergency);
        let crcs = space.live.crcs_of(run);
        if space.bench.blocks(head) + run.blocks > moves_max {
            moved.blocks += space.bench.commit(volume, head)?;
        }
        if space.bench.take(volume, head, run, crcs)? != Taken::Whole {
            take_readable(volume, seg, &mut space.bench, head, run, crcs, how.lost)?;
        }
    }
    moved.blocks += space.bench.commit_all(volume)?;
    moved.nodes += mark_nodes(volume, seg, &space.contents.nodes)?;
    moved.nodes += mark_pages(volume, seg, &space.contents.pages)?;
    Ok(moved)
}

/// What the device does not give now it may give at another time, so nothing is lost: the segment stays as it is while this mount lasts.
fn keep(volume: &Volume, seg: SegNo, why: &Error) {
    tracing::error!("segment {seg} cannot be emptied: {why}");
    volume.log().lock().segments.keep(seg);
}

/// Head of all moves when room is short: one segment is all that they may open (I5). What survives cleaning is mostly cold.
fn emergency_head(volume: &Volume) -> HeadId {
    volume.heads - 1
}

/// Where a run goes. In an emergency placement is told, and not asked; a head that would need a segment when only the cleaner's reserve is
/// left gives way to the emergency's, for which that is kept.
fn head_for(volume: &Volume, run: &Run, emergency: bool) -> HeadId {
    let log = volume.log();
    let (from_class, now) = {
        let inner = log.lock();
        (inner.segments.get(log.place(run.addr).0).head, inner.clock().0)
    };
    let facts = MoveFacts {
        ino: run.ino.0,
        kind: volume.kinds.of(run.ino),
        first_block: run.first,
        blocks: run.blocks,
        now,
        birth: run.birth.0,
        interval: run.interval,
        from_class,
        live_blocks: volume.live_data_blocks(),
    };
    let blocks = u64::from(run.blocks);
    let mut placement = volume.placement.lock();
    if emergency {
        placement.emergency_move(&facts);
        volume.taps.tell(|| Event::Move(facts, Choice::emergency(emergency_head(volume), volume.heads)));
        volume.placed.emergency.moved.fetch_add(blocks, Ordering::Relaxed);
        return emergency_head(volume);
    }
    let class = placement.cleaning_write(&facts);
    volume.taps.tell(|| Event::Move(facts, Choice::of(&**placement, class)));
    volume.placed.by(placement.by_model()).moved.fetch_add(blocks, Ordering::Relaxed);
    let head = merge(class, placement.classes(), volume.heads);
    drop(placement);
    if log.affords(head) { head } else { emergency_head(volume) }
}

/// Takes the blocks of a run that can be read one by one. Those that hold other bytes become lost blocks if they are still live; those that the device does
/// not give stay where they are.
fn take_readable(
    volume: &Volume,
    seg: SegNo,
    bench: &mut Bench,
    head: HeadId,
    run: &Run,
    crcs: &[u32],
    lost: &AtomicU64,
) -> Result<()> {
    bench.read_singly();
    for (n, crc) in crcs.iter().enumerate() {
        let (first, addr) = (run.first + n as u64, run.addr.offset(n as u64));
        let block = Run { first, addr, blocks: 1, crcs_at: run.crcs_at + n, ..*run };
        match bench.take(volume, head, &block, std::slice::from_ref(crc))? {
            Taken::Whole => {}
            Taken::Damaged => lose(volume, &block, lost)?,
            Taken::Unread => {
                let why = std::io::Error::other(format!("block {addr} cannot be read"));
                keep(volume, seg, &DeviceError::new("read", addr, 1, why).into());
            }
        }
    }
    Ok(())
}

/// Marks a block as lost for good if it is still mapped where other bytes stand, so that its segment drains (I4).
fn lose(volume: &Volume, block: &Run, lost: &AtomicU64) -> Result<()> {
    let Run { ino, first, addr, .. } = block;
    let gone = volume.transact_for(Purpose::Cleaner, |view| {
        let mapped = overlapping(view, *ino, *first, first + 1)?;
        let live = mapped
            .first()
            .is_some_and(|m| m.extent.kind == ExtentKind::Data && m.extent.addr.offset(first - m.first) == *addr);
        let edit = Edit::Lose { ino: *ino, first: *first, blocks: 1, old: *addr };
        Ok(Plan { edits: if live { vec![edit] } else { Vec::new() }, value: live })
    })?;
    if gone {
        tracing::error!("block {first} of inode {ino} at block {addr} is not what was written and is lost");
        lost.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

/// Marks live nodes of the segment dirty; checkpoints in between where they would be too many (I5).
fn mark_nodes(volume: &Volume, seg: SegNo, nodes: &[(NodeId, BlockAddr)]) -> Result<u32> {
    let mut marked = 0;
    for (id, addr) in nodes {
        loop {
            let mut state = volume.state.write();
            match state.nodes.slot(0, id.0) {
                // A node whose page was never loaded: loading the node brings it in.
                Looked::Missing(..) => {}
                Looked::Found(at) if at.addr != *addr => break,
                // Freed since the last checkpoint: the next one clears its entry. To load it and write it again would keep it for ever.
                Looked::Found(_) if state.tree.freed().contains(id) => break,
                Looked::Found(_) if state.tree.mark_dirty(*id) => {
                    marked += 1;
                    break;
                }
                Looked::Found(_) => {}
            }
            drop(state);
            match volume.load(*id) {
                Ok(()) => {}
                // A freed node, or one that cannot be read: then the segment keeps it, and fsck names it.
                Err(e @ Error::Device(_)) => {
                    keep(volume, seg, &e);
                    break;
                }
                Err(Error::Damaged { .. }) => break,
                Err(e) => return Err(e),
            }
        }
        if volume.dirty_is_full() {
            volume.checkpoint(false)?;
        }
    }
    Ok(marked)
}

/// Marks live table pages of the segment dirty.
fn mark_pages(volume: &Volume, seg: SegNo, pages: &[(PageId, BlockAddr)]) -> Result<u32> {
    let mut marked = 0;
    for (page, addr) in pages {
        match volume.mark_page(*page, *addr) {
            Ok(live) => marked += u32::from(live),
            // The segment keeps a page that cannot be read, and fsck names it.
            Err(e @ Error::Device(_)) => keep(volume, seg, &e),
            Err(Error::Damaged { .. }) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(marked)
}
