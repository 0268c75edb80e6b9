//! A disk's volatile write cache over the file that is its medium.
//!
//! A write stays in memory until a flush. Some writes are destaged at once, whole or in part, block by block and at random: a
//! real cache writes back in any order, and nobody runs code at the moment of a power cut, so what survives one has to be decided
//! while writing. A reader sees the newest contents whether they are on the medium or not.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, fallocate};
use rustix::process::{Signal, getpid, kill_process};

use crate::block::BLOCK;
use crate::random::Random;

/// What a block will hold once it is destaged.
#[derive(Debug)]
enum Content {
    Bytes(Box<[u8]>),
    Hole,
}

/// Whether a flush is a flush.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flushes {
    Kept,
    /// Acknowledged and forgotten, as if the filesystem had never asked for one.
    Forgotten,
}

/// What a failing disk refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failing {
    Writes,
    Flushes,
}

/// The cache and its medium.
#[derive(Debug)]
pub struct Cache {
    medium: File,
    /// Where the number of volatile blocks stands: a killed process tells nothing itself.
    gauge: File,
    blocks: BTreeMap<u64, Content>,
    random: Random,
    destage_percent: u64,
    pub flushes: Flushes,
    /// Changes that are still taken before this process stops itself.
    pub stop_after: Option<u64>,
    /// What fails once so many more have gone well.
    pub failing: Option<(Failing, u64)>,
}

/// The file beside the medium that says how many blocks are volatile.
pub fn gauge_of(medium: &Path) -> PathBuf {
    medium.with_extension("volatile")
}

impl Cache {
    /// Opens the medium at `path`. Of `destage_percent` of the writes something reaches it before the next flush.
    pub fn open(path: &Path, seed: u64, destage_percent: u64) -> io::Result<Self> {
        let medium = File::options().read(true).write(true).open(path)?;
        let gauge = File::create(gauge_of(path))?;
        let (blocks, random) = (BTreeMap::new(), Random::new(seed));
        let flushes = Flushes::Kept;
        let cache = Self { medium, gauge, blocks, random, destage_percent, flushes, stop_after: None, failing: None };
        cache.tell()?;
        Ok(cache)
    }

    pub fn size_bytes(&self) -> io::Result<u64> {
        Ok(self.medium.metadata()?.len())
    }

    /// Blocks that a power cut would lose now.
    pub fn volatile_blocks(&self) -> u64 {
        self.blocks.len() as u64
    }

    fn tell(&self) -> io::Result<()> {
        self.gauge.write_all_at(&self.volatile_blocks().to_le_bytes(), 0)
    }

    /// Reads what is newest. Any range: programs that look at a file's first bytes do so through no page cache here.
    pub fn read(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.medium.read_exact_at(buf, offset)?;
        let end = offset + buf.len() as u64;
        let range = offset / BLOCK as u64..end.div_ceil(BLOCK as u64);
        for (number, content) in self.blocks.range(range) {
            let start = number * BLOCK as u64;
            let (from, to) = (offset.max(start), end.min(start + BLOCK as u64));
            let part = &mut buf[(from - offset) as usize..(to - offset) as usize];
            match content {
                Content::Bytes(bytes) => part.copy_from_slice(&bytes[(from - start) as usize..(to - start) as usize]),
                Content::Hole => part.fill(0),
            }
        }
        Ok(())
    }

    pub fn write(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.may_fail(Failing::Writes)?;
        let range = self.inside(offset, bytes.len() as u64)?;
        let contents = bytes.chunks_exact(BLOCK).map(|block| Content::Bytes(block.into()));
        self.take(range.zip(contents))
    }

    /// Empties a range; like a write it is volatile.
    pub fn punch(&mut self, offset: u64, len: u64) -> io::Result<()> {
        let range = self.inside(offset, len)?;
        self.take(range.map(|number| (number, Content::Hole)))
    }

    /// Reserves room. No contents change, so nothing is volatile.
    pub fn allocate(&self, offset: u64, len: u64) -> io::Result<()> {
        self.inside(offset, len)?;
        Ok(fallocate(&self.medium, FallocateFlags::KEEP_SIZE, offset, len)?)
    }

    /// Makes everything taken so far durable, or only says so.
    pub fn flush(&mut self) -> io::Result<()> {
        self.may_fail(Failing::Flushes)?;
        if self.flushes == Flushes::Forgotten {
            return Ok(());
        }
        let mut run: Vec<u8> = Vec::new();
        let mut run_start = 0;
        for (number, content) in std::mem::take(&mut self.blocks) {
            let joins = run_start * BLOCK as u64 + run.len() as u64 == number * BLOCK as u64;
            if !joins || matches!(content, Content::Hole) {
                self.medium.write_all_at(&run, run_start * BLOCK as u64)?;
                run.clear();
            }
            match content {
                Content::Hole => self.destage(number, &Content::Hole)?,
                Content::Bytes(bytes) => {
                    run_start = if run.is_empty() { number } else { run_start };
                    run.extend_from_slice(&bytes);
                }
            }
        }
        self.medium.write_all_at(&run, run_start * BLOCK as u64)?;
        self.tell()
    }

    fn may_fail(&mut self, what: Failing) -> io::Result<()> {
        match &mut self.failing {
            Some((failing, 0)) if *failing == what => Err(io::Error::from_raw_os_error(libc::EIO)),
            Some((failing, left)) if *failing == what => {
                *left -= 1;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn take(&mut self, contents: impl Iterator<Item = (u64, Content)>) -> io::Result<()> {
        let destaged_percent = match self.random.below(100) < self.destage_percent {
            // Whole as often as torn.
            true if self.random.below(2) == 0 => 100,
            true => self.random.below(100),
            false => 0,
        };
        for (number, content) in contents {
            if self.random.below(100) < destaged_percent {
                self.destage(number, &content)?;
                self.blocks.remove(&number);
            } else {
                self.blocks.insert(number, content);
            }
        }
        self.tell()?;
        self.count_down()
    }

    /// Stops the process with a change taken and not answered, and with the cache locked, so that nothing follows it.
    fn count_down(&mut self) -> io::Result<()> {
        self.stop_after = self.stop_after.map(|left| left.saturating_sub(1));
        if self.stop_after == Some(0) {
            self.stop_after = None;
            kill_process(getpid(), Signal::STOP)?;
        }
        Ok(())
    }

    fn destage(&self, number: u64, content: &Content) -> io::Result<()> {
        let offset = number * BLOCK as u64;
        match content {
            Content::Bytes(bytes) => self.medium.write_all_at(bytes, offset),
            Content::Hole => {
                let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
                Ok(fallocate(&self.medium, flags, offset, BLOCK as u64)?)
            }
        }
    }

    fn inside(&self, offset: u64, len: u64) -> io::Result<std::ops::Range<u64>> {
        if offset.checked_add(len).is_none_or(|end| Ok(end) > self.size_bytes().map_err(|e| e.kind())) {
            return Err(io::Error::from_raw_os_error(libc::ENOSPC));
        }
        whole_blocks(offset, len)
    }
}

/// The blocks of a transfer; a disk takes nothing smaller.
fn whole_blocks(offset: u64, len: u64) -> io::Result<std::ops::Range<u64>> {
    let block = BLOCK as u64;
    if !offset.is_multiple_of(block) || !len.is_multiple_of(block) {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    Ok(offset / block..(offset + len) / block)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Bench {
        directory: tempfile::TempDir,
    }

    impl Bench {
        fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            File::create(directory.path().join("medium")).unwrap().set_len(64 * BLOCK as u64).unwrap();
            Self { directory }
        }

        /// The cache after power has returned.
        fn open(&self, destage_percent: u64) -> Cache {
            Cache::open(&self.directory.path().join("medium"), 7, destage_percent).unwrap()
        }
    }

    fn read(cache: &Cache, number: u64, blocks: usize) -> Vec<u8> {
        let mut buf = vec![0; blocks * BLOCK];
        cache.read(number * BLOCK as u64, &mut buf).unwrap();
        buf
    }

    #[test]
    fn what_was_not_flushed_is_gone_and_what_was_is_there() {
        let bench = Bench::new();
        let mut cache = bench.open(0);
        let (old, new) = (vec![1; 8 * BLOCK], vec![2; 2 * BLOCK]);
        cache.write(8 * BLOCK as u64, &old).unwrap();
        cache.flush().unwrap();
        cache.write(9 * BLOCK as u64, &new).unwrap();
        cache.punch(12 * BLOCK as u64, BLOCK as u64).unwrap();
        assert_eq!(cache.volatile_blocks(), 3);
        assert_eq!((read(&cache, 9, 2), read(&cache, 12, 1)), (new, vec![0; BLOCK]));
        let cache = bench.open(0);
        assert_eq!(read(&cache, 8, 8), old);
    }

    #[test]
    fn holes_and_runs_are_flushed_to_their_places() {
        let bench = Bench::new();
        let mut cache = bench.open(0);
        for number in [3, 4, 6, 7, 8] {
            cache.write(number * BLOCK as u64, &vec![number as u8; BLOCK]).unwrap();
        }
        cache.flush().unwrap();
        cache.punch(7 * BLOCK as u64, BLOCK as u64).unwrap();
        cache.write(5 * BLOCK as u64, &vec![5; BLOCK]).unwrap();
        cache.flush().unwrap();
        let cache = bench.open(0);
        let firsts: Vec<u8> = read(&cache, 2, 8).chunks(BLOCK).map(|block| block[0]).collect();
        assert_eq!(firsts, [0, 3, 4, 5, 6, 0, 8, 0]);
    }

    #[test]
    fn a_part_of_what_was_not_flushed_survives() {
        let bench = Bench::new();
        let mut cache = bench.open(50);
        for number in 0..16 {
            cache.write(number * 4 * BLOCK as u64, &vec![1; 4 * BLOCK]).unwrap();
        }
        let volatile = cache.volatile_blocks();
        let cache = bench.open(50);
        let survived = read(&cache, 0, 64).chunks(BLOCK).filter(|block| block[0] == 1).count() as u64;
        assert_eq!(volatile + survived, 64);
        assert!((1..64).contains(&survived), "{survived}");
    }

    #[test]
    fn a_lying_disk_keeps_nothing() {
        let bench = Bench::new();
        let mut cache = bench.open(0);
        cache.flushes = Flushes::Forgotten;
        cache.write(0, &vec![1; BLOCK]).unwrap();
        cache.flush().unwrap();
        assert_eq!(read(&cache, 0, 1)[0], 1);
        assert_eq!(read(&bench.open(0), 0, 1)[0], 0);
    }

    #[test]
    fn a_failing_disk_refuses_what_it_was_told_to_and_only_that() {
        let mut cache = Bench::new().open(0);
        cache.failing = Some((Failing::Writes, 1));
        cache.write(0, &[1; BLOCK]).unwrap();
        assert!(cache.write(0, &[2; BLOCK]).is_err());
        cache.flush().unwrap();
        assert_eq!(read(&cache, 0, 1)[0], 1);
        cache.failing = Some((Failing::Flushes, 0));
        cache.write(0, &[2; BLOCK]).unwrap();
        assert!(cache.flush().is_err() && cache.flush().is_err());
    }

    #[test]
    fn a_disk_takes_whole_blocks_inside_itself() {
        let mut cache = Bench::new().open(0);
        assert!(cache.write(1, &[0; BLOCK]).is_err());
        assert!(cache.write(0, &[0; 512]).is_err());
        assert!(cache.write(64 * BLOCK as u64, &[0; BLOCK]).is_err());
    }

    #[test]
    fn any_bytes_can_be_read() {
        let mut cache = Bench::new().open(0);
        cache.write(BLOCK as u64, &[7; BLOCK]).unwrap();
        let mut buf = [9; 6];
        cache.read(BLOCK as u64 - 3, &mut buf).unwrap();
        assert_eq!(buf, [0, 0, 0, 7, 7, 7]);
    }
}
