//! Extensions of the log: segments are given back between two checkpoints, for one slot write instead of all dirty nodes.
//!
//! A segment without live blocks waits for a checkpoint, since the durable one may need it (I2). What it may need is data that the log has moved or
//! dropped since. Once that log is durable nobody reads the old place again: replay only counts its blocks out. So an *extension* is the last
//! checkpoint once more, under the next sequence number, with a longer allocation list and the LSN up to which the log is durable. Nodes stay dirty and
//! are written once for many more changes; cleaning sets the pace of extensions, the length of the log that of checkpoints.
//!
//! Not given back are segments that hold log since the checkpoint (replay reads their records) and nodes (they die with a checkpoint only). As always
//! the slot is durable before the first of the segments is touched, and a torn one leaves the slot before it, whose segments are all untouched.

use std::sync::atomic::Ordering;

use crate::error::Result;
use crate::format::superblock::{ALLOCATION_MAX, Superblock};

use super::checkpoint::give_back;
use super::volume::{Checkpoints, Volume};

impl Volume {
    /// Extends the log by what can be given back without a checkpoint. Returns the number of segments; 0, with nothing written, if there are none or
    /// the list is full.
    pub(crate) fn extend_log(&self) -> Result<u32> {
        self.writable()?;
        let mut checkpoints = self.checkpoints.lock();
        let result = self.extend_locked(&mut checkpoints);
        if let Err(e) = &result {
            // What the medium holds now is not known well enough to go on (I6).
            self.log.fail(format!("the log could not be extended: {e}"));
        }
        result
    }

    fn extend_locked(&self, checkpoints: &mut Checkpoints) -> Result<u32> {
        let room = ALLOCATION_MAX - checkpoints.last.allocation.len();
        let segments = self.log.lock().segments.reusable(room);
        if segments.is_empty() {
            return Ok(0);
        }
        // Whatever emptied them was committed before they were seen empty, so this makes it durable.
        let durable = self.log.sync()?;
        let mut extended = checkpoints.last.clone();
        extended.sequence += 1;
        extended.extended = Some(durable);
        extended.allocation.extend(&segments);
        let superblock = Superblock { identity: (*self.identity()).clone(), checkpoint: extended };
        checkpoints.slots.write(&superblock)?;
        self.log.flush_once()?; // The commit point: a mount starts from the longer list.
        checkpoints.last = superblock.checkpoint;
        give_back(&self.log, &segments, segments.len());
        self.log.notify();
        self.extension_count.fetch_add(1, Ordering::Relaxed);
        Ok(segments.len() as u32)
    }
}
