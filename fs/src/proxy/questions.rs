//! Rows that the write path would like to know more about: a bounded list, filled there and emptied by the proxy's thread.
//!
//! Whoever writes never waits: a list that is full or held by the other side costs the question, nothing else. Memory is taken when
//! it is made.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use gleanfs_gc::features::{Likeness, PlacementRow};
use parking_lot::{Condvar, Mutex};

/// Most rows that wait: two batches.
const WAITING_MAX: usize = 2048;
/// So many rows are a batch worth asking at once.
const BATCH_ROWS: usize = 256;
/// The first row of a batch waits so long for others.
const GATHERING: Duration = Duration::from_millis(2);

/// A row, and what it is like.
#[derive(Clone, Copy, Debug)]
pub struct Question {
    pub like: Likeness,
    pub row: PlacementRow,
}

/// The list.
pub struct Questions {
    waiting: Mutex<Vec<Question>>,
    arrived: Condvar,
    stopped: AtomicBool,
    pub dropped: AtomicU64,
}

impl Questions {
    pub fn new() -> Self {
        Self {
            waiting: Mutex::new(Vec::with_capacity(WAITING_MAX)),
            arrived: Condvar::new(),
            stopped: AtomicBool::new(false),
            dropped: AtomicU64::new(0),
        }
    }

    /// Adds a question; false if that is not possible just now. Never waits, never allocates.
    pub fn push(&self, question: Question) -> bool {
        let Some(mut waiting) = self.waiting.try_lock().filter(|waiting| waiting.len() < WAITING_MAX) else {
            self.dropped.fetch_add(1, Ordering::Relaxed);
            return false;
        };
        waiting.push(question);
        let len = waiting.len();
        drop(waiting);
        if len == 1 || len == BATCH_ROWS {
            self.arrived.notify_one();
        }
        true
    }

    /// Swaps what waits into `taken`, which must be empty. Waits for questions, at most for `patience`; false when it is time to end.
    pub fn take(&self, taken: &mut Vec<Question>, patience: Duration) -> bool {
        let until = Instant::now() + patience;
        let mut waiting = self.waiting.lock();
        while waiting.is_empty() && !self.is_stopped() {
            if self.arrived.wait_until(&mut waiting, until).timed_out() {
                return !self.is_stopped();
            }
        }
        let gathered = Instant::now() + GATHERING;
        while waiting.len() < BATCH_ROWS && !self.is_stopped() {
            if self.arrived.wait_until(&mut waiting, gathered).timed_out() {
                break;
            }
        }
        std::mem::swap(&mut *waiting, taken);
        !self.is_stopped()
    }

    /// Takes what waits, without waiting for more; false if that is nothing.
    #[cfg(test)]
    pub fn take_now(&self, taken: &mut Vec<Question>) -> bool {
        std::mem::swap(&mut *self.waiting.lock(), taken);
        !taken.is_empty()
    }

    /// A list for [`Questions::take`] to fill; it becomes the one that writers push to, so it is as large.
    pub fn spare() -> Vec<Question> {
        Vec::with_capacity(WAITING_MAX)
    }

    /// No more questions are taken.
    pub fn stop(&self) {
        // Under the lock, so that nobody misses it between looking and waiting.
        let waiting = self.waiting.lock();
        self.stopped.store(true, Ordering::Relaxed);
        drop(waiting);
        self.arrived.notify_all();
    }

    fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUESTION: Question = Question { like: Likeness(1), row: [0.0; gleanfs_gc::features::PLACEMENT.len()] };

    #[test]
    fn a_full_list_costs_the_question() {
        let questions = Questions::new();
        assert!((0..WAITING_MAX).all(|_| questions.push(QUESTION)));
        assert!(!questions.push(QUESTION));
        assert_eq!(questions.dropped.load(Ordering::Relaxed), 1);
        let mut taken = Questions::spare();
        assert!(questions.take(&mut taken, Duration::ZERO));
        assert_eq!(taken.len(), WAITING_MAX);
        assert!(questions.push(QUESTION));
    }

    #[test]
    fn who_waits_is_woken_by_a_question_and_by_the_end() {
        let questions = Questions::new();
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| {
                let (mut taken, mut seen) = (Questions::spare(), 0);
                while questions.take(&mut taken, Duration::from_secs(60)) {
                    seen += taken.len();
                    taken.clear();
                }
                seen + taken.len()
            });
            while !questions.push(QUESTION) {}
            questions.stop();
            assert_eq!(reader.join().unwrap(), 1);
        });
    }
}
