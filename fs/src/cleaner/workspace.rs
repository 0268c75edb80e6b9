//! What the cleaner works with: memory for one segment, made once, at the mount.
//!
//! Cleaning goes on when there is no memory to be had, and what has to be freed for more may be pages that wait for cleaning. So nothing here
//! allocates while a segment is emptied: there is room for every block of a segment, and for a full operation of each head.

use crate::device::AlignedBuf;
use crate::error::{Error, Result};
use crate::format::chunk::{Claim, PAYLOAD_MAX, PageId, visit_claims};
use crate::format::superblock::HEADS_MAX;
use crate::format::value::{Extent, ExtentKind};
use crate::log::HeadId;
use crate::log::scan::{SegmentScan, SummaryBuffers};
use crate::meta::apply::visit_overlapping;
use crate::meta::moves::Moves;
use crate::meta::volume::Volume;
use crate::types::{BLOCK_SIZE, BlockAddr, Ino, NodeId, SegNo, WriteClock};

/// Blocks read at once from a segment that is mostly live.
const WINDOW_BLOCKS: u32 = 256;

/// All of it.
pub struct Workspace {
    pub(super) contents: Contents,
    pub(super) live: Live,
    pub(super) bench: Bench,
}

impl Workspace {
    /// For segments of `blocks` blocks that are emptied into `heads` heads.
    pub fn new(blocks: u32, heads: u8) -> Self {
        let room = blocks as usize;
        Self {
            contents: Contents::with_room(room),
            live: Live { runs: Vec::with_capacity(room), crcs: Vec::with_capacity(room) },
            bench: Bench::new(heads),
        }
    }
}

/// What the summaries of a segment say is in it.
pub(super) struct Contents {
    start: BlockAddr,
    /// Owner of each block from `start` on; the last record about it counts.
    data: Vec<Option<(Ino, u64)>>,
    pub nodes: Vec<(NodeId, BlockAddr)>,
    pub pages: Vec<(PageId, BlockAddr)>,
    buffers: SummaryBuffers,
}

impl Contents {
    fn with_room(room: usize) -> Self {
        Self {
            start: BlockAddr::NONE,
            data: vec![None; room],
            nodes: Vec::with_capacity(room),
            pages: Vec::with_capacity(room),
            buffers: SummaryBuffers::default(),
        }
    }

    /// Reads the summaries of `seg`.
    pub fn read(&mut self, volume: &Volume, seg: SegNo) -> Result<()> {
        let log = volume.log();
        let capacity = log.lock().segments.capacity(seg);
        self.start = log.address(seg, 0);
        self.data.fill(None);
        self.nodes.clear();
        self.pages.clear();
        let Self { start, data, nodes, pages, buffers } = self;
        let mut scan = SegmentScan::new(&**volume.device(), log.shape.fsid, seg, *start, 0, capacity);
        while let Some(header) = scan.next_summary(buffers)? {
            let read = visit_claims(&header, &buffers.summary, |claim| match claim {
                Claim::Data { ino, first, addr, blocks } => claim_data(*start, data, ino, first, addr, blocks),
                Claim::Node { node, addr } => nodes.push((node, addr)),
                Claim::Page { page, addr } => pages.push((page, addr)),
            });
            if read.is_err() {
                break;
            }
        }
        Ok(())
    }
}

/// Notes an owner for blocks that are in the segment; a record of a segment speaks of no others.
fn claim_data(start: BlockAddr, data: &mut [Option<(Ino, u64)>], ino: Ino, first: u64, addr: BlockAddr, blocks: u32) {
    let Some(at) = addr.0.checked_sub(start.0).and_then(|at| usize::try_from(at).ok()) else { return };
    for (n, owner) in data.iter_mut().skip(at).take(blocks as usize).enumerate() {
        *owner = first.checked_add(n as u64).map(|block| (ino, block));
    }
}

/// A run of live blocks: neighbours in the file and on the device.
#[derive(Clone, Copy, Debug)]
pub(super) struct Run {
    pub ino: Ino,
    pub first: u64,
    pub addr: BlockAddr,
    pub blocks: u32,
    pub birth: WriteClock,
    pub interval: u8,
    /// Where its checksums begin in [`Live`]'s.
    pub crcs_at: usize,
}

/// The parts of the segment's data that are still mapped, in the order of their addresses.
pub(super) struct Live {
    pub runs: Vec<Run>,
    crcs: Vec<u32>,
}

impl Live {
    pub fn blocks(&self) -> u32 {
        self.crcs.len() as u32
    }

    pub fn crcs_of(&self, run: &Run) -> &[u32] {
        &self.crcs[run.crcs_at..run.crcs_at + run.blocks as usize]
    }

    /// Finds what of `contents` is live.
    pub fn find(&mut self, volume: &Volume, contents: &Contents) -> Result<()> {
        self.runs.clear();
        self.crcs.clear();
        let mut at = 0;
        while at < contents.data.len() {
            let Some((ino, first)) = contents.data[at] else {
                at += 1;
                continue;
            };
            let follows = |(n, owner): &(u64, &Option<(Ino, u64)>)| **owner == first.checked_add(*n).map(|b| (ino, b));
            let rest = contents.data[at..].iter().take(PAYLOAD_MAX as usize);
            let len = (0..).zip(rest).take_while(follows).count();
            self.find_parts(volume, ino, first, len as u64, contents.start.offset(at as u64))?;
            at += len;
        }
        Ok(())
    }

    /// The parts of file blocks `first..first + len` that still stand at `addr` and on.
    fn find_parts(&mut self, volume: &Volume, ino: Ino, first: u64, len: u64, addr: BlockAddr) -> Result<()> {
        let Some(end) = first.checked_add(len) else { return Ok(()) };
        let (runs_before, crcs_before) = (self.runs.len(), self.crcs.len());
        let found = volume.look(|state| {
            // It may have run up to a node that had to be loaded.
            self.runs.truncate(runs_before);
            self.crcs.truncate(crcs_before);
            visit_overlapping(&state.tree, ino, first, end, |start, extent| {
                let from = start.max(first);
                let to = start.saturating_add(u64::from(extent.blocks)).min(end);
                if extent.kind == ExtentKind::Data && extent.addr.offset(from - start) == addr.offset(from - first) {
                    self.add(ino, start, extent, from, to);
                }
            })
        });
        match found {
            // Whether these blocks are live stands in a node that cannot be read. They stay; the others of the segment need not.
            Err(e @ (Error::Damaged { .. } | Error::Device(_))) => {
                tracing::error!("blocks {first} to {end} of inode {ino} cannot be moved from block {addr}: {e}");
                let log = volume.log();
                log.lock().segments.keep(log.place(addr).0);
                Ok(())
            }
            found => found,
        }
    }

    /// Adds file blocks `from..to` of an extent that begins at `start`.
    fn add(&mut self, ino: Ino, start: u64, extent: &Extent, from: u64, to: u64) {
        let (skip, blocks) = ((from - start) as usize, (to - from) as u32);
        self.runs.push(Run {
            ino,
            first: from,
            addr: extent.addr.offset(skip as u64),
            blocks,
            birth: extent.birth,
            interval: extent.interval,
            crcs_at: self.crcs.len(),
        });
        self.crcs.extend_from_slice(&extent.crcs[skip..skip + blocks as usize]);
    }
}

/// What came of the attempt to take a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    Whole,
    /// Other bytes stand there.
    Damaged,
    /// The device did not give them.
    Unread,
}

/// Blocks on their way: what is read, and what waits to be appended to each head.
pub(super) struct Bench {
    window: Window,
    batches: Vec<Batch>,
    moves: Moves,
}

impl Bench {
    fn new(heads: u8) -> Self {
        let batches = (0..heads.min(HEADS_MAX as u8)).map(|_| Batch::new()).collect();
        Self { window: Window::new(), batches, moves: Moves::default() }
    }

    /// Begins with `seg`, of which `live` blocks are to be moved. What an earlier victim that failed left behind is dropped.
    pub fn begin(&mut self, volume: &Volume, seg: SegNo, live: u32) {
        let log = volume.log();
        let capacity = log.lock().segments.capacity(seg);
        self.window.begin(log.address(seg, capacity), live >= capacity / 4);
        self.batches.iter_mut().for_each(Batch::clear);
    }

    /// Dense reading failed: from now on only what is live is read.
    pub fn read_singly(&mut self) {
        self.window.dense = false;
    }

    /// Blocks that wait for `head`.
    pub fn blocks(&self, head: HeadId) -> u32 {
        self.batches[usize::from(head)].blocks
    }

    /// Adds a run that fits and whose blocks are what they should be.
    pub fn take(&mut self, volume: &Volume, head: HeadId, run: &Run, crcs: &[u32]) -> Result<Taken> {
        let batch = &mut self.batches[usize::from(head)];
        let from = batch.blocks as usize * BLOCK_SIZE;
        let to = &mut batch.bytes[from..from + run.blocks as usize * BLOCK_SIZE];
        match self.window.read(volume, run, crcs, to) {
            Ok(true) => {
                batch.blocks += run.blocks;
                batch.runs.push(*run);
                Ok(Taken::Whole)
            }
            Ok(false) => Ok(Taken::Damaged),
            Err(Error::Device(_)) => Ok(Taken::Unread),
            Err(e) => Err(e),
        }
    }

    /// Appends and commits what waits for `head`; returns the blocks moved.
    pub fn commit(&mut self, volume: &Volume, head: HeadId) -> Result<u32> {
        self.batches[usize::from(head)].commit(volume, head, &mut self.moves)
    }

    /// The same for all heads.
    pub fn commit_all(&mut self, volume: &Volume) -> Result<u32> {
        let mut moved = 0;
        for head in 0..self.batches.len() {
            moved += self.commit(volume, head as HeadId)?;
        }
        Ok(moved)
    }
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
    fn new() -> Self {
        let buf = AlignedBuf::new(WINDOW_BLOCKS as usize);
        Self { buf, start: BlockAddr::NONE, blocks: 0, end: BlockAddr::NONE, dense: false }
    }

    fn begin(&mut self, end: BlockAddr, dense: bool) {
        (self.start, self.blocks, self.end, self.dense) = (BlockAddr::NONE, 0, end, dense);
    }

    /// Copies the run's blocks to `to` if the device has them as the run says.
    fn read(&mut self, volume: &Volume, run: &Run, crcs: &[u32], to: &mut [u8]) -> Result<bool> {
        let addr = run.addr;
        if !self.dense {
            return volume.read_at(addr, crcs, to);
        }
        let inside = |w: &Self| addr >= w.start && addr.0 + u64::from(run.blocks) <= w.start.0 + u64::from(w.blocks);
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
        Ok(to.chunks_exact(BLOCK_SIZE).zip(crcs).all(good))
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
        let most = PAYLOAD_MAX as usize;
        Self { runs: Vec::with_capacity(most), bytes: AlignedBuf::new(most), blocks: 0 }
    }

    fn clear(&mut self) {
        self.runs.clear();
        self.blocks = 0;
    }

    fn commit(&mut self, volume: &Volume, head: HeadId, moves: &mut Moves) -> Result<u32> {
        let mut done = 0;
        while done < self.blocks {
            let rest = &self.bytes[done as usize * BLOCK_SIZE..self.blocks as usize * BLOCK_SIZE];
            let plan = |to: BlockAddr, moves: &mut Moves| self.plan(done, to, moves);
            done += volume.append_moved(head, rest, moves, plan)?;
        }
        self.clear();
        Ok(done)
    }

    /// Edits that move the blocks from `done` on, as many as there are checksums, to `to`.
    fn plan(&self, done: u32, to: BlockAddr, moves: &mut Moves) {
        moves.clear();
        let end = done + moves.crcs.len() as u32;
        let mut at = 0;
        for run in &self.runs {
            // The part of the run within `done..end`, counted from the batch's start.
            let (from, until) = (at.max(done), (at + run.blocks).min(end));
            if from < until {
                let (skip, begun) = (u64::from(from - at), from - done);
                let target = to.offset(u64::from(begun));
                moves.push(run.ino, run.first + skip, run.addr.offset(skip), target, begun, until - from);
            }
            at += run.blocks;
        }
    }
}
