//! Passes over a device in memory: what is found, and that nothing that moves is taken for damage.

use std::cell::Cell;
use std::sync::Arc;

use parking_lot::Mutex;

use gleanfs::cleaner::Cleaner;
use gleanfs::device::{AlignedBuf, Device, Geometry, MemoryDevice, Traffic, Zone};
use gleanfs::error::Result;
use gleanfs::fsck::{self, CheckOptions, Finding, Owner};
use gleanfs::meta::volume::{Volume, VolumeOptions};
use gleanfs::namespace::api::{Caller, Namespace, NewInode, NewKind};
use gleanfs::namespace::{Filesystem, Reaping};
use gleanfs::scrub::{Pace, Pass, Scrubber, State};
use gleanfs::trial::Subject;
use gleanfs::trial::on_memory::OnMemory;
use gleanfs::types::{BLOCK_SIZE, BlockAddr, Ino};

const WHO: Caller = Caller { uid: 0, gid: 0, pid: 1 };
const FILES: u64 = 40;
const FILE_BLOCKS: u64 = 9;

fn shape() -> OnMemory {
    OnMemory { segments: 100, segment_blocks: 64, ..OnMemory::default() }
}

fn open(device: Arc<dyn Device>, read_only: bool) -> Arc<Volume> {
    let placement = Box::new(gleanfs_gc::placement::NoSeparation);
    let options =
        VolumeOptions { read_only, cache_bytes: 64 << 10, writer_threads: 0, heads: Some(2), placement, kept: None };
    Arc::new(Volume::open(device, options).unwrap())
}

/// A mounted filesystem in memory.
struct Live {
    volume: Arc<Volume>,
    cleaner: Arc<Cleaner>,
    filesystem: Filesystem,
}

impl Live {
    fn on(device: Arc<dyn Device>) -> Self {
        let volume = open(device, false);
        let cleaner = Cleaner::new(Arc::clone(&volume), Box::new(gleanfs_gc::victim::Greedy), true);
        let clock = Box::new(gleanfs::format::value::Time::default);
        let filesystem = Filesystem::with_clock(Arc::clone(&volume), clock, Reaping::OnDemand).unwrap();
        Self { volume, cleaner, filesystem }
    }

    fn fill(&self) {
        for n in 0..FILES {
            let new = NewInode { kind: NewKind::File, perm: 0o600, umask: 0 };
            let ino = self.filesystem.create(&WHO, Ino::ROOT, format!("file-{n}").as_bytes(), &new).unwrap().ino;
            self.overwrite(ino, n as u8);
        }
    }

    fn overwrite(&self, ino: Ino, byte: u8) {
        for block in 0..FILE_BLOCKS {
            let bytes = [byte ^ block as u8; BLOCK_SIZE];
            self.filesystem.write(ino, block * BLOCK_SIZE as u64, &bytes, false).unwrap();
        }
    }
}

/// An image that was filled and unmounted.
fn filled() -> Arc<MemoryDevice> {
    let device = shape().format().unwrap();
    let live = Live::on(device.clone());
    live.fill();
    live.volume.checkpoint(true).unwrap();
    device
}

/// Every block that a pass over `volume` verifies.
fn visited(volume: &Volume) -> Vec<(Owner, BlockAddr)> {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let told = Arc::clone(&seen);
    let mut pass = Pass::told_to(Box::new(move |owner, addr| told.lock().push((owner, addr))));
    pass.run(volume).unwrap();
    assert_eq!(pass.findings(), []);
    std::mem::take(&mut seen.lock())
}

#[test]
fn a_pass_reads_every_live_block_once() {
    let device = filled();
    let blocks = visited(&open(device.clone(), true));
    let report = fsck::check(device, &CheckOptions::default(), &mut |_, _| {}).unwrap();
    let distinct: std::collections::BTreeSet<_> = blocks.iter().map(|(_, addr)| *addr).collect();
    assert_eq!((blocks.len() as u64, distinct.len()), (report.live_blocks, blocks.len()));
}

#[test]
fn damage_in_any_live_block_is_found_and_nothing_else() {
    let device = filled();
    let volume = open(device.clone(), true);
    for (n, (owner, addr)) in visited(&volume).into_iter().enumerate() {
        let mut before = AlignedBuf::new(1);
        device.read(addr, &mut before).unwrap();
        device.tamper(addr, |block| block[n % BLOCK_SIZE] ^= 1 << (n % 8));
        let mut pass = Pass::default();
        pass.run(&volume).unwrap();
        let found: Vec<_> = pass.findings().to_vec();
        // Of a page that is not in memory what it names cannot be read either, which is not told again.
        assert!(
            matches!(&found[..], [Finding::Damaged { owner: named, addr: at, .. }] if (*named, *at) == (owner, addr)),
            "{owner}: {found:?}"
        );
        assert_eq!(pass.summary().bad_blocks, 1);
        device.tamper(addr, |block| block.copy_from_slice(&before));
    }
}

#[test]
fn an_unreadable_block_and_a_bad_slot_are_found() {
    let device = filled();
    let volume = open(device.clone(), true);
    let (owner, addr) = *visited(&volume).last().unwrap();
    device.poison(addr);
    let mut pass = Pass::default();
    pass.run(&volume).unwrap();
    assert!(
        matches!(pass.findings(), [Finding::Unreadable { owner: o, addr: a, .. }] if (*o, *a) == (owner, addr)),
        "{:?}",
        pass.findings()
    );
    let device = filled();
    let volume = open(device.clone(), true);
    for slot in [BlockAddr(0), BlockAddr(8)] {
        device.tamper(slot, |block| block[100] ^= 1);
        let mut pass = Pass::default();
        pass.run(&volume).unwrap();
        assert!(matches!(pass.findings(), [Finding::BadSlot { slot: at, .. }] if *at == slot), "{:?}", pass.findings());
        device.tamper(slot, |block| block[100] ^= 1);
    }
}

#[test]
fn metadata_that_memory_holds_is_written_anew() {
    let device = shape().format().unwrap();
    let live = Live::on(device.clone());
    live.fill();
    live.volume.checkpoint(false).unwrap();
    let blocks = visited(&live.volume);
    let nodes: Vec<BlockAddr> =
        blocks.iter().filter(|(owner, _)| !matches!(owner, Owner::Data { .. })).map(|(_, addr)| *addr).collect();
    nodes.iter().for_each(|addr| device.tamper(*addr, |block| block[200] ^= 1));
    device.tamper(BlockAddr(0), |block| block[200] ^= 1);
    device.tamper(BlockAddr(8), |block| block[200] ^= 1);
    let mut pass = Pass::default();
    pass.run(&live.volume).unwrap();
    let summary = pass.summary();
    assert!(summary.bad_blocks > nodes.len() as u64 / 2, "{summary:?}");
    assert_eq!(summary.renewed_blocks, summary.bad_blocks, "the cache holds all of it: {summary:?}");
    live.volume.checkpoint(false).unwrap();
    live.volume.checkpoint(true).unwrap();
    drop(live);
    shape().check(&device).unwrap();
}

thread_local! {
    static IS_MEDDLING: Cell<bool> = const { Cell::new(false) };
}

type Meddling = Box<dyn Fn() + Send + Sync>;

/// A device that does something else before each read.
struct Meddled {
    device: Arc<MemoryDevice>,
    meddle: Mutex<Option<Arc<Meddling>>>,
}

impl Device for Meddled {
    fn geometry(&self) -> Geometry {
        self.device.geometry()
    }

    fn zone(&self, zone: u32) -> gleanfs::device::Result<Zone> {
        self.device.zone(zone)
    }

    fn read(&self, addr: BlockAddr, buf: &mut [u8]) -> gleanfs::device::Result<()> {
        let meddle = self.meddle.lock().clone();
        if let Some(meddle) = meddle.filter(|_| !IS_MEDDLING.replace(true)) {
            meddle();
            IS_MEDDLING.set(false);
        }
        self.device.read(addr, buf)
    }

    fn write(&self, addr: BlockAddr, buf: &[u8]) -> gleanfs::device::Result<()> {
        self.device.write(addr, buf)
    }

    fn flush(&self) -> gleanfs::device::Result<()> {
        self.device.flush()
    }

    fn reserve(&self, zone: u32) -> gleanfs::device::Result<()> {
        self.device.reserve(zone)
    }

    fn finish(&self, zone: u32) -> gleanfs::device::Result<()> {
        self.device.finish(zone)
    }

    fn reset(&self, zone: u32) -> gleanfs::device::Result<()> {
        self.device.reset(zone)
    }

    fn traffic(&self) -> Traffic {
        self.device.traffic()
    }

    fn grow(&self, blocks: Option<u64>) -> gleanfs::device::Result<Geometry> {
        self.device.grow(blocks)
    }
}

/// Between the look-up and the read of each block the segments are cleaned and given back: reads find zeros, or somebody else's blocks.
#[test]
fn what_moves_between_look_up_and_read_is_no_damage() {
    let device = shape().format().unwrap();
    let meddled = Arc::new(Meddled { device: device.clone(), meddle: Mutex::new(None) });
    let live = Arc::new(Live::on(meddled.clone()));
    live.fill();
    live.volume.checkpoint(false).unwrap();
    let moving = Arc::clone(&live);
    *meddled.meddle.lock() = Some(Arc::new(Box::new(move || {
        // Most of it: the rest is open. The reset fills what was there with zeros.
        for _ in 0..4 {
            moving.cleaner.clean_one().unwrap();
        }
        moving.volume.checkpoint(false).unwrap();
    })));
    let mut pass = Pass::default();
    pass.run(&live.volume).unwrap();
    *meddled.meddle.lock() = None;
    let summary = pass.summary();
    assert_eq!(pass.findings(), []);
    assert!(summary.moved_blocks > 0 && summary.data_blocks >= FILES * FILE_BLOCKS, "{summary:?}");
    live.volume.checkpoint(true).unwrap();
    shape().check(&device).unwrap();
}

/// The same with writers and removal on other threads, as often as it takes.
#[test]
fn writers_cleaning_and_checkpoints_raise_no_false_alarm() -> Result<()> {
    let device = shape().format().unwrap();
    let live = Live::on(device.clone());
    live.fill();
    let scrubber = Scrubber::new(Arc::clone(&live.volume), Box::new(|| false));
    let mut moved = 0;
    for round in 0..20u8 {
        scrubber.start(Pace::BytesPerSec(u64::MAX))?;
        for n in 0..FILES {
            live.overwrite(Ino(Ino::FIRST_USER.0 + n), n as u8 ^ round);
            live.cleaner.clean_one()?;
            live.volume.checkpoint(false)?;
        }
        scrubber.stop();
        let summary = scrubber.summary();
        assert!(summary.findings.is_empty() && summary.failure.is_none(), "{summary:?}");
        moved += summary.moved_blocks;
    }
    scrubber.start(Pace::BytesPerSec(u64::MAX))?;
    scrubber.wait();
    let summary = scrubber.summary();
    assert_eq!((summary.state, summary.bad_blocks), (State::Done, 0), "{summary:?}");
    println!("{moved} blocks had moved when they were read");
    live.volume.checkpoint(true)
}

#[test]
fn a_pass_that_is_stopped_goes_on_where_it_was() {
    let volume = open(filled(), true);
    let mut pass = Pass::default();
    let mut pieces = 0;
    while pass.step(&volume).unwrap() {
        pieces += 1;
    }
    let whole = pass.summary();
    let scrubber = Scrubber::new(volume, Box::new(|| false));
    let mut starts = 0;
    while scrubber.summary().state != State::Done {
        // So slow that it is stopped after its first piece, unless it was the last.
        scrubber.start(Pace::BytesPerSec(1)).unwrap();
        let waiting = scrubber.summary().state == State::Running;
        scrubber.stop();
        starts += u32::from(waiting);
        assert!(starts <= pieces + 2, "it does not get on");
    }
    assert_eq!(scrubber.summary().data_blocks, whole.data_blocks);
}
