//! Group commit: one flush for everybody who asked before it began.
//!
//! Below the log. A flush makes durable what was written before it began, so whoever asks while one is under way needs the next. After one that failed
//! there is no other: the device may have dropped what it was to save, and would say of a later flush that it saved everything (I6).

use std::ops::DerefMut;

use parking_lot::Condvar;

use crate::error::Result;
use crate::lock_order::{Mutex, MutexGuard, Place};

/// Flushes, counted.
#[derive(Default)]
pub(super) struct Rounds {
    started: u64,
    done: u64,
    running: bool,
}

/// Rounds that one thread at a time looks at: a lock and an event, of this process or of a model of threads.
pub(super) trait Monitor {
    type Guard<'a>: DerefMut<Target = Rounds>
    where
        Self: 'a;

    fn enter(&self) -> Self::Guard<'_>;

    /// Waits, with the lock given away, until a round has ended.
    fn wait<'a>(&'a self, guard: Self::Guard<'a>) -> Self::Guard<'a>;

    /// Tells all who wait.
    fn ended(&self);
}

/// The rounds of a log.
pub(super) struct LogRounds {
    rounds: Mutex<Rounds>,
    done: Condvar,
}

impl Default for LogRounds {
    fn default() -> Self {
        Self { rounds: Mutex::new(Place::Flush, Rounds::default()), done: Condvar::new() }
    }
}

impl Monitor for LogRounds {
    type Guard<'a> = MutexGuard<'a, Rounds>;

    fn enter(&self) -> Self::Guard<'_> {
        self.rounds.lock()
    }

    fn wait<'a>(&'a self, mut guard: Self::Guard<'a>) -> Self::Guard<'a> {
        guard.wait(&self.done);
        guard
    }

    fn ended(&self) {
        self.done.notify_all();
    }
}

/// Returns once a flush that began after the call has ended well. `failure` says whether the log has failed; `flush` makes it fail before it returns an
/// error, so that nobody can begin another.
pub(super) fn flush_once<M: Monitor>(
    monitor: &M,
    failure: impl Fn() -> Result<()>,
    flush: impl Fn() -> Result<()>,
) -> Result<()> {
    let mut rounds = monitor.enter();
    let wanted = rounds.started + 1;
    while rounds.done < wanted {
        failure()?;
        if rounds.running {
            rounds = monitor.wait(rounds);
            continue;
        }
        rounds.running = true;
        rounds.started += 1;
        let round = rounds.started;
        drop(rounds);
        let result = flush();
        rounds = monitor.enter();
        rounds.running = false;
        monitor.ended();
        result?;
        rounds.done = round;
    }
    Ok(())
}

/// In every interleaving of the threads, but for those in which they are interrupted more than three times.
#[cfg(test)]
mod races {
    use std::sync::Arc;

    use loom::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
    use loom::sync::{self, MutexGuard as LoomGuard};

    use super::*;
    use crate::error::Error;

    #[derive(Default)]
    struct Modelled {
        rounds: sync::Mutex<Rounds>,
        done: sync::Condvar,
    }

    impl Monitor for Modelled {
        type Guard<'a> = LoomGuard<'a, Rounds>;

        fn enter(&self) -> Self::Guard<'_> {
            self.rounds.lock().unwrap()
        }

        fn wait<'a>(&'a self, guard: Self::Guard<'a>) -> Self::Guard<'a> {
            self.done.wait(guard).unwrap()
        }

        fn ended(&self) {
            self.done.notify_all();
        }
    }

    /// A device with a cache, a bit for each thread's write.
    #[derive(Default)]
    struct Disk {
        rounds: Modelled,
        written: AtomicU64,
        durable: AtomicU64,
        flushes: AtomicU64,
        fails: bool,
        has_failed: AtomicBool,
    }

    impl Disk {
        fn failure(&self) -> Result<()> {
            if self.has_failed.load(SeqCst) { Err(Error::Latched("a flush failed".into())) } else { Ok(()) }
        }

        fn flush(&self) -> Result<()> {
            self.flushes.fetch_add(1, SeqCst);
            let saved = self.written.load(SeqCst);
            self.has_failed.fetch_or(self.fails, SeqCst);
            self.failure()?;
            self.durable.fetch_or(saved, SeqCst);
            Ok(())
        }

        /// Writes, and has it flushed.
        fn write(&self, thread: u64) -> Result<()> {
            self.written.fetch_or(1 << thread, SeqCst);
            flush_once(&self.rounds, || self.failure(), || self.flush())?;
            assert!(self.durable.load(SeqCst) & 1 << thread != 0, "acknowledged and not durable");
            Ok(())
        }
    }

    /// Three threads write; what each of them was told, and the disk afterwards.
    fn three_write(fails: bool, then: impl Fn(&Disk, [bool; 3]) + Send + Sync + 'static) {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = model.preemption_bound.or(Some(3));
        model.check(move || {
            let disk = Arc::new(Disk { fails, ..Disk::default() });
            let others = [1, 2].map(|thread| {
                let disk = disk.clone();
                loom::thread::spawn(move || disk.write(thread).is_ok())
            });
            let first = disk.write(0).is_ok();
            let [second, third] = others.map(|thread| thread.join().unwrap());
            then(&disk, [first, second, third]);
        });
    }

    #[test]
    fn whoever_is_told_so_is_durable_and_three_need_three_flushes_at_most() {
        three_write(false, |disk, told| {
            assert_eq!(told, [true; 3]);
            assert!((1..=3).contains(&disk.flushes.load(SeqCst)));
        });
    }

    #[test]
    fn nobody_flushes_after_a_flush_that_failed_and_nobody_waits_for_ever() {
        three_write(true, |disk, told| {
            assert_eq!(told, [false; 3]);
            assert_eq!(disk.flushes.load(SeqCst), 1);
        });
    }
}
