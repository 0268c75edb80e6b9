//! A simulator of the log, its heads and the cleaner: what policies do to write amplification, without any device.
//!
//! Policies are the very ones that the mounted filesystem runs, and see the same facts. Write amplification is that of data
//! alone. Everything is seeded: the same configuration gives the same numbers.

pub mod load;
pub mod oracle;
pub mod rng;
pub mod trace;

mod fates;
mod files;
mod formulas;
mod grid;
mod measure;
mod record;
mod source;
mod store;
mod tally;
mod timed;
mod tree;

pub use fates::{Fate, FateRecorder};
pub use files::Files;
pub use formulas::{fifo_uniform, greedy_uniform};
pub use grid::on_threads;
pub use measure::{Course, Measured, Outcome, Point, measure, run};
pub use record::{Observation, Recorder, Sample};
pub use source::{GRAMMAR, NamedSource, Source, UnknownLoad};
pub use store::{Geometry, Simulator, Trigger};
pub use tally::{CLASSES, LIFETIME_BINS, Tally, UTILIZATION_BINS};
pub use tree::TreeAndFile;

#[cfg(test)]
mod tests {
    use super::load::{Overwrites, Pattern};
    use super::*;
    use crate::{placement, victim};

    fn wa(geometry: Geometry, blocks: u32, pattern: Pattern, pair: (&str, &str), seed: u64) -> f64 {
        let mut load = Overwrites::new(blocks, pattern, seed);
        let (p, v) = (placement::by_name(pair.0), victim::by_name(pair.1));
        let (Some(mut p), Some(mut v)) = (p, v) else { panic!("no such policy: {pair:?}") };
        let fill = u64::from(blocks);
        run(geometry, &mut load, p.as_mut(), v.as_mut(), fill * 5, fill * 5).wa()
    }

    #[test]
    fn uniform_load_agrees_with_the_formulas() {
        const BLOCKS: u32 = 65_536;
        for u in [0.7, 0.85] {
            let geometry = Geometry::full(BLOCKS, 64, u, 1);
            let alpha = geometry.physical_blocks() / f64::from(BLOCKS);
            for (policy, expected) in [("fifo", fifo_uniform(alpha)), ("greedy", greedy_uniform(alpha, 64))] {
                let found = wa(geometry, BLOCKS, Pattern::Uniform, ("none", policy), 1);
                assert!((found / expected - 1.0).abs() < 0.03, "{policy} at {u}: {found} for {expected}");
            }
        }
    }

    #[test]
    fn separation_pays_on_skewed_loads() {
        const BLOCKS: u32 = 16_384;
        let geometry = Geometry::garbage(BLOCKS, 64, 0.15, 6);
        let hot_cold = Pattern::HotCold { traffic: 0.9, space: 0.1 };
        let mixed = wa(geometry, BLOCKS, hot_cold, ("none", "greedy"), 3);
        for placement in ["sepbit", "ewma"] {
            let separated = wa(geometry, BLOCKS, hot_cold, (placement, "cost-age"), 3);
            assert!(separated < 0.75 * mixed, "{placement}: {separated} of {mixed}");
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_outcome_and_another_does_not() {
        let geometry = Geometry::full(4096, 32, 0.85, 2);
        let once = |seed| wa(geometry, 4096, Pattern::Zipf(0.9), ("user-cleaner", "cost-benefit"), seed);
        assert_eq!(once(5), once(5));
        assert_ne!(once(5), once(6));
    }

    #[test]
    fn a_circular_load_moves_almost_nothing() {
        let geometry = Geometry::full(8192, 64, 0.85, 1);
        assert!(wa(geometry, 8192, Pattern::Circular, ("none", "greedy"), 1) < 1.01);
    }
}
