//! Who is asked: the advisor, or something that stands in for it in a test.

use std::sync::Arc;
use std::time::Duration;

use gleanfs_gc::advisor::{Advisor, AdvisorState, Answer, Batch, ModelKind, ModelRole, Trust};
use gleanfs_gc::features::LikenessMask;

/// Who answers at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Service {
    pub ready: bool,
    /// The current model; grows with every swap.
    pub serial: u64,
    /// What it reads, of the features of placement.
    pub reads: LikenessMask,
    /// What tells its file from others, see [`digest`].
    pub digest: u64,
}

/// The first eight bytes of a SHA-256 that is given in hexadecimal; 0 if it is none.
pub(super) fn digest(sha256: &str) -> u64 {
    sha256.get(..16).and_then(|digits| u64::from_str_radix(digits, 16).ok()).unwrap_or(0)
}

/// Answers questions about rows of one kind's features. Called by one of the proxy's threads alone, which may wait.
pub trait Oracle: Send + Sync {
    /// Who answers; `None` if there is no model.
    fn service(&self) -> Option<Service>;

    /// Asks about `rows` rows; false if that is not possible just now.
    fn post(&self, generation: u64, rows: usize, values: &[f32]) -> bool;

    /// The answer to this generation, waited for at most for `patience`.
    fn answer(&self, generation: u64, patience: Duration, answer: &mut Answer) -> bool;

    /// Batches posted, and those of them whose answer missed the deadline.
    fn deadlines(&self) -> (u64, u64);
}

/// Batches that one look tells trust about at most.
const TOLD_MAX: u64 = 1024;

/// What trust was told of an oracle's punctuality.
#[derive(Debug, Default)]
pub(super) struct Deadlines {
    posted: u64,
    missed: u64,
}

impl Deadlines {
    /// Tells trust what is new.
    pub fn tell(&mut self, oracle: &dyn Oracle, trust: &mut Trust) {
        let (posted, missed) = oracle.deadlines();
        let new = |now: u64, before: u64| now.saturating_sub(before).min(TOLD_MAX);
        let (missed_now, posted_now) = (new(missed, self.missed), new(posted, self.posted));
        (self.posted, self.missed) = (posted, missed);
        (0..missed_now).for_each(|_| trust.deadline(false));
        (missed_now..posted_now).for_each(|_| trust.deadline(true));
    }
}

/// An advisor that serves models of this kind.
pub struct Asked(pub Arc<Advisor>, pub ModelKind);

impl Oracle for Asked {
    fn service(&self) -> Option<Service> {
        let status = self.0.status();
        let current = status.models.iter().find(|m| m.role == ModelRole::Current)?;
        let reads = LikenessMask::reading(current.features.iter().map(String::as_str));
        let digest = digest(&current.sha256);
        Some(Service { ready: status.state == AdvisorState::Ready, serial: current.serial, reads, digest })
    }

    fn post(&self, generation: u64, rows: usize, values: &[f32]) -> bool {
        self.0.post(&Batch { generation, kind: self.1, rows, values })
    }

    fn answer(&self, generation: u64, patience: Duration, answer: &mut Answer) -> bool {
        self.0.poll_until(generation, patience, answer)
    }

    fn deadlines(&self) -> (u64, u64) {
        self.0.deadlines()
    }
}
