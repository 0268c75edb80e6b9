//! Faults at the size of a test: an even sample of those that the program `faults` injects, and a mount or two.

use xtests::faults::{self, Options, mounted};
use xtests::small::cannot_mount;
use xtests::testdisk::cache::Failing;

#[test]
fn nothing_promised_is_lost_whatever_fails() {
    let options = Options { steps: 60, each: Some(12), failures: 5, ..Options::default() };
    let summary = faults::run_all(&options, &mut |_, _, _| Ok(())).unwrap();
    println!("{}", summary.show());
    assert!(summary.failures.is_empty(), "{}", summary.failures.join("\n"));
    assert!(summary.rows.iter().map(|row| row.2).sum::<u64>() > 50, "the faults struck nothing");
}

fn with_a_mount(run: impl FnOnce() -> anyhow::Result<()>) {
    if !cannot_mount() {
        run().unwrap_or_else(|why| panic!("{why:#}"));
    }
}

#[test]
fn a_disk_that_fails_flushes_makes_the_mount_read_only() {
    with_a_mount(|| mounted::failing_disk(Failing::Flushes));
}

#[test]
fn a_disk_that_fails_writes_makes_the_mount_read_only() {
    with_a_mount(|| mounted::failing_disk(Failing::Writes));
}

#[test]
fn a_host_that_is_full_is_no_space_and_no_more() {
    with_a_mount(mounted::full_host);
}
