use std::path::PathBuf;

use super::*;
use crate::device::{AlignedBuf, ZoneFault};

const SPEC: ZonedSpec = ZonedSpec {
    zones: 6,
    zone_blocks: 16,
    capacity_blocks: 12,
    conventional: 1,
    open_max: Some(2),
    active_max: Some(3),
};

fn scratch() -> (tempfile::TempDir, PathBuf, ZonedImage) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("zones");
    ZonedImage::create(&path, SPEC).unwrap();
    let image = ZonedImage::open(&path, OpenMode::ReadWrite).unwrap();
    (dir, path, image)
}

fn filled(blocks: usize, byte: u8) -> AlignedBuf {
    let mut buf = AlignedBuf::new(blocks);
    buf.fill(byte);
    buf
}

fn fault(result: Result<()>) -> ZoneFault {
    let error = result.unwrap_err();
    error.source.get_ref().and_then(|e| e.downcast_ref::<ZoneFault>()).expect("a broken rule").clone()
}

#[test]
fn data_and_pointers_survive_being_reopened() {
    let (_dir, path, image) = scratch();
    image.reserve(1).unwrap();
    image.write(BlockAddr(16), &filled(3, 1)).unwrap();
    image.write(BlockAddr(19), &filled(2, 2)).unwrap();
    image.write(BlockAddr(5), &filled(1, 3)).unwrap();
    image.finish(2).unwrap();
    image.flush().unwrap();
    let size = |name: &str| std::fs::metadata(path.join(name)).unwrap().len();
    assert_eq!((size("seq-000001"), size("seq-000002")), (5 * 4096, 12 * 4096));
    let traffic = image.traffic();
    assert_eq!((traffic.written_bytes, traffic.writes, traffic.flushes), (6 * 4096, 3, 1));
    drop(image);
    let image = ZonedImage::open(&path, OpenMode::ReadOnly).unwrap();
    let zone = image.zone(1).unwrap();
    assert_eq!((zone.write_pointer, zone.condition, zone.capacity_blocks), (Some(5), ZoneCondition::Closed, 12));
    assert_eq!(image.zone(2).unwrap().condition, ZoneCondition::Full);
    let mut back = AlignedBuf::new(40);
    image.read(BlockAddr(0), &mut back).unwrap();
    let block = |n: usize| back[n * BLOCK_SIZE];
    assert_eq!((block(5), block(4), block(16), block(18), block(20), block(21), block(39)), (3, 0, 1, 1, 2, 0, 0));
    assert!(image.write(BlockAddr(21), &filled(1, 1)).is_err());
}

#[test]
fn rules_are_enforced_and_a_refused_write_changes_nothing() {
    let (_dir, path, image) = scratch();
    assert!(matches!(fault(image.write(BlockAddr(17), &filled(1, 1))), ZoneFault::OffPointer { zone: 1, .. }));
    image.write(BlockAddr(16), &filled(10, 1)).unwrap();
    assert!(matches!(fault(image.write(BlockAddr(26), &filled(3, 1))), ZoneFault::PastCapacity { .. }));
    assert_eq!(std::fs::metadata(path.join("seq-000001")).unwrap().len(), 10 * 4096);
    image.write(BlockAddr(32), &filled(1, 1)).unwrap();
    image.write(BlockAddr(48), &filled(1, 1)).unwrap();
    assert_eq!(image.zone(1).unwrap().condition, ZoneCondition::Closed);
    assert_eq!(fault(image.write(BlockAddr(64), &filled(1, 1))), ZoneFault::ActiveLimit { zone: 4, limit: 3 });
    image.write(BlockAddr(26), &filled(2, 1)).unwrap();
    assert_eq!(fault(image.write(BlockAddr(28), &filled(1, 1))), ZoneFault::Full { zone: 1 });
    image.write(BlockAddr(64), &filled(1, 1)).unwrap();
    assert!(image.write(BlockAddr(96), &filled(1, 1)).is_err());
}

#[test]
fn reset_empties_a_zone() {
    let (_dir, _path, image) = scratch();
    image.write(BlockAddr(16), &filled(4, 9)).unwrap();
    image.write(BlockAddr(0), &filled(4, 9)).unwrap();
    image.reset(1).unwrap();
    image.reset(0).unwrap();
    let zone = image.zone(1).unwrap();
    assert_eq!((zone.write_pointer, zone.condition), (Some(0), ZoneCondition::Empty));
    let mut back = filled(20, 1);
    image.read(BlockAddr(0), &mut back).unwrap();
    assert!(back.iter().all(|b| *b == 0));
    image.write(BlockAddr(16), &filled(12, 8)).unwrap();
    assert_eq!(image.traffic().resets, 2);
}

#[test]
fn failing_zones_refuse_what_hardware_refuses() {
    let (_dir, _path, image) = scratch();
    image.write(BlockAddr(16), &filled(4, 9)).unwrap();
    image.force_condition(1, ZoneCondition::ReadOnly);
    assert_eq!(fault(image.write(BlockAddr(20), &filled(1, 9))), ZoneFault::ReadOnly { zone: 1 });
    assert_eq!(fault(image.reset(1)), ZoneFault::ReadOnly { zone: 1 });
    let mut back = AlignedBuf::new(4);
    image.read(BlockAddr(16), &mut back).unwrap();
    assert!(back.iter().all(|b| *b == 9));
    image.force_condition(1, ZoneCondition::Offline);
    assert_eq!(fault(image.read(BlockAddr(16), &mut back)), ZoneFault::Offline { zone: 1 });
}

#[test]
fn a_part_of_a_block_left_by_a_crash_is_cut_off() {
    let (_dir, path, image) = scratch();
    image.write(BlockAddr(16), &filled(2, 9)).unwrap();
    drop(image);
    let file = File::options().write(true).open(path.join("seq-000001")).unwrap();
    file.set_len(2 * 4096 + 512).unwrap();
    let image = ZonedImage::open(&path, OpenMode::ReadWrite).unwrap();
    assert_eq!(image.zone(1).unwrap().write_pointer, Some(2));
    image.write(BlockAddr(18), &filled(1, 7)).unwrap();
    let mut back = AlignedBuf::new(3);
    image.read(BlockAddr(16), &mut back).unwrap();
    assert_eq!((back[4096], back[2 * 4096], file.metadata().unwrap().len()), (9, 7, 3 * 4096));
}

#[test]
fn a_zone_that_zloop_finished_is_full_and_a_wrong_size_is_refused() {
    let (_dir, path, image) = scratch();
    drop(image);
    let set = |name: &str, blocks: u64| {
        File::options().write(true).open(path.join(name)).unwrap().set_len(blocks * 4096).unwrap();
    };
    set("seq-000003", 16);
    let image = ZonedImage::open(&path, OpenMode::ReadOnly).unwrap();
    assert_eq!(image.zone(3).unwrap().condition, ZoneCondition::Full);
    set("seq-000003", 17);
    assert!(ZonedImage::open(&path, OpenMode::ReadOnly).unwrap_err().to_string().contains("seq-000003"));
    std::fs::remove_file(path.join("seq-000003")).unwrap();
    assert!(ZonedImage::open(&path, OpenMode::ReadOnly).unwrap_err().to_string().contains("seq-000003"));
}

#[test]
fn more_zones_than_open_files_work() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("zones");
    let spec = ZonedSpec { zones: 200, conventional: 0, open_max: None, active_max: None, ..SPEC };
    ZonedImage::create(&path, spec).unwrap();
    let image = ZonedImage::open(&path, OpenMode::ReadWrite).unwrap();
    for zone in 0..200u32 {
        image.write(BlockAddr(u64::from(zone) * 16), &filled(1, zone as u8)).unwrap();
    }
    image.flush().unwrap();
    assert!(image.handles.open_count() <= 128);
    let mut back = AlignedBuf::new(1);
    for zone in 0..200u32 {
        image.read(BlockAddr(u64::from(zone) * 16), &mut back).unwrap();
        assert_eq!(back[0], zone as u8);
    }
}
