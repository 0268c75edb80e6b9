//! The memory of a chunk on its way to the device.

use crate::device::aligned::AlignedBuf;
use crate::types::{BLOCK_SIZE, BlockAddr};

use super::block_bytes;

/// A chunk's buffer: filled by several writers at once, each its own blocks; read by readers whose blocks are committed.
///
/// The header block and the overflow blocks are written by whoever seals the chunk, when no writer is left.
pub struct ChunkBuf {
    /// Where the chunk will stand; its header block.
    pub start: BlockAddr,
    memory: AlignedBuf,
}

impl ChunkBuf {
    pub fn new(start: BlockAddr, memory: AlignedBuf) -> Self {
        Self { start, memory }
    }

    /// Bounds of `blocks` blocks from block `from` on, as a raw start and a length.
    fn part(&self, from: u32, blocks: u32) -> (*mut u8, usize) {
        assert!((from + blocks) as usize <= self.memory.blocks());
        // SAFETY: within the allocation, as just asserted.
        (unsafe { self.memory.as_raw().add(block_bytes(from)) }, block_bytes(blocks))
    }

    /// Payload blocks `index..index + blocks`, for the writer that reserved them.
    ///
    /// # Safety
    /// The caller holds the reservation of exactly these blocks and has not committed it: nobody else reads or writes them.
    #[expect(clippy::mut_from_ref, reason = "disjoint parts of one buffer are handed to different writers")]
    pub unsafe fn payload_mut(&self, index: u32, blocks: u32) -> &mut [u8] {
        let (start, len) = self.part(1 + index, blocks);
        // SAFETY: in bounds; exclusive by the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(start, len) }
    }

    /// The header block, and `overflow` blocks behind `payload` blocks.
    ///
    /// # Safety
    /// The chunk is closed and has no writer left, and the caller is the one that seals it: nobody else touches these blocks.
    #[expect(clippy::mut_from_ref, reason = "the sealer owns the header and overflow blocks")]
    pub unsafe fn summary_mut(&self, payload: u32, overflow: u32) -> (&mut [u8], &mut [u8]) {
        let (head, head_len) = self.part(0, 1);
        let (tail, tail_len) = self.part(1 + payload, overflow);
        // SAFETY: in bounds and disjoint; exclusive by the caller's promise.
        unsafe { (std::slice::from_raw_parts_mut(head, head_len), std::slice::from_raw_parts_mut(tail, tail_len)) }
    }

    /// The first `blocks` blocks.
    ///
    /// # Safety
    /// The chunk is sealed: nobody changes it any more.
    pub unsafe fn sealed(&self, blocks: u32) -> &[u8] {
        let (start, len) = self.part(0, blocks);
        // SAFETY: in bounds; unchanged by the caller's promise.
        unsafe { std::slice::from_raw_parts(start, len) }
    }

    /// Copies committed payload blocks from `addr` on.
    pub fn copy_out(&self, addr: BlockAddr, buf: &mut [u8]) {
        let blocks = (buf.len() / BLOCK_SIZE) as u32;
        let (start, len) = self.part((addr.0 - self.start.0) as u32, blocks);
        // SAFETY: in bounds; a block is read only through a mapping, and mappings are made after the block was filled and
        // never filled again.
        unsafe { std::ptr::copy_nonoverlapping(start, buf.as_mut_ptr(), len) }
    }
}
