//! The background threads alone keep a nearly full filesystem going: whoever waits for room is served, with no timer to come to the rescue.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use gleanfs::cleaner::{Background, Cleaner};
use gleanfs::device::{Device, MemoryDevice, ZonedSpec};
use gleanfs::error::Error;
use gleanfs::meta::volume::{Volume, VolumeOptions};
use gleanfs::namespace::Filesystem;
use gleanfs::namespace::api::{Caller, Namespace, NewInode, NewKind};
use gleanfs::trial::Subject;
use gleanfs::trial::on_memory::OnMemory;
use gleanfs::trial::random::Random;
use gleanfs::types::{BLOCK_SIZE, Ino};
use gleanfs_gc::placement::Ewma;
use gleanfs_gc::victim::CostAgeClass;

const WHO: Caller = Caller { uid: 0, gid: 0, pid: 1 };
const WRITERS: u64 = 4;
/// Overwrites between two syncs of a writer.
const SYNC_EVERY: u64 = 256;
/// Longer than any machine takes for what has to happen, shorter than what gives up.
const HANGS: Duration = Duration::from_secs(10);

/// Fills the device to the last block that users may have and overwrites at random, `times` its capacity.
fn overwrite_a_full_one(device: Arc<MemoryDevice>, times: u64) {
    let options = VolumeOptions {
        read_only: false,
        cache_bytes: 8 << 20,
        writer_threads: 2,
        heads: None,
        placement: Box::new(Ewma),
        kept: None,
    };
    let volume = Arc::new(Volume::open(device as Arc<dyn Device>, options).unwrap());
    let writers = volume.log().start_writers().unwrap();
    let cleaner = Cleaner::new(Arc::clone(&volume), Box::new(CostAgeClass), false);
    // Nothing is overdue within the test.
    let background = Background::start(Arc::clone(&cleaner), Duration::from_secs(3600)).unwrap();
    let filesystem = Filesystem::new(Arc::clone(&volume)).unwrap();
    let new = NewInode { kind: NewKind::File, perm: 0o600, umask: 0 };
    let ino = filesystem.create(&WHO, Ino::ROOT, b"file", &new).unwrap().ino;
    let mut blocks = 0;
    let block = |n: u64| n.to_le_bytes().repeat(BLOCK_SIZE / 8);
    loop {
        match filesystem.write(ino, blocks * BLOCK_SIZE as u64, &block(blocks), false) {
            Ok(()) => blocks += 1,
            Err(Error::NoSpace) => break,
            Err(e) => panic!("{e}"),
        }
    }
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            let (filesystem, block) = (&filesystem, &block);
            scope.spawn(move || {
                let mut random = Random::new(writer);
                for n in 1..=times * blocks / WRITERS {
                    let at = random.within(0..blocks);
                    filesystem.write(ino, at * BLOCK_SIZE as u64, &block(n), false).unwrap();
                    if n % SYNC_EVERY == 0 {
                        filesystem.sync().unwrap();
                    }
                }
            });
        }
    });
    let longest = Duration::from_micros(cleaner.counters.longest_wait_us.load(Ordering::Relaxed));
    assert!(longest < HANGS, "somebody waited for {longest:?}");
    assert!(volume.extensions_done() > 0, "checkpoints alone gave segments back");
    filesystem.stop();
    background.stop();
    volume.checkpoint(true).unwrap();
    volume.log().stop();
    writers.into_iter().for_each(|writer| writer.join().unwrap());
}

#[test]
fn a_full_conventional_device_is_overwritten_without_a_hang() {
    let subject = OnMemory { segments: 128, segment_blocks: 256, ..OnMemory::default() };
    let device = subject.format().unwrap();
    overwrite_a_full_one(Arc::clone(&device), 3);
    subject.check(&device).unwrap();
}

#[test]
fn a_full_zoned_device_is_overwritten_without_a_hang() {
    let spec = ZonedSpec {
        zones: 128,
        zone_blocks: 288,
        capacity_blocks: 256,
        conventional: 0,
        open_max: Some(12),
        active_max: Some(12),
    };
    let subject = OnMemory { zoned: Some(spec), ..OnMemory::default() };
    let device = subject.format().unwrap();
    overwrite_a_full_one(Arc::clone(&device), 3);
    subject.check(&device).unwrap();
}
