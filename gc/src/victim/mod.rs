//! Which segment to clean: fixed rules, each in its own file with its formula's source, and a model's choice (`learned`).
//!
//! A policy scores facts and chooses; it never moves a block. The cleaner validates whatever was chosen.

mod atgc;
mod cost_age;
mod cost_age_class;
mod cost_benefit;
mod d_choices;
mod f2fs;
mod fifo;
mod greedy;
mod learned;
mod midas;
mod random;
mod windowed;

pub use atgc::Atgc;
pub use cost_age::CostAge;
pub use cost_age_class::CostAgeClass;
pub use cost_benefit::CostBenefit;
pub use d_choices::DChoices;
pub use f2fs::F2fs;
pub use fifo::Fifo;
pub use greedy::Greedy;
pub use learned::{Learned, WorthModel, rows};
pub use midas::Midas;
pub use random::Random;
pub use windowed::WindowedGreedy;

use crate::features::VictimContext;
use crate::index::UtilizationIndex;
use crate::segment::SegmentFacts;

/// Segments per bucket that [`VictimPolicy::choose`] looks at.
pub const CANDIDATES_PER_BUCKET: usize = 2;

/// Names that [`by_name`] knows: the fixed rules.
pub const NAMES: [&str; 11] = [
    "greedy",
    "cost-benefit",
    "cost-age",
    "cost-age-class",
    "f2fs",
    "atgc",
    "windowed-greedy",
    "d-choices",
    "random",
    "fifo",
    "midas",
];

/// Scores segments for cleaning.
pub trait VictimPolicy: Send {
    /// The name by which users choose it.
    fn name(&self) -> &'static str;

    /// Whether it asks the index for [`UtilizationIndex::candidates`] or [`UtilizationIndex::youngest`]. An index for one that does not may leave out
    /// the order by age.
    fn asks_ages(&self) -> bool {
        true
    }

    /// What the volume is like, told before each decision by whoever asks for one. Fixed rules need not know.
    fn tell(&mut self, _volume: &VictimContext) {}

    /// Called once before the scores of one decision are asked for, for policies that need to know the whole.
    fn observe(&mut self, _index: &UtilizationIndex, _now: u64) {}

    /// How much cleaning this segment is worth, larger is better. At a fixed utilization it must not fall with age.
    fn score(&self, s: &SegmentFacts, now: u64) -> f64;

    /// The best segment of the index, never a full one. Allocates nothing and costs O(buckets).
    fn choose(&mut self, index: &UtilizationIndex, now: u64) -> Option<SegmentFacts> {
        self.observe(index, now);
        let scored = index.candidates(CANDIDATES_PER_BUCKET).map(|s| (self.score(&s, now), s));
        scored.filter(|(score, _)| !score.is_nan()).max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, s)| s)
    }

    /// Memory held, its own size included; constant.
    fn bytes(&self) -> usize {
        size_of_val(self)
    }
}

/// The policy of that name (see [`NAMES`]).
pub fn by_name(name: &str) -> Option<Box<dyn VictimPolicy>> {
    Some(match name {
        "greedy" => Box::new(Greedy),
        "cost-benefit" => Box::new(CostBenefit),
        "cost-age" => Box::new(CostAge),
        "cost-age-class" => Box::new(CostAgeClass),
        "f2fs" => Box::new(F2fs::default()),
        "atgc" => Box::new(Atgc::default()),
        "windowed-greedy" => Box::new(WindowedGreedy::default()),
        "d-choices" => Box::new(DChoices::default()),
        "random" => Box::new(Random::default()),
        "fifo" => Box::new(Fifo),
        "midas" => Box::new(Midas::default()),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(segments: &[(u32, u64)]) -> UtilizationIndex {
        let mut index = UtilizationIndex::new(segments.len() as u32, 512);
        for (seg, &(live, seal_clock)) in segments.iter().enumerate() {
            index.insert(SegmentFacts {
                seg: seg as u32,
                live,
                capacity: 512,
                seal_clock,
                write_clock: seal_clock,
                ..Default::default()
            });
        }
        index
    }

    fn choice(name: &str, segments: &[(u32, u64)], now: u64) -> Option<u32> {
        by_name(name).and_then(|mut p| p.choose(&index(segments), now)).map(|s| s.seg)
    }

    #[test]
    fn every_name_is_known_and_says_itself() {
        for name in NAMES {
            assert_eq!(by_name(name).map(|p| p.name()), Some(name));
        }
        assert!(by_name("best").is_none());
    }

    #[test]
    fn every_policy_is_small() {
        for name in NAMES {
            let bytes = by_name(name).map_or(0, |p| p.bytes());
            assert!(bytes <= 1 << 20, "{name}: {bytes}");
        }
        assert_eq!(DChoices::default().bytes(), 16);
    }

    #[test]
    fn no_policy_takes_a_full_segment() {
        for name in NAMES {
            assert_eq!(choice(name, &[(512, 0), (512, 5)], 1_000_000), None, "{name}");
            assert_eq!(choice(name, &[(512, 0), (511, 900_000)], 1_000_000), Some(1), "{name}");
        }
    }

    #[test]
    fn age_makes_up_for_utilization_where_the_rule_says_so() {
        let segments = [(300, 999_000), (400, 1000)];
        assert_eq!(choice("greedy", &segments, 1_000_000), Some(0));
        for name in ["cost-benefit", "cost-age", "f2fs"] {
            assert_eq!(choice(name, &segments, 1_000_000), Some(1), "{name}");
        }
    }

    #[test]
    fn the_index_finds_what_a_full_scan_finds() {
        let mut rng = 1u64;
        let mut next = |n: u64| {
            rng = rng.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (rng >> 33) % n
        };
        let segments: Vec<_> = (0..3000).map(|_| (next(512) as u32, next(1_000_000))).collect();
        let index = index(&segments);
        // Not those that look at a few segments only.
        for name in NAMES.into_iter().filter(|name| *name != "d-choices") {
            let mut policy = by_name(name).unwrap_or_else(|| unreachable!("{name} is in NAMES"));
            let chosen = policy.choose(&index, 1_000_001).map(|s| policy.score(&s, 1_000_001));
            let best = index.iter().map(|s| policy.score(s, 1_000_001)).max_by(f64::total_cmp);
            let (chosen, best) = (chosen.unwrap_or_default(), best.unwrap_or_default());
            assert!(chosen >= best / crate::index::BUCKET_RATIO, "{name}: {chosen} of {best}");
        }
    }
}
