//! What makes a volume's state durable: a flush of the log, and a checkpoint, with what is done about a device that refuses a part of one.
//!
//! `checkpoint` is how one is laid out and written. The order here is that of its commit: reserve, take and write, flush, slot, flush (I6, I7).

use std::sync::atomic::Ordering;

use crate::error::{Error, Result};
use crate::format::superblock::{Checkpoint, Identity, Superblock};
use crate::log::refusals::is_of_the_place;

use super::checkpoint::{self, Leftovers, Taken};
use super::volume::{Checkpoints, Volume};

/// Times that the state is taken for one checkpoint, where the device refuses what it was laid out for.
const CHECKPOINT_TRIES: u32 = 3;

impl Volume {
    /// Makes every operation committed so far durable; group commit, one flush.
    pub fn sync(&self) -> Result<()> {
        if self.read_only {
            return Ok(());
        }
        self.log.sync().map(drop)
    }

    /// Writes a checkpoint: the state of now becomes durable without the log. `clean`: nothing will be logged after it.
    pub fn checkpoint(&self, clean: bool) -> Result<()> {
        self.writable()?;
        let mut checkpoints = self.checkpoints.lock();
        self.checkpoint_as(&mut checkpoints, &self.identity(), clean)
    }

    /// [`Volume::checkpoint`] that names the image `identity`.
    pub(super) fn checkpoint_as(&self, checkpoints: &mut Checkpoints, identity: &Identity, clean: bool) -> Result<()> {
        self.reserve_for_checkpoint(clean)?;
        let result = self.checkpoint_locked(checkpoints, identity, clean);
        if let Err(e) = &result {
            // Whatever the cause, what the medium holds now is not known well enough to go on (I6).
            self.log.fail(format!("a checkpoint failed: {e}"));
        }
        result
    }

    /// Has the medium promise the room of a checkpoint before anything of it is taken: a host that is full now may have room later, and nothing was lost by
    /// then (I7).
    fn reserve_for_checkpoint(&self, clean: bool) -> Result<()> {
        self.log.failure()?;
        let reserved = self.log.prepare_for_checkpoint(self.checkpoint_cost() as usize);
        if reserved.is_err() && clean {
            // Without its last checkpoint a mount leaves all that it accepted in the log.
            self.log.sync()?;
        }
        reserved
    }

    fn checkpoint_locked(&self, checkpoints: &mut Checkpoints, identity: &Identity, clean: bool) -> Result<()> {
        let mut taken = self.take_and_write(&checkpoints.last, clean)?;
        self.log.flush_once()?;
        let written = self.written();
        taken.checkpoint.user_bytes = written.user_bytes;
        taken.checkpoint.device_bytes = written.device_bytes;
        let superblock = Superblock { identity: identity.clone(), checkpoint: taken.checkpoint.clone() };
        checkpoints.slots.write(&superblock)?;
        self.log.flush_once()?; // The commit point: from here on this checkpoint is the one that a mount starts from.
        checkpoint::release(&taken, &self.state, &self.log);
        self.trim_after_checkpoint();
        self.last_checkpoint_lsn.store(taken.checkpoint.lsn.0, Ordering::Relaxed);
        checkpoints.last = taken.checkpoint;
        self.checkpoint_count.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Takes the state and writes it. A place that the device refuses is condemned, and so it is worth taking the state anew, for other places.
    fn take_and_write(&self, last: &Checkpoint, clean: bool) -> Result<Taken> {
        let mut before = Leftovers::default();
        for tries_left in (0..CHECKPOINT_TRIES).rev() {
            let mut taken = {
                let mut state = self.state.write();
                // Numbers given out and not logged yet must not be given out again.
                state.next_ino = state.next_ino.max(self.next_ino.load(Ordering::Relaxed));
                checkpoint::take(&mut state, &self.log, last, self.epoch, clean, before)?
            };
            self.log.write_out()?;
            let is_current = self.log.lock().detours() == taken.detours;
            let written = if is_current { checkpoint::write(&mut taken, &self.state, &self.log) } else { Ok(()) };
            match written {
                Ok(()) if is_current => return Ok(taken),
                Err(e) if tries_left == 0 || !is_of_the_place(&e) => return Err(e),
                Err(e) => tracing::warn!("a checkpoint is taken anew: {e}"),
                Ok(()) => tracing::warn!("a checkpoint is taken anew: what it maps was taken elsewhere"),
            }
            before = checkpoint::give_up(taken, &self.state, &self.log);
        }
        Err(Error::Refused("the device refused one place after another".into()))
    }
}
