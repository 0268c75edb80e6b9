//! Who is asked: the advisor, or something that stands in for it in a test.

use std::time::Duration;

use gleanfs_gc::advisor::{Advisor, AdvisorState, Answer, Batch, ModelKind, ModelRole};
use gleanfs_gc::features::LikenessMask;

/// Who answers at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Service {
    pub ready: bool,
    /// The current model; grows with every swap.
    pub serial: u64,
    /// What it reads.
    pub reads: LikenessMask,
}

/// Answers questions about rows of placement features. Called by the proxy's thread alone, which may wait.
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

impl Oracle for Advisor {
    fn service(&self) -> Option<Service> {
        let status = self.status();
        let current = status.models.iter().find(|m| m.role == ModelRole::Current)?;
        let reads = LikenessMask::reading(current.features.iter().map(String::as_str));
        Some(Service { ready: status.state == AdvisorState::Ready, serial: current.serial, reads })
    }

    fn post(&self, generation: u64, rows: usize, values: &[f32]) -> bool {
        Advisor::post(self, &Batch { generation, kind: ModelKind::Placement, rows, values })
    }

    fn answer(&self, generation: u64, patience: Duration, answer: &mut Answer) -> bool {
        self.poll_until(generation, patience, answer)
    }

    fn deadlines(&self) -> (u64, u64) {
        Advisor::deadlines(self)
    }
}
