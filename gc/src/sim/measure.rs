//! A run that is warmed up before it is measured.

use std::time::Instant;

use super::load::Load;
use super::store::{Geometry, Simulator};
use super::tally::Tally;
use super::timed::Timed;
use crate::placement::Placement;
use crate::victim::VictimPolicy;

/// What a run came to.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Outcome {
    /// Blocks written by users.
    pub user: u64,
    /// Blocks moved by the cleaner.
    pub moved: u64,
    /// Segments cleaned.
    pub victims: u64,
}

impl Outcome {
    /// Write amplification of data: all blocks written by those that users wrote.
    pub fn wa(&self) -> f64 {
        1.0 + self.moved as f64 / self.user.max(1) as f64
    }

    /// What happened after `before`.
    pub fn since(&self, before: &Self) -> Self {
        Self { user: self.user - before.user, moved: self.moved - before.moved, victims: self.victims - before.victims }
    }
}

/// How a run goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Course {
    /// User-written blocks before the part that is measured.
    pub warm: u64,
    /// User-written blocks that are measured.
    pub writes: u64,
    /// Whether the placement is asked about each block ([`Simulator::placing_each_block`]).
    pub each_block: bool,
}

/// Write amplification of a stretch of the run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// Write clock at its end.
    pub clock: u64,
    pub wa: f64,
}

/// A run and what it was made of.
#[derive(Clone, Debug)]
pub struct Measured {
    pub outcome: Outcome,
    pub tally: Tally,
    /// From the first write on, the warming included.
    pub over_time: Vec<Point>,
    /// Mean time to choose a victim.
    pub decision_ns: f64,
    /// Mean time to place a request or a block that is moved.
    pub placement_ns: f64,
    /// Blocks that users wrote per second of the measured part.
    pub user_blocks_per_sec: f64,
}

/// Stretches into which a run is cut.
const POINTS: u64 = 100;

/// Runs `warm` user writes, then measures `writes` more.
pub fn run(
    geometry: Geometry,
    load: &mut dyn Load,
    placement: &mut dyn Placement,
    victim: &mut dyn VictimPolicy,
    warm: u64,
    writes: u64,
) -> Outcome {
    let mut sim = simulator(geometry, load, victim);
    sim.drive(load, placement, victim, None, warm);
    let before = sim.outcome();
    sim.drive(load, placement, victim, None, writes);
    sim.outcome().since(&before)
}

/// Runs and looks closely. `passed` is told how many user blocks were written since it was told last.
pub fn measure(
    geometry: Geometry,
    load: &mut dyn Load,
    placement: &mut dyn Placement,
    victim: &mut dyn VictimPolicy,
    course: Course,
    passed: &mut dyn FnMut(u64),
) -> Measured {
    let Course { warm, writes, each_block } = course;
    let sim = simulator(geometry, load, victim);
    let mut sim = if each_block { sim.placing_each_block() } else { sim };
    let (mut placement, mut victim) = (Timed::new(placement), Timed::new(victim));
    let mut over_time = Vec::new();
    let mut drive = |sim: &mut Simulator, blocks: u64| {
        let begun = sim.now();
        // Stretches of equal length: a short one at the end would show one victim as a peak.
        let points = (blocks * POINTS).div_ceil((warm + writes).max(1));
        for n in 1..=points {
            let (before, end) = (sim.outcome(), begun + blocks * n / points);
            let stretch = end - sim.now();
            sim.drive(load, &mut placement, &mut victim, None, stretch);
            over_time.push(Point { clock: sim.now(), wa: sim.outcome().since(&before).wa() });
            passed(stretch);
        }
    };
    drive(&mut sim, warm);
    sim.count();
    let (before, begun) = (sim.outcome(), Instant::now());
    drive(&mut sim, writes);
    Measured {
        outcome: sim.outcome().since(&before),
        tally: sim.take_tally().unwrap_or_default(),
        over_time,
        decision_ns: victim.mean_ns(),
        placement_ns: placement.mean_ns(),
        user_blocks_per_sec: writes as f64 / begun.elapsed().as_secs_f64(),
    }
}

fn simulator(geometry: Geometry, load: &dyn Load, victim: &dyn VictimPolicy) -> Simulator {
    let sim = Simulator::new(geometry, load.blocks());
    if victim.asks_ages() { sim } else { sim.without_ages() }
}

#[cfg(test)]
mod tests {
    use super::super::load::{Overwrites, Pattern};
    use super::*;
    use crate::placement::Ewma;
    use crate::victim::CostAge;

    #[test]
    fn looking_closely_changes_nothing_and_adds_up() {
        let geometry = Geometry::garbage(8192, 64, 0.15, 6);
        let load = || Overwrites::new(8192, Pattern::Zipf(1.0), 3);
        let plain = run(geometry, &mut load(), &mut Ewma, &mut CostAge, 20_000, 30_000);
        let mut passed = 0;
        let course = Course { warm: 20_000, writes: 30_000, each_block: false };
        let close = measure(geometry, &mut load(), &mut Ewma, &mut CostAge, course, &mut |n| passed += n);
        assert_eq!((plain, passed), (close.outcome, 50_000));
        assert_eq!(close.tally.victims.iter().sum::<u64>(), plain.victims);
        let deaths: u64 = close.tally.lifetimes.iter().flatten().sum();
        assert_eq!(deaths, 30_000, "every write is an overwrite once the volume is full");
        let late: Vec<f64> = close.over_time.iter().filter(|p| p.clock > 20_000).map(|p| p.wa).collect();
        let mean = late.iter().sum::<f64>() / late.len() as f64;
        assert!((mean / plain.wa() - 1.0).abs() < 0.01);
        let medians: Vec<f32> = (0..5).filter_map(|c| close.tally.lifetime_log2(c, 0.5)).collect();
        assert!(medians.len() > 3 && medians.is_sorted(), "a hotter class dies sooner: {medians:?}");
    }
}
