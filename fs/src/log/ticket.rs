//! Reserving room, filling it, and committing records.

use std::sync::Arc;

use crate::error::Result;
use crate::format::chunk::{PAYLOAD_MAX, RECORD_BYTES_MAX};
use crate::types::{BlockAddr, Lsn, SegNo};

use super::buffer::ChunkBuf;
use super::heads::{HeadId, OpenSegment, Pending, Purpose};
use super::kept::Birth;
use super::{Inner, Log, Reserved};

/// Room for payload and its record in one chunk. Dropping it without a commit leaves dead blocks and nothing else.
pub struct Ticket<'a> {
    log: &'a Log,
    serial: u64,
    chunk: Arc<ChunkBuf>,
    index: u32,
    blocks: u32,
    summary_bytes: usize,
    filled: bool,
}

impl Ticket<'_> {
    /// Blocks of payload that the ticket holds.
    pub fn blocks(&self) -> u32 {
        self.blocks
    }

    /// Where the payload will stand.
    pub fn addr(&self) -> BlockAddr {
        self.chunk.start.offset(1 + u64::from(self.index))
    }

    /// The payload's memory, to be filled before the commit.
    pub fn payload(&mut self) -> &mut [u8] {
        assert!(!self.filled);
        // SAFETY: these blocks were reserved for this ticket alone and are not committed.
        unsafe { self.chunk.payload_mut(self.index, self.blocks) }
    }

    /// Puts the encoded record into the chunk, which is written once the ticket is dropped. The caller holds the volume's state lock, so that
    /// LSNs are committed in their order, and drops the ticket only after the record has been applied: until then the segment must not
    /// be sealed, since it would look empty (I2, I3).
    pub fn commit(&mut self, lsn: Lsn, record: &[u8]) {
        assert!(record.len() <= self.summary_bytes, "a record outgrew its reservation");
        self.filled = true;
        let mut inner = self.log.inner.lock();
        let pending = inner.heads.pending.get_mut(self.serial).expect("a pinned chunk is pending");
        pending.add_record(lsn, record);
        // In one step with the record, so that it never counts twice: a chunk closed in between would be settled too long.
        pending.summary_reserved -= std::mem::take(&mut self.summary_bytes);
        inner.set_last_lsn(lsn);
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        let mut inner = self.log.inner.lock();
        let pending = inner.heads.pending.get_mut(self.serial).expect("a pinned chunk is pending");
        pending.pins -= 1;
        pending.summary_reserved -= self.summary_bytes;
        let (head, ready, closed) = (pending.head, pending.ready(), pending.closed);
        if ready {
            self.log.dispatch(&mut inner, head);
        } else if !closed {
            // What was promised and not used is not left between this chunk and the next.
            self.log.advance(&mut inner, head, self.serial);
        }
    }
}

impl Pending {
    fn add_record(&mut self, lsn: Lsn, record: &[u8]) {
        if self.lsn_first.0 == 0 {
            self.lsn_first = lsn;
        }
        self.lsn_last = lsn;
        if let Some(kept) = self.chunk.kept() {
            kept.record(self.summary.len(), record);
        }
        self.summary.extend_from_slice(record);
    }
}

impl Log {
    /// Room for up to `wanted` (at least one) blocks on `head`, and a record of `fixed + per_block * blocks` bytes. May be fewer
    /// blocks than wanted: a chunk or a segment ends.
    pub fn reserve(
        &self,
        head: HeadId,
        wanted: u32,
        fixed: usize,
        per_block: usize,
        purpose: Purpose,
    ) -> Result<Reserved<Ticket<'_>>> {
        debug_assert!((1..=PAYLOAD_MAX).contains(&wanted));
        let mut inner = self.inner.lock();
        inner.check()?;
        let Some((serial, blocks)) = self.find_room(&mut inner, head, wanted, fixed, per_block, purpose) else {
            return Ok(Reserved::Full);
        };
        let summary_bytes = fixed + per_block * blocks as usize;
        let pending = inner.heads.pending.get_mut(serial).expect("the open chunk is pending");
        let index = pending.payload;
        pending.payload += blocks;
        if let Some(kept) = pending.chunk.kept() {
            kept.payload(pending.payload);
        }
        pending.summary_reserved += summary_bytes;
        pending.pins += 1;
        let chunk = Arc::clone(&pending.chunk);
        self.advance(&mut inner, head, serial);
        inner.blocks_since_checkpoint += u64::from(blocks);
        Ok(Reserved::Room(Ticket { log: self, serial, chunk, index, blocks, summary_bytes, filled: false }))
    }

    /// Commits a record without payload to `head`. `Full`: nothing happened, wait and plan again. The caller holds the
    /// volume's state lock.
    pub fn append(&self, head: HeadId, lsn: Lsn, record: &[u8], purpose: Purpose) -> Result<Reserved<()>> {
        assert!(record.len() <= RECORD_BYTES_MAX, "a record of {} bytes", record.len());
        let mut inner = self.inner.lock();
        inner.check()?;
        let Some((serial, _)) = self.find_room(&mut inner, head, 0, record.len(), 0, purpose) else {
            return Ok(Reserved::Full);
        };
        let pending = inner.heads.pending.get_mut(serial).expect("the open chunk is pending");
        pending.add_record(lsn, record);
        inner.set_last_lsn(lsn);
        self.advance(&mut inner, head, serial);
        Ok(Reserved::Room(()))
    }

    /// The chunk that takes the wish, and how many blocks of it; opens a chunk and a segment where needed.
    fn find_room(
        &self,
        inner: &mut Inner,
        head: HeadId,
        wanted: u32,
        fixed: usize,
        per_block: usize,
        purpose: Purpose,
    ) -> Option<(u64, u32)> {
        if let Some(serial) = inner.heads.heads[usize::from(head)].open {
            let pending = &inner.heads.pending[serial];
            let room = self.room_of(inner, head, pending.chunk.start);
            if let Some(blocks) = pending.fitting(wanted, fixed, per_block, room) {
                return Some((serial, blocks));
            }
            self.close(inner, serial);
        }
        if inner.heads.spare.is_empty() {
            return None;
        }
        // A fresh chunk always fits a fresh segment: mkfs demands segments larger than the largest record.
        let start = match self.chunk_start(inner, head, wanted, fixed, per_block) {
            Some(start) => start,
            None => {
                self.close_segment(inner, head);
                self.open_segment(inner, head, purpose)?;
                self.chunk_start(inner, head, wanted, fixed, per_block)?
            }
        };
        let open = inner.heads.heads[usize::from(head)].segment.expect("it was just found");
        let serial = inner.heads.open_chunk(head, open, start);
        self.begin_kept(serial, &inner.heads.pending[serial]);
        let room = self.room_of(inner, head, start);
        let blocks = inner.heads.pending[serial].fitting(wanted, fixed, per_block, room)?;
        Some((serial, blocks))
    }

    /// Tells memory that outlives the process of a chunk that begins.
    pub(super) fn begin_kept(&self, serial: u64, pending: &Pending) {
        if let Some(kept) = pending.chunk.kept() {
            let (fsid, epoch, addr) = (self.shape.fsid, self.epoch(), pending.chunk.start);
            kept.begin(&Birth { serial, fsid, addr, epoch, generation: pending.generation, head: pending.head });
        }
    }

    /// Where the next chunk of `head` begins, if something of the wish fits the rest of the segment.
    fn chunk_start(
        &self,
        inner: &Inner,
        head: HeadId,
        wanted: u32,
        fixed: usize,
        per_block: usize,
    ) -> Option<BlockAddr> {
        let open = inner.heads.heads[usize::from(head)].segment?;
        let least = wanted.min(1);
        let blocks = 1 + least + crate::format::chunk::overflow_blocks(fixed + per_block * least as usize);
        (open.next + blocks <= open.capacity).then(|| self.address(open.seg, open.next))
    }

    fn room_of(&self, inner: &Inner, head: HeadId, start: BlockAddr) -> u32 {
        let open = inner.heads.heads[usize::from(head)].segment.expect("an open chunk has a segment");
        open.capacity - (start.0 - self.address(open.seg, 0).0) as u32
    }

    /// Keeps the head's position behind its open chunk.
    fn advance(&self, inner: &mut Inner, head: HeadId, serial: u64) {
        let pending = &inner.heads.pending[serial];
        let blocks = 1 + pending.payload + pending.overflow_needed();
        let end = (pending.chunk.start.0 - self.address(pending.seg, 0).0) as u32 + blocks;
        if let Some(open) = &mut inner.heads.heads[usize::from(head)].segment {
            open.next = end;
        }
    }

    /// Closes a chunk: no more room in it; it is written when its last writer is done.
    pub(super) fn close(&self, inner: &mut Inner, serial: u64) {
        let head = inner.heads.pending[serial].head;
        // Where the chunk ends and where its head goes on are settled in one step: neither a gap nor an overlap.
        self.advance(inner, head, serial);
        let pending = inner.heads.pending.get_mut(serial).expect("the open chunk is pending");
        pending.closed = true;
        pending.overflow = pending.overflow_needed();
        if let Some(kept) = pending.chunk.kept() {
            kept.close(pending.overflow);
        }
        let ready = pending.ready();
        inner.heads.heads[usize::from(head)].open = None;
        if ready {
            self.dispatch(inner, head);
        }
    }

    pub(super) fn close_all(&self, inner: &mut Inner) {
        for head in 0..inner.heads.heads.len() {
            if let Some(serial) = inner.heads.heads[head].open {
                self.close(inner, serial);
            }
        }
    }

    /// The head leaves its segment, which is sealed once nothing of it is pending.
    pub(crate) fn close_segment(&self, inner: &mut Inner, head: HeadId) {
        debug_assert!(inner.heads.heads[usize::from(head)].open.is_none());
        if let Some(open) = inner.heads.heads[usize::from(head)].segment.take() {
            self.seal_if_done(inner, open.seg);
        }
    }

    pub(crate) fn open_segment(&self, inner: &mut Inner, head: HeadId, purpose: Purpose) -> Option<OpenSegment> {
        if !inner.heads.may_open(purpose) {
            return None;
        }
        // I7: only segments whose bytes the medium has promised are opened; a checkpoint reserves what it opens before it writes.
        let seg = match inner.heads.prepared.pop_front() {
            None if purpose == Purpose::Checkpoint => inner.heads.allocation.pop_front(),
            prepared => prepared,
        }?;
        let clock = inner.clock();
        inner.segments.open(seg, head, clock);
        let generation = inner.heads.next_generation;
        inner.heads.next_generation += 1;
        let open = OpenSegment { seg, next: 0, capacity: inner.segments.capacity(seg), generation };
        inner.heads.heads[usize::from(head)].segment = Some(open);
        Some(open)
    }

    /// Address of block `offset` of `seg`.
    pub fn address(&self, seg: SegNo, offset: u32) -> BlockAddr {
        BlockAddr(u64::from(seg.0) * u64::from(self.shape.segment_blocks) + u64::from(offset))
    }

    /// Segment and offset of `addr`. An address that is nowhere on a device is in a segment that no log has.
    pub fn place(&self, addr: BlockAddr) -> (SegNo, u32) {
        let blocks = u64::from(self.shape.segment_blocks);
        (SegNo(u32::try_from(addr.0 / blocks).unwrap_or(u32::MAX)), (addr.0 % blocks) as u32)
    }
}
