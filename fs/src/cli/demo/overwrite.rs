//! The large file: filled once, then overwritten in single blocks by several writers, a few blocks most of the time.
//!
//! Each writer has blocks of its own, so the versions in memory tell exactly what must be read back. Writes go past the page cache, as
//! those of a database do: every one reaches the filesystem, and its time is what the writer waited. A writer's sequence
//! depends on the seed alone, so the same counts are the same load.

use std::fs::File;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use gleanfs_gc::sim::rng::{Alias, Rng};

use super::blocks;
use crate::cli::bench::process::check_interrupt;
use crate::cli::failure::{About, Failure, Result};
use crate::cli::progress::Bar;
use crate::device::AlignedBuf;
use crate::types::BLOCK_SIZE;

/// Writers at the same time.
const WRITERS: u32 = 4;
/// Rank `r` is written with weight `r^-THETA`.
const THETA: f64 = 0.99;
/// Writes of one writer after which every block of its falls back by a rank, and the coldest becomes the hottest: a little drift.
const WRITES_PER_STEP: u64 = 400;
/// Blocks per request while filling and verifying.
const RUN_BLOCKS: u32 = 256;

/// The file and what must be in it.
#[derive(Debug)]
pub struct LargeFile {
    path: PathBuf,
    seed: u64,
    blocks: u32,
    /// By writer: version of each of its blocks. Block `n` belongs to writer `n % WRITERS`.
    lanes: Vec<Vec<u32>>,
}

/// When the writers end.
#[derive(Clone, Debug)]
pub enum Until {
    After(Duration),
    /// So many writes of each writer.
    Writes(Vec<u64>),
}

/// What the writers did.
#[derive(Clone, Debug, Default)]
pub struct Written {
    pub writes: Vec<u64>,
    /// Of every write, sorted.
    pub latencies_us: Vec<u32>,
    pub elapsed: Duration,
}

impl Written {
    pub fn total(&self) -> u64 {
        self.writes.iter().sum()
    }
}

impl LargeFile {
    /// Writes every block once, from front to back.
    pub fn create(path: &Path, blocks: u32, seed: u64) -> Result<Self> {
        let bar = Bar::bytes(u64::from(blocks) * BLOCK_SIZE as u64, "filling a large file");
        let lanes = (0..WRITERS).map(|lane| vec![1; lane_blocks(blocks, lane) as usize]).collect();
        let large = Self { path: path.to_owned(), seed, blocks, lanes };
        let file = large.open(true)?;
        let mut buf = AlignedBuf::new(RUN_BLOCKS as usize);
        for first in (0..blocks).step_by(RUN_BLOCKS as usize) {
            check_interrupt()?;
            let run = &mut buf[..RUN_BLOCKS.min(blocks - first) as usize * BLOCK_SIZE];
            for (block, number) in run.chunks_exact_mut(BLOCK_SIZE).zip(first..) {
                blocks::fill(block, seed, number, 1);
            }
            file.write_all_at(run, offset(first)).about(path.display())?;
            bar.at(offset(first));
        }
        file.sync_all().about(path.display())?;
        Ok(large)
    }

    pub fn blocks(&self) -> u32 {
        self.blocks
    }

    fn open(&self, create: bool) -> Result<File> {
        let mut options = File::options();
        options.read(true).write(true).create_new(create).custom_flags(libc::O_DIRECT);
        options.open(&self.path).about(self.path.display())
    }

    /// Overwrites until it is time to end, counting in `progress`. The first failure ends all writers.
    pub fn overwrite(&mut self, until: &Until, progress: &AtomicU64) -> Result<Written> {
        let began = Instant::now();
        let failed = AtomicBool::new(false);
        let file = self.open(false)?;
        let (seed, path) = (self.seed, &self.path);
        let shared = Shared { file: &file, path, seed, progress, failed: &failed, began };
        let lanes = self.lanes.iter_mut().zip(0..);
        let outcomes: Vec<Result<Vec<u32>>> = std::thread::scope(|scope| {
            let writers: Vec<_> =
                lanes.map(|(lane, number)| scope.spawn(move || shared.write(lane, number, until))).collect();
            writers.into_iter().map(|writer| writer.join().expect("a writer does not panic")).collect()
        });
        let mut written = Written { elapsed: began.elapsed(), ..Written::default() };
        for latencies in outcomes {
            let latencies = latencies?;
            written.writes.push(latencies.len() as u64);
            written.latencies_us.extend(latencies);
        }
        written.latencies_us.sort_unstable();
        Ok(written)
    }

    /// Reads everything past the page cache and compares it with the versions in memory.
    pub fn verify(&self) -> Result<()> {
        let bar = Bar::bytes(u64::from(self.blocks) * BLOCK_SIZE as u64, "verifying the large file");
        let shown = self.path.display();
        let file = File::options().read(true).custom_flags(libc::O_DIRECT).open(&self.path).about(shown)?;
        let mut buf = AlignedBuf::new(RUN_BLOCKS as usize);
        for first in (0..self.blocks).step_by(RUN_BLOCKS as usize) {
            check_interrupt()?;
            let run = &mut buf[..RUN_BLOCKS.min(self.blocks - first) as usize * BLOCK_SIZE];
            file.read_exact_at(run, offset(first)).about(self.path.display())?;
            for (block, number) in run.chunks_exact(BLOCK_SIZE).zip(first..) {
                let version = self.lanes[(number % WRITERS) as usize][(number / WRITERS) as usize];
                blocks::check(block, self.seed, number, version).about(self.path.display())?;
            }
            bar.at(offset(first));
        }
        Ok(())
    }
}

/// What the writers have in common.
#[derive(Clone, Copy)]
struct Shared<'a> {
    file: &'a File,
    path: &'a Path,
    seed: u64,
    progress: &'a AtomicU64,
    failed: &'a AtomicBool,
    began: Instant,
}

impl Shared<'_> {
    /// One writer's part. Answers with the time of each write.
    fn write(self, versions: &mut [u32], lane: u32, until: &Until) -> Result<Vec<u32>> {
        let outcome = self.write_until(versions, lane, until);
        if outcome.is_err() {
            self.failed.store(true, Relaxed);
        }
        outcome
    }

    fn write_until(self, versions: &mut [u32], lane: u32, until: &Until) -> Result<Vec<u32>> {
        let mut skewed = Skewed::new(versions.len() as u32, self.seed.wrapping_add(u64::from(lane) + 1));
        let mut block = AlignedBuf::new(1);
        let mut latencies = Vec::new();
        while !self.is_over(until, lane, latencies.len() as u64) {
            check_interrupt()?;
            let index = skewed.next();
            let number = index * WRITERS + lane;
            let version = versions[index as usize] + 1;
            blocks::fill(&mut block, self.seed, number, version);
            let begin = Instant::now();
            self.file.write_all_at(&block, offset(number)).map_err(|error| self.explain(number, &error))?;
            latencies.push(begin.elapsed().as_micros().min(u128::from(u32::MAX)) as u32);
            versions[index as usize] = version;
            self.progress.fetch_add(1, Relaxed);
        }
        Ok(latencies)
    }

    fn is_over(&self, until: &Until, lane: u32, writes: u64) -> bool {
        self.failed.load(Relaxed)
            || match until {
                Until::After(time) => self.began.elapsed() >= *time,
                Until::Writes(counts) => writes >= counts[lane as usize],
            }
    }

    fn explain(&self, number: u32, error: &std::io::Error) -> Failure {
        Failure::new(format_args!("{}: overwriting block {number}: {error}", self.path.display()))
    }
}

/// Draws indices below a bound by rank; which index has which rank wanders slowly.
struct Skewed {
    rng: Rng,
    ranks: Alias,
    /// Scatters neighbouring ranks over the file.
    places: Vec<u32>,
    drawn: u64,
}

impl Skewed {
    fn new(below: u32, seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let weights: Vec<f64> = (1..=below).map(|rank| f64::from(rank).powf(-THETA)).collect();
        let mut places: Vec<u32> = (0..below).collect();
        rng.shuffle(&mut places);
        Self { rng, ranks: Alias::new(&weights), places, drawn: 0 }
    }

    fn next(&mut self) -> u32 {
        let rank = u64::from(self.ranks.draw(&mut self.rng));
        let steps = self.drawn / WRITES_PER_STEP;
        self.drawn += 1;
        let len = self.places.len() as u64;
        self.places[((rank + len - steps % len) % len) as usize]
    }
}

fn lane_blocks(blocks: u32, lane: u32) -> u32 {
    (blocks + WRITERS - 1 - lane) / WRITERS
}

fn offset(block: u32) -> u64 {
    u64::from(block) * BLOCK_SIZE as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lanes_share_out_every_block_once() {
        for blocks in [4, 5, 6, 7, 1000] {
            assert_eq!((0..WRITERS).map(|lane| lane_blocks(blocks, lane)).sum::<u32>(), blocks);
        }
    }

    #[test]
    fn draws_are_skewed_wander_and_repeat_themselves() {
        let draw = |skewed: &mut Skewed| (0..50_000).map(|_| skewed.next()).collect::<Vec<_>>();
        let first = draw(&mut Skewed::new(1000, 7));
        assert_eq!(first, draw(&mut Skewed::new(1000, 7)));
        let hottest = |draws: &[u32]| {
            let mut counts = vec![0u32; 1000];
            draws.iter().for_each(|index| counts[*index as usize] += 1);
            (0..1000).max_by_key(|index| counts[*index]).map(|index| (index, counts[index]))
        };
        let (early, times) = hottest(&first[..2000]).unwrap();
        assert!(times > 40, "{times}");
        assert_ne!(early, hottest(&first[48_000..]).unwrap().0);
    }

    #[test]
    fn what_was_written_last_is_demanded() {
        let directory = tempfile::tempdir_in(".").unwrap();
        let path = directory.path().join("large");
        let mut large = match LargeFile::create(&path, 301, 9) {
            Ok(large) => large,
            Err(why) => return println!("skipped: no O_DIRECT here: {why}"),
        };
        let progress = AtomicU64::new(0);
        let written = large.overwrite(&Until::Writes(vec![50, 40, 30, 20]), &progress).unwrap();
        assert_eq!((written.writes.as_slice(), written.total()), ([50, 40, 30, 20].as_slice(), 140));
        assert_eq!((written.latencies_us.len(), progress.load(Relaxed)), (140, 140));
        large.verify().unwrap();
        let stale = AlignedBuf::new(1);
        large.open(false).unwrap().write_all_at(&stale, offset(17)).unwrap();
        assert!(large.verify().unwrap_err().message.contains("block 17"));
    }
}
