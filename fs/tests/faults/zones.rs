//! Zones that take nothing more: the segment is retired, and the filesystem goes on.

use gleanfs::device::memory::{Fault, FaultOp, Remains};
use gleanfs::device::{AlignedBuf, Device, ZoneCondition, ZonedSpec};
use gleanfs::error::Error;
use gleanfs::namespace::api::Namespace;
use gleanfs::trial::on_memory::{Mounted, OnMemory};

use super::{Bench, create, expect, find, write};

const ZONES: u32 = 74;

fn zoned() -> Bench {
    let spec = ZonedSpec {
        zones: ZONES,
        zone_blocks: 64,
        capacity_blocks: 60,
        conventional: 0,
        open_max: Some(12),
        active_max: Some(12),
    };
    Bench::new(OnMemory { zoned: Some(spec), cache_bytes: 1 << 20, ..OnMemory::default() })
}

/// Zones of the log that are being filled.
fn open_zones(bench: &Bench) -> Vec<u32> {
    let is_open = |zone: &u32| bench.device.zone(*zone).unwrap().condition == ZoneCondition::Open;
    (2..ZONES).filter(is_open).collect()
}

/// The zone that data goes to, by the header of its first chunk.
fn data_zone(bench: &Bench) -> u32 {
    let mut header = AlignedBuf::new(1);
    let holds_data = |zone: &u32| {
        bench.device.read(bench.device.zone(*zone).unwrap().start, &mut header).unwrap();
        header[6] != 15
    };
    open_zones(bench).into_iter().find(holds_data).unwrap()
}

/// A mount with a file of which a part is durable and a part on its way.
fn begun(bench: &Bench) -> Mounted {
    let mounted = bench.mount().unwrap();
    let ino = create(&mounted.filesystem, "file");
    write(&mounted.filesystem, ino, 0, 20, 5).unwrap();
    mounted.filesystem.sync().unwrap();
    write(&mounted.filesystem, ino, 20, 15, 6).unwrap();
    mounted
}

/// All of it is there, now, after a power cut, and after an unmount; and `bad` segments are out of use.
fn goes_on(bench: &Bench, mounted: Mounted, bad: u32) {
    let fs = &mounted.filesystem;
    let ino = find(fs, "file");
    fs.sync().unwrap();
    write(fs, ino, 35, 70, 7).unwrap();
    fs.sync().unwrap();
    mounted.volume.writable().unwrap();
    let all = |fs: &dyn Namespace| {
        let ino = find(fs, "file");
        expect(fs, ino, 0, 20, 5);
        expect(fs, ino, 20, 15, 6);
        expect(fs, ino, 35, 70, 7);
    };
    all(fs);
    all(&bench.cut().filesystem);
    mounted.volume.checkpoint(true).unwrap();
    assert_eq!(mounted.volume.bad_segments(), bad);
    drop(mounted);
    bench.check();
    let mounted = bench.mount().unwrap();
    assert_eq!(mounted.volume.bad_segments(), bad, "it is never used again");
    all(&mounted.filesystem);
}

#[test]
fn a_zone_that_turns_read_only_while_it_is_filled_is_left_for_another() {
    let bench = zoned();
    let mounted = begun(&bench);
    let zones = open_zones(&bench);
    assert_eq!(zones.len(), 2, "a head of data and that of nodes");
    zones.iter().for_each(|zone| bench.device.force_condition(*zone, ZoneCondition::ReadOnly));
    goes_on(&bench, mounted, 2);
}

#[test]
fn a_write_error_that_leaves_garbage_behind_the_pointer_retires_the_zone() {
    let bench = zoned();
    let mounted = begun(&bench);
    bench.device.plant(Fault::once(FaultOp::Write, 0).leaving(Remains::Garbage(2)));
    goes_on(&bench, mounted, 1);
}

#[test]
fn a_write_error_after_which_the_blocks_have_arrived_goes_on_behind_them() {
    let bench = zoned();
    let mounted = begun(&bench);
    bench.device.plant(Fault::once(FaultOp::Write, 0).leaving(Remains::Blocks(4)));
    goes_on(&bench, mounted, 0);
}

#[test]
fn a_zone_that_cannot_be_emptied_is_not_used_again() {
    let bench = zoned();
    let mounted = bench.mount().unwrap();
    let ino = create(&mounted.filesystem, "file");
    // Each is tried twice.
    bench.device.plant(Fault::once(FaultOp::Reset, 0));
    bench.device.plant(Fault::once(FaultOp::Reset, 1));
    for n in 0..200 {
        write(&mounted.filesystem, ino, n % 4 * 100, 100, n as u8).unwrap();
    }
    assert_eq!((bench.device.struck(), mounted.volume.bad_segments()), (2, 1));
    mounted.volume.checkpoint(true).unwrap();
    drop(mounted);
    bench.check();
    assert_eq!(bench.mount().unwrap().volume.bad_segments(), 1);
}

#[test]
fn what_lives_in_a_read_only_zone_is_moved_out_of_it() {
    let bench = zoned();
    let mounted = begun(&bench);
    let zone = data_zone(&bench);
    bench.device.force_condition(zone, ZoneCondition::ReadOnly);
    mounted.filesystem.sync().unwrap();
    mounted.volume.checkpoint(false).unwrap();
    for _ in 0..3 {
        mounted.cleaner.clean_one().unwrap();
        mounted.volume.checkpoint(false).unwrap();
    }
    // Nothing of it is missed when it is gone altogether.
    bench.device.force_condition(zone, ZoneCondition::Offline);
    goes_on(&bench, mounted, 1);
}

#[test]
fn what_lives_in_a_zone_that_is_gone_is_an_io_error_and_nothing_else_is() {
    let bench = zoned();
    let mounted = begun(&bench);
    let fs = &mounted.filesystem;
    let zone = data_zone(&bench);
    bench.device.force_condition(zone, ZoneCondition::Offline);
    let other = create(fs, "other");
    write(fs, other, 0, 30, 8).unwrap();
    fs.sync().unwrap();
    mounted.volume.writable().unwrap();
    let ino = find(fs, "file");
    let mut block = vec![0; 4096];
    assert!(matches!(fs.read(ino, 0, &mut block), Err(Error::Device(_))), "what was written to it is gone");
    // What was on its way went elsewhere.
    expect(fs, ino, 20, 15, 6);
    expect(fs, other, 0, 30, 8);
    mounted.volume.checkpoint(true).unwrap();
    drop(mounted);
    let mounted = bench.mount().unwrap();
    let fs = &mounted.filesystem;
    assert!(matches!(fs.read(find(fs, "file"), 0, &mut block), Err(Error::Device(_))));
    expect(fs, find(fs, "file"), 20, 15, 6);
    expect(fs, find(fs, "other"), 0, 30, 8);
    assert_eq!(mounted.volume.bad_segments(), 1);
}

#[test]
fn a_superblock_zone_that_takes_nothing_more_makes_the_mount_read_only() {
    for zone in 0..2 {
        let bench = zoned();
        let mounted = begun(&bench);
        bench.device.force_condition(0, ZoneCondition::ReadOnly);
        bench.device.force_condition(zone, ZoneCondition::ReadOnly);
        mounted.filesystem.sync().unwrap();
        assert!(mounted.volume.checkpoint(false).is_err());
        assert!(matches!(mounted.volume.writable(), Err(Error::Latched(_))));
        let ino = find(&mounted.filesystem, "file");
        expect(&mounted.filesystem, ino, 0, 20, 5);
        expect(&mounted.filesystem, ino, 20, 15, 6);
        drop(mounted);
        bench.check();
    }
}
