//! Write amplification of the reference policies on independent zipf writes, to compare with publications: prints a table, takes a minute a line.

use gleanfs_gc::pair;
use gleanfs_gc::placement::Placement;
use gleanfs_gc::sim::load::{Overwrites, Pattern};
use gleanfs_gc::sim::oracle::{Future, Oracle};
use gleanfs_gc::sim::{Geometry, run};
use gleanfs_gc::victim::VictimPolicy;

const BLOCKS: u32 = 64 << 10;
const SEGMENT_BLOCKS: u32 = 256;
/// Writes of a run in volumes, of which the second half is measured.
const VOLUMES: u32 = 40;

fn wa(theta: f64, heads: u8, victim: &mut dyn VictimPolicy, placement: &mut dyn Placement) -> f64 {
    let geometry = Geometry::garbage(BLOCKS, SEGMENT_BLOCKS, 0.15, heads);
    let half = u64::from(BLOCKS * VOLUMES / 2);
    run(geometry, &mut Overwrites::new(BLOCKS, Pattern::Zipf(theta), 1), placement, victim, half, half).wa()
}

fn pair_wa(theta: f64, name: &str) -> f64 {
    let mut pair = pair::by_name(name).unwrap_or_else(|e| panic!("{e}"));
    wa(theta, 6, &mut *pair.victim, pair.placement.as_deref_mut().expect("named"))
}

#[test]
#[ignore = "prints a table and asserts nothing"]
fn table() {
    let pairs = std::env::var("PAIRS").unwrap_or_else(|_| {
        "greedy/none d-choices/none random/none fifo/none windowed-greedy/none f2fs/none atgc/none cost-benefit/none cost-age/none \
         cost-age/user-cleaner cost-age/sepbit cost-age/ewma cost-age-class/ewma cost-age/dac cost-age/sfs cost-age/midas midas/midas \
         midas/ewma"
            .into()
    });
    for theta in [0.9, 1.0] {
        for name in pairs.split_whitespace() {
            println!("zipf {theta} {name:24} {:.3}", pair_wa(theta, name));
        }
        let future = Future::of(&mut Overwrites::new(BLOCKS, Pattern::Zipf(theta), 1), BLOCKS * VOLUMES * 2);
        for victim in ["cost-age", "greedy", "cost-benefit"] {
            let mut policy = pair::by_name(victim).expect("known").victim;
            let fk = wa(theta, 6, &mut *policy, &mut Oracle::fk(future.clone(), SEGMENT_BLOCKS));
            let geometric = wa(theta, 12, &mut *policy, &mut Oracle::geometric(future.clone(), SEGMENT_BLOCKS));
            let merged = wa(theta, 6, &mut *policy, &mut Oracle::geometric(future.clone(), SEGMENT_BLOCKS));
            println!("zipf {theta} {victim} fk {fk:.3} geometric 12 heads {geometric:.3} 6 heads {merged:.3}");
        }
    }
}
