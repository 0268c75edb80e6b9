//! Emptying one segment: read its summaries, find what is still live, copy it, and commit the moves (I4).
//!
//! Data blocks are copied to the head of their class and moved by conditional edits. Nodes and table pages are only marked: the next
//! checkpoint writes them elsewhere.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use gleanfs_gc::placement::{MoveFacts, merge};
use gleanfs_gc::telemetry::{Choice, Event};

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

/// Blocks read at once from a segment that is mostly live.
const WINDOW_BLOCKS: u32 = 256;
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

/// How a segment is emptied.
pub struct How<'a> {
    pub emergency: bool,
    /// The most live blocks to move in one operation; more only where a single run has more.
    pub moves_max: u32,
    /// Counts blocks that cannot be read.
    pub lost: &'a AtomicU64,
}

/// Moves everything live out of `seg`.
pub fn empty_segment(volume: &Volume, seg: SegNo, how: &How<'_>) -> Result<Moved> {
    let moves_max = how.moves_max.min(PAYLOAD_MAX);
    let contents = read_contents(volume, seg);
    let mut moved = Moved::default();
    let mut batches: BTreeMap<HeadId, Batch> = BTreeMap::new();
    let runs = live_runs(volume, &contents)?;
    let mut window = Window::over(volume, seg, &runs);
    for run in runs {
        let head = head_for(volume, &run, how.emergency);
        let batch = batches.entry(head).or_insert_with(Batch::new);
        if batch.blocks + run.extent.blocks > moves_max {
            moved.blocks += batch.commit(volume, head)?;
        }
        if !batch.take(volume, &mut window, &run)? {
            take_readable(volume, batch, &mut window, &run, how.lost)?;
        }
    }
    for (head, mut batch) in batches {
        moved.blocks += batch.commit(volume, head)?;
    }
    moved.nodes += mark_nodes(volume, &contents.nodes)?;
    moved.nodes += mark_pages(volume, &contents.pages)?;
    Ok(moved)
}

fn read_contents(volume: &Volume, seg: SegNo) -> Contents {
    let log = volume.log();
    let capacity = log.lock().segments.capacity(seg);
    let mut scan = SegmentScan::new(&**volume.device(), log.shape.fsid, seg, log.address(seg, 0), 0, capacity);
    let mut contents = Contents::default();
    // What a chunk that cannot be read holds, and those behind it, stays where it is, and fsck names it.
    while let Ok(Some(chunk)) = scan.next_chunk() {
        let at = |index: u32| chunk.header.payload(index);
        for record in &chunk.records {
            match record {
                Record::Operation { edits, .. } => edits.iter().for_each(|edit| contents.add_data(edit)),
                Record::Node { index, node } => contents.nodes.push((*node, at(*index))),
                Record::Page { index, page } => contents.pages.push((*page, at(*index))),
            }
        }
    }
    contents
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
    let found = match volume.view(|view| overlapping(view, ino, first, end)) {
        Ok(found) => found,
        // Whether these blocks are live stands in a node that cannot be read. They stay; the others of the segment need not.
        Err(e @ (Error::Damaged { .. } | Error::Device(_))) => {
            tracing::error!("blocks {first} to {end} of inode {ino} cannot be moved from block {addr}: {e}");
            return Ok(());
        }
        Err(e) => return Err(e),
    };
    for mapped in found {
        let part = mapped.within(first, end);
        if part.extent.kind == ExtentKind::Data && part.extent.addr == addr.offset(part.first - first) {
            runs.push(Run { ino, first: part.first, extent: part.extent });
        }
    }
    Ok(())
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
        (inner.segments.get(log.place(run.extent.addr).0).head, inner.clock().0)
    };
    let facts = MoveFacts {
        ino: run.ino.0,
        kind: volume.kinds.of(run.ino),
        first_block: run.first,
        blocks: run.extent.blocks,
        now,
        birth: run.extent.birth.0,
        interval: run.extent.interval,
        from_class,
        live_blocks: volume.live_data_blocks(),
    };
    let blocks = u64::from(run.extent.blocks);
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

/// The device's blocks around the run at hand: a segment that is mostly live is read in few large pieces, whatever the order of
/// its blocks in their files.
struct Window {
    buf: AlignedBuf,
    start: BlockAddr,
    blocks: u32,
    /// End of the segment.
    end: BlockAddr,
    /// Whether so much of the segment is live that reading what is dead costs less than many small reads.
    dense: bool,
}

impl Window {
    fn over(volume: &Volume, seg: SegNo, runs: &[Run]) -> Self {
        let capacity = volume.log().lock().segments.capacity(seg);
        let live: u32 = runs.iter().map(|run| run.extent.blocks).sum();
        Self {
            buf: AlignedBuf::new(WINDOW_BLOCKS as usize),
            start: BlockAddr::NONE,
            blocks: 0,
            end: volume.log().address(seg, capacity),
            dense: live >= capacity / 4,
        }
    }

    /// Copies the run's blocks to `to` if the device has them as the run says.
    fn read(&mut self, volume: &Volume, run: &Run, to: &mut [u8]) -> Result<bool> {
        let addr = run.extent.addr;
        if !self.dense {
            return volume.read_at(addr, &run.extent.crcs, to);
        }
        let inside =
            |w: &Self| addr >= w.start && addr.0 + u64::from(run.extent.blocks) <= w.start.0 + u64::from(w.blocks);
        if !inside(self) {
            self.blocks = (self.end.0 - addr.0).min(u64::from(WINDOW_BLOCKS)) as u32;
            self.start = addr;
            let len = self.blocks as usize * BLOCK_SIZE;
            if let Err(e) = volume.device().read(addr, &mut self.buf[..len]) {
                self.blocks = 0;
                return Err(e.into());
            }
        }
        let from = (addr.0 - self.start.0) as usize * BLOCK_SIZE;
        to.copy_from_slice(&self.buf[from..from + to.len()]);
        let good = |(block, crc): (&[u8], &u32)| crc32fast::hash(block) == *crc;
        Ok(to.chunks_exact(BLOCK_SIZE).zip(&run.extent.crcs).all(good))
    }
}

/// Runs on their way to one head, with their verified bytes.
struct Batch {
    runs: Vec<Run>,
    bytes: AlignedBuf,
    blocks: u32,
}

impl Batch {
    fn new() -> Self {
        Self { runs: Vec::new(), bytes: AlignedBuf::new(PAYLOAD_MAX as usize), blocks: 0 }
    }

    /// Adds a run that fits. False if its blocks cannot be read as they should be.
    fn take(&mut self, volume: &Volume, window: &mut Window, run: &Run) -> Result<bool> {
        let from = self.blocks as usize * BLOCK_SIZE;
        let to = &mut self.bytes[from..from + run.extent.blocks as usize * BLOCK_SIZE];
        match window.read(volume, run, to) {
            Ok(true) => {
                self.blocks += run.extent.blocks;
                self.runs.push(run.clone());
                Ok(true)
            }
            Ok(false) | Err(Error::Device(_)) => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// Appends and commits what was taken; returns the blocks moved.
    fn commit(&mut self, volume: &Volume, head: HeadId) -> Result<u32> {
        let mut done = 0;
        let mut runs = std::mem::take(&mut self.runs);
        while done < self.blocks {
            let rest = &self.bytes[done as usize * BLOCK_SIZE..];
            let moved = volume.write_to(
                head,
                self.blocks - done,
                Purpose::Cleaner,
                MOVE_ROOM,
                |payload| payload.copy_from_slice(&rest[..payload.len()]),
                |_, extent| Ok(Plan { edits: moves(&runs, extent), value: extent.blocks }),
            )?;
            runs = after(&runs, moved);
            done += moved;
        }
        Ok(std::mem::take(&mut self.blocks))
    }
}

/// Takes the blocks of a run that can be read one by one; the others become lost blocks if they are still live.
fn take_readable(volume: &Volume, batch: &mut Batch, window: &mut Window, run: &Run, lost: &AtomicU64) -> Result<()> {
    window.dense = false;
    for n in 0..run.extent.blocks {
        let block = Run { ino: run.ino, first: run.first + u64::from(n), extent: run.extent.slice(n, 1) };
        if !batch.take(volume, window, &block)? {
            lose(volume, &block, lost)?;
        }
    }
    Ok(())
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
                Err(Error::Damaged { .. } | Error::Device(_)) => break,
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
