//! Chunk memory that outlives the process.
//!
//! What a client was told is accepted stands in a chunk's buffer until the chunk is written. A process that dies takes its memory with it, but not memory that another
//! holds as well: there the next one finds each chunk as it was, and writes it where the dead one was about to ([`Log::write_left`]). Roll-forward then
//! reads a log that lacks nothing. It is as if the dead process had closed its open chunks at last, which it may do at any time.
//!
//! **What is there at any moment is right.** A record counts once the length of the summary says so, and is stored after its bytes, which were after its
//! payload; a process that is killed stops between two stores. A chunk counts from when its number is stored until it is written. One that is taken elsewhere stops to count
//! at its old place before it does at the new one.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use rustix::fs::MemfdFlags;
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

use crate::device::aligned::AlignedBuf;
use crate::error::Result;
use crate::format::chunk::{
    CHUNK_BLOCKS_MAX, ChunkHeader, PAYLOAD_MAX, Record, SUMMARY_MAX, decode_summary, overflow_blocks,
};
use crate::types::{BLOCK_SIZE, BlockAddr, Lsn, WriteClock};

use super::{Log, block_bytes};

/// How the memory is laid out. A program that lays it out in another way cannot go on with it.
const LAYOUT: u64 = 1;
/// Chunks: those of a log, and some for readers that hold one that is written.
const SLOTS: usize = 40;
const CHUNK_BYTES: usize = CHUNK_BLOCKS_MAX as usize * BLOCK_SIZE;
const SUMMARY_BYTES: usize = SUMMARY_MAX.next_multiple_of(BLOCK_SIZE);
/// A block of control words, the chunk, its summary.
const SLOT_BYTES: usize = BLOCK_SIZE + CHUNK_BYTES + SUMMARY_BYTES;
/// The layout's word has a block of its own.
const MEMORY_BYTES: usize = BLOCK_SIZE + SLOTS * SLOT_BYTES;

/// What is known of a chunk beside its bytes. Zeros: there is none.
#[repr(C)]
struct Control {
    /// Its number among the chunks of its mount, from 1 on; stored last.
    serial: AtomicU64,
    fsid: AtomicU64,
    addr: AtomicU64,
    epoch: AtomicU64,
    generation: AtomicU64,
    head: AtomicU64,
    payload: AtomicU64,
    /// 1 and the overflow blocks, once it is closed.
    end: AtomicU64,
    flushed: AtomicU64,
    clock: AtomicU64,
    /// Bytes of the summary that count.
    summary: AtomicU64,
}

const _: () = assert!(size_of::<Control>() <= BLOCK_SIZE);

/// The memory, mapped. One process at a time fills it.
#[derive(Debug)]
pub struct KeptMemory {
    start: NonNull<u8>,
    /// Slots that no chunk of this process has.
    free: Mutex<Vec<usize>>,
}

// SAFETY: control words are atomics; a slot's bytes are touched by the chunk that has the slot, whose users are kept apart as those of any chunk are.
unsafe impl Send for KeptMemory {}
// SAFETY: as above.
unsafe impl Sync for KeptMemory {}

/// Where a chunk begins to be filled.
pub(crate) struct Birth {
    pub serial: u64,
    pub fsid: u64,
    pub addr: BlockAddr,
    pub epoch: u64,
    pub generation: u64,
    pub head: u8,
}

/// A chunk's part of the memory.
#[derive(Debug)]
pub(crate) struct KeptChunk {
    memory: Arc<KeptMemory>,
    slot: usize,
}

impl KeptMemory {
    /// Memory that has nothing in it, to be held by whoever outlives those who map it.
    pub fn create() -> io::Result<OwnedFd> {
        let memory = rustix::fs::memfd_create("gleanfs-chunks", MemfdFlags::CLOEXEC)?;
        rustix::fs::ftruncate(&memory, BLOCK_SIZE as u64)?;
        Ok(memory)
    }

    /// Maps it. An error if a program that lays it out in another way has left something in it.
    pub fn map(memory: impl AsFd) -> io::Result<Arc<Self>> {
        let memory = memory.as_fd();
        if rustix::fs::fstat(memory)?.st_size < MEMORY_BYTES as i64 {
            rustix::fs::ftruncate(memory, MEMORY_BYTES as u64)?;
        }
        // SAFETY: a new mapping at a place of the kernel's choice, of bytes that the file has.
        let mapped = unsafe {
            let protection = ProtFlags::READ | ProtFlags::WRITE;
            let flags = MapFlags::SHARED | MapFlags::POPULATE;
            mmap(std::ptr::null_mut(), MEMORY_BYTES, protection, flags, memory, 0)?
        };
        let start = NonNull::new(mapped.cast()).ok_or(io::ErrorKind::AddrNotAvailable)?;
        let kept = Self { start, free: Mutex::new((0..SLOTS).rev().collect()) };
        match kept.layout().load(Ordering::Acquire) {
            0 => {
                kept.forget();
                kept.layout().store(LAYOUT, Ordering::Release);
            }
            LAYOUT => {}
            other => return Err(io::Error::other(format!("it is laid out in way {other}, we know {LAYOUT}"))),
        }
        Ok(Arc::new(kept))
    }

    /// Everything is written, and a program that lays the memory out in another way may follow.
    pub fn clear(&self) {
        self.forget();
        self.layout().store(0, Ordering::Release);
    }

    fn layout(&self) -> &AtomicU64 {
        // SAFETY: the first word of the mapping, aligned to a page, for which any bytes will do.
        unsafe { self.start.cast().as_ref() }
    }

    fn part(&self, slot: usize, offset: usize) -> NonNull<u8> {
        assert!(slot < SLOTS && offset < SLOT_BYTES);
        // SAFETY: within the mapping, as just asserted.
        unsafe { self.start.add(BLOCK_SIZE + slot * SLOT_BYTES + offset) }
    }

    fn control(&self, slot: usize) -> &Control {
        // SAFETY: aligned to a block, within the mapping that lives as long as `self`; all of it is atomics, for which any bytes will do.
        unsafe { self.part(slot, 0).cast().as_ref() }
    }

    /// A part for a chunk; `None` if all are taken.
    pub(super) fn take(self: &Arc<Self>) -> Option<KeptChunk> {
        let slot = self.free.lock().pop()?;
        Some(KeptChunk { memory: Arc::clone(self), slot })
    }

    /// What a process before left is not needed any more. To be called before a chunk is begun.
    pub(crate) fn forget(&self) {
        (0..SLOTS).for_each(|slot| self.control(slot).serial.store(0, Ordering::Release));
    }

    /// Slots of the chunks of mount `epoch` that are left, in the order in which they were begun.
    fn left(&self, fsid: u64, epoch: u64) -> Vec<usize> {
        let of = |word: &AtomicU64| word.load(Ordering::Acquire);
        let serial = |slot: &usize| of(&self.control(*slot).serial);
        let is_of = |slot: &usize| {
            let control = self.control(*slot);
            serial(slot) > 0 && of(&control.fsid) == fsid && of(&control.epoch) == epoch
        };
        let mut slots: Vec<usize> = (0..SLOTS).filter(is_of).collect();
        slots.sort_by_key(serial);
        slots
    }

    /// The chunk in a slot as it would be written now. `None`: it makes no sense.
    fn sealed(&self, slot: usize) -> Option<(ChunkHeader, AlignedBuf)> {
        let control = self.control(slot);
        let of = |word: &AtomicU64| word.load(Ordering::Acquire);
        let summary_bytes = usize::try_from(of(&control.summary)).ok().filter(|len| *len <= SUMMARY_MAX)?;
        let payload_blocks = u32::try_from(of(&control.payload)).ok().filter(|blocks| *blocks <= PAYLOAD_MAX)?;
        let overflow = of(&control.end).checked_sub(1).unwrap_or(u64::from(overflow_blocks(summary_bytes)));
        let mut header = ChunkHeader {
            head: u8::try_from(of(&control.head)).ok()?,
            fsid: of(&control.fsid),
            addr: BlockAddr(of(&control.addr)),
            epoch: of(&control.epoch),
            generation: of(&control.generation),
            flushed: Lsn(of(&control.flushed)),
            write_clock: WriteClock(of(&control.clock)),
            payload_blocks,
            overflow_blocks: u32::try_from(overflow).ok()?,
            summary_bytes: summary_bytes as u32,
            ..ChunkHeader::default()
        };
        let blocks = Some(header.blocks()).filter(|blocks| *blocks <= CHUNK_BLOCKS_MAX)?;
        let mut bytes = AlignedBuf::new(blocks as usize);
        let mut summary = vec![0; summary_bytes];
        let (chunk, records) = (self.part(slot, BLOCK_SIZE), self.part(slot, BLOCK_SIZE + CHUNK_BYTES));
        // SAFETY: both are in the slot, which nobody fills: the process that had it is gone, and no chunk of ours has begun.
        unsafe {
            std::ptr::copy_nonoverlapping(chunk.as_ptr(), bytes.as_mut_ptr(), block_bytes(1 + payload_blocks));
            std::ptr::copy_nonoverlapping(records.as_ptr(), summary.as_mut_ptr(), summary_bytes);
        }
        let (front, overflow) = bytes.split_at_mut(block_bytes(1 + payload_blocks));
        header.seal(&summary, &mut front[..BLOCK_SIZE], overflow);
        let records = decode_summary(&header, &front[..BLOCK_SIZE], overflow).ok()?;
        let lsns = records.iter().filter_map(|record| match record {
            Record::Operation { lsn, .. } => Some(*lsn),
            Record::Node { .. } | Record::Page { .. } => None,
        });
        (header.lsn_first, header.lsn_last) = (lsns.clone().min().unwrap_or_default(), lsns.max().unwrap_or_default());
        header.seal(&summary, &mut front[..BLOCK_SIZE], overflow);
        Some((header, bytes))
    }
}

impl Drop for KeptMemory {
    fn drop(&mut self) {
        // SAFETY: mapped by `map` with this length, and nobody has a reference any more.
        let _ = unsafe { munmap(self.start.as_ptr().cast(), MEMORY_BYTES) };
    }
}

impl KeptChunk {
    /// The chunk's `CHUNK_BLOCKS_MAX` blocks.
    pub fn as_raw(&self) -> *mut u8 {
        self.memory.part(self.slot, BLOCK_SIZE).as_ptr()
    }

    fn control(&self) -> &Control {
        self.memory.control(self.slot)
    }

    /// The chunk counts from now on; it is empty.
    pub fn begin(&self, birth: &Birth) {
        let control = self.control();
        let words = [
            (&control.fsid, birth.fsid),
            (&control.addr, birth.addr.0),
            (&control.epoch, birth.epoch),
            (&control.generation, birth.generation),
            (&control.head, u64::from(birth.head)),
            (&control.payload, 0),
            (&control.end, 0),
            (&control.flushed, 0),
            (&control.clock, 0),
            (&control.summary, 0),
        ];
        words.into_iter().for_each(|(word, value)| word.store(value, Ordering::Relaxed));
        control.serial.store(birth.serial, Ordering::Release);
    }

    /// Payload blocks that were given away so far.
    pub fn payload(&self, blocks: u32) {
        self.control().payload.store(u64::from(blocks), Ordering::Release);
    }

    /// A record whose payload is filled, behind the `at` bytes that are there.
    pub fn record(&self, at: usize, record: &[u8]) {
        assert!(at + record.len() <= SUMMARY_BYTES);
        let to = self.memory.part(self.slot, BLOCK_SIZE + CHUNK_BYTES);
        // SAFETY: within the slot, as just asserted; beyond what counts, so nobody reads it.
        unsafe { std::ptr::copy_nonoverlapping(record.as_ptr(), to.as_ptr().add(at), record.len()) };
        self.control().summary.store((at + record.len()) as u64, Ordering::Release);
    }

    /// The chunk is closed, with room for so many overflow blocks.
    pub fn close(&self, overflow: u32) {
        self.control().end.store(1 + u64::from(overflow), Ordering::Release);
    }

    /// What its header will say when it is sealed: it has the same bytes, whoever writes it.
    pub fn dispatched(&self, flushed: Lsn, clock: WriteClock) {
        self.control().clock.store(clock.0, Ordering::Relaxed);
        self.control().flushed.store(flushed.0, Ordering::Release);
    }

    /// The chunk is written, or goes elsewhere.
    pub fn done(&self) {
        self.control().serial.store(0, Ordering::Release);
    }
}

impl Drop for KeptChunk {
    fn drop(&mut self) {
        self.memory.free.lock().push(self.slot);
    }
}

impl Log {
    /// Writes the chunks that a process has left which served mount `epoch` and died. One that cannot be written is a gap, as it would be after a power cut.
    pub(crate) fn write_left(&self, epoch: u64) {
        let Some(kept) = &self.kept else { return };
        for slot in kept.left(self.shape.fsid, epoch) {
            let Some((header, bytes)) = kept.sealed(slot) else {
                tracing::error!("a chunk that the process before left makes no sense");
                continue;
            };
            if let Err(e) = self.put_left(&header, &bytes) {
                tracing::error!("a chunk that the process before left is lost: {e}");
            }
        }
    }

    fn put_left(&self, header: &ChunkHeader, bytes: &[u8]) -> Result<()> {
        let (seg, offset) = self.place(header.addr);
        let end = offset + header.blocks();
        let is_ours = (self.shape.first_segment.0..self.shape.segments).contains(&seg.0);
        if !is_ours || end > self.lock().segments.capacity(seg) {
            return Err(crate::error::Error::Refused(format!("it would stand at block {}", header.addr)));
        }
        // A zone that is beyond it has it already.
        let is_there = self.device.zone(seg.0)?.write_pointer.is_some_and(|pointer| pointer >= end);
        if !is_there {
            self.put(header.addr, bytes)?;
        }
        Ok(())
    }
}
