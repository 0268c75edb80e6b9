//! Growing: the room is there at once, a cut leaves the old size or the new one, what cannot be is refused.

use std::sync::Arc;

use gleanfs::device::{Device, MemoryDevice, ZonedSpec};
use gleanfs::error::Error;
use gleanfs::format::value::Time;
use gleanfs::fsck::{CheckOptions, check};
use gleanfs::meta::tune::{Changes, tune};
use gleanfs::namespace::api::{Caller, Namespace, NewInode, NewKind};
use gleanfs::trial::Subject;
use gleanfs::trial::on_memory::{Mounted, OnMemory};
use gleanfs::types::{BLOCK_SIZE, Ino};

const BLOCK: u64 = BLOCK_SIZE as u64;
/// More blocks than any device here has.
const ALL: u64 = 1 << 30;
const WHO: Caller = Caller { uid: 0, gid: 0, pid: 1 };

fn plain() -> OnMemory {
    OnMemory { segments: 48, segment_blocks: 32, ..OnMemory::default() }
}

/// Sequential zones only, so that the superblock is a log.
fn zoned() -> OnMemory {
    let spec = ZonedSpec {
        zones: 40,
        zone_blocks: 64,
        capacity_blocks: 40,
        conventional: 0,
        open_max: Some(8),
        active_max: Some(8),
    };
    OnMemory { zoned: Some(spec), ..OnMemory::default() }
}

fn mount(subject: &OnMemory, device: &Arc<MemoryDevice>) -> Mounted {
    subject.mount(device, Arc::new(|| Time { secs: 1_700_000_000, nanos: 0 })).unwrap()
}

/// Bytes of a device `times` as long, and of the segments of it.
fn longer(device: &MemoryDevice, times: u64) -> u64 {
    device.geometry().address_blocks() * BLOCK * times
}

fn create(mounted: &Mounted, name: &str) -> Ino {
    let new = NewInode { kind: NewKind::File, perm: 0o644, umask: 0 };
    mounted.filesystem.create(&WHO, Ino::ROOT, name.as_bytes(), &new).unwrap().ino
}

fn contents(block: u64) -> Vec<u8> {
    block.to_le_bytes().repeat(BLOCK_SIZE / 8)
}

/// Appends blocks from `first` on until there is no space, at most `most`; how many the file has then.
fn fill(mounted: &Mounted, ino: Ino, first: u64, most: u64) -> u64 {
    for block in first..first + most {
        match mounted.filesystem.write(ino, block * BLOCK, &contents(block), false) {
            Ok(()) => {}
            Err(Error::NoSpace) => return block,
            Err(e) => panic!("block {block}: {e}"),
        }
    }
    first + most
}

fn demand(mounted: &Mounted, name: &str, blocks: u64) {
    let attr = mounted.filesystem.lookup(Ino::ROOT, name.as_bytes()).unwrap();
    assert!(attr.size >= blocks * BLOCK, "{} of {blocks} blocks", attr.size / BLOCK);
    let mut buf = vec![0; BLOCK_SIZE];
    for block in 0..blocks {
        mounted.filesystem.read(attr.ino, block * BLOCK, &mut buf).unwrap();
        assert!(buf == contents(block), "block {block}");
    }
}

fn sound(device: &Arc<MemoryDevice>) {
    let report = check(device.clone(), &CheckOptions::default(), &mut |_, _| {}).unwrap();
    assert!(report.findings.iter().all(|f| f.kind() == "bad_slot"), "{:?}", report.findings);
}

#[test]
fn the_room_is_there_at_once_and_can_be_filled_and_overwritten() {
    for subject in [plain(), zoned()] {
        let device = subject.format().unwrap();
        let mounted = mount(&subject, &device);
        let file = create(&mounted, "file");
        let full = fill(&mounted, file, 0, ALL);
        let before = mounted.filesystem.space().unwrap();
        let grown = mounted.volume.grow(Some(longer(&device, 4))).unwrap().unwrap();
        let after = mounted.filesystem.space().unwrap();
        assert!(grown.after.segments == 4 * grown.before.segments);
        assert!(after.blocks > 4 * before.blocks && after.available > 3 * before.blocks, "{before:?} {after:?}");
        let more = fill(&mounted, file, full, ALL);
        assert!(more > 4 * full, "{full} blocks before, {more} after");
        // Full again: overwriting goes on.
        assert_eq!(fill(&mounted, file, 0, more / 2), more / 2);
        demand(&mounted, "file", more);
        subject.unmount(&device, mounted).unwrap();
        sound(&device);
        let mounted = mount(&subject, &device);
        assert_eq!(mounted.filesystem.space().unwrap().blocks, after.blocks);
        demand(&mounted, "file", more);
        // Nothing is left to take.
        assert!(mounted.volume.grow(None).unwrap().is_none());
    }
}

#[test]
fn growing_step_by_step_goes_far() {
    let subject = plain();
    let device = subject.format().unwrap();
    let mounted = mount(&subject, &device);
    let file = create(&mounted, "file");
    let mut blocks = 0;
    for _ in 0..5 {
        blocks = fill(&mounted, file, blocks, 700);
        fill(&mounted, file, 0, blocks / 3);
        mounted.volume.grow(Some(longer(&device, 2))).unwrap().unwrap();
        sound(&Arc::new(device.snapshot()));
    }
    demand(&mounted, "file", blocks);
    let made = mounted.volume.identity();
    assert_eq!(made.segments, 48 << 5);
    // What mkfs would have given.
    assert!(made.capacity_blocks as f64 > 0.93 * f64::from(made.segments * made.segment_blocks));
}

#[test]
fn a_cut_at_any_write_leaves_the_old_size_or_the_new_one() {
    for subject in [plain(), zoned()] {
        let device = subject.format().unwrap();
        let mounted = mount(&subject, &device);
        let file = create(&mounted, "file");
        fill(&mounted, file, 0, 200);
        mounted.filesystem.sync().unwrap();
        // Some that only the log has, and some that nobody has.
        fill(&mounted, file, 200, 40);
        mounted.filesystem.sync().unwrap();
        create(&mounted, "perhaps");
        drop(mounted);
        let (mut old_sizes, mut new_sizes) = (0, 0);
        for writes in 0.. {
            let device = Arc::new(device.snapshot());
            let mounted = mount(&subject, &device);
            device.crash_after(writes);
            let size = longer(&device, 3);
            let old = mounted.volume.identity().segments;
            let outcome = mounted.volume.grow(Some(size));
            for seed in 0..6 {
                let after = Arc::new(device.crash(seed));
                sound(&after);
                let again = mount(&subject, &after);
                let segments = again.volume.identity().segments;
                assert!([old, 3 * old].contains(&segments), "{segments}");
                assert!(outcome.is_err() || segments == 3 * old, "what was acknowledged is lost");
                demand(&again, "file", 240);
                // It goes on from there, whichever it is.
                again.volume.grow(Some(size)).unwrap();
                let most = fill(&again, create(&again, "more"), 0, 400);
                assert_eq!(most, 400);
                *(if segments == old { &mut old_sizes } else { &mut new_sizes }) += 1;
            }
            if !device.power_is_gone() {
                break;
            }
        }
        assert!(old_sizes > 0 && new_sizes > 0, "{old_sizes} {new_sizes}");
    }
}

#[test]
fn new_names_survive_a_cut_or_the_old_ones_do() {
    let changes = Changes { label: Some("new".into()), uuid: Some([5; 16]) };
    for subject in [plain(), zoned()] {
        let device = subject.format().unwrap();
        let mounted = mount(&subject, &device);
        let file = create(&mounted, "file");
        fill(&mounted, file, 0, 40);
        mounted.filesystem.sync().unwrap();
        drop(mounted);
        for (writes, seed) in (0..3).flat_map(|writes| (0..8).map(move |seed| (writes, seed))) {
            let device = Arc::new(device.snapshot());
            device.crash_after(writes);
            let outcome = tune(device.clone(), &changes);
            let after = Arc::new(device.crash(seed));
            sound(&after);
            let again = mount(&subject, &after);
            let now = again.volume.identity();
            let is_new = (now.label.as_str(), now.uuid) == ("new", [5; 16]);
            assert!(is_new || (now.label.as_str(), now.uuid) == ("", [7; 16]), "{now:?}");
            assert!(is_new || outcome.is_err());
            demand(&again, "file", 40);
        }
    }
}

#[test]
fn what_cannot_be_is_refused_and_changes_nothing() {
    let subject = plain();
    let device = subject.format().unwrap();
    let mounted = mount(&subject, &device);
    let (before, writes) = (mounted.volume.identity(), device.traffic().writes);
    let refusal = |bytes| match mounted.volume.grow(Some(bytes)) {
        Err(Error::Refused(line)) => line,
        other => panic!("{bytes}: {other:?}"),
    };
    assert!(refusal(longer(&device, 1) - BLOCK).contains("shrink"));
    assert!(refusal(0).contains("shrink"));
    assert!(refusal(u64::MAX).contains("at most"));
    // 2^19 segments of 128 KiB are 64 GiB.
    assert!(refusal(65 << 30).contains("at most 65536 MiB"));
    // Less than a segment more is nothing.
    assert!(mounted.volume.grow(Some(longer(&device, 1) + BLOCK)).unwrap().is_none());
    assert_eq!((mounted.volume.identity(), device.traffic().writes), (before, writes));
}
