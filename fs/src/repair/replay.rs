//! The log after the checkpoint under repair, as far as it can be read and has no gap.

use std::collections::{BTreeMap, BTreeSet};

use crate::error::Result;
use crate::format::chunk::Record;
use crate::format::edit::Edit;
use crate::format::superblock::Checkpoint;
use crate::fsck::ProgressFn;
use crate::fsck::blocks::LogSpace;
use crate::log::Log;
use crate::log::scan::{FoundChunk, SegmentScan, payload_is_whole};
use crate::meta::roll_forward::user_ticks;
use crate::types::{Lsn, SegNo};

use super::change::Repair;
use super::medium;
use super::workshop::Workshop;

/// Where the log after the checkpoint may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Where {
    /// As the checkpoint's lists say.
    Listed,
    /// Anywhere: the lists are lost.
    Anywhere,
}

/// Operations after a checkpoint.
#[derive(Default)]
pub struct Tail {
    chunks: Vec<FoundChunk>,
    /// Segments that hold them: nothing may be written there (I1).
    pub segments: BTreeSet<SegNo>,
    /// The largest numbers that were given away.
    pub last_lsn: Lsn,
    pub next_generation: u64,
}

/// Reads what follows `checkpoint`. What cannot be read is not there.
pub fn read(log: &Log, space: LogSpace, checkpoint: &Checkpoint, at: Where, progress: ProgressFn<'_>) -> Result<Tail> {
    let mut tail = Tail { last_lsn: checkpoint.lsn, next_generation: checkpoint.next_generation, ..Tail::default() };
    let fsid = log.shape.fsid;
    if at == Where::Anywhere {
        medium::chunks(&*log.device, fsid, space, progress, &mut |segment, chunk| {
            if chunk.header.epoch >= checkpoint.epoch {
                tail.take(segment, chunk, checkpoint);
            }
            Ok(())
        })?;
        return Ok(tail);
    }
    let listed = checkpoint.allocation.iter().map(|seg| (*seg, 0, None));
    let places = checkpoint.scan.iter().map(|p| (p.segment, p.next, Some(p.generation))).chain(listed);
    for (segment, from, generation) in places {
        let start = space.address(segment, 0);
        let mut scan = SegmentScan::new(&*log.device, fsid, segment, start, from, space.capacity);
        if let Some(generation) = generation {
            scan = scan.of_generation(generation);
        }
        while let Ok(Some(chunk)) = scan.next_chunk() {
            let fresh = generation.is_some() || chunk.header.generation >= checkpoint.next_generation;
            if chunk.header.epoch != checkpoint.epoch || !fresh {
                break;
            }
            tail.take(segment, chunk, checkpoint);
        }
    }
    Ok(tail)
}

impl Tail {
    fn take(&mut self, segment: SegNo, chunk: FoundChunk, checkpoint: &Checkpoint) {
        self.next_generation = self.next_generation.max(chunk.header.generation + 1);
        self.last_lsn = self.last_lsn.max(chunk.header.lsn_last);
        if chunk.header.lsn_last > checkpoint.lsn {
            self.segments.insert(segment);
            self.chunks.push(chunk);
        }
    }

    /// The operations, and up to which one they were durable.
    fn operations(&mut self, log: &Log, checkpoint: &Checkpoint) -> (BTreeMap<Lsn, Vec<Edit>>, Lsn) {
        let mut chunks = std::mem::take(&mut self.chunks);
        // Where an operation was cut off and its number given away again, the later epoch's is the one.
        chunks.sort_by_key(|chunk| chunk.header.epoch);
        let known = checkpoint.extended.unwrap_or(checkpoint.lsn);
        let flushed = chunks.iter().map(|c| c.header.flushed).max().unwrap_or_default().max(known);
        let mut operations = BTreeMap::new();
        for chunk in chunks {
            if chunk.header.lsn_last > flushed && !payload_is_whole(&*log.device, &chunk).unwrap_or(false) {
                continue;
            }
            for record in chunk.records {
                if let Record::Operation { lsn, edits } = record
                    && lsn > checkpoint.lsn
                {
                    operations.insert(lsn, edits);
                }
            }
        }
        (operations, flushed)
    }
}

/// Applies the operations up to the first that is missing. One that was durable is a loss, and so are those behind it.
pub fn run(shop: &mut Workshop, tail: &mut Tail, checkpoint: &Checkpoint) -> Result<()> {
    let log = std::sync::Arc::clone(&shop.volume.log);
    let (operations, flushed) = tail.operations(&log, checkpoint);
    let mut expected = checkpoint.lsn.next();
    for (lsn, edits) in operations {
        if lsn != expected {
            break;
        }
        shop.apply(&edits)?;
        log.lock().tick(user_ticks(&edits));
        expected = expected.next();
    }
    if expected <= flushed {
        let operations = flushed.max(tail.last_lsn).0 - expected.0 + 1;
        shop.note(Repair::CutLog { at: expected, operations });
    }
    Ok(())
}
