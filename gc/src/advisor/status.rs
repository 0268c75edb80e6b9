//! Counters of the advisor and the picture of it that users see.
//!
//! Counters are atomics beside every lock, so that whoever looks never makes the cleaner wait.

use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;

use super::protocol::ModelKind;

/// What happened so far. Each is explained at the field of [`AdvisorStatus`] with the same name.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub posted: Count,
    pub not_posted: Count,
    pub answers: Count,
    pub deadlines_missed: Count,
    pub stale: Count,
    pub refused: Count,
    pub lies: Count,
    pub starts: Count,
    pub restarts: Count,
    pub overruns_killed: Count,
    pub swaps: Count,
    pub swaps_refused: Count,
}

/// A counter that only grows.
#[derive(Debug, Default)]
pub(crate) struct Count(AtomicU64);

impl Count {
    pub(crate) fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Latencies in buckets of an eighth of a power of two: at most 13 % too high.
#[derive(Debug)]
pub(crate) struct Latencies {
    buckets: [AtomicU64; Latencies::BUCKETS],
}

impl Default for Latencies {
    fn default() -> Latencies {
        Latencies { buckets: std::array::from_fn(|_| AtomicU64::new(0)) }
    }
}

impl Latencies {
    const BUCKETS: usize = 256;

    pub(crate) fn record(&self, us: u64) {
        self.buckets[Latencies::bucket(us)].fetch_add(1, Ordering::Relaxed);
    }

    /// The latency that this share of all answers did not exceed; 0 if there are none.
    pub(crate) fn quantile_us(&self, share: f64) -> u64 {
        let counts: Vec<u64> = self.buckets.iter().map(|b| b.load(Ordering::Relaxed)).collect();
        let total: u64 = counts.iter().sum();
        let wanted = (total as f64 * share).ceil() as u64;
        let mut seen = 0;
        for (i, count) in counts.iter().enumerate() {
            seen += count;
            if seen >= wanted && total > 0 {
                return Latencies::top_us(i);
            }
        }
        0
    }

    fn bucket(us: u64) -> usize {
        if us < 8 {
            return us as usize;
        }
        let log = us.ilog2() as usize;
        let eighth = (us >> (log - 3)) as usize & 7;
        ((log - 2) * 8 + eighth).min(Latencies::BUCKETS - 1)
    }

    fn top_us(bucket: usize) -> u64 {
        if bucket < 8 {
            return bucket as u64;
        }
        let (log, eighth) = (bucket / 8 + 2, bucket as u64 % 8);
        ((8 + eighth + 1) << (log - 3)) - 1
    }
}

/// Where the advisor stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum AdvisorState {
    /// Nobody gave it a model, or the model was refused.
    #[default]
    Idle,
    /// A worker is loading the model.
    Starting,
    /// Batches are answered.
    Ready,
    /// The worker ended; the next one is started after a pause.
    Waiting,
}

/// The advisor as of now.
#[derive(Debug, Clone, Default, Serialize)]
pub struct AdvisorStatus {
    pub state: AdvisorState,
    pub pid: Option<i32>,
    /// Batches handed to the worker.
    pub posted: u64,
    /// Batches that could not be posted: no worker, ring full, wrong shape.
    pub not_posted: u64,
    /// Answers handed to the caller.
    pub answers: u64,
    /// Batches whose answer did not come within the deadline.
    pub deadlines_missed: u64,
    /// Good answers to questions that nobody asks any more.
    pub stale: u64,
    /// Answers with values that are not finite, or runs that failed.
    pub refused: u64,
    /// Times that a worker wrote what no honest worker writes; it is killed for that.
    pub lies: u64,
    pub starts: u64,
    /// Starts because a worker had ended.
    pub restarts: u64,
    /// Workers killed because they did not answer at all.
    pub overruns_killed: u64,
    pub swaps: u64,
    pub swaps_refused: u64,
    pub latency_p50_us: u64,
    pub latency_p99_us: u64,
    pub deadline_us: u64,
    /// Memory that the worker says it has locked; 0 where the limit forbids it.
    pub locked_bytes: u64,
    /// What the sandbox consists of, such as `landlock, seccomp`.
    pub sandbox: String,
    pub library_version: String,
    pub models: Vec<ModelInfo>,
    /// The last thing that went wrong, in one line.
    pub last_error: Option<String>,
}

/// What a model is to the advisor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ModelRole {
    Current,
    /// Being tried beside the current one.
    Shadow,
    /// The one that a rollback returns to.
    Previous,
}

/// A model that the advisor has at hand.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ModelInfo {
    pub role: ModelRole,
    pub name: String,
    pub kind: ModelKind,
    pub features: Vec<String>,
    pub bytes: usize,
    pub sha256: String,
    /// Counts the models tried since the start; answers carry it.
    pub serial: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_close_and_never_too_low() {
        let latencies = Latencies::default();
        assert_eq!(latencies.quantile_us(0.5), 0);
        for us in 1..=1000 {
            latencies.record(us);
        }
        for (share, exact) in [(0.5, 500), (0.99, 990), (1.0, 1000)] {
            let found = latencies.quantile_us(share);
            assert!(found >= exact && found <= exact * 9 / 8, "{share}: {found}");
        }
        latencies.record(u64::MAX);
        assert!(latencies.quantile_us(1.0) > 1 << 32);
    }

    #[test]
    fn every_latency_lies_in_its_bucket() {
        for us in (0..5000).chain((0..40).map(|i| 1 << i)) {
            let bucket = Latencies::bucket(us);
            assert!(Latencies::top_us(bucket) >= us.min(1 << 33), "{us}");
            assert!(bucket == 0 || Latencies::top_us(bucket - 1) < us, "{us}");
        }
    }
}
