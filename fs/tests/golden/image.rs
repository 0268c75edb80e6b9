//! Images on real files, and the filesystem on them, run on one thread so that what is written repeats.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use gleanfs::cleaner::Cleaner;
use gleanfs::device::ZonedSpec;
use gleanfs::device::open::{OpenMode, OpenedDevice, open};
use gleanfs::device::zoned::ZonedImage;
use gleanfs::error::Result;
use gleanfs::format::value::Time;
use gleanfs::meta::image::open_image;
use gleanfs::meta::mkfs::{FormatOptions, format};
use gleanfs::meta::volume::{Volume, VolumeOptions};
use gleanfs::namespace::{Filesystem, Reaping, root_edits};

use super::contents::HASH_KEY;

/// A device on which images are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// An image file of 16 MiB.
    Plain,
    /// Sequential zones only, with a capacity below their size: the superblock is a log in two zones.
    Zoned,
}

impl Shape {
    pub const ALL: [Self; 2] = [Self::Plain, Self::Zoned];

    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Zoned => "zoned",
        }
    }

    /// Makes an empty filesystem at `path`.
    pub fn format(self, path: &Path) -> Result<()> {
        let segment_blocks = match self {
            Self::Plain => {
                gleanfs::device::file::create(path, 16 << 20).unwrap();
                Some(32)
            }
            Self::Zoned => {
                let spec = ZonedSpec {
                    zones: 96,
                    zone_blocks: 64,
                    capacity_blocks: 32,
                    conventional: 0,
                    open_max: Some(8),
                    active_max: Some(8),
                };
                ZonedImage::create(path, spec)?;
                None
            }
        };
        let opened = open(path, OpenMode::ReadWrite, segment_blocks)?;
        let named = FormatOptions { label: "golden".into(), ..FormatOptions::new(*b"golden image one", HASH_KEY, -5) };
        format(opened.device, &named, &root_edits(0, 0, Time { secs: 3, nanos: 4 })).map(drop)
    }
}

/// A filesystem that is open.
pub struct Live {
    pub volume: Arc<Volume>,
    pub cleaner: Arc<Cleaner>,
    pub filesystem: Filesystem,
    _opened: OpenedDevice,
}

impl Live {
    pub fn open(path: &Path, mode: OpenMode) -> Result<Self> {
        let opened = open_image(path, mode)?;
        let options = VolumeOptions {
            read_only: mode == OpenMode::ReadOnly,
            cache_bytes: 1 << 20,
            writer_threads: 0,
            heads: None,
            placement: Box::new(gleanfs_gc::placement::SepBit::default()),
            kept: None,
        };
        let volume = Arc::new(Volume::open(Arc::clone(&opened.device), options)?);
        let cleaner = Cleaner::new(Arc::clone(&volume), Box::new(gleanfs_gc::victim::Greedy), true);
        let ticks = AtomicI64::new(0);
        let clock = move || {
            let tick = ticks.fetch_add(1, Ordering::Relaxed);
            Time { secs: 1_700_000_000 + tick, nanos: 1_000_003 * (tick % 900) as u32 }
        };
        let filesystem = Filesystem::with_clock(Arc::clone(&volume), Box::new(clock), Reaping::OnDemand)?;
        Ok(Self { volume, cleaner, filesystem, _opened: opened })
    }

    /// Ends with a clean checkpoint.
    pub fn unmount(self) -> Result<()> {
        self.volume.checkpoint(true)
    }

    /// Ends as a crash does.
    pub fn abandon(self) {
        self.volume.abandon();
    }
}
