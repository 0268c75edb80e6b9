//! The client whose daemon is killed: changes files, and says what it does and what was acknowledged.
//!
//! A line goes out *before* an operation and after a successful fsync, so the oracle always knows at least as much as the disk.
//! The first error ends the writer: its filesystem is gone.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::block::{BLOCK, Stamp};
use crate::random::Random;

/// Files that the writer plays with.
pub const SLOTS: u64 = 48;
/// Names that one file goes through.
pub const NAMES: u8 = 3;
const BLOCKS_MAX: u64 = 64;

/// A file as it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileState {
    /// Which of its names it has.
    pub name: u8,
    /// Version of each block.
    pub versions: Vec<u64>,
}

/// What the writer starts from.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Plan {
    pub seed: u64,
    pub next_version: u64,
    /// By slot.
    pub files: Vec<Option<FileState>>,
}

/// A line from the writer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// About to happen.
    Begin { slot: u64, change: Change },
    /// Everything begun on this file so far was acknowledged.
    Synced { slot: u64 },
}

/// A change of one file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Change {
    Create { name: u8, blocks: u64, version: u64 },
    Overwrite { first: u64, blocks: u64, version: u64 },
    Rename { to: u8 },
    Unlink,
}

impl Change {
    /// What the file is after the change.
    pub fn apply(&self, file: &mut Option<FileState>) {
        match (self, file.as_mut()) {
            (Self::Create { name, blocks, version }, _) => {
                *file = Some(FileState { name: *name, versions: vec![*version; *blocks as usize] });
            }
            (Self::Overwrite { first, blocks, version }, Some(file)) => {
                let end = (first + blocks) as usize;
                file.versions.resize(file.versions.len().max(end), 0);
                file.versions[*first as usize..end].fill(*version);
            }
            (Self::Rename { to }, Some(file)) => file.name = *to,
            (Self::Unlink, _) => *file = None,
            (Self::Overwrite { .. } | Self::Rename { .. }, None) => {}
        }
    }
}

/// Path of slot `slot` under its name `name`.
pub fn path(directory: &Path, slot: u64, name: u8) -> PathBuf {
    directory.join(format!("file-{slot}.{name}"))
}

/// Reads the plan from stdin and changes files in `directory` until an error ends it.
pub fn main(directory: &Path) -> std::io::Result<()> {
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line)?;
    let plan: Plan = serde_json::from_str(&line)?;
    let mut writer = Writer {
        directory,
        handle: File::open(directory)?,
        random: Random::new(plan.seed),
        next_version: plan.next_version,
        files: plan.files,
    };
    writer.files.resize(SLOTS as usize, None);
    loop {
        writer.step()?;
    }
}

struct Writer<'a> {
    directory: &'a Path,
    handle: File,
    random: Random,
    next_version: u64,
    files: Vec<Option<FileState>>,
}

impl Writer<'_> {
    fn step(&mut self) -> std::io::Result<()> {
        let slot = self.random.below(SLOTS);
        let file = self.files[slot as usize].clone();
        self.next_version += 1;
        let version = self.next_version;
        let (change, sync) = match (file, self.random.below(100)) {
            (None, _) => {
                let name = self.random.below(u64::from(NAMES)) as u8;
                (Change::Create { name, blocks: 1 + self.random.below(BLOCKS_MAX), version }, true)
            }
            (Some(file), roll) if roll < 5 || file.versions.is_empty() => (Change::Unlink, true),
            (Some(file), 5..15) => (Change::Rename { to: (file.name + 1) % NAMES }, true),
            (Some(file), roll) => {
                let first = self.random.below(file.versions.len() as u64);
                let blocks = 1 + self.random.below(8.min(file.versions.len() as u64 - first));
                (Change::Overwrite { first, blocks, version }, roll < 60)
            }
        };
        say(&Event::Begin { slot, change: change.clone() })?;
        self.perform(slot, &change, sync)?;
        change.apply(&mut self.files[slot as usize]);
        if sync { say(&Event::Synced { slot }) } else { Ok(()) }
    }

    fn path(&self, slot: u64) -> PathBuf {
        path(self.directory, slot, self.files[slot as usize].as_ref().map_or(0, |file| file.name))
    }

    fn perform(&self, slot: u64, change: &Change, sync: bool) -> std::io::Result<()> {
        match change {
            Change::Create { name, blocks, version } => {
                let file = File::create_new(path(self.directory, slot, *name))?;
                write(&file, slot, 0, *blocks, *version)?;
                file.sync_all()?;
                self.handle.sync_all()
            }
            Change::Overwrite { first, blocks, version } => {
                let file = OpenOptions::new().write(true).open(self.path(slot))?;
                write(&file, slot, *first, *blocks, *version)?;
                if sync { file.sync_data() } else { Ok(()) }
            }
            Change::Rename { to } => {
                let from = self.path(slot);
                // Synced first, so that the rename's acknowledgement covers the data as well.
                File::open(&from)?.sync_all()?;
                std::fs::rename(from, path(self.directory, slot, *to))?;
                self.handle.sync_all()
            }
            Change::Unlink => {
                std::fs::remove_file(self.path(slot))?;
                self.handle.sync_all()
            }
        }
    }
}

fn write(file: &File, slot: u64, first: u64, blocks: u64, version: u64) -> std::io::Result<()> {
    let mut bytes = vec![0; blocks as usize * BLOCK];
    for (index, block) in (first..).zip(bytes.chunks_exact_mut(BLOCK)) {
        Stamp { file: slot, index, version }.fill(block);
    }
    file.write_all_at(&bytes, first * BLOCK as u64)
}

/// One write(2) a line, so that no line is lost in a buffer of ours.
fn say(event: &Event) -> std::io::Result<()> {
    let mut line = serde_json::to_vec(event)?;
    line.push(b'\n');
    let mut out = std::io::stdout().lock();
    out.write_all(&line)?;
    out.flush()
}
