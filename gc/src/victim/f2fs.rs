//! Cost-benefit of F2FS's background cleaner, from Linux `fs/f2fs/gc.c`, `get_cb_cost`.
//!
//! With `u = 100 valid / blocks` and `age = 100 - 100 (mtime - min) / (max - min)` the least
//! `UINT_MAX - 100 (100 - u) age / (100 + u)` wins; here the subtrahend is the score.

use super::VictimPolicy;
use crate::index::UtilizationIndex;
use crate::segment::SegmentFacts;

/// Score `100 (100 - u) age / (100 + u)`, age in percent of the span between the oldest and the youngest segment. Integers are not
/// rounded as the kernel does, so that ties do not depend on the order.
#[derive(Clone, Copy, Debug, Default)]
pub struct F2fs {
    oldest: u64,
    youngest: u64,
}

impl VictimPolicy for F2fs {
    fn name(&self) -> &'static str {
        "f2fs"
    }

    fn observe(&mut self, index: &UtilizationIndex, now: u64) {
        self.oldest = index.candidates(1).map(|s| s.seal_clock).min().unwrap_or(now);
        self.youngest = index.youngest().map(|s| s.seal_clock).max().unwrap_or(now);
    }

    fn score(&self, s: &SegmentFacts, _now: u64) -> f64 {
        let span = self.youngest.saturating_sub(self.oldest).max(1) as f64;
        let age = 100.0 - 100.0 * s.seal_clock.saturating_sub(self.oldest) as f64 / span;
        let u = 100.0 * s.utilization();
        // The youngest of all has age 0, whatever its utilization; one percent lets utilization still decide among such.
        100.0 * (100.0 - u) * age.max(1.0) / (100.0 + u)
    }
}
