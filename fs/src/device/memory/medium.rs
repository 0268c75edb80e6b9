//! What a medium in memory holds, and the operations that change it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::types::BLOCK_SIZE;

/// Bytes that a medium writes whole or not at all.
pub(super) const SECTOR_BYTES: usize = 512;
pub(super) const SECTORS_PER_BLOCK: usize = BLOCK_SIZE / SECTOR_BYTES;

pub(super) type Block = [u8; BLOCK_SIZE];

/// One change of the medium, as it waits in a volatile cache.
#[derive(Clone, Debug)]
pub(super) enum Op {
    Write { zone: u32, addr: u64, data: Vec<Arc<Block>> },
    Reset { zone: u32, addr: u64, blocks: u32 },
    Finish { zone: u32, capacity: u32 },
}

impl Op {
    /// A write of whole blocks.
    pub(super) fn write(zone: u32, addr: u64, bytes: &[u8]) -> Self {
        let (blocks, _) = bytes.as_chunks::<BLOCK_SIZE>();
        Self::Write { zone, addr, data: blocks.iter().map(|b| Arc::new(*b)).collect() }
    }

    pub(super) fn zone(&self) -> u32 {
        match self {
            Self::Write { zone, .. } | Self::Reset { zone, .. } | Self::Finish { zone, .. } => *zone,
        }
    }
}

/// Sparse contents; blocks that are not there are zeros.
#[derive(Clone, Debug, Default)]
pub(super) struct Medium {
    blocks: HashMap<u64, Arc<Block>>,
    /// Write pointers by zone, 0 if absent; they mean something for sequential zones only.
    pointers: BTreeMap<u32, u32>,
    zone_blocks: u32,
}

impl Medium {
    pub(super) fn new(zone_blocks: u32) -> Self {
        Self { zone_blocks, ..Self::default() }
    }

    pub(super) fn read(&self, addr: u64, buf: &mut Block) {
        match self.blocks.get(&addr) {
            Some(block) => buf.copy_from_slice(&block[..]),
            None => buf.fill(0),
        }
    }

    pub(super) fn pointers(&self) -> impl Iterator<Item = (u32, u32)> {
        self.pointers.iter().map(|(zone, pointer)| (*zone, *pointer))
    }

    pub(super) fn stored_blocks(&self) -> usize {
        self.blocks.len()
    }

    /// Changes a block in place.
    pub(super) fn tamper(&mut self, addr: u64, change: impl FnOnce(&mut Block)) {
        change(Arc::make_mut(self.blocks.entry(addr).or_insert_with(|| Arc::new([0; BLOCK_SIZE]))));
    }

    /// Carries out all of `op`.
    pub(super) fn apply(&mut self, op: &Op) {
        match op {
            Op::Write { zone, addr, data } => {
                for (at, block) in (*addr..).zip(data) {
                    self.blocks.insert(at, block.clone());
                }
                self.point(*zone, addr + data.len() as u64);
            }
            Op::Reset { zone, addr, blocks } => {
                self.discard(*addr, *blocks, |_| true);
                self.pointers.remove(zone);
            }
            Op::Finish { zone, capacity } => {
                self.pointers.insert(*zone, *capacity);
            }
        }
    }

    /// Carries out the first `count` blocks of a write, as a sequential zone does when power fails in it.
    pub(super) fn apply_prefix(&mut self, op: &Op, count: usize) {
        if let Op::Write { zone, addr, data } = op {
            let data = data[..count.min(data.len())].to_vec();
            if !data.is_empty() {
                self.apply(&Op::Write { zone: *zone, addr: *addr, data });
            }
        }
    }

    /// Carries out those sectors of a write, or blocks of a reset, for whose number `keep` says yes.
    pub(super) fn apply_torn(&mut self, op: &Op, mut keep: impl FnMut(usize) -> bool) {
        match op {
            Op::Write { addr, data, .. } => {
                for sector in (0..data.len() * SECTORS_PER_BLOCK).filter(|s| keep(*s)) {
                    let from = sector % SECTORS_PER_BLOCK * SECTOR_BYTES;
                    let source = &data[sector / SECTORS_PER_BLOCK][from..from + SECTOR_BYTES];
                    let target = addr + (sector / SECTORS_PER_BLOCK) as u64;
                    self.tamper(target, |block| block[from..from + SECTOR_BYTES].copy_from_slice(source));
                }
            }
            Op::Reset { addr, blocks, .. } => self.discard(*addr, *blocks, keep),
            Op::Finish { .. } => {}
        }
    }

    /// Forgets those of `count` blocks from `addr` on for whose number `which` says yes.
    fn discard(&mut self, addr: u64, count: u32, mut which: impl FnMut(usize) -> bool) {
        for i in 0..count as usize {
            if which(i) {
                self.blocks.remove(&(addr + i as u64));
            }
        }
    }

    fn point(&mut self, zone: u32, end: u64) {
        let pointer = end - u64::from(zone) * u64::from(self.zone_blocks);
        self.pointers.insert(zone, pointer as u32);
    }
}
