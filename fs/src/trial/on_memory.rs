//! The real filesystem on a device in memory, as a subject. Everything happens on the caller's thread, so that a list replays exactly.

use std::sync::Arc;

use gleanfs_gc::placement::{Placement, SepBit};

use super::Subject;
use super::unruly::{UnrulyPlacement, UnrulyVictims};
use crate::cleaner::{Cleaner, Recommender};
use crate::device::Device;
use crate::device::memory::MemoryDevice;
use crate::device::rules::ZonedSpec;
use crate::error::Result;
use crate::format::value::Time;
use crate::fsck::{self, CheckOptions};
use crate::log::KeptMemory;
use crate::meta::mkfs::{self, FormatOptions};
use crate::meta::volume::{Volume, VolumeOptions};
use crate::namespace::api::Namespace;
use crate::namespace::reference::Clock;
use crate::namespace::{Filesystem, Reaping, root_edits};

/// The shape of the device, and how the filesystem is run.
#[derive(Clone, Copy, Debug)]
pub struct OnMemory {
    pub segments: u32,
    pub segment_blocks: u32,
    /// Strict zones instead of a device that takes any write.
    pub zoned: Option<ZonedSpec>,
    /// Bytes of metadata nodes in memory: few, so that operations meet nodes that are not.
    pub cache_bytes: usize,
    /// Operations between two checkpoints; 0: none but at mount and unmount.
    pub checkpoint_every: usize,
    /// Operations between two segments cleaned, each with an extension of the log; 0: only when an operation finds no room.
    pub clean_every: usize,
    /// Once mkfs is through, flushes say that they succeeded and do nothing: nothing that is synced may survive, and the trial must find it.
    pub flushes_lost: bool,
    /// An advisor that says anything at all, drawn from this seed, chooses log heads and names victims.
    pub unruly: Option<u64>,
}

impl Default for OnMemory {
    fn default() -> Self {
        Self {
            segments: 256,
            segment_blocks: 256,
            zoned: None,
            cache_bytes: 64 << 10,
            checkpoint_every: 37,
            clean_every: 5,
            flushes_lost: false,
            unruly: None,
        }
    }
}

impl OnMemory {
    /// As small as mkfs allows, or nearly: what is made, mounted and checked very often.
    pub fn small() -> Self {
        Self { segments: 28, segment_blocks: 32, ..Self::default() }
    }

    /// Mounts with chunks in memory that outlives the mount.
    pub fn mount_with(
        &self,
        medium: &Arc<MemoryDevice>,
        clock: Clock,
        kept: Option<Arc<KeptMemory>>,
    ) -> Result<Mounted> {
        let options = VolumeOptions {
            read_only: false,
            cache_bytes: self.cache_bytes,
            writer_threads: 0,
            heads: None,
            placement: self.placement(),
            kept,
        };
        let volume = Arc::new(Volume::open(medium.clone(), options)?);
        let cleaner = Cleaner::new(volume.clone(), Box::new(gleanfs_gc::victim::Greedy), true);
        let unruly = self.unruly.map(|seed| Arc::new(UnrulyVictims::new(seed)));
        cleaner.set_recommender(unruly.clone().map(|unruly| unruly as Arc<dyn Recommender>));
        let filesystem = Filesystem::with_clock(volume.clone(), Box::new(move || clock()), Reaping::OnDemand)?;
        Ok(Mounted { filesystem, volume, cleaner, unruly })
    }

    /// The same on strict zones that hold a sixteenth less than their size.
    pub fn on_zones(self) -> Self {
        let spec = ZonedSpec {
            zones: self.segments,
            zone_blocks: self.segment_blocks,
            capacity_blocks: self.segment_blocks - self.segment_blocks / 16,
            conventional: 0,
            open_max: Some(14),
            active_max: Some(14),
        };
        Self { zoned: Some(spec), ..self }
    }

    fn placement(&self) -> Box<dyn Placement> {
        match self.unruly {
            Some(seed) => Box::new(UnrulyPlacement::new(seed)),
            None => Box::new(SepBit::default()),
        }
    }
}

/// The mounted filesystem, with the volume below it.
pub struct Mounted {
    pub filesystem: Filesystem,
    pub volume: Arc<Volume>,
    pub cleaner: Arc<Cleaner>,
    unruly: Option<Arc<UnrulyVictims>>,
}

impl Mounted {
    /// Cleans a segment, if there is one worth it.
    pub fn clean(&self) -> Result<()> {
        if let Some(unruly) = &self.unruly {
            unruly.look(&self.cleaner);
        }
        self.cleaner.clean_one().map(drop)
    }
}

impl Subject for OnMemory {
    type Medium = Arc<MemoryDevice>;
    type Mounted = Mounted;

    fn namespace<'a>(&self, mounted: &'a Mounted) -> &'a dyn Namespace {
        &mounted.filesystem
    }

    fn format(&self) -> Result<Arc<MemoryDevice>> {
        let device = Arc::new(match self.zoned {
            Some(spec) => MemoryDevice::zoned(spec),
            None => MemoryDevice::new(u64::from(self.segments) * u64::from(self.segment_blocks), self.segment_blocks),
        });
        let options = FormatOptions::new([7; 16], [9; 16], 0);
        mkfs::format(device.clone(), &options, &root_edits(0, 0, Time::default()))?;
        device.lose_flushes(self.flushes_lost);
        Ok(device)
    }

    fn mount(&self, medium: &Arc<MemoryDevice>, clock: Clock) -> Result<Mounted> {
        self.mount_with(medium, clock, None)
    }

    fn unmount(&self, _medium: &Arc<MemoryDevice>, mounted: Mounted) -> Result<()> {
        mounted.volume.checkpoint(true)
    }

    fn writes(&self, medium: &Arc<MemoryDevice>) -> u64 {
        medium.traffic().writes
    }

    fn cut_after(&self, medium: &Arc<MemoryDevice>, writes: u64) {
        medium.crash_after(writes);
    }

    fn crash(&self, medium: &Arc<MemoryDevice>, seed: u64) -> Arc<MemoryDevice> {
        Arc::new(medium.crash(seed))
    }

    fn fork(&self, medium: &Arc<MemoryDevice>) -> Arc<MemoryDevice> {
        let fork = medium.snapshot();
        fork.lose_flushes(self.flushes_lost);
        Arc::new(fork)
    }

    fn checkpoint(&self, mounted: &Mounted) -> Result<()> {
        mounted.volume.checkpoint(false)
    }

    fn check(&self, medium: &Arc<MemoryDevice>) -> std::result::Result<(), String> {
        let options = CheckOptions { cache_bytes: 1 << 20, findings_max: 5, ..CheckOptions::default() };
        let report = fsck::check(medium.clone(), &options, &mut |_, _| {}).map_err(|e| format!("fsck: {e}"))?;
        if report.errors() == 0 {
            return Ok(());
        }
        Err(format!("fsck: {}", report.findings.iter().map(|f| f.to_string()).collect::<Vec<_>>().join("; ")))
    }

    fn background(&self, mounted: &Mounted, step: usize) -> Result<bool> {
        if self.clean_every > 0 && step % self.clean_every == self.clean_every - 1 {
            mounted.clean()?;
            mounted.volume.extend_log()?;
        }
        if self.checkpoint_every > 0 && step % self.checkpoint_every == self.checkpoint_every - 1 {
            mounted.volume.checkpoint(false)?;
            return Ok(true);
        }
        mounted.filesystem.reap(1)?;
        Ok(false)
    }
}
