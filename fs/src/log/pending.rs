//! The chunks that are not written yet, and the spare ones. Few (`LogShape::buffers`), so sorted lists do, which do not allocate once they
//! have their room.

use std::collections::VecDeque;
use std::ops::Index;
use std::sync::Arc;

use crate::error::Result;
use crate::format::chunk::SUMMARY_MAX;
use crate::types::BlockAddr;

use super::buffer::ChunkBuf;
use super::heads::Pending;
use super::kept::KeptMemory;

/// What a chunk is made in: kept from one chunk to the next.
pub struct Spare {
    /// Nobody else holds it.
    pub chunk: Arc<ChunkBuf>,
    /// Empty, with room for the largest summary.
    pub summary: Vec<u8>,
}

impl Spare {
    pub fn new(kept: Option<&Arc<KeptMemory>>) -> Self {
        Self { chunk: Arc::new(ChunkBuf::new(BlockAddr::NONE, kept)), summary: Vec::with_capacity(SUMMARY_MAX) }
    }

    /// Of a chunk that is written. A reader may hold it still; then fresh memory takes its place.
    pub fn from_written(chunk: Arc<ChunkBuf>, mut summary: Vec<u8>, kept: Option<&Arc<KeptMemory>>) -> Self {
        summary.clear();
        let fresh = || Arc::new(ChunkBuf::new(BlockAddr::NONE, kept));
        let chunk = if Arc::strong_count(&chunk) == 1 { chunk } else { fresh() };
        Self { chunk, summary }
    }
}

/// Chunks by their serial numbers, and by where they stand.
pub struct PendingChunks {
    by_serial: VecDeque<(u64, Pending)>,
    by_addr: Vec<(BlockAddr, u64)>,
}

impl PendingChunks {
    pub fn with_room(chunks: usize) -> Self {
        Self { by_serial: VecDeque::with_capacity(chunks), by_addr: Vec::with_capacity(chunks) }
    }

    /// Adds a chunk; its serial number is larger than all before.
    pub fn push(&mut self, serial: u64, pending: Pending) {
        debug_assert!(self.by_serial.back().is_none_or(|(last, _)| *last < serial));
        let start = pending.chunk.start;
        let at = self.by_addr.partition_point(|(addr, _)| *addr < start);
        self.by_addr.insert(at, (start, serial));
        self.by_serial.push_back((serial, pending));
    }

    pub fn remove(&mut self, serial: u64) -> Option<Pending> {
        let (_, pending) = self.by_serial.remove(self.position(serial)?)?;
        self.by_addr.retain(|(_, of)| *of != serial);
        Some(pending)
    }

    pub fn get_mut(&mut self, serial: u64) -> Option<&mut Pending> {
        let at = self.position(serial)?;
        self.by_serial.get_mut(at).map(|(_, pending)| pending)
    }

    /// Changes where a chunk stands.
    pub fn readdress(&mut self, serial: u64, change: impl FnOnce(&mut Pending) -> Result<()>) -> Result<()> {
        let pending = self.get_mut(serial).expect("a refused chunk is pending");
        change(pending)?;
        let start = pending.chunk.start;
        self.by_addr.retain(|(_, of)| *of != serial);
        let at = self.by_addr.partition_point(|(addr, _)| *addr < start);
        self.by_addr.insert(at, (start, serial));
        Ok(())
    }

    /// Oldest first.
    pub fn values(&self) -> impl Iterator<Item = &Pending> {
        self.by_serial.iter().map(|(_, pending)| pending)
    }

    pub fn oldest_serial(&self) -> Option<u64> {
        self.by_serial.front().map(|(serial, _)| *serial)
    }

    /// The last chunk that begins at `addr` or before.
    pub fn at_or_before(&self, addr: BlockAddr) -> Option<&Pending> {
        let at = self.by_addr.partition_point(|(start, _)| *start <= addr).checked_sub(1)?;
        Some(&self[self.by_addr[at].1])
    }

    fn position(&self, serial: u64) -> Option<usize> {
        self.by_serial.binary_search_by_key(&serial, |(serial, _)| *serial).ok()
    }
}

impl Index<u64> for PendingChunks {
    type Output = Pending;

    fn index(&self, serial: u64) -> &Pending {
        let at = self.position(serial).expect("the chunk is pending");
        &self.by_serial[at].1
    }
}
