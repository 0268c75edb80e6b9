//! A file that fills much of a filesystem and is overwritten at random, so that the cleaner has blocks to move; it remembers what it
//! wrote. In turns with something else, or by a thread of its own until that is told to stop.

use std::fs::{File, OpenOptions};
use std::io::{BufReader, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::block::{BLOCK, Seen, Stamp, see};
use crate::random::Random;
use crate::volume::Volume;

/// The file.
pub(crate) const NAME: &str = "data";
const FILE: u64 = 1;
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Overwrites between two fsyncs.
const SYNC_EVERY: u64 = 512;

/// A file that fills most of the device.
pub(crate) struct Load {
    file: File,
    /// Newest version of each block.
    versions: Vec<u32>,
    random: Random,
    block: Vec<u8>,
}

/// The overwriting thread.
pub(crate) struct Running {
    thread: JoinHandle<Result<Load>>,
    shared: Arc<Shared>,
    begun: Instant,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    overwritten: AtomicU64,
}

/// What should be in the file: the newest version of each block.
pub(crate) struct Contents(Vec<u32>);

/// What has been written, and how fast.
pub(crate) struct Written {
    pub contents: Contents,
    overwritten: u64,
    seconds: f64,
}

impl Load {
    pub(crate) fn fill(volume: &Volume, percent: u64, seed: u64) -> Result<Self> {
        let blocks = volume.device_bytes() / BLOCK as u64 * percent / 100;
        let file = OpenOptions::new().write(true).create_new(true).open(volume.target().join(NAME))?;
        let (random, block) = (Random::new(seed), vec![0; BLOCK]);
        let mut load = Self { file, versions: vec![0; blocks as usize], random, block };
        for index in 0..blocks {
            load.write(index).with_context(|| format!("filling, block {index} of {blocks}"))?;
        }
        load.file.sync_all()?;
        Ok(load)
    }

    fn write(&mut self, index: u64) -> std::io::Result<()> {
        let version = &mut self.versions[index as usize];
        *version += 1;
        Stamp { file: FILE, index, version: u64::from(*version) }.fill(&mut self.block);
        self.file.write_all_at(&self.block, index * BLOCK as u64)
    }

    /// Overwrites so many blocks, and makes that durable.
    pub(crate) fn stir(&mut self, overwrites: u64) -> Result<()> {
        for _ in 0..overwrites {
            let index = self.random.below(self.blocks());
            self.write(index).with_context(|| format!("overwriting block {index}"))?;
        }
        Ok(self.file.sync_all()?)
    }

    pub(crate) fn blocks(&self) -> u64 {
        self.versions.len() as u64
    }

    /// Closes the file.
    pub(crate) fn end(self) -> Contents {
        Contents(self.versions)
    }

    pub(crate) fn start(mut self) -> Running {
        let shared = Arc::new(Shared::default());
        let theirs = Arc::clone(&shared);
        let thread = std::thread::spawn(move || {
            self.overwrite(&theirs)?;
            Ok(self)
        });
        Running { thread, shared, begun: Instant::now() }
    }

    /// Half of the writes go to a tenth of the blocks, so that there is something to learn and to ask.
    fn overwrite(&mut self, shared: &Shared) -> Result<()> {
        let blocks = self.blocks();
        while !shared.stop.load(Ordering::Relaxed) {
            let among = if self.random.below(2) == 0 { blocks / 10 } else { blocks };
            let index = self.random.below(among);
            let done = shared.overwritten.fetch_add(1, Ordering::Relaxed) + 1;
            self.write(index).with_context(|| format!("overwrite {done}, of block {index}"))?;
            if done.is_multiple_of(SYNC_EVERY) {
                self.file.sync_data().with_context(|| format!("fsync after overwrite {done}"))?;
            }
        }
        Ok(self.file.sync_all()?)
    }
}

impl Running {
    /// An error if it has ended by itself, which it does only after a failed operation.
    pub(crate) fn check(&self) -> Result<()> {
        ensure!(!self.thread.is_finished(), "the load has ended");
        Ok(())
    }

    /// Waits until so many blocks have been overwritten, or it has failed.
    pub(crate) fn await_overwrites(&self, count: u64) -> Result<()> {
        while self.shared.overwritten.load(Ordering::Relaxed) < count {
            self.check()?;
            // It is one of very many; nobody is told of each.
            std::thread::sleep(LOOK_EVERY);
        }
        Ok(())
    }

    /// Blocks overwritten so far.
    pub(crate) fn overwritten(&self) -> u64 {
        self.shared.overwritten.load(Ordering::Relaxed)
    }

    /// Where it stands, for the report of a failure.
    pub(crate) fn told(&self) -> String {
        let went = if self.thread.is_finished() { "had ended" } else { "went on" };
        format!("the load {went} after {} overwrites", self.shared.overwritten.load(Ordering::Relaxed))
    }

    /// Stops it. The first failed operation, if one failed.
    pub(crate) fn end(self) -> Result<Written> {
        self.shared.stop.store(true, Ordering::Relaxed);
        let load = self.thread.join().expect("the load does not panic")?;
        let overwritten = self.shared.overwritten.load(Ordering::Relaxed);
        Ok(Written { contents: load.end(), overwritten, seconds: self.begun.elapsed().as_secs_f64() })
    }
}

impl Written {
    pub(crate) fn print(&self, what: &str) {
        let rate = self.overwritten as f64 / self.seconds;
        println!("{what}: {} overwrites in {:.1} s, {rate:.0}/s, none failed", self.overwritten, self.seconds);
    }
}

impl Contents {
    /// Reads everything back.
    pub(crate) fn verify(&self, directory: &Path) -> Result<()> {
        let mut file = BufReader::with_capacity(1 << 20, File::open(directory.join(NAME))?);
        let mut block = vec![0; BLOCK];
        for (index, version) in (0..).zip(&self.0) {
            file.read_exact(&mut block).with_context(|| format!("block {index}"))?;
            let seen = see(&block);
            if seen != Seen::Whole(Stamp { file: FILE, index, version: u64::from(*version) }) {
                bail!("block {index}: {seen:?} instead of version {version}");
            }
        }
        Ok(())
    }
}
