//! The background threads: one that cleans, one that takes checkpoints. Clients cannot exhaust them, and neither waits for
//! another process (I8).

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::error::{Error, Result};

use super::Cleaner;

/// How often the threads look without being asked.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// Longest time for which accepted operations stay in memory alone: sync(2) does not reach a FUSE daemon.
const SYNC_EVERY: Duration = Duration::from_secs(5);
/// How often a checkpoint is taken because the cleaner cannot go on.
const STUCK_EVERY: Duration = Duration::from_millis(100);
/// Log after which a checkpoint is due, in blocks: 256 MiB, which bounds the time of a mount after a crash.
const LOG_BLOCKS_MAX: u64 = 64 << 10;
/// Share of the dirty nodes that may be at which a checkpoint is due. Those of the one under way do not count; the rest is for the moment until it begins.
const DIRTY_SHARE_DUE: f64 = 0.75;

/// The running threads; stopping waits for them.
pub struct Background {
    cleaner: Arc<Cleaner>,
    threads: Vec<JoinHandle<()>>,
}

impl Background {
    /// Starts the threads. Accepted data becomes durable at the latest after `checkpoint_every`.
    pub fn start(cleaner: Arc<Cleaner>, checkpoint_every: Duration) -> std::io::Result<Self> {
        let spawn = |name: &str, run: Box<dyn FnOnce(&Cleaner) + Send>| {
            let cleaner = Arc::clone(&cleaner);
            std::thread::Builder::new().name(name.into()).spawn(move || run(&cleaner))
        };
        let threads = vec![
            spawn("cleaner", Box::new(|c| c.run_cleaner()))?,
            spawn("checkpoint", Box::new(move |c| c.run_checkpoints(checkpoint_every)))?,
        ];
        Ok(Self { cleaner, threads })
    }

    /// Ends the threads after what they are at.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        self.cleaner.wish(|w| w.stop = true);
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a background thread ended in a panic");
            }
        }
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        self.end();
    }
}

impl Cleaner {
    fn run_cleaner(&self) {
        while self.wait_for(|w| &mut w.clean) {
            let cleaned = self.clean_while_due();
            self.at_work.store(false, Ordering::Relaxed);
            match cleaned {
                Ok(()) | Err(Error::Latched(_) | Error::ReadOnly) => {}
                Err(e) => tracing::warn!("cleaning: {e}"),
            }
        }
    }

    fn clean_while_due(&self) -> Result<()> {
        while (self.cleaning_is_due() || self.to_drain().is_some()) && !self.wishes.lock().stop {
            self.volume.log().failure()?;
            self.at_work.store(true, Ordering::Relaxed);
            match self.clean_one() {
                Ok(Some(_)) => {}
                // Nothing to gain, or no room to move it to: what is left is live, or comes free with a checkpoint.
                Ok(None) | Err(Error::NoSpace) => {
                    self.wish(|w| (w.checkpoint, w.is_stuck) = (true, true));
                    return Ok(());
                }
                Err(e) => return Err(e),
            }
            if self.extension_pays() || self.checkpoint_frees() {
                self.wish(|w| w.checkpoint = true);
            }
        }
        Ok(())
    }

    /// Until there is room enough, the cleaner goes on; what only a checkpoint gives back counts for less, until it is worth one.
    fn cleaning_is_due(&self) -> bool {
        let (marks, obtainable) = (self.marks(), self.obtainable());
        if !self.is_enabled() {
            return obtainable <= marks.low;
        }
        obtainable < marks.high || (self.ready() < marks.high && obtainable < marks.high + marks.batch)
    }

    /// Whether room is short and a checkpoint would make some: a batch of it and more than it takes, since each writes every dirty node; anything at
    /// all when writers are about to wait and the cleaner does not help them.
    fn checkpoint_frees(&self) -> bool {
        let (available, gain) = (self.volume.log().available_segments(), self.later());
        let marks = self.marks();
        let pays = || gain >= marks.batch && gain >= 2 * self.volume.checkpoint_cost();
        let is_idle = || !self.at_work.load(Ordering::Relaxed);
        (available < marks.checkpoint && pays()) || (available <= marks.low && gain > 0 && is_idle())
    }

    /// The same of an extension of the log, which writes next to nothing, so that a smaller batch will do.
    fn extension_pays(&self) -> bool {
        let (available, gain) = (self.volume.log().available_segments(), self.reusable());
        let marks = self.marks();
        (available < marks.checkpoint && gain >= marks.extension_batch) || (available <= marks.low && gain > 0)
    }

    fn run_checkpoints(&self, every: Duration) {
        let mut last = Instant::now();
        let mut synced = Instant::now();
        while self.wait_for(|w| &mut w.checkpoint) {
            let overdue = last.elapsed() >= every;
            // Not even the cleaner can go on. Then the dead blocks that a checkpoint leaves behind are all that may help, and nobody else asks for one.
            let is_stuck = last.elapsed() >= STUCK_EVERY
                && std::mem::take(&mut self.wishes.lock().is_stuck)
                && self.volume.log().available_segments() <= self.marks().low;
            if synced.elapsed() >= SYNC_EVERY {
                // A failure latches the log, which everybody will see.
                let _ = self.volume.sync();
                synced = Instant::now();
            }
            let is_due = overdue || is_stuck || self.checkpoint_due();
            // A failure latches the log, which everybody will see; nothing given back means that only a checkpoint can.
            if !is_due && self.extension_pays() && self.volume.extend_log().is_ok_and(|segments| segments > 0) {
                continue;
            }
            if !(is_due || self.checkpoint_frees()) {
                continue;
            }
            if self.volume.changed_since_checkpoint() {
                match self.checkpoint_that_pays() {
                    Ok(()) | Err(Error::Latched(_) | Error::ReadOnly) => {}
                    Err(e) => tracing::error!("{e}"),
                }
            }
            last = Instant::now();
        }
    }

    fn checkpoint_due(&self) -> bool {
        self.volume.log().blocks_since_checkpoint() >= LOG_BLOCKS_MAX || self.volume.dirty_share() >= DIRTY_SHARE_DUE
    }

    /// Waits for a wish or for the next look; false when it is time to end.
    fn wait_for(&self, wish: impl Fn(&mut super::Wishes) -> &mut bool) -> bool {
        let mut wishes = self.wishes.lock();
        if !*wish(&mut wishes) && !wishes.stop {
            wishes.wait_for(&self.wished, LOOK_EVERY);
        }
        *wish(&mut wishes) = false;
        !wishes.stop
    }
}
