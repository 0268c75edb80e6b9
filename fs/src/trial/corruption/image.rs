//! Images to be damaged: made by a seeded workload on a device that remembers every version of each block, beside a reference whose every state is kept.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;

use super::super::client::{Slots, apply};
use super::super::mix::{Kind, Mix};
use super::super::on_memory::OnMemory;
use super::super::{Exactness, Subject, TrialClock};
use super::Plan;
use super::shown::Shown;
use super::uses::Uses;
use crate::cleaner::Cleaner;
use crate::device::{Device, Geometry, MemoryDevice, Result as DeviceResult, Traffic, Zone, ZonedSpec};
use crate::error::Result;
use crate::meta::volume::{Volume, VolumeOptions};
use crate::namespace::api::{AttrChange, Caller, Namespace, SetTime};
use crate::namespace::reference::Reference;
use crate::namespace::{Filesystem, Reaping};
use crate::types::{BLOCK_SIZE, BlockAddr, Ino, Lsn};

/// What is compared: everything.
pub const EXACT: Exactness = Exactness { times: true, sectors: true };
const SEGMENTS: u32 = 80;
const SEGMENT_BLOCKS: u32 = 64;

/// How an image comes to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Unmounted.
    Clean,
    /// With a log to be replayed.
    Dirty,
    /// With an extended log, and segments that were written twice since the checkpoint.
    Extended,
    /// Unmounted, on zones.
    Zoned,
    /// On zones, with a log to be replayed.
    ZonedDirty,
}

impl Shape {
    pub const ALL: [Self; 5] = [Self::Clean, Self::Dirty, Self::Extended, Self::Zoned, Self::ZonedDirty];

    pub fn is_clean(self) -> bool {
        matches!(self, Self::Clean | Self::Zoned)
    }

    fn subject(self) -> OnMemory {
        let spec = ZonedSpec {
            zones: SEGMENTS,
            zone_blocks: SEGMENT_BLOCKS,
            capacity_blocks: SEGMENT_BLOCKS - 4,
            conventional: 0,
            open_max: None,
            active_max: None,
        };
        let plain =
            OnMemory { segments: SEGMENTS, segment_blocks: SEGMENT_BLOCKS, clean_every: 3, ..OnMemory::default() };
        match self {
            Self::Clean | Self::Dirty => plain,
            Self::Extended => OnMemory { clean_every: 1, checkpoint_every: 0, ..plain },
            Self::Zoned | Self::ZonedDirty => OnMemory { zoned: Some(spec), ..plain },
        }
    }
}

/// Contents of a block.
pub type Block = [u8; BLOCK_SIZE];

/// An image, and what is known of it.
pub struct Image {
    pub shape: Shape,
    pub device: MemoryDevice,
    /// What was written to each block, oldest first.
    pub versions: BTreeMap<u64, Vec<Arc<Block>>>,
    /// What the reference showed when so much was logged; the last is what the image holds.
    pub states: Vec<(Lsn, Shown)>,
    pub uses: Uses,
    pub clock: TrialClock,
}

/// A filesystem mounted on some device.
pub struct Mounted {
    pub volume: Arc<Volume>,
    pub cleaner: Arc<Cleaner>,
    pub filesystem: Filesystem,
}

impl Mounted {
    /// Mounts with everything on the caller's thread.
    pub fn new(device: Arc<dyn Device>, read_only: bool, clock: &TrialClock) -> Result<Self> {
        let placement = Box::new(gleanfs_gc::placement::SepBit::default());
        let options =
            VolumeOptions { read_only, cache_bytes: 64 << 10, writer_threads: 0, heads: None, placement, kept: None };
        let volume = Arc::new(Volume::open(device, options)?);
        let cleaner = Cleaner::new(Arc::clone(&volume), Box::new(gleanfs_gc::victim::Greedy), true);
        let clock = clock.clock();
        let filesystem = Filesystem::with_clock(Arc::clone(&volume), Box::new(move || clock()), Reaping::OnDemand)?;
        Ok(Self { volume, cleaner, filesystem })
    }

    fn background(&self, subject: &OnMemory, step: usize) -> Result<()> {
        if step % subject.clean_every == subject.clean_every - 1 {
            self.cleaner.clean_one()?;
            self.volume.extend_log()?;
        }
        if subject.checkpoint_every > 0 && step % subject.checkpoint_every == subject.checkpoint_every - 1 {
            self.volume.checkpoint(false)?;
        }
        self.filesystem.reap(1).map(drop)
    }
}

impl Image {
    /// Runs the workload.
    pub fn build(plan: &Plan) -> std::result::Result<Self, String> {
        let subject = plan.shape.subject();
        let device = subject.format().map_err(|e| e.to_string())?;
        let logged = Arc::new(Remembering { device: Arc::clone(&device), versions: Mutex::default() });
        logged.remember_all();
        let clock = TrialClock::default();
        let mounted = Mounted::new(logged.clone(), false, &clock).map_err(|e| e.to_string())?;
        let states = work(&mounted, &subject, &clock, plan)?;
        if plan.shape.is_clean() { mounted.volume.checkpoint(true) } else { mounted.volume.sync() }
            .map_err(|e| e.to_string())?;
        // What is still in memory is lost, as in a crash.
        let device = device.snapshot();
        let versions = std::mem::take(&mut *logged.versions.lock());
        let shape = plan.shape;
        let uses = Uses::of(&device, &clock)?;
        let image = Self { shape, device, versions, states, uses, clock };
        image.check()?;
        Ok(image)
    }

    /// The image is sound and shows the last state, or nothing that follows means anything.
    fn check(&self) -> std::result::Result<(), String> {
        let device: Arc<dyn Device> = Arc::new(self.device.snapshot());
        let mounted = Mounted::new(Arc::clone(&device), true, &self.clock).map_err(|e| e.to_string())?;
        let (_, last) = self.last();
        let shown = Shown::read(&mounted.filesystem, last)?;
        shown.difference(last, last).map_or(Ok(()), Err)?;
        if shown.unreadable() > 0 {
            return Err("the undamaged image cannot be read".into());
        }
        let report = crate::fsck::check(device, &Default::default(), &mut |_, _| {}).map_err(|e| e.to_string())?;
        report.findings.first().map_or(Ok(()), |finding| Err(finding.to_string()))
    }

    pub fn last(&self) -> &(Lsn, Shown) {
        self.states.last().expect("there is a state before the first operation")
    }
}

fn work(
    mounted: &Mounted,
    subject: &OnMemory,
    clock: &TrialClock,
    plan: &Plan,
) -> std::result::Result<Vec<(Lsn, Shown)>, String> {
    let mut mix = Mix { far_one_in: 0, file_blocks: 24, blocks_max: 6, names: 12, depth: 2, ..Mix::crash() };
    for (kind, weight) in [(Kind::Create, 30), (Kind::Write, 50), (Kind::Fsync, 8)] {
        mix.set(kind, weight);
    }
    let reference = Reference::with_clock(clock.clock());
    let now = SetTime::At((clock.clock())());
    let times =
        AttrChange { atime: Some(now), mtime: Some(now), ctime: Some((clock.clock())()), ..AttrChange::default() };
    let who = Caller { uid: 0, gid: 0, pid: 1 };
    for fs in [&reference as &dyn Namespace, &mounted.filesystem] {
        fs.setattr(&who, Ino::ROOT, &times).map_err(|e| e.to_string())?;
    }
    let mut states = vec![(mounted.volume.last_lsn(), Shown::whole(&reference)?)];
    let (mut theirs, mut ours) = (Slots::default(), Slots::default());
    for (step, operation) in mix.generate(plan.seed, plan.operations).iter().enumerate() {
        mounted.background(subject, step).map_err(|e| e.to_string())?;
        clock.tick();
        let expected = apply(&reference, &mut ours, operation, EXACT);
        let found = apply(&mounted.filesystem, &mut theirs, operation, EXACT);
        if let Some(why) = expected.difference(&found) {
            return Err(format!("{operation}: {why}"));
        }
        states.push((mounted.volume.last_lsn(), Shown::whole(&reference)?));
    }
    Ok(states)
}

/// A device that remembers what was written where.
struct Remembering {
    device: Arc<MemoryDevice>,
    versions: Mutex<BTreeMap<u64, Vec<Arc<Block>>>>,
}

impl Remembering {
    fn remember(&self, addr: BlockAddr, buf: &[u8]) {
        let mut versions = self.versions.lock();
        let (blocks, _) = buf.as_chunks::<BLOCK_SIZE>();
        for (at, block) in (addr.0..).zip(blocks) {
            versions.entry(at).or_default().push(Arc::new(*block));
        }
    }

    /// What mkfs wrote.
    fn remember_all(&self) {
        let mut block = crate::device::AlignedBuf::new(1);
        for addr in (0..u64::from(SEGMENTS * SEGMENT_BLOCKS)).map(BlockAddr) {
            if self.device.read(addr, &mut block).is_ok() && block.iter().any(|byte| *byte != 0) {
                self.remember(addr, &block);
            }
        }
    }
}

impl Device for Remembering {
    fn geometry(&self) -> Geometry {
        self.device.geometry()
    }

    fn zone(&self, zone: u32) -> DeviceResult<Zone> {
        self.device.zone(zone)
    }

    fn read(&self, addr: BlockAddr, buf: &mut [u8]) -> DeviceResult<()> {
        self.device.read(addr, buf)
    }

    fn write(&self, addr: BlockAddr, buf: &[u8]) -> DeviceResult<()> {
        self.device.write(addr, buf)?;
        self.remember(addr, buf);
        Ok(())
    }

    fn flush(&self) -> DeviceResult<()> {
        self.device.flush()
    }

    fn reserve(&self, zone: u32) -> DeviceResult<()> {
        self.device.reserve(zone)
    }

    fn finish(&self, zone: u32) -> DeviceResult<()> {
        self.device.finish(zone)
    }

    fn reset(&self, zone: u32) -> DeviceResult<()> {
        self.device.reset(zone)
    }

    fn traffic(&self) -> Traffic {
        self.device.traffic()
    }
}
