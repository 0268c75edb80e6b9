//! What trust is earned and lost by: costs of choices, costs of work, deadlines.

use serde::Serialize;

/// What the cleaner's work cost under one decider.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Work {
    pub moved_blocks: f64,
    pub freed_segments: f64,
}

impl Work {
    pub(super) fn per_segment(&self) -> f64 {
        self.moved_blocks / self.freed_segments.max(1.0)
    }

    pub(super) fn halve(&mut self) {
        self.moved_blocks /= 2.0;
        self.freed_segments /= 2.0;
    }
}

/// What choices for the same block would have cost, in any one unit.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Costs {
    pub model: f64,
    pub fallback: f64,
    /// Of making no difference between blocks.
    pub alike: f64,
}

impl Costs {
    pub(super) fn are_usable(&self) -> bool {
        [self.model, self.fallback, self.alike].iter().all(|cost| cost.is_finite() && *cost >= 0.0)
    }
}

#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Scores {
    pub count: u64,
    pub costs: Costs,
}

impl Scores {
    pub(super) fn add(&mut self, costs: &Costs) {
        self.count += 1;
        self.costs.model += costs.model;
        self.costs.fallback += costs.fallback;
        self.costs.alike += costs.alike;
    }
}

#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Deadlines {
    pub met: u64,
    pub missed: u64,
    /// Share missed in the last full window.
    pub share: f64,
}
