//! The simulator against figures that others found with theirs: data write amplification under independent zipf writes to 65,536 blocks,
//! segments of 256 blocks, cleaning from 15 % of garbage on, six heads.

use std::sync::Arc;

use gleanfs_gc::pair;
use gleanfs_gc::placement::Placement;
use gleanfs_gc::sim::load::{Overwrites, Pattern};
use gleanfs_gc::sim::oracle::{Future, Oracle};
use gleanfs_gc::sim::{Geometry, run};
use gleanfs_gc::victim::{CostAge, VictimPolicy};

const BLOCKS: u32 = 1 << 16;
const SEGMENT_BLOCKS: u32 = 256;
/// Blocks written before the part that is measured, and in it.
const HALF: u32 = 8 * BLOCKS;
/// What may differ from the published figure.
const TOLERANCE: f64 = 0.05;

fn load(theta: f64) -> Overwrites {
    Overwrites::new(BLOCKS, Pattern::Zipf(theta), 1)
}

fn wa(theta: f64, victim: &mut dyn VictimPolicy, placement: &mut dyn Placement) -> f64 {
    let geometry = Geometry::garbage(BLOCKS, SEGMENT_BLOCKS, 0.15, 6);
    run(geometry, &mut load(theta), placement, victim, HALF.into(), HALF.into()).wa()
}

fn of_pair(theta: f64, name: &str) -> f64 {
    let mut pair = pair::by_name(name).unwrap_or_else(|e| panic!("{e}"));
    wa(theta, &mut *pair.victim, pair.placement.as_deref_mut().expect("both are named"))
}

fn of_oracle(theta: f64, oracle: impl Fn(Arc<Future>, u32) -> Oracle) -> f64 {
    let future = Future::of(&mut load(theta), 4 * HALF);
    wa(theta, &mut CostAge, &mut oracle(future, SEGMENT_BLOCKS))
}

#[track_caller]
fn agree(what: &str, found: f64, published: f64) {
    assert!((found / published - 1.0).abs() < TOLERANCE, "{what}: {found:.3} for {published}");
}

#[test]
fn rules_do_what_is_published_of_them() {
    for (theta, none, sepbit, ewma) in [(0.9, 4.71, 2.71, 2.38), (1.0, 5.11, 2.32, 2.03)] {
        agree("no separation", of_pair(theta, "greedy/none"), none);
        agree("SepBIT", of_pair(theta, "cost-age/sepbit"), sepbit);
        agree("interval classes", of_pair(theta, "cost-age/ewma"), ewma);
    }
}

#[test]
fn oracles_do_what_is_published_of_them() {
    for (theta, fk, geometric) in [(0.9, 2.84, 1.33), (1.0, 2.49, 1.28)] {
        agree("FK", of_oracle(theta, Oracle::fk), fk);
        agree("geometric classes", of_oracle(theta, Oracle::geometric), geometric);
    }
}
