//! First in, first out: the circular log. The oldest segment that is not full.

use super::VictimPolicy;
use crate::segment::SegmentFacts;

/// Score: age since sealed.
#[derive(Clone, Copy, Debug)]
pub struct Fifo;

impl VictimPolicy for Fifo {
    fn name(&self) -> &'static str {
        "fifo"
    }

    fn score(&self, s: &SegmentFacts, now: u64) -> f64 {
        s.age(now) as f64
    }
}
