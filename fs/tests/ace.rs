//! Exhaustive crash workloads: all of one operation, and an even sample of those of two. The campaign program runs all.

use gleanfs::trial::Subject;
use gleanfs::trial::ace::{Ace, Workloads};
use gleanfs::trial::on_memory::OnMemory;
use gleanfs::trial::toy::{Fault, Toy};

const COMMAND: &str = "cargo run -p xtests --release --bin campaign -- --only ace";
/// Every so-many-th workload of two operations is run: a prime, so that no place in the enumeration is left out.
const STRIDE: u64 = 401;

/// The report of the first failure among the workloads of `length`, each `stride`-th.
fn run<S: Subject>(subject: &S, length: usize, stride: u64, record_blocks: u64) -> Result<u64, String> {
    let workloads = Workloads::new(length);
    let ace = Ace::new(subject, record_blocks)?;
    ace.run(&workloads, 0..workloads.count(), stride)
        .map_err(|found| found.report(&format!("{COMMAND} --length {length} --workload {}", found.workload)))
}

#[test]
fn every_workload_of_one_operation_leaves_a_prefix() {
    let crashes = run(&OnMemory::small(), 1, 1, 1).unwrap_or_else(|report| panic!("{report}"));
    assert!(crashes > 2000, "{crashes} cuts");
}

#[test]
fn a_sample_of_the_workloads_of_two_operations_leaves_a_prefix() {
    run(&OnMemory::small(), 2, STRIDE, 1).unwrap_or_else(|report| panic!("{report}"));
}

#[test]
fn a_device_that_lies_about_flushes_is_found() {
    let liar = OnMemory { flushes_lost: true, ..OnMemory::small() };
    let report = run(&liar, 1, 1, 1).expect_err("synced operations were lost");
    assert!(report.contains(&format!("replay with: {COMMAND} --length 1 --workload ")), "{report}");
}

#[test]
fn a_right_filesystem_passes_and_broken_ones_are_found() {
    run(&Toy(Fault::None), 1, 1, 128).unwrap_or_else(|report| panic!("{report}"));
    for (fault, length, stride) in [
        (Fault::IgnoresSync, 1, 1),
        (Fault::ForgetsSyncedWrite, 1, 1),
        (Fault::TearsRenames, 1, 1),
        (Fault::TearsWrites, 1, 1),
        (Fault::ReordersWrites, 2, 3),
    ] {
        let report = run(&Toy(fault), length, stride, 128).expect_err("the fault was not found");
        assert!(report.contains("no prefix of the"), "{fault:?}: {report}");
    }
}
