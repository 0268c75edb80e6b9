//! The work during which the device fails: fixed by its seed, on a device so small that the cleaner is always at it.

use std::sync::Arc;

use gleanfs::device::{Device, MemoryDevice, ZonedSpec};
use gleanfs::error::{Error, Result};
use gleanfs::format::value::Time;
use gleanfs::meta::volume::{Volume, VolumeOptions};
use gleanfs::namespace::api::{AttrChange, Caller, Namespace, NewInode, NewKind};
use gleanfs::namespace::{Filesystem, Reaping};
use gleanfs::trial::Subject;
use gleanfs::trial::on_memory::{Mounted, OnMemory};
use gleanfs::types::{BLOCK_SIZE, Ino};

use super::model::{self, FILE_BLOCKS, FILES, Model};
use crate::random::Random;

const BLOCK: u64 = BLOCK_SIZE as u64;
const WHO: Caller = Caller { uid: 0, gid: 0, pid: 1 };

/// One step of the work.
#[derive(Clone, Debug)]
pub enum Step {
    /// Stamps blocks of a file, which is made if it is not there.
    Write {
        file: u64,
        first: u64,
        blocks: u64,
        stamp: u64,
    },
    Truncate {
        file: u64,
        blocks: u64,
    },
    Unlink {
        file: u64,
    },
    Read {
        file: u64,
    },
    Sync,
    Clean,
    Checkpoint,
    /// An unmount and a mount.
    Remount,
    /// The end of the daemon with nothing said, and a mount.
    Kill,
}

/// The kind of device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Kind {
    Conventional,
    Zoned,
}

impl Kind {
    pub const ALL: [Self; 2] = [Self::Conventional, Self::Zoned];

    pub fn subject(self) -> OnMemory {
        let spec = ZonedSpec {
            zones: 74,
            zone_blocks: 64,
            capacity_blocks: 60,
            conventional: 0,
            open_max: Some(12),
            active_max: Some(12),
        };
        let zoned = (self == Self::Zoned).then_some(spec);
        OnMemory { segments: 72, segment_blocks: 64, zoned, cache_bytes: 1 << 20, ..OnMemory::default() }
    }
}

/// The steps of a seed.
pub fn steps(seed: u64, count: usize) -> Vec<Step> {
    let mut random = Random::new(seed);
    (0..count as u64).map(|n| step(&mut random, n + 1)).collect()
}

fn step(random: &mut Random, stamp: u64) -> Step {
    let file = random.below(FILES);
    match random.below(100) {
        0..52 => {
            let blocks = 1 + random.below(80);
            Step::Write { file, first: random.below(FILE_BLOCKS - blocks), blocks, stamp }
        }
        52..57 => Step::Truncate { file, blocks: random.below(FILE_BLOCKS) },
        57..60 => Step::Unlink { file },
        60..65 => Step::Read { file },
        65..78 => Step::Sync,
        78..90 => Step::Clean,
        90..95 => Step::Checkpoint,
        95..98 => Step::Remount,
        _ => Step::Kill,
    }
}

impl Step {
    /// What the step makes of the files.
    pub fn change(&self, model: &mut Model) {
        match self {
            Self::Write { file, first, blocks, stamp } => {
                let stamps = model.0.entry(*file).or_default();
                let end = (first + blocks) as usize;
                stamps.resize(stamps.len().max(end), 0);
                stamps[*first as usize..end].fill(*stamp);
            }
            Self::Truncate { file, blocks } => {
                if let Some(stamps) = model.0.get_mut(file) {
                    stamps.resize(*blocks as usize, 0);
                }
            }
            Self::Unlink { file } => drop(model.0.remove(file)),
            _ => {}
        }
    }

    /// Whether its success promises everything before it.
    pub fn promises(&self) -> bool {
        matches!(self, Self::Sync | Self::Checkpoint | Self::Remount)
    }

    /// Does what can be done on a mount.
    pub fn run(&self, mounted: &Mounted) -> Result<()> {
        let fs = &mounted.filesystem;
        match self {
            Self::Write { file, first, blocks, stamp } => {
                let ino = open(fs, *file)?;
                let data = model::bytes(*stamp).repeat(*blocks as usize);
                fs.write(ino, first * BLOCK, &data, false)?;
            }
            Self::Truncate { file, blocks } => {
                if let Some(ino) = find(fs, *file)? {
                    let size = AttrChange { size: Some(blocks * BLOCK), ..AttrChange::default() };
                    fs.setattr(&WHO, ino, &size)?;
                }
            }
            Self::Unlink { file } => {
                if let Some(ino) = find(fs, *file)? {
                    fs.unlink(Ino::ROOT, &model::name(*file))?;
                    fs.forget(ino);
                    while fs.reap(16)? > 0 {}
                }
            }
            Self::Read { file } => {
                if let Some(ino) = find(fs, *file)? {
                    fs.read(ino, 0, &mut vec![0; (FILE_BLOCKS * BLOCK) as usize])?;
                }
            }
            Self::Sync => fs.sync()?,
            Self::Clean => {
                mounted.cleaner.clean_one()?;
                fs.reap(4)?;
            }
            Self::Checkpoint => mounted.volume.checkpoint(false)?,
            Self::Remount | Self::Kill => {}
        }
        Ok(())
    }
}

fn find(fs: &dyn Namespace, file: u64) -> Result<Option<Ino>> {
    match fs.lookup(Ino::ROOT, &model::name(file)) {
        Ok(attr) => Ok(Some(attr.ino)),
        Err(Error::NotFound) => Ok(None),
        Err(e) => Err(e),
    }
}

fn open(fs: &dyn Namespace, file: u64) -> Result<Ino> {
    if let Some(ino) = find(fs, file)? {
        return Ok(ino);
    }
    let new = NewInode { kind: NewKind::File, perm: 0o644, umask: 0 };
    Ok(fs.create(&WHO, Ino::ROOT, &model::name(file), &new)?.ino)
}

/// Mounts for reading alone.
pub fn mount_read_only(device: &Arc<MemoryDevice>) -> Result<Filesystem> {
    let options = VolumeOptions::of_tool(true, 1 << 20);
    let volume = Arc::new(Volume::open(Arc::clone(device) as Arc<dyn Device>, options)?);
    Filesystem::with_clock(volume, Box::new(Time::default), Reaping::OnDemand)
}

/// Mounts at a time that stands still.
pub fn mount(subject: &OnMemory, device: &Arc<MemoryDevice>) -> Result<Mounted> {
    subject.mount(device, Arc::new(|| Time { secs: 1_700_000_000, nanos: 0 }))
}
