//! Cleaning in an emergency, and what of the log it needs, must not ask for memory: memory may be what waits for it.
//!
//! An allocator counts what the cleaning thread asks for, the device's own needs aside. Where each live extent is moved as a whole and joins no
//! neighbour, that has to be nothing at all for every victim that leaves the tree's nodes as they were but for addresses. What the tree may need beyond
//! that is measured and bounded.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use gleanfs::cleaner::{Cleaner, Pressure};
use gleanfs::device::{self, Device, Geometry, MemoryDevice, Traffic, Zone};
use gleanfs::error::Error;
use gleanfs::format::value::Time;
use gleanfs::meta::patience::without_waiting;
use gleanfs::meta::volume::{Volume, VolumeOptions};
use gleanfs::namespace::api::{Caller, Namespace, NewInode, NewKind};
use gleanfs::namespace::{Filesystem, Reaping};
use gleanfs::trial::Subject;
use gleanfs::trial::on_memory::OnMemory;
use gleanfs::trial::random::Random;
use gleanfs::types::{BLOCK_SIZE, BlockAddr, Ino};
use gleanfs_gc::placement::Ewma;
use gleanfs_gc::victim::Greedy;

thread_local! {
    /// Whether this thread's allocations count, and what they came to.
    static COUNTS: Cell<bool> = const { Cell::new(false) };
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
    static BYTES: Cell<u64> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: every call is handed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if COUNTS.get() {
            ALLOCATIONS.set(ALLOCATIONS.get() + 1);
            BYTES.set(BYTES.get() + layout.size() as u64);
        }
        // SAFETY: the caller's contract is the same.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, p: *mut u8, layout: Layout) {
        // SAFETY: the caller's contract is the same.
        unsafe { System.dealloc(p, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// Runs `work` with allocations counted or not.
fn with_counting<T>(counts: bool, work: impl FnOnce() -> T) -> T {
    let before = COUNTS.replace(counts);
    let done = work();
    COUNTS.set(before);
    done
}

/// A device in memory whose own allocations do not count.
struct Uncounted(Arc<MemoryDevice>);

impl Device for Uncounted {
    fn geometry(&self) -> Geometry {
        with_counting(false, || self.0.geometry())
    }
    fn zone(&self, zone: u32) -> device::Result<Zone> {
        with_counting(false, || self.0.zone(zone))
    }
    fn read(&self, addr: BlockAddr, buf: &mut [u8]) -> device::Result<()> {
        with_counting(false, || self.0.read(addr, buf))
    }
    fn write(&self, addr: BlockAddr, buf: &[u8]) -> device::Result<()> {
        with_counting(false, || self.0.write(addr, buf))
    }
    fn flush(&self) -> device::Result<()> {
        with_counting(false, || self.0.flush())
    }
    fn reserve(&self, zone: u32) -> device::Result<()> {
        with_counting(false, || self.0.reserve(zone))
    }
    fn finish(&self, zone: u32) -> device::Result<()> {
        with_counting(false, || self.0.finish(zone))
    }
    fn reset(&self, zone: u32) -> device::Result<()> {
        with_counting(false, || self.0.reset(zone))
    }
    fn traffic(&self) -> Traffic {
        self.0.traffic()
    }
}

/// Victims for a checkpoint beyond the emergency, so that it gives back more than it takes.
const CALM_VICTIMS: usize = 8;

/// What emergency cleaning came to.
#[derive(Debug, Default)]
struct Toll {
    segments: u64,
    /// Those at the end of which the tree's nodes were what they had been, but for addresses.
    settled: u64,
    moved_blocks: u64,
    allocations: u64,
    bytes: u64,
}

/// Share of what users may fill that is filled, in percent: enough for emergencies, while cleaning still gains.
const FILLED: u64 = 88;

/// A filesystem that is nearly full, with one file.
struct Full {
    subject: OnMemory,
    device: Arc<MemoryDevice>,
    volume: Arc<Volume>,
    cleaner: Arc<Cleaner>,
    filesystem: Filesystem,
    ino: Ino,
    blocks: u64,
    /// Extents are so short and so scattered that each is moved as a whole.
    moves_whole: bool,
}

impl Full {
    /// Of a file that was written `step` blocks at a time, in an order in which single blocks have no neighbours.
    fn new(step: u64) -> Self {
        let subject = OnMemory { segments: 128, segment_blocks: 256, ..OnMemory::default() };
        let device = subject.format().unwrap();
        let options = VolumeOptions {
            read_only: false,
            cache_bytes: 32 << 20,
            writer_threads: 0,
            heads: None,
            placement: Box::new(Ewma),
            kept: None,
        };
        let volume = Arc::new(Volume::open(Arc::new(Uncounted(Arc::clone(&device))), options).unwrap());
        let cleaner = Cleaner::new(Arc::clone(&volume), Box::new(Greedy), false);
        let clock = Box::new(|| Time { secs: 1_700_000_000, nanos: 0 });
        let filesystem = Filesystem::with_clock(Arc::clone(&volume), clock, Reaping::OnDemand).unwrap();
        let who = Caller { uid: 0, gid: 0, pid: 1 };
        let new = NewInode { kind: NewKind::File, perm: 0o600, umask: 0 };
        let ino = filesystem.create(&who, Ino::ROOT, b"file", &new).unwrap().ino;
        let mut full = Self { subject, device, volume, cleaner, filesystem, ino, blocks: 0, moves_whole: step == 1 };
        full.blocks = full.volume.usage().capacity * FILLED / 100 / step * step;
        let steps = full.blocks / step;
        // A prime, so that every step has its turn.
        let stride = if step == 1 { 10_007 } else { 1 };
        for n in 0..steps {
            assert!(full.write(n * stride % steps * step, step, &mut Toll::default()));
        }
        full
    }

    /// Writes blocks of their own number; false where the filesystem is full. Room that is lacking is made meanwhile.
    fn write(&self, first: u64, blocks: u64, toll: &mut Toll) -> bool {
        let data: Vec<u8> = (first..first + blocks).flat_map(|n| n.to_le_bytes().repeat(BLOCK_SIZE / 8)).collect();
        for _ in 0..100 {
            let offset = first * BLOCK_SIZE as u64;
            match without_waiting(|| self.filesystem.write(self.ino, offset, &data, false)) {
                Ok(()) => return true,
                Err(Error::MustWait) => self.make_room(toll),
                Err(Error::NoSpace) => return false,
                Err(e) => panic!("{e}"),
            }
        }
        panic!("there is no room to be had");
    }

    /// Cleans as long as it is an emergency, which counts, and takes a checkpoint, which does not.
    fn make_room(&self, toll: &mut Toll) {
        while self.cleaner.pressure() == Pressure::Emergency {
            let (allocations, bytes) = (ALLOCATIONS.get(), BYTES.get());
            let tree = self.volume.cached_bytes();
            let cleaned = with_counting(true, || without_waiting(|| self.cleaner.clean_one()));
            let (allocations, bytes) = (ALLOCATIONS.get() - allocations, BYTES.get() - bytes);
            toll.allocations += allocations;
            toll.bytes += bytes;
            if self.volume.cached_bytes() == tree && cleaned.is_ok() && self.moves_whole {
                toll.settled += 1;
                assert_eq!((allocations, bytes), (0, 0), "after {toll:?}");
            }
            match cleaned {
                Ok(Some(moved)) => {
                    toll.segments += 1;
                    toll.moved_blocks += u64::from(moved.blocks);
                }
                Ok(None) | Err(Error::MustWait | Error::NoSpace) => break,
                Err(e) => panic!("{e}"),
            }
        }
        for _ in 0..CALM_VICTIMS {
            match without_waiting(|| self.cleaner.clean_one()) {
                Ok(Some(_)) => {}
                Ok(None) | Err(Error::MustWait | Error::NoSpace) => break,
                Err(e) => panic!("{e}"),
            }
        }
        self.volume.checkpoint(false).unwrap();
        self.volume.log().prepare(2).unwrap();
    }

    /// Overwrites `step` blocks at a time, at random, `times` the file.
    fn overwrite(&self, step: u64, times: u64) -> Toll {
        let (mut toll, mut random) = (Toll::default(), Random::new(step));
        for _ in 0..times * self.blocks / step {
            let first = random.within(0..self.blocks / step) * step;
            assert!(self.write(first, step, &mut toll));
        }
        assert_eq!(self.cleaner.counters.lost_blocks.load(Ordering::Relaxed), 0);
        toll
    }

    fn verify(self) {
        let mut block = vec![0; BLOCK_SIZE];
        for n in 0..self.blocks {
            self.volume.read(self.ino, n, &mut block).unwrap();
            assert_eq!(block, n.to_le_bytes().repeat(BLOCK_SIZE / 8), "block {n}");
        }
        self.volume.checkpoint(true).unwrap();
        self.subject.check(&self.device).unwrap();
    }
}

#[test]
fn moving_whole_extents_in_an_emergency_asks_for_no_memory() {
    let full = Full::new(1);
    let toll = full.overwrite(1, 2);
    println!("{toll:?}");
    assert!(toll.segments > 100 && toll.moved_blocks > 10_000, "hardly an emergency: {toll:?}");
    assert!(toll.settled > toll.segments / 2, "hardly any victim shows it: {toll:?}");
    // A leaf that outgrew its block, here and there.
    assert!(toll.bytes <= 32 * toll.moved_blocks, "{toll:?}");
    full.verify();
}

#[test]
fn what_the_tree_needs_for_extents_in_parts_is_little() {
    let full = Full::new(24);
    full.overwrite(5, 1);
    let toll = full.overwrite(7, 1);
    println!("{toll:?}");
    assert!(toll.segments > 100 && toll.moved_blocks > 10_000, "hardly an emergency: {toll:?}");
    assert!(toll.allocations > 0, "the allocator does not count: {toll:?}");
    assert!(toll.bytes <= 4096 * toll.moved_blocks, "{toll:?}");
    full.verify();
}
