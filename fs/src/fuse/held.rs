//! Answers that are held back, so that writers go as fast as cleaning can follow, and no thread sleeps for them but this one.
//!
//! Answers become due in the order in which they were given here (the pacing sees to it), so one thread and a queue are enough.

use std::io;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

type Answer = Box<dyn FnOnce() + Send>;

/// Where answers wait. The thread ends when this is dropped and all of them are given.
pub(super) struct Held {
    answers: Sender<(Instant, Answer)>,
}

impl Held {
    /// Starts the thread.
    pub(super) fn start() -> io::Result<(Self, JoinHandle<()>)> {
        let (answers, inbox): (_, Receiver<(Instant, Answer)>) = channel();
        let run = move || {
            for (due, answer) in inbox {
                std::thread::sleep(due.saturating_duration_since(Instant::now()));
                answer();
            }
        };
        let thread = Builder::new().name("fuse-held".into()).spawn(run)?;
        Ok((Self { answers }, thread))
    }

    /// Gives `answer` after `pause`, at once if that is nothing.
    pub(super) fn give_after(&self, pause: Duration, answer: impl FnOnce() + Send + 'static) {
        if pause.is_zero() {
            return answer();
        }
        if self.answers.send((Instant::now() + pause, Box::new(answer))).is_err() {
            tracing::error!("the thread for answers that are held back is gone");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_given_in_order_not_before_they_are_due_and_all_before_the_end() {
        let (held, thread) = Held::start().unwrap();
        let (given, results) = channel();
        let begin = Instant::now();
        for (n, pause) in [(0, 0), (1, 5), (2, 5), (3, 20)] {
            let given = given.clone();
            held.give_after(Duration::from_millis(pause), move || given.send((n, begin.elapsed())).unwrap());
        }
        drop((held, given));
        thread.join().unwrap();
        let results: Vec<_> = results.into_iter().collect();
        assert_eq!(results.iter().map(|r| r.0).collect::<Vec<_>>(), [0, 1, 2, 3]);
        assert!(results[3].1 >= Duration::from_millis(20));
    }
}
