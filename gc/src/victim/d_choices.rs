//! d choices: the emptiest of a few segments drawn at random.
//!
//! Van Houdt, SIGMETRICS 2013, and Li, Lee and Lui, "Stochastic Modeling of Large-Scale Solid-State Storage Systems", SIGMETRICS 2013,
//! who call it the randomized greedy algorithm: with `d` from about 10 on hardly worse than greedy, at a cost that does not depend on the number of
//! segments. Draws as in `random`; the same segment may be drawn twice. State: one word.

use super::VictimPolicy;
use super::random::draw;
use crate::index::UtilizationIndex;
use crate::rng::Rng;
use crate::segment::SegmentFacts;

/// Segments drawn for one decision by default.
const CHOICES: u32 = 10;

/// The largest `1 - u` of `choices` segments.
#[derive(Clone, Debug)]
pub struct DChoices {
    choices: u32,
    rng: Rng,
}

impl DChoices {
    pub fn new(choices: u32) -> Self {
        Self { choices, rng: Rng::new(1) }
    }
}

impl Default for DChoices {
    fn default() -> Self {
        Self::new(CHOICES)
    }
}

impl VictimPolicy for DChoices {
    fn name(&self) -> &'static str {
        "d-choices"
    }

    fn asks_ages(&self) -> bool {
        false
    }

    fn score(&self, s: &SegmentFacts, _now: u64) -> f64 {
        1.0 - s.utilization()
    }

    fn choose(&mut self, index: &UtilizationIndex, _now: u64) -> Option<SegmentFacts> {
        let drawn = (0..self.choices).filter_map(|_| draw(index, &mut self.rng));
        // The capacity of segments differs on some devices; cross-multiplied, shares compare exactly.
        let emptier = |a: &SegmentFacts, b: &SegmentFacts| {
            let share = |x: &SegmentFacts, y: &SegmentFacts| u64::from(x.live) * u64::from(y.capacity);
            share(a, b).cmp(&share(b, a))
        };
        drawn.min_by(emptier).or_else(|| index.emptiest())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_choices_come_closer_to_the_emptiest() {
        let mut index = UtilizationIndex::new(1000, 1000);
        for seg in 0..1000 {
            index.insert(SegmentFacts { seg, live: seg, capacity: 1000, ..Default::default() });
        }
        // The least of d draws from 0..1000 is 1000 / (d + 1) on average.
        for (d, expected) in [(1, 500.0), (4, 200.0), (10, 91.0), (99, 10.0)] {
            let mut policy = DChoices::new(d);
            let live: u32 = (0..4000).filter_map(|_| policy.choose(&index, 0)).map(|s| s.live).sum();
            let mean = f64::from(live) / 4000.0;
            assert!((mean / expected - 1.0).abs() < 0.1, "{d}: {mean} for {expected}");
        }
    }
}
