//! Model-based trials: seeded operations on a filesystem and on the reference, compared answer by answer and tree by tree.
//!
//! That the trials find what they are for is shown with a filesystem that is broken to order.

use gleanfs::trial::mix::Mix;
use gleanfs::trial::model::ModelTrial;
use gleanfs::trial::toy::{Fault, Toy};

fn trial(mix: Mix) -> ModelTrial<'static> {
    ModelTrial { command: "cargo test -p gleanfs --test model", mix, seeds: 10, operations: 400 }
}

/// The report on a toy with this fault.
fn report(fault: Fault, mix: Mix) -> String {
    trial(mix).try_run(&Toy(fault), 1..4, 400).expect_err("the fault was not found")
}

/// Operations in a report's list.
fn listed(report: &str) -> usize {
    report.lines().filter(|line| line.starts_with("  ")).count()
}

#[test]
fn a_right_filesystem_passes() {
    for mix in [Mix::everything(), Mix::contents(), Mix::names(60)] {
        trial(mix).run(&Toy(Fault::None));
    }
}

#[test]
fn a_dropped_rename_is_found_shrunk_and_replayable() {
    let report = report(Fault::DropsRenames, Mix::everything());
    assert!(report.contains(": rename /"), "{report}");
    assert!(
        report.contains("replay with: GLEANFS_SEED=1 GLEANFS_OPS=400 cargo test -p gleanfs --test model"),
        "{report}"
    );
    assert!(listed(&report) <= 3, "{report}");
}

#[test]
fn a_hole_that_was_not_punched_is_found() {
    let report = report(Fault::KeepsHoles, Mix::contents());
    assert!(report.contains("PunchHole"), "{report}");
    assert!(listed(&report) <= 6, "{report}");
}

#[test]
fn what_unmounting_loses_is_found() {
    let report = report(Fault::ForgetsAtUnmount, Mix::everything());
    assert!(listed(&report) <= 2, "{report}");
}
