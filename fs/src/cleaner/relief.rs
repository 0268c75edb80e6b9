//! Operations that found no room: who serves them, and for how long they may wait.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::log::Purpose;
use crate::meta::patience::{may_wait, may_wait_for_checkpoints, without_waiting_for_checkpoints};
use crate::meta::volume::{Relief, Volume};
use crate::types::BLOCK_SIZE;

use super::Cleaner;

/// A wait is cut into pieces so that a failure of the log is noticed.
const WAIT_STEP: Duration = Duration::from_millis(20);
/// Without any progress for so long there is no room to be had. A piece counts for no more than twice its length: while the machine was suspended
/// nobody could have made room.
const HOPELESS: Duration = Duration::from_secs(20);
/// Victims per checkpoint when nobody cleans in the background.
const INLINE_VICTIMS: u32 = 8;

impl Relief for Cleaner {
    fn relieve(&self, volume: &Volume, purpose: Purpose) -> Result<()> {
        volume.log().prepare(2)?;
        volume.log().drive();
        if self.inline { self.relieve_inline(volume, purpose) } else { self.wait_for_room(volume, purpose) }
    }

    fn checkpoint(&self, _volume: &Volume) -> Result<()> {
        self.checkpoint_that_pays()
    }
}

impl Cleaner {
    /// For how long the answer to a write of `bytes` that was just done is to be held back, so that users do not write faster
    /// than cleaning can follow.
    pub fn pause_after(&self, bytes: u64) -> Duration {
        let shortage = self.shortage();
        if self.inline || shortage <= 0.0 {
            return Duration::ZERO;
        }
        self.wish(|w| w.clean = true);
        let pause = self.pacing.book(bytes.div_ceil(BLOCK_SIZE as u64), shortage, Instant::now());
        self.counters.throttled_us.fetch_add(pause.as_micros() as u64, Ordering::Relaxed);
        pause
    }

    /// Takes a checkpoint; where room is short, not before so much is cleaned that it gives back what it takes, because the next one must find its
    /// reserve again (I5). What is cleaned takes part in the checkpoint: its nodes are written elsewhere by it. Cleaning does not wait for room
    /// here: what it would wait for is this very checkpoint.
    pub(super) fn checkpoint_that_pays(&self) -> Result<()> {
        let volume = &self.volume;
        let reserve = volume.room().reserves().checkpoint as u32;
        while volume.checkpoint_cost() + reserve > self.obtainable() && !volume.dirty_is_full() {
            // Whoever cleans already may be waiting for this checkpoint.
            let Some(idle) = self.cleaning.try_lock() else { break };
            match without_waiting_for_checkpoints(|| self.clean_next(idle)) {
                Ok(Some(_)) => {}
                Ok(None) | Err(Error::NoSpace | Error::MustWait) => break,
                Err(e) => return Err(e),
            }
        }
        volume.checkpoint(false)
    }

    /// Segments that can be opened now or after the next checkpoint.
    pub(super) fn obtainable(&self) -> u32 {
        let inner = self.volume.log().lock();
        inner.heads.available() as u32 + inner.segments.later()
    }

    /// Segments that can be opened now or after an extension of the log.
    pub(super) fn ready(&self) -> u32 {
        let inner = self.volume.log().lock();
        (inner.heads.available() + inner.segments.reusable_count()) as u32
    }

    /// Segments that an extension of the log would give back, if its list takes them.
    pub(super) fn reusable(&self) -> u32 {
        self.volume.log().lock().segments.reusable_count() as u32
    }

    /// Segments that a checkpoint makes available.
    pub(super) fn later(&self) -> u32 {
        self.volume.log().lock().segments.later()
    }

    /// How far below *high* room has fallen, from 0 to 1.
    pub(super) fn shortage(&self) -> f64 {
        self.marks().shortage(self.obtainable())
    }

    fn wait_for_room(&self, volume: &Volume, purpose: Purpose) -> Result<()> {
        let since = Instant::now();
        let before = (volume.checkpoints_done(), volume.log().available_segments());
        let mut waited = Duration::ZERO;
        loop {
            self.wish(|w| {
                w.clean = true;
                w.checkpoint = true;
            });
            if volume.has_room(purpose) {
                break;
            }
            if !may_wait() || (!may_wait_for_checkpoints() && volume.only_checkpoint_helps(purpose)) {
                return Err(Error::MustWait);
            }
            // The cleaner leaves a victim that it has no room for: whatever it took, another one may free more than it takes.
            if purpose == Purpose::Cleaner && self.later() == 0 && !volume.lend_to_cleaner() {
                return Err(Error::NoSpace);
            }
            if purpose == Purpose::Cleaner {
                self.at_work.store(false, Ordering::Relaxed);
            }
            let begun = Instant::now();
            volume.log().wait_for_change(WAIT_STEP);
            waited += begun.elapsed().min(2 * WAIT_STEP);
            volume.log().failure()?;
            volume.log().prepare(2)?;
            if waited > HOPELESS {
                let after = (volume.checkpoints_done(), volume.log().available_segments());
                if before == after {
                    return Err(Error::NoSpace);
                }
                break;
            }
        }
        self.note_wait(since);
        Ok(())
    }

    /// Cleans and checkpoints on this thread until there is room.
    fn relieve_inline(&self, volume: &Volume, purpose: Purpose) -> Result<()> {
        for _ in 0..16 {
            if volume.has_room(purpose) {
                return Ok(());
            }
            // The cleaner itself waits: only a checkpoint can help.
            if purpose != Purpose::Cleaner {
                for _ in 0..INLINE_VICTIMS {
                    if self.obtainable() >= self.marks().high || volume.dirty_is_full() || self.clean_one()?.is_none() {
                        break;
                    }
                }
            }
            if volume.extend_log()? == 0 || !volume.has_room(purpose) {
                self.checkpoint_that_pays()?;
            }
            volume.log().prepare(2)?;
        }
        Err(Error::NoSpace)
    }
}
