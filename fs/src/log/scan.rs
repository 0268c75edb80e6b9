//! Reading chunks back from the device: for roll-forward, the cleaner, fsck and dump.

use crate::device::Device;
use crate::device::aligned::AlignedBuf;
use crate::error::Result;
use crate::format::chunk::{
    CHUNK_BLOCKS_MAX, ChunkHeader, OVERFLOW_MAX, Record, SUMMARY_MAX, decode_summary, join_summary,
};
use crate::types::{BLOCK_SIZE, BlockAddr, SegNo};

/// A chunk as it stands on the device.
#[derive(Clone, Debug)]
pub struct FoundChunk {
    pub header: ChunkHeader,
    pub records: Vec<Record>,
}

/// Reads the chunk at `addr`, if one is there that ends within `room` blocks. What is no valid chunk is `None`; only the
/// device's refusal to read is an error.
pub fn read_chunk(device: &dyn Device, fsid: u64, addr: BlockAddr, room: u32) -> Result<Option<FoundChunk>> {
    let mut head = AlignedBuf::new(1);
    device.read(addr, &mut head)?;
    let Ok(header) = ChunkHeader::decode(&head, fsid, addr) else { return Ok(None) };
    if header.blocks() > room {
        return Ok(None);
    }
    let records = if header.overflow_blocks == 0 {
        decode_summary(&header, &head, &[])
    } else {
        let mut overflow = AlignedBuf::new(header.overflow_blocks as usize);
        device.read(header.payload(header.payload_blocks), &mut overflow)?;
        decode_summary(&header, &head, &overflow)
    };
    Ok(records.ok().map(|records| FoundChunk { header, records }))
}

/// What a scan for summaries reads into: made once, used for every segment.
pub struct SummaryBuffers {
    head: AlignedBuf,
    overflow: AlignedBuf,
    /// The coded summary of the chunk that was read last.
    pub summary: Vec<u8>,
}

impl Default for SummaryBuffers {
    fn default() -> Self {
        Self {
            head: AlignedBuf::new(1),
            overflow: AlignedBuf::new(OVERFLOW_MAX as usize),
            summary: Vec::with_capacity(SUMMARY_MAX),
        }
    }
}

impl SummaryBuffers {
    /// [`read_chunk`] without decoding the records.
    fn read(&mut self, device: &dyn Device, fsid: u64, addr: BlockAddr, room: u32) -> Result<Option<ChunkHeader>> {
        device.read(addr, &mut self.head)?;
        let Ok(header) = ChunkHeader::decode(&self.head, fsid, addr) else { return Ok(None) };
        if header.blocks() > room {
            return Ok(None);
        }
        let overflow = &mut self.overflow[..header.overflow_blocks as usize * BLOCK_SIZE];
        if !overflow.is_empty() {
            device.read(header.payload(header.payload_blocks), overflow)?;
        }
        Ok(join_summary(&header, &self.head, overflow, &mut self.summary).is_ok().then_some(header))
    }
}

/// Reads the chunks of one life of a segment in order, from `from` blocks in, until there is no further one.
pub struct SegmentScan<'a> {
    device: &'a dyn Device,
    fsid: u64,
    segment: SegNo,
    start: BlockAddr,
    next: u32,
    capacity: u32,
    /// Chunks of any other generation end the scan; `None`: the first chunk decides.
    generation: Option<u64>,
}

impl<'a> SegmentScan<'a> {
    /// Of `segment`, which begins at `start` and can hold `capacity` blocks.
    pub fn new(device: &'a dyn Device, fsid: u64, segment: SegNo, start: BlockAddr, from: u32, capacity: u32) -> Self {
        Self { device, fsid, segment, start, next: from, capacity, generation: None }
    }

    /// Only chunks of this life.
    pub fn of_generation(mut self, generation: u64) -> Self {
        self.generation = Some(generation);
        self
    }

    pub fn segment(&self) -> SegNo {
        self.segment
    }

    /// Where the next chunk would be, in blocks from the segment's start: after the last call, the end of the last chunk.
    pub fn position(&self) -> u32 {
        self.next
    }

    /// Goes on behind something that is no chunk, at the next chunk of any life, which starts within the largest size of one. False if there is
    /// none, or if the device cannot read there.
    pub fn skip_damage(&mut self) -> Result<bool> {
        self.generation = None;
        let room = self.capacity.saturating_sub(self.next).min(CHUNK_BLOCKS_MAX + 1);
        if room < 2 {
            return Ok(false);
        }
        let mut blocks = AlignedBuf::new(room as usize);
        if self.device.read(self.start.offset(u64::from(self.next)), &mut blocks).is_err() {
            return Ok(false);
        }
        for (n, block) in (self.next..).zip(blocks.chunks_exact(BLOCK_SIZE)).skip(1) {
            let addr = self.start.offset(u64::from(n));
            let is_header = ChunkHeader::decode(block, self.fsid, addr).is_ok();
            if is_header && read_chunk(self.device, self.fsid, addr, self.capacity - n)?.is_some() {
                self.next = n;
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The next chunk. Not an `Iterator`: reading can fail.
    pub fn next_chunk(&mut self) -> Result<Option<FoundChunk>> {
        if self.next >= self.capacity {
            return Ok(None);
        }
        let addr = self.start.offset(u64::from(self.next));
        let chunk = read_chunk(self.device, self.fsid, addr, self.capacity - self.next)?;
        Ok(chunk.filter(|chunk| self.accept(&chunk.header)))
    }

    /// The next chunk's header, and its coded summary in `buffers`.
    pub fn next_summary(&mut self, buffers: &mut SummaryBuffers) -> Result<Option<ChunkHeader>> {
        if self.next >= self.capacity {
            return Ok(None);
        }
        let addr = self.start.offset(u64::from(self.next));
        let header = buffers.read(self.device, self.fsid, addr, self.capacity - self.next)?;
        Ok(header.filter(|header| self.accept(header)))
    }

    /// Goes on behind a chunk of this life; false for one of another.
    fn accept(&mut self, header: &ChunkHeader) -> bool {
        let is_ours = *self.generation.get_or_insert(header.generation) == header.generation;
        if is_ours {
            self.next += header.blocks();
        }
        is_ours
    }
}

/// Whether the payload of `chunk` is on the device as its records say: every data block that it maps has its checksum. For
/// chunks that may not have been flushed.
pub fn payload_is_whole(device: &dyn Device, chunk: &FoundChunk) -> Result<bool> {
    let header = &chunk.header;
    if header.payload_blocks == 0 {
        return Ok(true);
    }
    let mut payload = AlignedBuf::new(header.payload_blocks as usize);
    device.read(header.payload(0), &mut payload)?;
    let matches = |addr: BlockAddr, crc: u32| {
        let Some(index) = addr.0.checked_sub(header.payload(0).0) else { return true };
        let from = index as usize * BLOCK_SIZE;
        payload.get(from..from + BLOCK_SIZE).is_none_or(|block| crc32fast::hash(block) == crc)
    };
    Ok(chunk.records.iter().all(|record| match record {
        Record::Operation { edits, .. } => {
            edits.iter().all(|edit| edit.blocks_written().all(|(addr, crc)| matches(addr, crc)))
        }
        Record::Node { .. } | Record::Page { .. } => true,
    }))
}
