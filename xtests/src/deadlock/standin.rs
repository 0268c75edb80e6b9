//! A worker that is not what it should be, and the program that has it: all of gleanfs but for the process that runs the model.
//!
//! It answers as it should until it is told to begin. From then on it either takes every question and answers none, locked in as any
//! worker, or is not locked in at all and writes to the mount before each answer: to a file and through a mapping, both made durable, the mapping dirty again
//! when it answers. That is what a worker in its sandbox cannot do, and what must not matter. Orders lie beside the program
//! ([`super::misled`]); only a program of the tests is made of this.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use gleanfs_gc::advisor::{Hooks, Plain, worker_main};

use super::misled::{BLOCKS, HANG, MAPPED, ORDERS, WRITE, WRITTEN, kept, last_kept};
use crate::block::{BLOCK, Stamp};
use crate::map::Map;

/// The whole life of the worker; `words` are the arguments after the hidden subcommand.
pub fn worker(words: impl Iterator<Item = OsString>) -> ! {
    worker_main(words, &mut Standin::default())
}

#[derive(Default)]
struct Standin {
    /// Open since before the sandbox, in which reading on is allowed.
    orders: Option<File>,
    told: String,
    scribe: Option<Scribe>,
}

impl Hooks for Standin {
    fn limit(&mut self) {
        self.orders = directory().and_then(|directory| Ok(File::open(directory.join(ORDERS))?)).ok();
        self.hear();
        // A worker may not write to files, and no process can lift that again.
        if self.misdeed() != Some(WRITE) {
            Plain.limit();
        }
    }

    fn confine(&mut self) -> Result<u32, String> {
        match self.misdeed() {
            Some(HANG) => Plain.confine(),
            Some(WRITE) => {
                let scribe = directory().and_then(|directory| Scribe::begin(&directory));
                self.scribe = scribe.map_err(|why| format!("{why:#}"))?;
                Ok(0)
            }
            _ => Err("a stand-in without orders".into()),
        }
    }

    fn answered(&mut self, _values: &mut [f32]) {
        self.hear();
        let Some(target) = self.told.lines().nth(1).filter(|_| self.told.ends_with('\n')) else { return };
        if self.misdeed() == Some(HANG) {
            loop {
                std::thread::sleep(std::time::Duration::MAX);
            }
        }
        if let Some(scribe) = &mut self.scribe {
            // The mount may have ended, and this process with it in a moment; the trial counts the rounds that came through.
            let _ = scribe.write(Path::new(target));
        }
    }
}

impl Standin {
    /// Reads what was added to the orders.
    fn hear(&mut self) {
        if let Some(orders) = &mut self.orders {
            let _ = orders.read_to_string(&mut self.told);
        }
    }

    fn misdeed(&self) -> Option<&str> {
        self.told.lines().next()
    }
}

fn directory() -> Result<PathBuf> {
    Ok(std::env::current_exe()?.parent().context("this program has no directory")?.to_owned())
}

/// The writing one. There are two workers, so there are two places to write to, and whoever holds the lock has one.
struct Scribe {
    number: usize,
    kept: File,
    round: u64,
}

impl Scribe {
    /// A worker that is tried beside two others finds no place, and behaves.
    fn begin(directory: &Path) -> Result<Option<Self>> {
        for number in 0..super::misled::PLACES {
            let kept = OpenOptions::new().read(true).append(true).open(kept(directory, number))?;
            if kept.try_lock().is_ok() {
                let round = last_kept(directory, number)?;
                return Ok(Some(Self { number, kept, round }));
            }
        }
        Ok(None)
    }

    /// One round. It is kept, outside of the mount, once all of it is durable.
    fn write(&mut self, target: &Path) -> Result<()> {
        let version = self.round + 1;
        // Nothing is created: where the mount was there is a directory now.
        let open =
            |name| OpenOptions::new().read(true).write(true).open(target.join(format!("{name}-{}", self.number)));
        let (written, mapped) = (open(WRITTEN)?, open(MAPPED)?);
        for index in 0..BLOCKS {
            let stamp = Stamp { file: self.number as u64, index, version };
            written.write_all_at(&stamp.block(), index * BLOCK as u64)?;
        }
        let mut map = Map::of(&mapped, BLOCKS as usize * BLOCK)?;
        store(&mut map, 0, version);
        written.sync_all()?;
        map.sync()?;
        self.kept.write_all(&version.to_le_bytes())?;
        self.round = version;
        store(&mut map, 1, version);
        Ok(())
    }
}

/// Stores `version` to one word of each block.
fn store(map: &mut Map, word: usize, version: u64) {
    for index in 0..BLOCKS {
        map.block(index)[word * 8..word * 8 + 8].copy_from_slice(&version.to_le_bytes());
    }
}
