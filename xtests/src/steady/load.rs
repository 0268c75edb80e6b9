//! The file that is overwritten, block by block, and remembers which version of each block is the newest.

use std::fs::{File, OpenOptions};
use std::io::{BufReader, Read};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use gleanfs::cli::bench::process::check_interrupt;

use super::Options;
use crate::block::{BLOCK, Seen, Stamp, see};
use crate::random::Random;

const FILE: u64 = 1;
pub(super) const NAME: &str = "data";

pub(super) struct Load {
    file: File,
    /// Newest version of each block.
    pub(super) versions: Vec<u32>,
    random: Random,
    buffer: Aligned,
}

/// A block's bytes as direct I/O wants them.
#[repr(C, align(4096))]
struct Aligned([u8; BLOCK]);

impl Load {
    /// Writes a file of `blocks` blocks.
    pub(super) fn fill(directory: &Path, blocks: u64, options: &Options) -> Result<Self> {
        let flags = if options.direct { libc::O_DIRECT } else { 0 };
        let path = directory.join(NAME);
        let file = OpenOptions::new().write(true).create_new(true).custom_flags(flags).open(path)?;
        let mut load = Self {
            file,
            versions: vec![0; blocks as usize],
            random: Random::new(options.seed),
            buffer: Aligned([0; BLOCK]),
        };
        for index in 0..blocks {
            if index % 1024 == 0 {
                check_interrupt()?;
            }
            load.write(index).with_context(|| format!("filling, block {index} of {blocks}"))?;
        }
        load.file.sync_all()?;
        Ok(load)
    }

    fn write(&mut self, index: u64) -> std::io::Result<()> {
        let version = &mut self.versions[index as usize];
        *version += 1;
        Stamp { file: FILE, index, version: u64::from(*version) }.fill(&mut self.buffer.0);
        self.file.write_all_at(&self.buffer.0, index * BLOCK as u64)
    }

    /// Overwrites blocks at random with an fsync after every `fsync_every`; overwrites per second. `report` is told how far it is.
    pub(super) fn overwrite(&mut self, overwrites: u64, fsync_every: u64, report: impl Fn(u64, f64)) -> Result<f64> {
        let begun = Instant::now();
        let rate = |done: u64| done as f64 / begun.elapsed().as_secs_f64();
        for done in 1..=overwrites {
            let index = self.random.below(self.versions.len() as u64);
            self.write(index).with_context(|| format!("overwrite {done} of {overwrites}"))?;
            if done % fsync_every == 0 || done == overwrites {
                check_interrupt()?;
                self.file.sync_data().with_context(|| format!("fsync after overwrite {done}"))?;
            }
            if done % (overwrites / 10).max(1) == 0 {
                report(done, rate(done));
            }
        }
        Ok(rate(overwrites))
    }

    /// Closes the file; the newest version of each block.
    pub(super) fn end(self) -> Result<Vec<u32>> {
        self.file.sync_all()?;
        Ok(self.versions)
    }
}

/// Reads everything back.
pub(super) fn verify(directory: &Path, versions: &[u32]) -> Result<()> {
    let mut file = BufReader::with_capacity(1 << 20, File::open(directory.join(NAME))?);
    let mut block = vec![0; BLOCK];
    for (index, version) in (0..).zip(versions) {
        file.read_exact(&mut block).with_context(|| format!("block {index}"))?;
        let seen = see(&block);
        let stamp = Stamp { file: FILE, index, version: u64::from(*version) };
        if seen != Seen::Whole(stamp) {
            bail!("block {index}: {seen:?} instead of version {version}");
        }
    }
    Ok(())
}
