//! The log of segments: the only way to write.
//!
//! Above `device`, below `meta`. A *log head* fills one open segment front to back with chunks; writers reserve room in the
//! head's open chunk, copy their payload into its buffer, and commit a record to it. A chunk that is closed and has no
//! writer left is written as a whole. Nothing here knows what the records mean.
//!
//! Locks: `inner` is a leaf below the volume's state lock; no I/O happens under it. Who must wait for room gets
//! [`Reserved::Full`] and waits without any lock held.
//!
//! Keeps I2 (segments are opened only from the list of the newest slot) and the log's part of I6 (an operation is
//! acknowledged by [`Log::sync`] only after its chunk and all before it are written and the device is flushed).

mod buffer;
mod detour;
mod flush_rounds;
mod heads;
mod kept;
mod number_set;
mod pending;
mod planner;
pub(crate) mod refusals;
pub mod scan;
pub mod segments;
mod ticket;
mod writers;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use parking_lot::Condvar;

use crate::device::Device;
use crate::error::{Error, Result};
use crate::format::chunk::{CHUNK_BLOCKS_MAX, PAYLOAD_MAX};
use crate::format::superblock::{Checkpoint, HeadPosition};
use crate::lock_order::{Mutex, MutexGuard, Place};
use crate::types::{BLOCK_SIZE, BlockAddr, Lsn, SegNo, WriteClock};

pub(crate) use detour::{Detours, Refused};
pub use heads::{HeadId, NODE_HEAD, Purpose, Reserves};
pub use kept::KeptMemory;
pub use planner::{PlannedChunk, Planner};
pub use ticket::Ticket;

use flush_rounds::LogRounds;
use heads::Heads;
use segments::SegmentTable;

/// What the log is made of; fixed for a mount.
#[derive(Clone, Copy, Debug)]
pub struct LogShape {
    pub fsid: u64,
    pub segment_blocks: u32,
    pub first_segment: SegNo,
    pub segments: u32,
    /// Data heads in use, `<= HEADS_MAX - 1`.
    pub heads: u8,
    /// Chunk buffers.
    pub buffers: usize,
    /// Threads that write chunks; 0: whoever completes a chunk writes it (deterministic tests).
    pub threads: usize,
    pub zoned: bool,
}

/// The log of a mounted image.
pub struct Log {
    pub(crate) device: Arc<dyn Device>,
    pub(crate) shape: LogShape,
    inner: Mutex<Inner>,
    /// Something was written, sealed or freed; or the log failed.
    changed: Condvar,
    /// A chunk waits for a writer thread.
    work: Condvar,
    rounds: LogRounds,
    /// Every operation up to this one is durable.
    flushed: AtomicU64,
    /// The epoch that chunks carry.
    epoch: AtomicU64,
    /// Where chunks outlive the process.
    pub(crate) kept: Option<Arc<KeptMemory>>,
    /// Who takes refused chunks elsewhere; weak, since the volume holds the log.
    detours: OnceLock<Weak<dyn Detours>>,
}

/// What the leaf lock guards.
pub(crate) struct Inner {
    pub(crate) heads: Heads,
    pub(crate) segments: SegmentTable,
    jobs: VecDeque<writers::Job>,
    /// The newest committed operation.
    last_lsn: Lsn,
    write_clock: WriteClock,
    /// Blocks given to chunks since the last checkpoint was taken.
    blocks_since_checkpoint: u64,
    /// Chunks that were taken elsewhere: addresses of what is mapped have changed.
    detours: u64,
    failed: Option<String>,
    stopping: bool,
}

/// The answer to a wish for room.
pub enum Reserved<T> {
    Room(T),
    /// Wait for [`Log::wait_for_change`] with no lock held, then ask again.
    Full,
}

impl Log {
    /// A log that goes on where `checkpoint` and roll-forward left it.
    pub fn new(
        device: Arc<dyn Device>,
        shape: LogShape,
        segments: SegmentTable,
        kept: Option<Arc<KeptMemory>>,
    ) -> Arc<Self> {
        Arc::new(Self {
            inner: Mutex::new(
                Place::Log,
                Inner {
                    heads: Heads::new(&shape, kept.as_ref()),
                    segments,
                    jobs: VecDeque::with_capacity(2 * shape.buffers),
                    last_lsn: Lsn(0),
                    write_clock: WriteClock(0),
                    blocks_since_checkpoint: 0,
                    detours: 0,
                    failed: None,
                    stopping: false,
                },
            ),
            device,
            shape,
            changed: Condvar::new(),
            work: Condvar::new(),
            rounds: LogRounds::default(),
            flushed: AtomicU64::new(0),
            epoch: AtomicU64::new(0),
            kept,
            detours: OnceLock::new(),
        })
    }

    /// Sets the counters to where a mount starts from; operations up to `last_lsn` are about to be replayed.
    pub(crate) fn resume(&self, checkpoint: &Checkpoint, last_lsn: Lsn, epoch: u64) {
        let mut inner = self.inner.lock();
        inner.last_lsn = last_lsn;
        inner.write_clock = checkpoint.write_clock;
        self.epoch.store(epoch, Ordering::Relaxed);
        self.flushed.store(last_lsn.0, Ordering::Release);
    }

    /// The leaf lock, for the segment table and the heads.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock()
    }

    pub(crate) fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Relaxed)
    }

    pub(crate) fn flushed_lsn(&self) -> Lsn {
        Lsn(self.flushed.load(Ordering::Acquire))
    }

    /// LSN of the newest committed operation.
    pub fn last_lsn(&self) -> Lsn {
        self.inner.lock().last_lsn
    }

    pub fn write_clock(&self) -> WriteClock {
        self.inner.lock().write_clock
    }

    /// Blocks appended to data heads since the last checkpoint was taken.
    pub fn blocks_since_checkpoint(&self) -> u64 {
        self.inner.lock().blocks_since_checkpoint
    }

    /// Segments that can be opened before the next checkpoint.
    pub fn available_segments(&self) -> u32 {
        self.inner.lock().heads.available() as u32
    }

    /// Whether somebody with this purpose could open a segment and a chunk now.
    pub fn has_room(&self, purpose: Purpose) -> bool {
        let inner = self.inner.lock();
        let heads = &inner.heads;
        heads.may_open(purpose) && !heads.prepared.is_empty() && !heads.spare.is_empty()
    }

    /// Whether there is a segment for somebody with this purpose.
    pub(crate) fn may_open(&self, purpose: Purpose) -> bool {
        self.inner.lock().heads.may_open(purpose)
    }

    /// Blocks left in the segment that checkpoints are filling, without what headers take.
    pub(crate) fn node_head_room(&self) -> u32 {
        let open = self.inner.lock().heads.heads[usize::from(NODE_HEAD)].segment;
        let left = open.map_or(0, |s| s.capacity - s.next);
        left.saturating_sub(left.div_ceil(PAYLOAD_MAX + 1))
    }

    /// Whether the cleaner can fill a chunk of `head` without touching what is kept for an emergency.
    pub(crate) fn affords(&self, head: HeadId) -> bool {
        let inner = self.inner.lock();
        let heads = &inner.heads;
        let goes_on = heads.heads[usize::from(head)].segment.is_some_and(|s| s.next + CHUNK_BLOCKS_MAX <= s.capacity);
        goes_on || heads.available() > heads.reserves.kept_from(Purpose::Release)
    }

    /// The first failure that made the log unfit for writing.
    pub fn failure(&self) -> Result<()> {
        self.inner.lock().check()
    }

    /// Stops the log for good: nothing is written any more, waiters get `why` (I6: what was acknowledged stays readable).
    pub fn fail(&self, why: String) {
        let mut inner = self.inner.lock();
        if inner.failed.is_none() {
            tracing::error!("writing stops: {why}");
            inner.failed = Some(why);
        }
        drop(inner);
        self.changed.notify_all();
        self.work.notify_all();
    }

    /// Waits until something changed, `timeout` at the longest. Call it with no lock held.
    pub fn wait_for_change(&self, timeout: Duration) {
        let mut inner = self.inner.lock();
        if inner.failed.is_none() {
            inner.wait_for(&self.changed, timeout);
        }
    }

    /// Tells everybody who waits for room to look again.
    pub fn notify(&self) {
        self.changed.notify_all();
    }

    /// Reads blocks that may still stand in a chunk's buffer. `None`: they are on the device.
    pub fn read_in_flight(&self, addr: BlockAddr, buf: &mut [u8]) -> bool {
        let found = self.inner.lock().heads.find(addr);
        let Some(chunk) = found else { return false };
        chunk.copy_out(addr, buf);
        true
    }

    /// Makes every operation committed so far durable: closes the open chunks, waits for all chunks, flushes once (I6).
    pub fn sync(&self) -> Result<Lsn> {
        let (target, last_serial) = {
            let mut inner = self.inner.lock();
            inner.check()?;
            if self.flushed_lsn() >= inner.last_lsn {
                return Ok(inner.last_lsn);
            }
            self.close_all(&mut inner);
            (inner.last_lsn, inner.heads.last_serial())
        };
        self.drive();
        self.wait_written(last_serial)?;
        self.flush_once()?;
        self.flushed.fetch_max(target.0, Ordering::AcqRel);
        Ok(target)
    }

    /// Closes and writes every chunk opened so far, without a flush.
    pub fn write_out(&self) -> Result<()> {
        let last_serial = {
            let mut inner = self.inner.lock();
            inner.check()?;
            self.close_all(&mut inner);
            inner.heads.last_serial()
        };
        self.drive();
        self.wait_written(last_serial)
    }

    fn wait_written(&self, last_serial: u64) -> Result<()> {
        let mut inner = self.inner.lock();
        loop {
            inner.check()?;
            if inner.heads.oldest_serial().is_none_or(|oldest| oldest > last_serial) {
                return Ok(());
            }
            inner.wait(&self.changed);
        }
    }

    /// One flush that starts after the call, shared with everybody who waits for one. A flush that fails is the last.
    pub fn flush_once(&self) -> Result<()> {
        let flush = || self.device.flush().inspect_err(|e| self.fail(e.to_string())).map_err(Error::from);
        flush_rounds::flush_once(&self.rounds, || self.failure(), flush)
    }

    /// Ends the writer threads. What is not written stays unwritten: sync first.
    pub fn stop(&self) {
        self.inner.lock().stopping = true;
        self.work.notify_all();
        self.changed.notify_all();
    }
}

impl Inner {
    pub(crate) fn check(&self) -> Result<()> {
        match &self.failed {
            None => Ok(()),
            Some(why) => Err(Error::Latched(why.clone())),
        }
    }

    pub(crate) fn last_lsn(&self) -> Lsn {
        self.last_lsn
    }

    /// Chunks taken elsewhere so far.
    pub(crate) fn detours(&self) -> u64 {
        self.detours
    }

    pub(crate) fn set_last_lsn(&mut self, lsn: Lsn) {
        debug_assert_eq!(lsn, self.last_lsn.next());
        self.last_lsn = lsn;
    }

    /// Advances the write clock by the blocks that a user wrote.
    pub(crate) fn tick(&mut self, blocks: u64) {
        self.write_clock.0 += blocks;
    }

    pub(crate) fn clock(&self) -> WriteClock {
        self.write_clock
    }

    /// A checkpoint was taken: what follows, from `scan` on, is the log since it.
    pub(crate) fn checkpoint_taken(&mut self, scan: &[HeadPosition]) {
        self.blocks_since_checkpoint = 0;
        self.segments.begin_log(scan.iter().map(|p| p.segment));
    }
}

/// Bytes of `blocks` blocks.
pub(crate) fn block_bytes(blocks: u32) -> usize {
    blocks as usize * BLOCK_SIZE
}
