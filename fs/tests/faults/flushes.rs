//! A failed flush is the last one, and what it left in a cache is not taken for durable.

use gleanfs::device::memory::{Fault, FaultOp};
use gleanfs::error::Error;
use gleanfs::namespace::api::Namespace;

use super::{Bench, create, expect, find, write};

#[test]
fn nobody_flushes_again_after_a_flush_that_failed() {
    let bench = Bench::conventional();
    let mounted = bench.mount().unwrap();
    let fs = &mounted.filesystem;
    let ino = create(fs, "file");
    let held = bench.device.hold(FaultOp::Flush, 0);
    bench.device.plant(Fault::once(FaultOp::Flush, 0));
    std::thread::scope(|scope| {
        let first = scope.spawn(|| fs.sync());
        held.await_arrival();
        let flushes = bench.device.operations(FaultOp::Flush);
        // Written before the flush fails, so that its own flush would save nothing of it.
        write(fs, ino, 0, 3, 7).unwrap();
        let second = scope.spawn(|| fs.sync());
        held.release();
        assert!(first.join().unwrap().is_err());
        assert!(second.join().unwrap().is_err(), "the second sync is told that its data is durable");
        assert_eq!(bench.device.operations(FaultOp::Flush), flushes + 1);
    });
    assert!(matches!(mounted.volume.writable(), Err(Error::Latched(_))));
    expect(fs, ino, 0, 3, 7);
}

#[test]
fn what_a_failed_flush_left_in_the_cache_is_written_again_by_the_next_mount() {
    let bench = Bench::conventional();
    let mounted = bench.mount().unwrap();
    let ino = create(&mounted.filesystem, "file");
    write(&mounted.filesystem, ino, 0, 40, 7).unwrap();
    bench.device.plant(Fault::once(FaultOp::Flush, 0));
    assert!(mounted.filesystem.sync().is_err());
    drop(mounted);
    let mounted = bench.mount().unwrap();
    let ino = find(&mounted.filesystem, "file");
    expect(&mounted.filesystem, ino, 0, 40, 7);
    mounted.filesystem.sync().unwrap();
    let cut = bench.cut();
    expect(&cut.filesystem, find(&cut.filesystem, "file"), 0, 40, 7);
}

#[test]
fn a_superblock_that_cannot_be_read_is_no_reason_to_take_an_older_one() {
    let bench = Bench::conventional();
    let mounted = bench.mount().unwrap();
    let ino = create(&mounted.filesystem, "file");
    write(&mounted.filesystem, ino, 0, 9, 7).unwrap();
    mounted.volume.checkpoint(true).unwrap();
    drop(mounted);
    for slot in 0..2 {
        bench.device.plant(Fault::once(FaultOp::Read, slot));
        assert!(matches!(bench.mount().err(), Some(Error::Device(_))), "slot {slot}");
        bench.device.clear_faults();
    }
    bench.check();
    let mounted = bench.mount().unwrap();
    expect(&mounted.filesystem, find(&mounted.filesystem, "file"), 0, 9, 7);
}
