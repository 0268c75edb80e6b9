//! The memory of a chunk on its way to the device.

use std::sync::Arc;

use crate::device::aligned::AlignedBuf;
use crate::format::chunk::CHUNK_BLOCKS_MAX;
use crate::types::{BLOCK_SIZE, BlockAddr};

use super::block_bytes;
use super::kept::{KeptChunk, KeptMemory};

/// A chunk's buffer: filled by several writers at once, each its own blocks; read by readers whose blocks are committed.
///
/// The header block and the overflow blocks are written by whoever seals the chunk, when no writer is left.
pub struct ChunkBuf {
    /// Where the chunk will stand; its header block.
    pub start: BlockAddr,
    memory: Memory,
}

/// Room for `CHUNK_BLOCKS_MAX` blocks.
enum Memory {
    Own(AlignedBuf),
    Kept(KeptChunk),
}

impl ChunkBuf {
    /// Fresh memory, of that which outlives the process as long as there is any.
    pub fn new(start: BlockAddr, kept: Option<&Arc<KeptMemory>>) -> Self {
        let own = || Memory::Own(AlignedBuf::new(CHUNK_BLOCKS_MAX as usize));
        Self { start, memory: kept.and_then(KeptMemory::take).map_or_else(own, Memory::Kept) }
    }

    /// What is to be told of the chunk, if it is in memory that outlives the process.
    pub fn kept(&self) -> Option<&KeptChunk> {
        match &self.memory {
            Memory::Own(_) => None,
            Memory::Kept(chunk) => Some(chunk),
        }
    }

    /// Bounds of `blocks` blocks from block `from` on, as a raw start and a length.
    fn part(&self, from: u32, blocks: u32) -> (*mut u8, usize) {
        assert!(from + blocks <= CHUNK_BLOCKS_MAX);
        let start = match &self.memory {
            Memory::Own(memory) => memory.as_raw(),
            Memory::Kept(chunk) => chunk.as_raw(),
        };
        // SAFETY: within the memory, as just asserted.
        (unsafe { start.add(block_bytes(from)) }, block_bytes(blocks))
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
