//! Log heads: which segment each fills, its open chunk, and the chunks that are not written yet.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::error::Result;
use crate::format::chunk::{CHUNK_BLOCKS_MAX, PAYLOAD_MAX, SUMMARY_MAX, overflow_blocks};
use crate::format::superblock::{HEADS_MAX, HeadPosition};
use crate::types::{BlockAddr, Lsn, SegNo};

use super::LogShape;
use super::buffer::ChunkBuf;
use super::kept::KeptMemory;
use super::pending::{PendingChunks, Spare};

/// Number of a log head: one per lifetime class, and [`NODE_HEAD`].
pub type HeadId = u8;
/// The head that only checkpoints write: nodes and table pages.
pub const NODE_HEAD: HeadId = HEADS_MAX as u8 - 1;

/// Segments for which there is room among those that are ready or being made so; a few are, whoever asks.
const PREPARED_ROOM: usize = 64;

/// Who wants to open a segment; decides how many must be left after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    User,
    /// Operations that only give space back, so that a full filesystem can be emptied.
    Release,
    Cleaner,
    Checkpoint,
}

/// Segments that must stay available for those who come before (I5).
#[derive(Clone, Copy, Debug, Default)]
pub struct Reserves {
    /// A worst-case checkpoint.
    pub checkpoint: usize,
    /// The cleaner's head, on top.
    pub cleaner: usize,
    /// Unlink, truncate and the like, on top.
    pub release: usize,
}

impl Reserves {
    pub fn kept_from(&self, purpose: Purpose) -> usize {
        match purpose {
            Purpose::Checkpoint => 0,
            Purpose::Cleaner => self.checkpoint,
            Purpose::Release => self.checkpoint + self.cleaner,
            Purpose::User => self.checkpoint + self.cleaner + self.release,
        }
    }
}

/// A segment being filled.
#[derive(Clone, Copy, Debug)]
pub struct OpenSegment {
    pub seg: SegNo,
    /// First block not given away, from the segment's start.
    pub next: u32,
    pub capacity: u32,
    /// Which life of the segment this is.
    pub generation: u64,
}

pub struct Head {
    pub segment: Option<OpenSegment>,
    /// Serial of the open chunk.
    pub open: Option<u64>,
    /// Chunks not handed to a writer yet, oldest first.
    pub queue: VecDeque<u64>,
    /// Chunks handed to a writer and not written yet.
    pub writing: u32,
}

impl Head {
    fn with_room(chunks: usize) -> Self {
        Self { segment: None, open: None, queue: VecDeque::with_capacity(chunks), writing: 0 }
    }
}

/// A chunk that is not written yet.
pub struct Pending {
    pub chunk: Arc<ChunkBuf>,
    pub head: HeadId,
    pub seg: SegNo,
    pub generation: u64,
    pub payload: u32,
    pub summary: Vec<u8>,
    /// Summary bytes promised to writers.
    pub summary_reserved: usize,
    /// Overflow blocks, settled when the chunk is closed: the next chunk begins behind them, whatever becomes of the promises.
    pub overflow: u32,
    pub lsn_first: Lsn,
    pub lsn_last: Lsn,
    /// Writers between reservation and commit.
    pub pins: u32,
    pub closed: bool,
    /// Times that it was taken elsewhere because the device refused it.
    pub detours: u8,
}

impl Pending {
    pub fn ready(&self) -> bool {
        self.closed && self.pins == 0
    }

    /// Overflow blocks for what is there and what is promised.
    pub fn overflow_needed(&self) -> u32 {
        overflow_blocks(self.summary.len() + self.summary_reserved)
    }

    /// Blocks that the chunk takes with `payload` and `summary` more.
    fn blocks_with(&self, payload: u32, summary: usize) -> u32 {
        1 + self.payload + payload + overflow_blocks(self.summary.len() + self.summary_reserved + summary)
    }

    /// Most of `wanted` payload blocks that fit, each costing `per_block` summary bytes besides `fixed`; `room` is what the segment
    /// has for this chunk.
    pub fn fitting(&self, wanted: u32, fixed: usize, per_block: usize, room: u32) -> Option<u32> {
        let used = self.summary.len() + self.summary_reserved;
        let fits = |n: u32| {
            let summary = fixed + per_block * n as usize;
            self.payload + n <= PAYLOAD_MAX
                && used + summary <= SUMMARY_MAX
                && self.blocks_with(n, summary) <= room.min(CHUNK_BLOCKS_MAX)
        };
        if wanted == 0 {
            return fits(0).then_some(0);
        }
        let mut n = wanted.min(PAYLOAD_MAX - self.payload).min(room.saturating_sub(1 + self.payload));
        while n > 0 && !fits(n) {
            n -= 1;
        }
        (n > 0).then_some(n)
    }
}

/// All heads and all chunks that are not written yet.
pub struct Heads {
    pub heads: Vec<Head>,
    pub pending: PendingChunks,
    next_serial: u64,
    /// Free segments that may be opened, in order: reserved on the medium, being reserved by some thread, and not yet.
    pub prepared: VecDeque<SegNo>,
    pub preparing: Vec<SegNo>,
    pub allocation: VecDeque<SegNo>,
    pub spare: Vec<Spare>,
    pub reserves: Reserves,
    /// Segments of the checkpoint's reserve that the cleaner may open until the next one.
    lent: usize,
    /// Generation of the segment opened next.
    pub next_generation: u64,
}

impl Heads {
    pub fn new(shape: &LogShape, kept: Option<&Arc<KeptMemory>>) -> Self {
        Self {
            heads: (0..HEADS_MAX).map(|_| Head::with_room(shape.buffers)).collect(),
            pending: PendingChunks::with_room(shape.buffers),
            next_serial: 1,
            prepared: VecDeque::with_capacity(PREPARED_ROOM),
            preparing: Vec::with_capacity(PREPARED_ROOM),
            allocation: VecDeque::new(),
            spare: (0..shape.buffers).map(|_| Spare::new(kept)).collect(),
            reserves: Reserves::default(),
            lent: 0,
            next_generation: 1,
        }
    }

    pub fn set_allocation(&mut self, list: impl IntoIterator<Item = SegNo>) {
        self.prepared.clear();
        self.preparing.clear();
        self.allocation = list.into_iter().collect();
    }

    /// A head goes on where the log of an earlier mount ended.
    pub fn resume_head(&mut self, at: &HeadPosition, capacity: u32) {
        let open = OpenSegment { seg: at.segment, next: at.next, capacity, generation: at.generation };
        self.heads[usize::from(at.head)].segment = Some(open);
    }

    /// Segments that can be opened before the next checkpoint.
    pub fn available(&self) -> usize {
        self.prepared.len() + self.preparing.len() + self.allocation.len()
    }

    /// The segments that can be opened before the next checkpoint.
    pub fn listed(&self) -> impl Iterator<Item = SegNo> + '_ {
        self.prepared.iter().chain(&self.preparing).chain(&self.allocation).copied()
    }

    /// Hands the next listed segment to one thread to make it ready. A checkpoint takes from the list what nobody has made ready, so its reserve stays
    /// there.
    pub fn claim(&mut self) -> Option<SegNo> {
        if self.allocation.len() <= self.kept_from(Purpose::Cleaner) {
            return None;
        }
        self.claim_any()
    }

    /// The same out of what is kept for the checkpoint, which asks.
    pub fn claim_any(&mut self) -> Option<SegNo> {
        let seg = self.allocation.pop_front()?;
        self.preparing.push(seg);
        Some(seg)
    }

    /// It is ready, or goes back to where it was unless the device will not have it.
    pub fn settle_claim(&mut self, seg: SegNo, is_ready: bool, is_lost: bool) {
        self.preparing.retain(|claimed| *claimed != seg);
        if is_ready {
            self.prepared.push_back(seg);
        } else if !is_lost {
            self.allocation.push_front(seg);
        }
    }

    pub fn may_open(&self, purpose: Purpose) -> bool {
        self.available() > self.kept_from(purpose)
    }

    fn kept_from(&self, purpose: Purpose) -> usize {
        let lent = if purpose == Purpose::Cleaner { self.lent } else { 0 };
        self.reserves.kept_from(purpose).saturating_sub(lent)
    }

    /// Lends the cleaner the next segment if `needed` are left for the checkpoint then.
    pub fn lend_to_cleaner(&mut self, needed: usize) -> bool {
        let available = self.available();
        if available <= needed {
            return false;
        }
        self.lent = (self.reserves.checkpoint + 1).saturating_sub(available);
        true
    }

    /// What was lent is asked back: a checkpoint has given what there was to give.
    pub fn end_loan(&mut self) {
        self.lent = 0;
    }

    /// Adds a chunk at `start`; its memory comes from the pool, which must not be empty.
    pub fn open_chunk(&mut self, head: HeadId, open: OpenSegment, start: BlockAddr) -> u64 {
        let Spare { mut chunk, summary } = self.spare.pop().expect("the caller saw a spare chunk");
        Arc::get_mut(&mut chunk).expect("nobody holds a spare chunk").start = start;
        let serial = self.next_serial;
        self.next_serial += 1;
        self.pending.push(
            serial,
            Pending {
                chunk,
                head,
                seg: open.seg,
                generation: open.generation,
                payload: 0,
                summary,
                summary_reserved: 0,
                overflow: 0,
                lsn_first: Lsn(0),
                lsn_last: Lsn(0),
                pins: 0,
                closed: false,
                detours: 0,
            },
        );
        let head = &mut self.heads[usize::from(head)];
        head.open = Some(serial);
        head.queue.push_back(serial);
        serial
    }

    /// Changes where a pending chunk stands.
    pub fn readdress(&mut self, serial: u64, change: impl FnOnce(&mut Pending) -> Result<()>) -> Result<()> {
        self.pending.readdress(serial, change)
    }

    /// Forgets a written chunk.
    pub fn retire(&mut self, serial: u64) -> Pending {
        let pending = self.pending.remove(serial).expect("a written chunk was pending");
        if let Some(kept) = pending.chunk.kept() {
            kept.done();
        }
        pending
    }

    /// The pending chunk that holds `addr`.
    pub fn find(&self, addr: BlockAddr) -> Option<Arc<ChunkBuf>> {
        let pending = self.pending.at_or_before(addr)?;
        (addr.0 - pending.chunk.start.0 <= u64::from(pending.payload)).then(|| Arc::clone(&pending.chunk))
    }

    pub fn oldest_serial(&self) -> Option<u64> {
        self.pending.oldest_serial()
    }

    pub fn last_serial(&self) -> u64 {
        self.next_serial - 1
    }

    /// Whether a pending chunk or a head still needs `seg` open.
    pub fn uses(&self, seg: SegNo) -> bool {
        self.heads.iter().any(|h| h.segment.is_some_and(|s| s.seg == seg))
            || self.pending.values().any(|p| p.seg == seg)
    }

    /// Where each head goes on, for a checkpoint.
    pub fn positions(&self) -> Vec<HeadPosition> {
        let position = |(head, h): (usize, &Head)| {
            h.segment.map(|s| HeadPosition { head: head as u8, segment: s.seg, next: s.next, generation: s.generation })
        };
        self.heads.iter().enumerate().filter_map(position).collect()
    }

    /// Where operations after a checkpoint taken now may come to stand: the oldest chunk of each head that can still
    /// take records, in each segment that has one, and where the head goes on.
    pub fn scan_points(&self, segment_of: impl Fn(BlockAddr) -> (SegNo, u32)) -> Vec<HeadPosition> {
        let mut points: Vec<HeadPosition> = Vec::new();
        for pending in self.pending.values().filter(|p| !p.ready()) {
            let (segment, next) = segment_of(pending.chunk.start);
            if !points.iter().any(|p| p.segment == segment) {
                let generation = pending.generation;
                points.push(HeadPosition { head: pending.head, segment, next, generation });
            }
        }
        for position in self.positions() {
            if position.head != NODE_HEAD && !points.iter().any(|p| p.segment == position.segment) {
                points.push(position);
            }
        }
        points
    }
}
