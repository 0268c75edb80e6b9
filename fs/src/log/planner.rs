//! Addresses for a checkpoint's nodes and pages, assigned before their contents are known.
//!
//! Only checkpoints write to the node head, one at a time, so its chunks can be laid out in advance.

use crate::error::{Error, Result};
use crate::format::chunk::PAYLOAD_MAX;
use crate::types::{BlockAddr, SegNo};

use super::heads::{NODE_HEAD, Purpose};
use super::{Inner, Log};

/// A chunk of the node head, laid out and not written yet.
#[derive(Clone, Copy, Debug)]
pub struct PlannedChunk {
    pub start: BlockAddr,
    pub payload: u32,
    pub generation: u64,
}

/// Hands out addresses on the node head.
pub struct Planner<'a> {
    log: &'a Log,
    pub chunks: Vec<PlannedChunk>,
    /// Segments that the node head left: to be sealed once the chunks are written.
    pub left: Vec<SegNo>,
    /// Segments that it opened: to be reserved on the medium before the chunks are written.
    pub opened: Vec<SegNo>,
    /// Whether the last chunk may grow.
    growing: bool,
}

impl<'a> Planner<'a> {
    pub fn new(log: &'a Log) -> Self {
        Self { log, chunks: Vec::new(), left: Vec::new(), opened: Vec::new(), growing: false }
    }

    /// The next address. The records of node chunks always fit their header block: 128 of at most 20 bytes.
    pub(crate) fn next(&mut self, inner: &mut Inner) -> Result<BlockAddr> {
        if self.growing && self.extend(inner) {
            let chunk = self.chunks.last_mut().expect("a growing chunk");
            chunk.payload += 1;
            return Ok(chunk.start.offset(u64::from(chunk.payload)));
        }
        self.begin(inner)?;
        self.growing = true;
        let chunk = self.chunks.last().expect("just begun");
        Ok(chunk.start.offset(1))
    }

    fn extend(&self, inner: &mut Inner) -> bool {
        let chunk = self.chunks.last().expect("a growing chunk");
        let Some(open) = &mut inner.heads.heads[usize::from(NODE_HEAD)].segment else { return false };
        if chunk.payload == PAYLOAD_MAX || open.next == open.capacity {
            return false;
        }
        open.next += 1;
        true
    }

    fn begin(&mut self, inner: &mut Inner) -> Result<()> {
        let head = usize::from(NODE_HEAD);
        let has_room = inner.heads.heads[head].segment.is_some_and(|s| s.next + 2 <= s.capacity);
        if !has_room {
            self.left.extend(inner.heads.heads[head].segment.take().map(|s| s.seg));
            let open = self.log.open_segment(inner, NODE_HEAD, Purpose::Checkpoint).ok_or(Error::NoSpace)?;
            self.opened.push(open.seg);
        }
        let open = inner.heads.heads[head].segment.as_mut().expect("just ensured");
        let start = self.log.address(open.seg, open.next);
        open.next += 2;
        let generation = open.generation;
        self.chunks.push(PlannedChunk { start, payload: 1, generation });
        Ok(())
    }
}

impl Log {
    /// The node head has left `seg` and everything in it is written.
    pub(crate) fn leave_segment(&self, seg: SegNo) {
        let mut inner = self.lock();
        self.seal_if_done(&mut inner, seg);
        drop(inner);
        self.drive_if_alone();
    }
}
