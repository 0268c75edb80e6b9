//! What cannot be read now is not lost for good.

use gleanfs::device::memory::{Fault, FaultOp};
use gleanfs::namespace::api::Namespace;

use super::{Bench, create, expect, find, write};

/// Two files whose blocks stand side by side in many segments; every second block is dead.
fn half_dead() -> (Bench, gleanfs::trial::on_memory::Mounted) {
    let bench = Bench::conventional();
    let mounted = bench.mount().unwrap();
    let fs = &mounted.filesystem;
    let (kept, gone) = (create(fs, "kept"), create(fs, "gone"));
    for n in 0..200 {
        write(fs, kept, n, 1, 5).unwrap();
        write(fs, gone, n, 1, 6).unwrap();
    }
    mounted.volume.checkpoint(false).unwrap();
    fs.unlink(gleanfs::types::Ino::ROOT, b"gone").unwrap();
    fs.forget(gone);
    while fs.reap(16).unwrap() > 0 {}
    mounted.volume.checkpoint(false).unwrap();
    (bench, mounted)
}

#[test]
fn a_device_that_gives_nothing_for_a_while_costs_the_cleaner_no_block() {
    let (bench, mounted) = half_dead();
    bench.device.plant(Fault::forever(FaultOp::Read, 0));
    let mut tried = 0;
    while mounted.cleaner.clean_one().unwrap().is_some() {
        tried += 1;
        assert!(tried < 200, "the same segments are tried again and again");
    }
    assert!(tried > 3, "{tried}");
    bench.device.clear_faults();
    mounted.volume.checkpoint(true).unwrap();
    drop(mounted);
    bench.check();
    let mounted = bench.mount().unwrap();
    expect(&mounted.filesystem, find(&mounted.filesystem, "kept"), 0, 200, 5);
    let moved = (0..tried).filter(|_| mounted.cleaner.clean_one().unwrap().is_some_and(|m| m.blocks > 0)).count();
    assert!(moved > 0, "the next mount tries them again");
}

#[test]
fn one_error_is_read_past() {
    let (bench, mounted) = half_dead();
    // The first reads are of summaries; one of the others is of data, whatever their number is.
    for spared in 0..6 {
        bench.device.plant(Fault::once(FaultOp::Read, spared));
        mounted.cleaner.clean_one().unwrap();
        bench.device.clear_faults();
    }
    let lost = mounted.cleaner.counters.lost_blocks.load(std::sync::atomic::Ordering::Relaxed);
    assert_eq!(lost, 0);
    expect(&mounted.filesystem, find(&mounted.filesystem, "kept"), 0, 200, 5);
}

#[test]
fn blocks_that_the_device_does_not_give_are_not_lost() {
    let (bench, mounted) = half_dead();
    // After the reads of summaries, which are the first, everything fails: whole runs, and each block of them alone.
    for spared in 0..6 {
        bench.device.plant(Fault::forever(FaultOp::Read, spared));
        mounted.cleaner.clean_one().unwrap();
        bench.device.clear_faults();
    }
    let lost = mounted.cleaner.counters.lost_blocks.load(std::sync::atomic::Ordering::Relaxed);
    assert_eq!(lost, 0);
    expect(&mounted.filesystem, find(&mounted.filesystem, "kept"), 0, 200, 5);
}
