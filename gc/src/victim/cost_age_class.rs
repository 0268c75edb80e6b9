//! Cost-age that lets segments of long-lived classes ripen.
//!
//! In a segment of short-lived blocks most will die soon by themselves, and it pays to wait; a block that was expected to live for long and has to be moved
//! will not have to be moved again soon. Both say: of two segments of one age and utilization take the colder. The exponents were found
//! with the simulator, with classes of lifetime that are a factor of 4 apart (`placement::lifetime_class`).

use super::VictimPolicy;
use crate::segment::SegmentFacts;

/// log2 of the bonus per class: lifetimes to the power of 0.2.
const BONUS_LOG2: f64 = 0.4;

/// Score `(1 - u) / u * sqrt(age) * 2^(0.4 class)`, age since the segment was sealed.
#[derive(Clone, Copy, Debug)]
pub struct CostAgeClass;

impl VictimPolicy for CostAgeClass {
    fn name(&self) -> &'static str {
        "cost-age-class"
    }

    fn score(&self, s: &SegmentFacts, now: u64) -> f64 {
        super::CostAge.score(s, now) * (BONUS_LOG2 * f64::from(s.class)).exp2()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_two_alike_the_colder_goes_first_and_age_still_counts() {
        let hot = SegmentFacts { seg: 1, live: 50, capacity: 100, class: 0, seal_clock: 1000, ..Default::default() };
        let cold = SegmentFacts { class: 5, ..hot };
        let older = SegmentFacts { seal_clock: 0, ..hot };
        assert!(CostAgeClass.score(&cold, 2000) > 3.9 * CostAgeClass.score(&hot, 2000));
        assert!(CostAgeClass.score(&older, 2000) > CostAgeClass.score(&hot, 2000));
    }
}
