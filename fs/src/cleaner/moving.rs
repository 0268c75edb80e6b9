//! Emptying one segment: read its summaries, find what is still live, copy it, and commit the moves (I4).
//!
//! Data blocks are copied to the head of their class and moved by conditional edits. Nodes and table pages are only marked: the next
//! checkpoint writes them elsewhere.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use gleanfs_gc::placement::{MoveFacts, merge};

use crate::device::AlignedBuf;
use crate::error::{Error, Result};
use crate::format::chunk::{PAYLOAD_MAX, PageId, Record};
use crate::format::edit::Edit;
use crate::format::value::{Extent, ExtentKind};
use crate::log::scan::SegmentScan;
use crate::log::{HeadId, Purpose};
use crate::meta::apply::overlapping;
use crate::meta::radix::Looked;
use crate::meta::volume::{Plan, RecordRoom, Volume};
use crate::types::{BLOCK_SIZE, BlockAddr, Ino, NodeId, SegNo};

/// Head of all moves in an emergency: one segment is all that they may open.
const EMERGENCY_HEAD: HeadId = 0;
/// A move of a single block takes at most this many bytes of a record.
const MOVE_ROOM: RecordRoom = RecordRoom { fixed: 64, per_block: 48 };

/// What came of a victim.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moved {
    pub blocks: u32,
    /// Nodes and table pages that the next checkpoint will write elsewhere.
    pub nodes: u32,
}

/// A run of live blocks: neighbours in the file and on the device.
#[derive(Clone, Debug)]
struct Run {
    ino: Ino,
    first: u64,
    extent: Extent,
}

/// What the summaries of a segment say is in it.
#[derive(Default)]
struct Contents {
    /// Owner of each data block, by its address; the last record about an address counts.
    data: BTreeMap<BlockAddr, (Ino, u64)>,
    nodes: Vec<(NodeId, BlockAddr)>,
    pages: Vec<(PageId, BlockAddr)>,
}

/// Moves everything live out of `seg`.
pub fn empty_segment(volume: &Volume, seg: SegNo, emergency: bool, lost: &AtomicU64) -> Result<Moved> {
    let contents = read_contents(volume, seg)?;
    let mut moved = Moved::default();
    let mut batches: BTreeMap<HeadId, Vec<Run>> = BTreeMap::new();
    for run in live_runs(volume, &contents)? {
        let head = head_for(volume, &run, emergency);
        let batch = batches.entry(head).or_default();
        batch.push(run);
        if blocks_of(batch) >= PAYLOAD_MAX {
            moved.blocks += move_batch(volume, head, std::mem::take(batch), lost)?;
        }
    }
    for (head, batch) in batches {
        moved.blocks += move_batch(volume, head, batch, lost)?;
    }
    moved.nodes += mark_nodes(volume, &contents.nodes)?;
    moved.nodes += mark_pages(volume, &contents.pages)?;
    Ok(moved)
}

fn read_contents(volume: &Volume, seg: SegNo) -> Result<Contents> {
    let log = volume.log();
    let capacity = log.lock().segments.capacity(seg);
    let mut scan = SegmentScan::new(&**volume.device(), log.shape.fsid, seg, log.address(seg, 0), 0, capacity);
    let mut contents = Contents::default();
    while let Some(chunk) = scan.next_chunk()? {
        let at = |index: u32| chunk.header.payload(index);
        for record in &chunk.records {
            match record {
                Record::Operation { edits, .. } => edits.iter().for_each(|edit| contents.add_data(edit)),
                Record::Node { index, node } => contents.nodes.push((*node, at(*index))),
                Record::Page { index, page } => contents.pages.push((*page, at(*index))),
            }
        }
    }
    Ok(contents)
}

impl Contents {
    fn add_data(&mut self, edit: &Edit) {
        for (addr, _) in edit.blocks_written() {
            if let Some(owner) = edit.owner_of(addr) {
                self.data.insert(addr, owner);
            }
        }
    }
}

/// The parts of the segment's data that are still mapped, in the order of their addresses.
fn live_runs(volume: &Volume, contents: &Contents) -> Result<Vec<Run>> {
    let mut runs = Vec::new();
    let mut blocks = contents.data.iter().peekable();
    while let Some((addr, (ino, first))) = blocks.next() {
        let mut len = 1;
        while len < u64::from(PAYLOAD_MAX)
            && blocks.next_if(|(a, owner)| **a == addr.offset(len) && **owner == (*ino, first + len)).is_some()
        {
            len += 1;
        }
        live_parts(volume, *ino, *first, len, *addr, &mut runs)?;
    }
    Ok(runs)
}

/// The parts of file blocks `first..first + len` that still stand at `addr` and on.
fn live_parts(volume: &Volume, ino: Ino, first: u64, len: u64, addr: BlockAddr, runs: &mut Vec<Run>) -> Result<()> {
    let end = first + len;
    for mapped in volume.view(|view| overlapping(view, ino, first, end))? {
        let part = mapped.within(first, end);
        if part.extent.kind == ExtentKind::Data && part.extent.addr == addr.offset(part.first - first) {
            runs.push(Run { ino, first: part.first, extent: part.extent });
        }
    }
    Ok(())
}

/// Where a run goes. In an emergency placement is told, and not asked.
fn head_for(volume: &Volume, run: &Run, emergency: bool) -> HeadId {
    let log = volume.log();
    let (from_class, now) = {
        let inner = log.lock();
        (inner.segments.get(log.place(run.extent.addr).0).head, inner.clock().0)
    };
    let facts = MoveFacts {
        ino: run.ino.0,
        first_block: run.first,
        blocks: run.extent.blocks,
        now,
        birth: run.extent.birth.0,
        interval_log2: run.extent.interval_log2,
        from_class,
        live_blocks: volume.live_data_blocks(),
    };
    let blocks = u64::from(run.extent.blocks);
    let mut placement = volume.placement.lock();
    if emergency {
        placement.emergency_move(&facts);
        volume.placed.emergency.moved.fetch_add(blocks, Ordering::Relaxed);
        return EMERGENCY_HEAD;
    }
    let class = placement.cleaning_write(&facts);
    volume.placed.by(placement.by_model()).moved.fetch_add(blocks, Ordering::Relaxed);
    merge(class, placement.classes(), volume.heads)
}

fn blocks_of(batch: &[Run]) -> u32 {
    batch.iter().map(|run| run.extent.blocks).sum()
}

/// Reads, verifies, appends and commits a batch of runs. Returns the blocks moved.
fn move_batch(volume: &Volume, head: HeadId, batch: Vec<Run>, lost: &AtomicU64) -> Result<u32> {
    let mut readable = Vec::with_capacity(batch.len());
    let mut bytes = AlignedBuf::new(blocks_of(&batch).max(1) as usize);
    let mut filled = 0;
    for run in batch {
        for run in split_unreadable(volume, run, lost)? {
            let len = run.extent.blocks as usize * BLOCK_SIZE;
            let part = &mut bytes[filled..filled + len];
            // Moved or freed since: its copy would be dead at once.
            if volume.read_at(run.extent.addr, &run.extent.crcs, part)? {
                filled += len;
                readable.push(run);
            }
        }
    }
    let mut moved = 0;
    let mut rest = &bytes[..filled];
    let mut runs = &readable[..];
    let mut split: Vec<Run>;
    while !runs.is_empty() {
        let wanted = blocks_of(runs).min(PAYLOAD_MAX);
        let done = volume.write_to(
            head,
            wanted,
            Purpose::Cleaner,
            MOVE_ROOM,
            |payload| payload.copy_from_slice(&rest[..payload.len()]),
            |_, extent| Ok(Plan { edits: moves(runs, extent), value: extent.blocks }),
        )?;
        moved += done;
        rest = &rest[done as usize * BLOCK_SIZE..];
        split = after(runs, done);
        runs = &split;
    }
    Ok(moved)
}

/// The run itself if it can be read, otherwise its readable blocks; the others become lost blocks if they are still live.
fn split_unreadable(volume: &Volume, run: Run, lost: &AtomicU64) -> Result<Vec<Run>> {
    let mut bytes = AlignedBuf::new(run.extent.blocks as usize);
    match volume.read_at(run.extent.addr, &run.extent.crcs, &mut bytes) {
        Ok(true) => return Ok(vec![run]),
        Ok(false) | Err(Error::Device(_)) => {}
        Err(e) => return Err(e),
    }
    let mut good = Vec::new();
    for n in 0..run.extent.blocks {
        let block = Run { ino: run.ino, first: run.first + u64::from(n), extent: run.extent.slice(n, 1) };
        match volume.read_at(block.extent.addr, &block.extent.crcs, &mut bytes[..BLOCK_SIZE]) {
            Ok(true) => good.push(block),
            Ok(false) | Err(Error::Device(_)) => lose(volume, &block, lost)?,
            Err(e) => return Err(e),
        }
    }
    Ok(good)
}

/// Marks a block as lost for good if it is still mapped where it could not be read, so that its segment drains (I4).
fn lose(volume: &Volume, block: &Run, lost: &AtomicU64) -> Result<()> {
    let Run { ino, first, extent } = block;
    let gone = volume.transact_for(Purpose::Cleaner, |view| {
        let mapped = overlapping(view, *ino, *first, first + 1)?;
        let live = mapped
            .first()
            .is_some_and(|m| m.extent.kind == ExtentKind::Data && m.extent.addr.offset(first - m.first) == extent.addr);
        let edit = Edit::Lose { ino: *ino, first: *first, blocks: 1, old: extent.addr };
        Ok(Plan { edits: if live { vec![edit] } else { Vec::new() }, value: live })
    })?;
    if gone {
        tracing::error!("block {first} of inode {ino} at block {} cannot be read and is lost", extent.addr);
        lost.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

/// Edits that move the first `to.blocks` blocks of `runs` to `to`.
fn moves(runs: &[Run], to: &Extent) -> Vec<Edit> {
    let mut edits = Vec::new();
    let mut done = 0;
    for run in runs {
        let blocks = run.extent.blocks.min(to.blocks - done);
        if blocks == 0 {
            break;
        }
        edits.push(Edit::Move {
            ino: run.ino,
            first: run.first,
            old: run.extent.addr,
            new: to.addr.offset(u64::from(done)),
            crcs: to.crcs[done as usize..(done + blocks) as usize].into(),
        });
        done += blocks;
    }
    edits
}

/// What is left of `runs` after their first `done` blocks.
fn after(runs: &[Run], mut done: u32) -> Vec<Run> {
    let mut rest = Vec::new();
    for run in runs {
        let skip = done.min(run.extent.blocks);
        done -= skip;
        if skip < run.extent.blocks {
            let extent = run.extent.slice(skip, run.extent.blocks - skip);
            rest.push(Run { ino: run.ino, first: run.first + u64::from(skip), extent });
        }
    }
    rest
}

/// Marks live nodes of the segment dirty; checkpoints in between where they would be too many (I5).
fn mark_nodes(volume: &Volume, nodes: &[(NodeId, BlockAddr)]) -> Result<u32> {
    let mut marked = 0;
    for (id, addr) in nodes {
        loop {
            let mut state = volume.state.write();
            match state.nodes.slot(0, id.0) {
                // A node whose page was never loaded: loading the node brings it in.
                Looked::Missing(..) => {}
                Looked::Found(at) if at.addr != *addr => break,
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
                Err(Error::Damaged { .. } | Error::Device(_)) => break,
                Err(e) => return Err(e),
            }
        }
        let full = volume.state.read().tree.dirty_count() >= volume.room.dirty_nodes_max();
        if full {
            volume.checkpoint(false)?;
        }
    }
    Ok(marked)
}

/// Marks live table pages of the segment dirty.
fn mark_pages(volume: &Volume, pages: &[(PageId, BlockAddr)]) -> Result<u32> {
    let mut marked = 0;
    for (page, addr) in pages {
        match volume.mark_page(*page, *addr) {
            Ok(live) => marked += u32::from(live),
            // The segment keeps a page that cannot be read, and fsck names it.
            Err(Error::Damaged { .. } | Error::Device(_)) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(marked)
}
