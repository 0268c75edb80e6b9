//! Small devices filled to the last block that users may have, overwritten, and emptied: the reserves are enough (I5).

use std::collections::BTreeMap;
use std::sync::Arc;

use gleanfs::device::{MemoryDevice, ZonedSpec};
use gleanfs::error::Error;
use gleanfs::format::value::Time;
use gleanfs::namespace::api::{Caller, Namespace, NewInode, NewKind};
use gleanfs::trial::Subject;
use gleanfs::trial::on_memory::{Mounted, OnMemory};
use gleanfs::trial::random::Random;
use gleanfs::types::{BLOCK_SIZE, Ino};

const BLOCK: u64 = BLOCK_SIZE as u64;
const FILE_BLOCKS: u64 = 48;
const WHO: Caller = Caller { uid: 0, gid: 0, pid: 1 };

/// `zones` sequential zones of `blocks` blocks.
fn zoned(zones: u32, blocks: u32) -> OnMemory {
    let spec = ZonedSpec {
        zones,
        zone_blocks: blocks + blocks / 8,
        capacity_blocks: blocks,
        conventional: 0,
        open_max: Some(12),
        active_max: Some(12),
    };
    OnMemory { zoned: Some(spec), cache_bytes: 1 << 20, ..OnMemory::default() }
}

fn plain(segments: u32, segment_blocks: u32) -> OnMemory {
    OnMemory { segments, segment_blocks, cache_bytes: 1 << 20, ..OnMemory::default() }
}

/// A filesystem under work, and what must be in it.
struct Full {
    subject: OnMemory,
    device: Arc<MemoryDevice>,
    mounted: Mounted,
    files: Vec<(String, Ino)>,
    /// Stamp of each block, by file and block.
    stamps: BTreeMap<(Ino, u64), u64>,
    random: Random,
    next: u64,
}

impl Full {
    fn new(subject: OnMemory) -> Self {
        let device = subject.format().unwrap();
        let mounted = subject.mount(&device, Arc::new(|| Time { secs: 1_700_000_000, nanos: 0 })).unwrap();
        let random = Random::new(7);
        Self { subject, device, mounted, files: Vec::new(), stamps: BTreeMap::new(), random, next: 0 }
    }

    /// Writes one block; false if there is no space.
    fn write(&mut self, ino: Ino, block: u64) -> bool {
        self.next += 1;
        let data = self.next.to_le_bytes().repeat(BLOCK_SIZE / 8);
        match self.mounted.filesystem.write(ino, block * BLOCK, &data, false) {
            Ok(()) => drop(self.stamps.insert((ino, block), self.next)),
            Err(Error::NoSpace) => return false,
            Err(e) => panic!("{e}"),
        }
        true
    }

    /// Makes files until there is no space for one block more.
    fn fill(&mut self) {
        loop {
            let name = format!("file {}", self.next);
            let new = NewInode { kind: NewKind::File, perm: 0o644, umask: 0 };
            let ino = match self.mounted.filesystem.create(&WHO, Ino::ROOT, name.as_bytes(), &new) {
                Ok(attr) => attr.ino,
                Err(Error::NoSpace) => break,
                Err(e) => panic!("{e}"),
            };
            self.files.push((name, ino));
            if !(0..FILE_BLOCKS).all(|block| self.write(ino, block)) {
                break;
            }
        }
        let usage = self.mounted.volume.usage();
        assert!(usage.used + 3 * FILE_BLOCKS > usage.capacity, "{usage:?}");
    }

    /// Overwrites blocks at random; there must be room for each.
    fn overwrite(&mut self, times: u64) {
        let blocks: Vec<(Ino, u64)> = self.stamps.keys().copied().collect();
        for _ in 0..times {
            let (ino, block) = blocks[self.random.within(0..blocks.len() as u64) as usize];
            assert!(self.write(ino, block), "no space to overwrite block {block} of inode {ino}");
        }
    }

    /// Removes every `nth` file.
    fn remove(&mut self, nth: usize) {
        for (n, (name, ino)) in std::mem::take(&mut self.files).into_iter().enumerate() {
            if n % nth != 0 {
                self.files.push((name, ino));
                continue;
            }
            self.mounted.filesystem.unlink(Ino::ROOT, name.as_bytes()).unwrap();
            self.mounted.filesystem.forget(ino);
            self.stamps.retain(|(of, _), _| *of != ino);
        }
        while self.mounted.filesystem.reap(64).unwrap() > 0 {}
    }

    fn verify(&self) {
        let mut buf = vec![0; BLOCK_SIZE];
        for ((ino, block), stamp) in &self.stamps {
            self.mounted.filesystem.read(*ino, block * BLOCK, &mut buf).unwrap();
            assert!(buf == stamp.to_le_bytes().repeat(BLOCK_SIZE / 8), "block {block} of inode {ino}");
        }
    }

    /// All of it, with the share of its blocks to be overwritten each time.
    fn run(mut self, share: f64) {
        let empty = self.mounted.volume.usage();
        let times = (empty.capacity as f64 * share) as u64;
        self.fill();
        self.overwrite(times);
        self.verify();
        self.remove(3);
        self.fill();
        self.overwrite(times / 2);
        self.verify();
        self.remove(1);
        self.mounted.volume.checkpoint(false).unwrap();
        let left = self.mounted.volume.usage();
        assert!(left.used < empty.used + 64, "{empty:?} {left:?}");
        self.fill();
        self.subject.unmount(&self.device, self.mounted).unwrap();
        self.subject.check(&self.device).unwrap();
    }
}

/// Names alone: all that a full device holds is metadata.
fn names(subject: OnMemory) {
    let mut full = Full::new(subject);
    let empty = full.mounted.volume.usage();
    for round in 0..2 {
        let mut names = Vec::new();
        loop {
            let name = format!("a name that takes some room {round} {}", names.len());
            let new = NewInode { kind: NewKind::File, perm: 0o644, umask: 0 };
            match full.mounted.filesystem.create(&WHO, Ino::ROOT, name.as_bytes(), &new) {
                Ok(attr) => names.push((name, attr.ino)),
                Err(Error::NoSpace) => break,
                Err(e) => panic!("{e}"),
            }
        }
        assert!(names.len() > 5000, "{}", names.len());
        full.files = names;
        full.remove(1);
        full.mounted.volume.checkpoint(false).unwrap();
        let left = full.mounted.volume.usage();
        assert!(left.used < empty.used + 64, "{empty:?} {left:?}");
    }
    full.subject.unmount(&full.device, full.mounted).unwrap();
    full.subject.check(&full.device).unwrap();
}

#[test]
fn zones_full_of_names_are_emptied() {
    names(zoned(24, 256));
}

#[test]
fn a_conventional_device_full_of_names_is_emptied() {
    names(plain(96, 32));
}

#[test]
fn tiny_zones_full_of_names_are_emptied() {
    names(zoned(24, 40));
}

#[test]
fn a_few_zones() {
    Full::new(zoned(24, 256)).run(1.0);
}

#[test]
fn a_few_tiny_zones() {
    Full::new(zoned(64, 40)).run(2.0);
}

#[test]
fn a_hundred_zones() {
    Full::new(zoned(128, 128)).run(0.5);
}

#[test]
fn few_large_zones() {
    Full::new(zoned(20, 2048)).run(0.5);
}

#[test]
fn as_many_zones_as_give_users_93_percent() {
    Full::new(zoned(200, 128)).run(0.2);
}

#[test]
fn a_small_conventional_device() {
    Full::new(plain(72, 64)).run(2.0);
}
