//! Crash trials: the power is cut at every write of seeded runs; what is found then is a prefix of the accepted operations with
//! everything that a sync acknowledged (I6).
//!
//! That the trials find what they are for is shown with a filesystem that is broken to order.

use gleanfs::trial::crash::CrashTrial;
use gleanfs::trial::mix::Mix;
use gleanfs::trial::toy::{Fault, Toy};

fn trial() -> CrashTrial<'static> {
    let command = "cargo test -p gleanfs --test crash";
    CrashTrial { command, mix: Mix::crash(), seeds: 3, operations: 120, cuts_max: 60, record_blocks: 128 }
}

/// The report on a toy with this fault.
fn report(fault: Fault) -> String {
    let report = trial().try_run(&Toy(fault), 1..6, 120, None).expect_err("the fault was not found");
    assert!(report.contains("replay with: GLEANFS_SEED="), "{report}");
    assert!(report.contains("no prefix of the"), "{report}");
    report
}

#[test]
fn a_right_filesystem_passes() {
    trial().run(&Toy(Fault::None));
}

#[test]
fn a_sync_that_does_nothing_is_found() {
    let report = report(Fault::IgnoresSync);
    assert!(report.lines().filter(|line| line.starts_with("  ")).count() <= 3, "{report}");
}

#[test]
fn an_acknowledged_write_that_is_lost_is_found() {
    assert!(report(Fault::ForgetsSyncedWrite).contains(": write "));
}

#[test]
fn a_write_lost_from_the_middle_is_found() {
    assert!(report(Fault::ReordersWrites).contains(": write "));
}

#[test]
fn half_a_rename_is_found() {
    assert!(report(Fault::TearsRenames).contains(": rename "));
}

#[test]
fn a_write_torn_between_its_blocks_is_found() {
    assert!(report(Fault::TearsWrites).contains(": write "));
}

#[test]
fn a_write_may_be_torn_where_it_is_longer_than_a_record() {
    let trial = CrashTrial { record_blocks: 1, ..trial() };
    trial.try_run(&Toy(Fault::TearsWrites), 1..4, 120, None).expect("each block is whole or absent");
}
