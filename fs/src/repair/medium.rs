//! The medium read as a whole, for what nothing names any more: chunks tell by themselves what they are.
//!
//! Every chunk of this filesystem is found, whatever stands before it and whatever life of its segment it belongs to. Memory: a
//! segment's piece of a megabyte, and what the visitor keeps.

use crate::device::Device;
use crate::device::aligned::AlignedBuf;
use crate::error::Result;
use crate::format::chunk::MAGIC;
use crate::fsck::ProgressFn;
use crate::fsck::blocks::LogSpace;
use crate::log::scan::{FoundChunk, read_chunk};
use crate::types::{BLOCK_SIZE, SegNo};

/// Blocks that are read at a time.
const PIECE_BLOCKS: u32 = 256;

/// Hands every chunk on `device` that is one of filesystem `fsid` to `visit`, segment by segment.
pub fn chunks(
    device: &dyn Device,
    fsid: u64,
    space: LogSpace,
    progress: ProgressFn<'_>,
    visit: &mut dyn FnMut(SegNo, FoundChunk) -> Result<()>,
) -> Result<()> {
    let mut scan = Scan { device, space, buf: AlignedBuf::new(PIECE_BLOCKS as usize), from: 0, filled: 0 };
    for segment in (space.first_segment.0..space.segments).map(SegNo) {
        let mut offset = 0;
        (scan.from, scan.filled) = (0, 0);
        while offset < space.capacity {
            let found = match scan.looks_like_a_chunk(segment, offset) {
                // A block that cannot be read is no header.
                true => {
                    read_chunk(device, fsid, space.address(segment, offset), space.capacity - offset).ok().flatten()
                }
                false => None,
            };
            let Some(chunk) = found else {
                offset += 1;
                continue;
            };
            offset += chunk.header.blocks();
            visit(segment, chunk)?;
        }
        let bytes = |segments: u32| u64::from(segments) * u64::from(space.segment_blocks) * BLOCK_SIZE as u64;
        progress(bytes(segment.0 + 1), bytes(space.segments));
    }
    Ok(())
}

/// The fsid that most chunk headers on the device carry, if there is any.
pub fn fsid_of_chunks(device: &dyn Device, space: LogSpace) -> Option<u64> {
    // The first chunk of a segment stands at its beginning.
    most_voted(device, space, 1).or_else(|| most_voted(device, space, space.capacity))
}

/// The fsid of most chunks that begin in the first `blocks` of a segment.
fn most_voted(device: &dyn Device, space: LogSpace, blocks: u32) -> Option<u64> {
    let mut votes = std::collections::HashMap::<u64, u64>::new();
    let mut scan = Scan { device, space, buf: AlignedBuf::new(PIECE_BLOCKS as usize), from: 0, filled: 0 };
    for segment in (space.first_segment.0..space.segments).map(SegNo) {
        scan.filled = 0;
        for offset in 0..blocks {
            let Some(block) = scan.block(segment, offset).filter(|block| has_magic(block)) else { continue };
            let fsid = u64::from_le_bytes(block[8..16].try_into().expect("eight bytes"));
            let addr = space.address(segment, offset);
            if read_chunk(device, fsid, addr, space.capacity - offset).ok().flatten().is_some() {
                *votes.entry(fsid).or_default() += 1;
            }
        }
    }
    votes.into_iter().max_by_key(|(fsid, count)| (*count, *fsid)).map(|(fsid, _)| fsid)
}

fn has_magic(block: &[u8]) -> bool {
    block[..4] == MAGIC.to_le_bytes()
}

/// Blocks of a segment, read in pieces.
struct Scan<'a> {
    device: &'a dyn Device,
    space: LogSpace,
    buf: AlignedBuf,
    from: u32,
    filled: u32,
}

impl Scan<'_> {
    fn looks_like_a_chunk(&mut self, segment: SegNo, offset: u32) -> bool {
        self.block(segment, offset).is_none_or(has_magic)
    }

    /// The block, read with those behind it, or alone if one of them cannot be read; `None` if it cannot.
    fn block(&mut self, segment: SegNo, offset: u32) -> Option<&[u8]> {
        if !(self.from..self.from + self.filled).contains(&offset) {
            let piece = PIECE_BLOCKS.min(self.space.capacity - offset);
            self.filled = 0;
            self.filled = [piece, 1].into_iter().find(|blocks| self.fill(segment, offset, *blocks))?;
            self.from = offset;
        }
        let at = (offset - self.from) as usize * BLOCK_SIZE;
        Some(&self.buf[at..at + BLOCK_SIZE])
    }

    fn fill(&mut self, segment: SegNo, offset: u32, blocks: u32) -> bool {
        let addr = self.space.address(segment, offset);
        self.device.read(addr, &mut self.buf[..blocks as usize * BLOCK_SIZE]).is_ok()
    }
}
