//! Operations that found no room: who serves them, and for how long they may wait.

use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::log::Purpose;
use crate::meta::volume::{Relief, Volume};

use super::Cleaner;

/// A wait is cut into pieces so that a failure of the log is noticed.
const WAIT_STEP: Duration = Duration::from_millis(20);
/// Without any progress for so long there is no room to be had.
const HOPELESS: Duration = Duration::from_secs(20);
/// Longest pause of a paced write.
const PACE_MAX: Duration = Duration::from_millis(4);
/// Victims per checkpoint when nobody cleans in the background.
const INLINE_VICTIMS: u32 = 8;

impl Relief for Cleaner {
    fn relieve(&self, volume: &Volume, purpose: Purpose) -> Result<()> {
        volume.log().prepare(2)?;
        volume.log().drive();
        if self.inline { self.relieve_inline(volume, purpose) } else { self.wait_for_room(volume, purpose) }
    }

    fn pace(&self, _volume: &Volume) {
        if self.inline {
            return;
        }
        let shortage = self.marks().shortage(self.obtainable());
        if shortage > 0.0 {
            self.wish(|w| w.clean = true);
            let pause = PACE_MAX.mul_f64(shortage * shortage);
            if pause > Duration::from_micros(60) {
                std::thread::sleep(pause);
                self.counters.throttled_us.fetch_add(pause.as_micros() as u64, std::sync::atomic::Ordering::Relaxed);
            }
        }
    }
}

impl Cleaner {
    /// Segments that can be opened now or after the next checkpoint.
    pub(super) fn obtainable(&self) -> u32 {
        let inner = self.volume.log().lock();
        let segments = &inner.segments;
        let later = segments.prefree_count() + segments.aside_count() + segments.unlisted_free();
        (inner.heads.available() + later) as u32
    }

    fn wait_for_room(&self, volume: &Volume, purpose: Purpose) -> Result<()> {
        let since = Instant::now();
        let before = (volume.checkpoints_done(), volume.log().available_segments());
        loop {
            self.wish(|w| {
                w.clean = true;
                w.checkpoint = true;
            });
            if volume.has_room(purpose) {
                break;
            }
            volume.log().wait_for_change(WAIT_STEP);
            volume.log().failure()?;
            volume.log().prepare(2)?;
            if since.elapsed() > HOPELESS {
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
                    if self.obtainable() >= self.marks().high || self.clean_one()?.is_none() {
                        break;
                    }
                }
            }
            volume.checkpoint(false)?;
            volume.log().prepare(2)?;
        }
        Err(Error::NoSpace)
    }
}
