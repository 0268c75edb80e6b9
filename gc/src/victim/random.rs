//! Random choice, the baseline that needs to know nothing, and the draw that `d-choices` is made of.
//!
//! Van Houdt, "A Mean Field Model for a Class of Garbage Collection Algorithms in Flash-based Solid State Drives", SIGMETRICS 2013.
//! Numbers of the index are drawn until one names a segment that is sealed and not full, at most [`TRIES`] times; then the emptiest is taken,
//! so that a device of which nearly everything is full or open is cleaned all the same. The seed is fixed: runs repeat. State: one word.

use super::VictimPolicy;
use crate::index::UtilizationIndex;
use crate::rng::Rng;
use crate::segment::SegmentFacts;

/// Numbers drawn for one segment.
pub(super) const TRIES: u32 = 32;

/// Any segment that is not full, each as likely.
#[derive(Clone, Debug)]
pub struct Random {
    rng: Rng,
}

impl Default for Random {
    fn default() -> Self {
        Self { rng: Rng::new(1) }
    }
}

/// A segment drawn at random that is worth cleaning at all; `None` if luck is out.
pub(super) fn draw(index: &UtilizationIndex, rng: &mut Rng) -> Option<SegmentFacts> {
    (0..TRIES).find_map(|_| index.get(rng.below(index.slots())).copied().filter(|s| !s.is_full()))
}

impl VictimPolicy for Random {
    fn name(&self) -> &'static str {
        "random"
    }

    /// All are alike.
    fn asks_ages(&self) -> bool {
        false
    }

    fn score(&self, _s: &SegmentFacts, _now: u64) -> f64 {
        0.0
    }

    fn choose(&mut self, index: &UtilizationIndex, _now: u64) -> Option<SegmentFacts> {
        draw(index, &mut self.rng).or_else(|| index.emptiest())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_as_likely_and_a_needle_is_found() {
        let mut index = UtilizationIndex::new(1000, 64);
        for seg in 0..10 {
            index.insert(SegmentFacts { seg: seg * 100, live: seg * 6, capacity: 64, ..Default::default() });
        }
        let (mut policy, mut counts) = (Random::default(), [0u32; 10]);
        let mut fallen_back = 0;
        for _ in 0..10_000 {
            let seg = policy.choose(&index, 0).map_or(0, |s| s.seg);
            counts[seg as usize / 100] += 1;
            fallen_back += u32::from(seg == 0);
        }
        // A hundredth of the numbers hit: luck is out for 0.99^32 = 0.725 of the choices, which then fall on the emptiest, number 0.
        assert!((7000..8000).contains(&fallen_back), "{fallen_back}");
        assert!(counts[1..].iter().all(|&c| (200..420).contains(&c)), "{counts:?}");
    }
}
