//! Cost-age: the cost-benefit rule as SepBIT's published simulator has it (FAST'22).
//!
//! The root dampens age, and dividing by `u` alone ranks almost empty segments first; the best fixed rule with separated classes.

use super::VictimPolicy;
use crate::segment::SegmentFacts;

/// Score `(1 - u) / u * sqrt(age)`, age since the segment was sealed.
#[derive(Clone, Copy, Debug)]
pub struct CostAge;

impl VictimPolicy for CostAge {
    fn name(&self) -> &'static str {
        "cost-age"
    }

    fn score(&self, s: &SegmentFacts, now: u64) -> f64 {
        let u = s.utilization();
        // A segment without live blocks costs nothing to clean; of those the oldest goes first.
        let gain = if s.live == 0 { 1e9 } else { (1.0 - u) / u };
        gain * (1.0 + s.age(now) as f64).sqrt()
    }
}
