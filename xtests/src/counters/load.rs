//! A client that knows how many bytes of its own must have reached the filesystem.
//!
//! Between two fsyncs no block is written twice, so the page cache has nothing to merge: each block written is a block that
//! the filesystem is asked to write.

use std::collections::HashSet;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use gleanfs::cli::bench::process::check_interrupt;

use crate::block::{BLOCK, Stamp};
use crate::random::Random;

pub(super) const BLOCK_BYTES: u64 = BLOCK as u64;

pub(super) struct Load {
    path: PathBuf,
    blocks: u64,
    random: Random,
    version: u64,
    buffer: Aligned,
}

/// A block's bytes as direct I/O wants them.
#[repr(C, align(4096))]
struct Aligned([u8; BLOCK]);

impl Load {
    /// Writes a file of `blocks`.
    pub(super) fn fill(directory: &Path, blocks: u64, seed: u64) -> Result<Self> {
        let path = directory.join("data");
        let buffer = Aligned([0; BLOCK]);
        let mut load = Self { path, blocks, random: Random::new(seed), version: 0, buffer };
        let file = File::create_new(&load.path)?;
        for index in 0..blocks {
            if index % 1024 == 0 {
                check_interrupt()?;
            }
            load.write(&file, index).with_context(|| format!("filling, block {index} of {blocks}"))?;
        }
        file.sync_all()?;
        Ok(load)
    }

    /// Overwrites `batches` times `batch` different blocks, each batch with an fsync; bytes written.
    pub(super) fn overwrite(&mut self, flags: i32, batches: usize, batch: usize) -> Result<u64> {
        ensure!(batch as u64 <= self.blocks, "{batch} different blocks of only {}", self.blocks);
        let file = OpenOptions::new().write(true).custom_flags(flags).open(&self.path)?;
        let mut written = HashSet::with_capacity(batch);
        for _ in 0..batches {
            check_interrupt()?;
            written.clear();
            while written.len() < batch {
                let index = self.random.below(self.blocks);
                if written.insert(index) {
                    self.write(&file, index)?;
                }
            }
            file.sync_data()?;
        }
        Ok((batches * batch) as u64 * BLOCK_BYTES)
    }

    fn write(&mut self, file: &File, index: u64) -> std::io::Result<()> {
        self.version += 1;
        Stamp { file: 0, index, version: self.version }.fill(&mut self.buffer.0);
        file.write_all_at(&self.buffer.0, index * BLOCK_BYTES)
    }
}
