//! One operation of the device that takes as long as it likes holds up only those who wait for it.

use gleanfs::device::memory::FaultOp;
use gleanfs::namespace::api::Namespace;
use gleanfs::types::Ino;

use super::{Bench, create, expect, write};

fn held_up(op: FaultOp) {
    let bench = Bench::conventional();
    let mounted = bench.mount().unwrap();
    let fs = &mounted.filesystem;
    let (old, new) = (create(fs, "old"), create(fs, "new"));
    write(fs, old, 0, 8, 5).unwrap();
    fs.sync().unwrap();
    write(fs, new, 0, 8, 6).unwrap();
    let held = bench.device.hold(op, 0);
    std::thread::scope(|scope| {
        let synced = scope.spawn(|| fs.sync());
        held.await_arrival();
        // On this thread, so that the test ends only if none of it waits.
        expect(fs, old, 0, 8, 5);
        expect(fs, new, 0, 8, 6);
        assert_eq!(fs.lookup(Ino::ROOT, b"old").unwrap().ino, old);
        let another = create(fs, "another");
        write(fs, another, 0, 8, 7).unwrap();
        expect(fs, another, 0, 8, 7);
        assert!(!synced.is_finished());
        held.release();
        synced.join().unwrap().unwrap();
    });
    mounted.volume.checkpoint(true).unwrap();
    drop(mounted);
    bench.check();
}

#[test]
fn a_write_that_takes_long_holds_up_only_who_waits_for_it() {
    held_up(FaultOp::Write);
}

#[test]
fn a_flush_that_takes_long_holds_up_only_who_waits_for_it() {
    held_up(FaultOp::Flush);
}
