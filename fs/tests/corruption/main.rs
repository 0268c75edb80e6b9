//! Damaged images: a sample of the corruption trial, and what it has to find when something is broken. `xtests` corruption runs all of it.

mod log;

use gleanfs::trial::corruption::image::Shape;
use gleanfs::trial::corruption::tally::Tally;
use gleanfs::trial::corruption::{Plan, run};

/// One in so many of the cases of single blocks: all take minutes.
const ONE_IN: u64 = 100;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a number"))
}

/// `GLEANFS_SEED`, `GLEANFS_CASE` and `GLEANFS_ONE_IN` in the environment choose another sample.
fn sample(shape: Shape) {
    let plan = Plan {
        shape,
        seed: number("GLEANFS_SEED").unwrap_or(1),
        operations: 200,
        one_in: number("GLEANFS_ONE_IN").unwrap_or(ONE_IN),
        several: 10,
        only: number("GLEANFS_CASE"),
    };
    let mut tally = Tally::default();
    if let Err(why) = run(&plan, &mut tally, &mut |_, _| {}) {
        let case = why.split("case ").nth(1).and_then(|rest| rest.split(':').next()).unwrap_or("");
        panic!("{why}\nreplay with: GLEANFS_CASE={case} cargo test -p gleanfs --test corruption");
    }
    println!("{shape:?}: {}", serde_json::to_string(&tally).unwrap());
    assert!(plan.only.is_some() || tally.cases > 10, "{tally:?}");
}

#[test]
fn a_clean_image() {
    sample(Shape::Clean);
}

#[test]
fn an_image_with_a_log_to_replay() {
    sample(Shape::Dirty);
}

#[test]
fn an_image_with_an_extended_log() {
    sample(Shape::Extended);
}

#[test]
fn a_clean_image_on_zones() {
    sample(Shape::Zoned);
}

#[test]
fn an_image_on_zones_with_a_log_to_replay() {
    sample(Shape::ZonedDirty);
}
