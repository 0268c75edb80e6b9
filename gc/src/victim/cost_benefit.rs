//! Cost-benefit of Sprite LFS: free space gained times how long it will stay free, over the cost of reading and writing.
//!
//! Rosenblum and Ousterhout, "The Design and Implementation of a Log-Structured File System", TOCS 10(1), 1992, section 3.6:
//! `benefit / cost = (1 - u) age / (1 + u)`, with the age of the data, not of the copy.

use super::VictimPolicy;
use crate::segment::SegmentFacts;

/// Score `(1 - u) age / (1 + u)`, age since the user wrote the data.
#[derive(Clone, Copy, Debug)]
pub struct CostBenefit;

impl VictimPolicy for CostBenefit {
    fn name(&self) -> &'static str {
        "cost-benefit"
    }

    fn score(&self, s: &SegmentFacts, now: u64) -> f64 {
        let u = s.utilization();
        (1.0 - u) * s.data_age(now) as f64 / (1.0 + u)
    }
}
