//! Many runs side by side, one on each core.

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use parking_lot::Mutex;

/// Does `work` for every job on `threads` threads; answers in the order of the jobs. The first jobs begin first.
pub fn on_threads<J: Sync, R: Send>(jobs: &[J], threads: NonZeroUsize, work: impl Fn(&J) -> R + Sync) -> Vec<R> {
    let next = AtomicUsize::new(0);
    let answers: Mutex<Vec<Option<R>>> = Mutex::new(jobs.iter().map(|_| None).collect());
    thread::scope(|scope| {
        for _ in 0..threads.get().min(jobs.len()) {
            scope.spawn(|| {
                while let Some((n, job)) =
                    Some(next.fetch_add(1, Ordering::Relaxed)).and_then(|n| Some((n, jobs.get(n)?)))
                {
                    let answer = work(job);
                    answers.lock()[n] = Some(answer);
                }
            });
        }
    });
    answers.into_inner().into_iter().map(|answer| answer.expect("every job was taken and done")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_job_is_done_once_and_answers_keep_their_order() {
        let jobs: Vec<u64> = (0..100).collect();
        let done = AtomicUsize::new(0);
        let threads = NonZeroUsize::new(3).expect("3 is not 0");
        let answers = on_threads(&jobs, threads, |&job| {
            done.fetch_add(1, Ordering::Relaxed);
            job * job
        });
        assert_eq!(answers, jobs.iter().map(|n| n * n).collect::<Vec<_>>());
        assert_eq!((done.into_inner(), on_threads(&[0u8; 0], threads, |_| ()).len()), (100, 0));
    }
}
