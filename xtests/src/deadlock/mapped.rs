//! A file that is changed through a shared mapping, so that there are always dirty pages of which the filesystem has heard nothing yet.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

use anyhow::{Context, Result, ensure};

use crate::block::{BLOCK, Seen, Stamp, see};
use crate::map::Map;
use crate::random::Random;

const FILE: u64 = 2;
const NAME: &str = "mapped";
/// Stores between two msync(2).
const SYNC_EVERY: u64 = 4096;

/// The storing thread.
pub(super) struct Mapped {
    thread: JoinHandle<Result<Vec<u64>>>,
    stop: Arc<AtomicBool>,
    stores: Arc<AtomicU64>,
}

/// What should be in the file.
pub(super) struct Stored {
    versions: Vec<u64>,
    stores: u64,
}

impl Mapped {
    pub(super) fn start(directory: &Path, blocks: u64, seed: u64) -> Result<Self> {
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(directory.join(NAME))?;
        // Written, so that a store never finds the filesystem full.
        for index in 0..blocks {
            file.write_all_at(&Stamp { file: FILE, index, version: 1 }.block(), index * BLOCK as u64)?;
        }
        file.sync_all()?;
        let (stop, stores) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (ended, counted) = (Arc::clone(&stop), Arc::clone(&stores));
        let thread = std::thread::spawn(move || store(&file, blocks, seed, &ended, &counted));
        Ok(Self { thread, stop, stores })
    }

    /// An error if it has ended by itself.
    pub(super) fn check(&self) -> Result<()> {
        ensure!(!self.thread.is_finished(), "storing to mapped pages has ended");
        Ok(())
    }

    pub(super) fn end(self) -> Result<Stored> {
        self.stop.store(true, Ordering::Relaxed);
        let versions = self.thread.join().expect("the mapped load does not panic")?;
        Ok(Stored { versions, stores: self.stores.load(Ordering::Relaxed) })
    }
}

fn store(file: &File, blocks: u64, seed: u64, stop: &AtomicBool, stores: &AtomicU64) -> Result<Vec<u64>> {
    let mut map = Map::of(file, blocks as usize * BLOCK)?;
    let (mut versions, mut random) = (vec![1; blocks as usize], Random::new(seed ^ FILE));
    while !stop.load(Ordering::Relaxed) {
        let index = random.below(blocks);
        let version = &mut versions[index as usize];
        *version += 1;
        Stamp { file: FILE, index, version: *version }.fill(map.block(index));
        if (stores.fetch_add(1, Ordering::Relaxed) + 1).is_multiple_of(SYNC_EVERY) {
            map.sync().context("msync of the mapped file")?;
        }
    }
    map.sync()?;
    Ok(versions)
}

impl Stored {
    pub(super) fn stores(&self) -> u64 {
        self.stores
    }

    /// Reads everything back.
    pub(super) fn verify(&self, directory: &Path) -> Result<()> {
        let file = File::open(directory.join(NAME))?;
        let mut block = vec![0; BLOCK];
        for (index, version) in (0..).zip(&self.versions) {
            file.read_exact_at(&mut block, index * BLOCK as u64)?;
            let seen = see(&block);
            let wanted = Seen::Whole(Stamp { file: FILE, index, version: *version });
            ensure!(seen == wanted, "mapped block {index}: {seen:?} instead of version {version}");
        }
        Ok(())
    }
}
