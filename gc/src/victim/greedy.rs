//! Greedy: the segment with the fewest live blocks. The only rule in an emergency.

use super::VictimPolicy;
use crate::index::UtilizationIndex;
use crate::segment::SegmentFacts;

/// Score `1 - u`.
#[derive(Clone, Copy, Debug)]
pub struct Greedy;

impl VictimPolicy for Greedy {
    fn name(&self) -> &'static str {
        "greedy"
    }

    fn asks_ages(&self) -> bool {
        false
    }

    fn score(&self, s: &SegmentFacts, _now: u64) -> f64 {
        1.0 - s.utilization()
    }

    /// Exact, in O(1).
    fn choose(&mut self, index: &UtilizationIndex, _now: u64) -> Option<SegmentFacts> {
        index.emptiest()
    }
}
