//! What each block of an undamaged image is needed for, found by ways of its own: a scrub of the state for what is live, a scan of the log for the rest.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use parking_lot::Mutex;

use super::super::TrialClock;
use super::image::Mounted;
use crate::device::{AlignedBuf, Device, MemoryDevice};
use crate::format::chunk::Record;
use crate::format::key::Key;
use crate::format::superblock::{Checkpoint, Superblock};
use crate::fsck::Owner;
use crate::fsck::walk::fetch;
use crate::log::scan::{FoundChunk, SegmentScan};
use crate::meta::slots::Slots;
use crate::meta::volume::Volume;
use crate::scrub::Pass;
use crate::types::{BlockAddr, Ino, Lsn, NodeId, SegNo};

/// What a block is needed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    Slot,
    /// A table page: what it names cannot be found without it.
    Page,
    /// A node of the tree, with its keys; `upper` is the first that is not in it.
    Node {
        lower: Key,
        upper: Option<Key>,
    },
    Data {
        ino: Ino,
        file_block: u64,
    },
    /// A chunk's header or summary before or among live blocks: cleaning finds owners by it.
    Header,
    /// A part of the log after the checkpoint.
    Tail,
    Dead,
}

impl Use {
    pub fn name(self) -> &'static str {
        match self {
            Self::Slot => "superblock slot",
            Self::Page => "table page",
            Self::Node { .. } => "node",
            Self::Data { .. } => "data",
            Self::Header => "chunk header",
            Self::Tail => "log to replay",
            Self::Dead => "dead block",
        }
    }

    /// Larger for what more hangs on.
    pub fn rank(self) -> u8 {
        match self {
            Self::Dead => 0,
            Self::Header => 1,
            Self::Data { .. } => 2,
            Self::Tail => 3,
            Self::Node { .. } => 4,
            Self::Page => 5,
            Self::Slot => 6,
        }
    }

    /// Whether what stands under `ino` may need the node.
    pub fn touches(self, ino: Ino) -> bool {
        match self {
            Self::Node { lower, upper } => lower.ino <= ino && upper.is_none_or(|upper| Key::inode(ino) < upper),
            _ => false,
        }
    }
}

/// A chunk of the log after the checkpoint.
#[derive(Clone, Debug)]
struct TailChunk {
    blocks: Range<u64>,
    lsns: Vec<Lsn>,
    flushed: Lsn,
}

/// The uses of all blocks.
#[derive(Default)]
pub struct Uses {
    blocks: BTreeMap<u64, Use>,
    tail: Vec<TailChunk>,
    /// What the superblock says to be durable.
    known: Lsn,
    /// Operations up to this one are in the checkpoint.
    checkpoint: Lsn,
}

impl Uses {
    pub fn of(device: &MemoryDevice, clock: &TrialClock) -> Result<Self, String> {
        let device: Arc<dyn Device> = Arc::new(device.snapshot());
        let mounted = Mounted::new(Arc::clone(&device), true, clock).map_err(|e| e.to_string())?;
        let volume = &*mounted.volume;
        let mut slots = Slots::new(Arc::clone(&device)).map_err(|e| e.to_string())?;
        let Superblock { checkpoint, .. } = slots.read().map_err(|e| e.to_string())?;
        let known = checkpoint.extended.unwrap_or(checkpoint.lsn);
        let mut uses = Self { known, checkpoint: checkpoint.lsn, ..Self::default() };
        for (addr, _) in slots.candidates().map_err(|e| e.to_string())? {
            uses.blocks.insert(addr.0, Use::Slot);
        }
        uses.live(volume)?;
        uses.headers(volume);
        if !checkpoint.clean {
            uses.tail(volume, &checkpoint);
        }
        Ok(uses)
    }

    /// What the state reaches.
    fn live(&mut self, volume: &Volume) -> Result<(), String> {
        let ranges = key_ranges(volume)?;
        let seen = Arc::new(Mutex::new(Vec::new()));
        let told = Arc::clone(&seen);
        let mut pass = Pass::told_to(Box::new(move |owner, addr| told.lock().push((owner, addr))));
        pass.run(volume).map_err(|e| e.to_string())?;
        for (owner, addr) in seen.lock().drain(..) {
            let needed = match owner {
                Owner::Page { .. } => Use::Page,
                Owner::Data { ino, file_block } => Use::Data { ino, file_block },
                Owner::Node { node } => match ranges.get(&node) {
                    Some((lower, upper)) => Use::Node { lower: *lower, upper: *upper },
                    // Replay has freed it, or may have read it on the way.
                    None => Use::Node { lower: Key::MIN, upper: None },
                },
            };
            self.blocks.insert(addr.0, needed);
        }
        Ok(())
    }

    fn headers(&mut self, volume: &Volume) {
        let log = volume.log();
        let place = |addr: u64| SegNo((addr / u64::from(log.shape.segment_blocks)) as u32);
        let live: Vec<u64> =
            self.blocks.iter().filter(|(_, needed)| **needed != Use::Slot).map(|(addr, _)| *addr).collect();
        let segments: BTreeSet<SegNo> = live.iter().map(|addr| place(*addr)).collect();
        for segment in segments {
            for chunk in chunks(volume, segment, 0) {
                let start = chunk.header.addr.0;
                if live.iter().any(|addr| *addr > start && place(*addr) == segment) {
                    for addr in summary_blocks(&chunk) {
                        self.blocks.insert(addr, Use::Header);
                    }
                }
            }
        }
    }

    /// The log after the checkpoint, as recovery finds it.
    fn tail(&mut self, volume: &Volume, checkpoint: &Checkpoint) {
        let begun = checkpoint.scan.iter().map(|p| (p.segment, p.next, p.generation..p.generation + 1));
        let listed = checkpoint.allocation.iter().map(|seg| (*seg, 0, checkpoint.next_generation..u64::MAX));
        for (segment, from, generations) in begun.chain(listed) {
            let belongs = |chunk: &FoundChunk| {
                chunk.header.epoch == checkpoint.epoch && generations.contains(&chunk.header.generation)
            };
            for chunk in chunks(volume, segment, from).into_iter().take_while(belongs) {
                let start = chunk.header.addr.0;
                let blocks = start..start + u64::from(chunk.header.blocks());
                let lsns = chunk.records.iter().filter_map(|record| match record {
                    Record::Operation { lsn, .. } => Some(*lsn),
                    _ => None,
                });
                let (lsns, flushed) = (lsns.collect(), chunk.header.flushed);
                for addr in summary_blocks(&chunk) {
                    self.blocks.insert(addr, Use::Tail);
                }
                self.tail.push(TailChunk { blocks, lsns, flushed });
            }
        }
    }

    pub fn of_block(&self, addr: u64) -> Use {
        self.blocks.get(&addr).copied().unwrap_or(Use::Dead)
    }

    /// Up to where the log is known to be durable by what is left without the chunks of `damaged`.
    pub fn durable_without(&self, damaged: &BTreeSet<u64>) -> Lsn {
        let whole = self.tail.iter().filter(|chunk| !damaged.iter().any(|addr| chunk.blocks.contains(addr)));
        whole.map(|chunk| chunk.flushed).fold(self.known, Lsn::max)
    }

    /// Whether damage to the block must be noticed whatever else is lost.
    pub fn must_be_found(&self, addr: u64) -> bool {
        let durable = self.durable_without(&BTreeSet::from([addr]));
        let chunk = self.tail.iter().find(|chunk| chunk.blocks.contains(&addr));
        match self.of_block(addr) {
            Use::Dead => false,
            Use::Tail => chunk.is_some_and(|c| c.lsns.iter().any(|lsn| *lsn > self.checkpoint && *lsn <= durable)),
            Use::Data { .. } => chunk.is_none_or(|c| c.lsns.iter().all(|lsn| *lsn <= durable)),
            Use::Slot | Use::Page | Use::Node { .. } | Use::Header => true,
        }
    }

    pub fn is_tail(&self, addr: u64) -> bool {
        self.tail.iter().any(|chunk| chunk.blocks.contains(&addr))
    }
}

fn chunks(volume: &Volume, segment: SegNo, from: u32) -> Vec<FoundChunk> {
    let log = volume.log();
    let capacity = log.lock().segments.capacity(segment);
    let start = log.address(segment, 0);
    let mut scan = SegmentScan::new(&**volume.device(), log.shape.fsid, segment, start, from, capacity);
    std::iter::from_fn(|| scan.next_chunk().ok().flatten()).collect()
}

/// Header and overflow blocks.
fn summary_blocks(chunk: &FoundChunk) -> impl Iterator<Item = u64> {
    let header = &chunk.header;
    let overflow = header.payload(header.payload_blocks).0;
    std::iter::once(header.addr.0).chain(overflow..overflow + u64::from(header.overflow_blocks))
}

/// The keys of every node of the tree.
fn key_ranges(volume: &Volume) -> Result<BTreeMap<NodeId, (Key, Option<Key>)>, String> {
    let mut ranges = BTreeMap::new();
    let mut stack = vec![(NodeId::ROOT, Key::MIN, None)];
    while let Some((id, lower, upper)) = stack.pop() {
        let node = fetch(volume, id).map_err(|e| e.to_string())?.ok_or("a node is missing")?;
        ranges.insert(id, (lower, upper));
        for (at, child) in node.children().iter().enumerate() {
            stack.push((*child, node.keys()[at], node.keys().get(at + 1).copied().or(upper)));
        }
    }
    Ok(ranges)
}

/// Contents of a block of a device.
pub fn read_block(device: &MemoryDevice, addr: u64) -> AlignedBuf {
    let mut block = AlignedBuf::new(1);
    // What cannot be read on a zoned device is zeros to whoever damages it.
    let _ = device.read(BlockAddr(addr), &mut block);
    block
}
