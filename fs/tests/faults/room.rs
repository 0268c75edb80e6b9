//! A host that has no room, and a device that refuses a write for a moment.

use gleanfs::device::memory::{Fault, FaultOp};
use gleanfs::error::Error;
use gleanfs::namespace::api::Namespace;
use rustix::io::Errno;

use super::{Bench, create, expect, write};

fn is_no_space(error: &Error) -> bool {
    match error {
        Error::NoSpace => true,
        Error::Device(e) => e.source.raw_os_error() == Some(Errno::NOSPC.raw_os_error()),
        _ => false,
    }
}

#[test]
fn a_host_without_room_is_no_space_until_it_has_some() {
    let bench = Bench::conventional();
    let mounted = bench.mount().unwrap();
    let fs = &mounted.filesystem;
    let ino = create(fs, "file");
    bench.device.plant(Fault::forever(FaultOp::Reserve, 0).with_errno(Errno::NOSPC));
    let mut written = 0;
    let refused = loop {
        match write(fs, ino, written, 1, 5) {
            Ok(()) => written += 1,
            Err(e) => break e,
        }
    };
    assert!(is_no_space(&refused), "{refused}");
    fs.sync().unwrap();
    // A checkpoint needs a segment sooner or later; it waits, and nothing ends.
    for _ in 0..80 {
        if let Err(e) = mounted.volume.checkpoint(false) {
            assert!(is_no_space(&e), "{e}");
        }
    }
    mounted.volume.writable().unwrap();
    bench.device.clear_faults();
    write(fs, ino, written, 100, 6).unwrap();
    mounted.volume.checkpoint(true).unwrap();
    drop(mounted);
    bench.check();
    let mounted = bench.mount().unwrap();
    let ino = super::find(&mounted.filesystem, "file");
    expect(&mounted.filesystem, ino, 0, written, 5);
    expect(&mounted.filesystem, ino, written, 100, 6);
}

#[test]
fn a_write_that_fails_once_is_written_again_in_its_place() {
    let bench = Bench::conventional();
    let mounted = bench.mount().unwrap();
    let fs = &mounted.filesystem;
    let ino = create(fs, "file");
    for n in 0..20 {
        write(fs, ino, n, 1, 5).unwrap();
        bench.device.plant(Fault::once(FaultOp::Write, 0));
        if n % 2 == 0 { fs.sync().unwrap() } else { mounted.volume.checkpoint(false).unwrap() }
    }
    assert_eq!(bench.device.struck(), 20);
    mounted.volume.writable().unwrap();
    let cut = bench.cut();
    expect(&cut.filesystem, super::find(&cut.filesystem, "file"), 0, 20, 5);
}

#[test]
fn room_that_cannot_be_given_back_to_the_host_is_used_again_all_the_same() {
    let bench = Bench::conventional();
    let mounted = bench.mount().unwrap();
    let fs = &mounted.filesystem;
    let ino = create(fs, "file");
    bench.device.plant(Fault::forever(FaultOp::Reset, 0));
    // Several times the device.
    for n in 0..200 {
        write(fs, ino, n % 4 * 100, 100, n as u8).unwrap();
    }
    assert!(bench.device.struck() > 0);
    assert_eq!(mounted.volume.bad_segments(), 0);
    fs.sync().unwrap();
    let cut = bench.cut();
    expect(&cut.filesystem, super::find(&cut.filesystem, "file"), 300, 100, 199);
}
