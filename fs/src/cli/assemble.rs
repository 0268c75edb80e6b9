//! Where the command line meets the filesystem: the only file of `cli` that calls its layers.
//!
//! Each function takes what the command line has checked and answers with plain data, so that the commands
//! need not know how a volume is put together.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use gleanfs_gc::advisor::{self, ModelKind, TrustLevel};
use gleanfs_gc::{learn, runtime};

use super::daemon::Ready;
use super::failure::{About, Failure, Result};
use super::mkfs::{MkfsOptions, ZonedOptions};
use super::mount::MountRequest;
use super::options::{Advise, Atime, GcMode, Learn, MountOptions, TrustMax};
use super::size::Size;
use crate::cleaner::Cleaner;
use crate::daemon::{self, Cleaning, DaemonOptions};
use crate::device::lock::ImageLock;
use crate::device::open::{DeviceKind, OpenMode, probe};
use crate::device::zoned::{ZonedImage, layout};
use crate::device::{ZonedSpec, file};
use crate::dump::{self, DumpError};
use crate::error::Error;
use crate::format::superblock::Identity;
use crate::format::value::Time;
use crate::fsck::{self, CheckOptions, Report};
use crate::fuse;
use crate::meta::image::{open_image, stored_copy_segment_blocks};
use crate::meta::mkfs::{FormatOptions, format as format_device};
use crate::meta::roll_forward::segment_capacity;
use crate::meta::space::{LogRoom, OVERPROVISION_PERCENT, segment_blocks_for};
use crate::meta::tune::{Changes, tune as change_names};
use crate::meta::volume::{Volume, VolumeOptions};
use crate::namespace::root_edits;
use crate::proxy::Authority;
use crate::proxy::learner::Learning;
use crate::proxy::service::{self, AdviceOptions};
use crate::repair::{self, Consent, Outcome, RepairOptions};
use crate::supervisor::Link;
use crate::types::BLOCK_SIZE;

/// What users get of a device that has segments enough.
const USERS_PERCENT: f64 = 100.0 - OVERPROVISION_PERCENT - 1.0;

/// Makes an empty filesystem. Answers with a line about what was made (size, segments, room for users, UUID), and one more where users get less
/// than they might expect. What is refused leaves everything as it was.
pub fn format(path: &Path, options: &MkfsOptions) -> Result<String> {
    check_room(options).about(path.display())?;
    let existed = path.exists();
    match &options.zoned {
        Some(zoned) => make_zones(path, options, zoned)?,
        None => make_file(path, options)?,
    }
    let made = format_there(path, options);
    if made.is_err() && !existed {
        // Half-made and ours; the first error is the one worth telling.
        let _ = if options.zoned.is_some() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) };
    }
    made
}

/// Whether the size that was asked for holds a filesystem, before anything is touched.
fn check_room(options: &MkfsOptions) -> crate::error::Result<()> {
    let Some(size) = options.size else { return Ok(()) };
    let blocks = |bytes: u64| u32::try_from(bytes / BLOCK_SIZE as u64).unwrap_or(u32::MAX);
    let whole = |step: u64| u32::try_from(size / step).unwrap_or(u32::MAX);
    let (superblock, all, segment_blocks) = match &options.zoned {
        Some(zoned) => (2, whole(zoned.zone_size), blocks(zoned.zone_capacity)),
        None => {
            let segment = options.segment_size.map_or_else(|| segment_blocks_for(size), blocks);
            (1, whole(u64::from(segment) * BLOCK_SIZE as u64), segment)
        }
    };
    let room = LogRoom { segments: all.saturating_sub(superblock), segment_blocks };
    room.capacity_blocks(superblock, percent(options)).map(drop)
}

fn percent(options: &MkfsOptions) -> f64 {
    f64::from(options.overprovision.hundredths()) / 100.0
}

fn format_there(path: &Path, options: &MkfsOptions) -> Result<String> {
    let shown = path.display();
    let probe = probe(path, OpenMode::ReadWrite)?;
    let kind = probe.kind();
    let segment_blocks = match (probe.zone_blocks(), options.segment_size) {
        (Some(zone), _) => zone,
        (None, Some(bytes)) => (bytes / BLOCK_SIZE as u64) as u32,
        (None, None) => segment_blocks_for(probe.geometry().total_blocks * BLOCK_SIZE as u64),
    };
    let opened = probe.with_segment_blocks(segment_blocks)?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let time = Time { secs: now.as_secs() as i64, nanos: now.subsec_nanos() };
    let wanted = FormatOptions {
        label: options.label.clone(),
        overprovision_percent: percent(options),
        ..FormatOptions::new(options.uuid, *uuid::Uuid::new_v4().as_bytes(), time.secs)
    };
    let device = Arc::clone(&opened.device);
    let made = format_device(opened.device, &wanted, &root_edits(0, 0, time)).about(&shown)?;
    let room = LogRoom {
        segments: made.segments - made.first_segment.0,
        segment_blocks: segment_capacity(&*device, made.first_segment)?,
    };
    let bytes = |blocks: u64| Size(blocks * BLOCK_SIZE as u64);
    Ok(format!(
        "{kind} of {}, {} segments of {}, {} for users ({:.1} %), UUID {}{}",
        bytes(u64::from(made.segments) * u64::from(made.segment_blocks)),
        made.segments,
        bytes(u64::from(made.segment_blocks)),
        bytes(made.capacity_blocks),
        room.users_percent(made.first_segment.0, made.capacity_blocks),
        uuid::Uuid::from_bytes(made.uuid),
        why_less(&made, &room, wanted.overprovision_percent),
    ))
}

/// A line for those who might expect more room than there is.
fn why_less(made: &Identity, room: &LogRoom, overprovision_percent: f64) -> String {
    let superblock = made.first_segment.0;
    let percent = room.users_percent(superblock, made.capacity_blocks);
    if percent >= USERS_PERCENT || overprovision_percent > 100.0 - USERS_PERCENT {
        return String::new();
    }
    let from = room.segments_for(superblock, USERS_PERCENT).map_or_else(String::new, |segments| {
        format!("; from {segments} segments of this size on users get {USERS_PERCENT} %")
    });
    format!(
        "\nof {} segments {superblock} hold the superblock and {} are kept so that cleaning and checkpoints find room when it is full{from}",
        made.segments,
        room.kept_segments(),
    )
}

/// Has an image that is not mounted take its device's room, or `bytes` of it. Answers with a line about it, empty if there was nothing to do.
pub fn grow(path: &Path, bytes: Option<u64>) -> Result<String> {
    let opened = open_image(path, OpenMode::ReadWrite)?;
    let options = VolumeOptions::of_tool(false, 64 << 20);
    let volume = Arc::new(Volume::open(Arc::clone(&opened.device), options).about(path.display())?);
    let _makes_room = Cleaner::new(Arc::clone(&volume), Box::new(gleanfs_gc::victim::Greedy), true);
    let grown = volume.grow(bytes).about(path.display())?;
    volume.checkpoint(true).about(path.display())?;
    Ok(grown.map_or_else(String::new, |grown| grown.to_string()))
}

/// Shows or changes the names of an image that is not mounted; what they are then.
pub fn tune(path: &Path, changes: &Changes) -> Result<Identity> {
    let mode = if *changes == Changes::default() { OpenMode::ReadOnly } else { OpenMode::ReadWrite };
    let opened = open_image(path, mode)?;
    change_names(opened.device, changes).about(path.display())
}

/// Creates an image file, or gives one that exists the size that was asked for.
fn make_file(path: &Path, options: &MkfsOptions) -> Result<()> {
    let Some(size) = options.size else { return Ok(()) };
    if !path.exists() {
        file::create(path, size).about(path.display())?;
        return Ok(());
    }
    if matches!(probe(path, OpenMode::ReadOnly).map(|p| p.kind()), Ok(DeviceKind::Block | DeviceKind::ZonedBlock)) {
        return Err(Failure::new(format_args!("{}: --size cannot change a device; leave it out", path.display())));
    }
    let opened = OpenOptions::new().read(true).write(true).open(path).about(path.display())?;
    let _alone = ImageLock::take(&opened, path, OpenMode::ReadWrite)?;
    opened.set_len(size).about(path.display())
}

fn make_zones(path: &Path, options: &MkfsOptions, zoned: &ZonedOptions) -> Result<()> {
    let blocks = |bytes: u64| (bytes / BLOCK_SIZE as u64) as u32;
    let size = options.size.ok_or_else(|| Failure::new("--zoned needs --size"))?;
    if options.force && path.exists() {
        let opened = File::open(path).about(path.display())?;
        let _alone = ImageLock::take(&opened, path, OpenMode::ReadWrite)?;
        layout::wipe(path).about(path.display())?;
    }
    let spec = ZonedSpec {
        zones: (size / zoned.zone_size) as u32,
        zone_blocks: blocks(zoned.zone_size),
        capacity_blocks: blocks(zoned.zone_capacity),
        conventional: 0,
        open_max: zoned.max_open,
        active_max: zoned.max_open,
    };
    ZonedImage::create(path, spec)?;
    Ok(())
}

/// Mounts (or goes on with what `link` holds) and serves until the mount ends; calls `mounted` once requests are answered. Returns
/// after the last checkpoint is durable.
pub fn serve(request: &MountRequest, mounted: Ready, link: Option<Link>) -> Result<()> {
    let options = daemon_options(request);
    let asks = !options.read_only && options.advice.authority != Authority::Earned(TrustLevel::Fallback);
    let missing = options.advice.library.clone().err().filter(|_| asks);
    let told = Box::new(move || {
        // Only now: a mount that fails has one line to say, and another one.
        if let Some(why) = missing {
            eprintln!("gleanfs: no model will be asked: {why}; gleanfs model fetch gets the library");
        }
        mounted();
    });
    daemon::serve(options, told, link).map_err(|e| Failure::new(format_args!("{e:#}")))
}

fn daemon_options(request: &MountRequest) -> DaemonOptions {
    let options = &request.options;
    DaemonOptions {
        source: request.source.clone(),
        target: request.target.clone(),
        read_only: options.read_only,
        cache_bytes: options.cache_bytes as usize,
        policy: options.policy.clone(),
        cleaning: match options.gc {
            GcMode::On => Cleaning::Background,
            GcMode::Off => Cleaning::OnDemand,
            GcMode::Sync => Cleaning::Inline,
        },
        checkpoint_every: Duration::from_secs(u64::from(options.checkpoint_secs)),
        heads: options.heads,
        advice: advice_options(options),
        run_as: options.run_as.clone(),
        fuse: fuse_options(options),
    }
}

/// A mount never downloads anything: it takes the library that is there.
fn advice_options(options: &MountOptions) -> AdviceOptions {
    AdviceOptions {
        model: options.model.clone(),
        watch: options.watch.clone(),
        library: library(options.library.clone()),
        authority: match options.trust_max {
            TrustMax::Fallback => Authority::Earned(TrustLevel::Fallback),
            TrustMax::Learning => Authority::Earned(TrustLevel::Learning),
            TrustMax::Collaboration => Authority::Earned(TrustLevel::Collaboration),
            TrustMax::Recommendation => Authority::Earned(TrustLevel::Recommendation),
            TrustMax::Forced => Authority::Forced,
        },
        advise: match options.advise {
            Advise::Both => service::Advise::Both,
            Advise::Placement => service::Advise::Only(ModelKind::Placement),
            Advise::Victims => service::Advise::Only(ModelKind::Victim),
        },
        learning: match options.learn {
            Learn::Off => Learning::Off,
            Learn::Shadow => Learning::Shadow,
            Learn::On => Learning::On,
        },
        deadline_us: u64::from(options.deadline_us),
        user: None,
    }
}

/// The ONNX Runtime library, or why there is none.
pub fn library(explicit: Option<PathBuf>) -> std::result::Result<PathBuf, String> {
    let request = runtime::Request { explicit, ..runtime::Request::default() };
    runtime::locate(request).map(|library| library.path).map_err(|e| e.to_string())
}

/// Fetches the ONNX Runtime library if it is not there yet. `progress` is called with what is being done, bytes done and bytes in all.
pub fn fetch_library(progress: &mut dyn FnMut(&str, u64, u64)) -> Result<PathBuf> {
    let mut told = |p: runtime::Progress| {
        let what = match p.stage {
            runtime::Stage::Downloading => "downloading",
            runtime::Stage::Verifying => "verifying",
            runtime::Stage::Unpacking => "unpacking",
        };
        progress(what, p.bytes_done, p.bytes_total);
    };
    let request = runtime::Request { fetch: true, progress: Some(&mut told), ..runtime::Request::default() };
    Ok(runtime::locate(request).map_err(Failure::new)?.path)
}

/// Checks a model file as a mount would: what it says of itself, then a run in a worker process. Answers with lines about it.
pub fn check_model(path: &Path, deadline_us: u32, explicit: Option<PathBuf>) -> Result<String> {
    let shown = path.display();
    let model = service::read_model(path).about(&shown)?;
    let card = service::check(&model).about(&shown)?;
    let library = library(explicit).map_err(|why| {
        Failure::new(format_args!(
            "{shown}: the file is well-formed, but it cannot be tried: {why}; gleanfs model fetch gets it"
        ))
    })?;
    let host = service::host(library, u64::from(deadline_us), card.kind);
    let (_, probe) = advisor::check_model(&host, &model.name, &model.bytes).about(&shown)?;
    Ok(format!(
        "{shown}: a {} model of {} bytes, {} features, sha256 {:.12}\n{} rows take {} us (p50), {} us (p99); the deadline is {} us",
        card.kind.name(),
        card.bytes,
        card.features.len(),
        card.sha256,
        probe.rows,
        probe.p50_us,
        probe.p99_us,
        probe.deadline_us,
    ))
}

/// The worker's whole life, for the hidden subcommand that a daemon starts.
pub fn advise(words: impl Iterator<Item = OsString>) -> ! {
    advisor::worker_main(words, &mut advisor::Plain)
}

/// A trainer's whole life, likewise.
pub fn train(words: impl Iterator<Item = OsString>) -> ! {
    learn::trainer_main(words)
}

fn fuse_options(options: &MountOptions) -> fuse::MountOptions {
    let kernel = &options.kernel;
    let default = fuse::MountOptions::default();
    fuse::MountOptions {
        read_only: options.read_only,
        nosuid: !kernel.suid,
        nodev: !kernel.dev,
        noexec: !kernel.exec,
        noatime: kernel.atime == Atime::Noatime,
        nodiratime: !kernel.diratime,
        sync: kernel.sync,
        dirsync: kernel.dirsync,
        allow_other: kernel.allow_other.unwrap_or(default.allow_other),
        writeback: options.writeback,
        threads: options.threads.map_or(default.threads, usize::from),
        outlives: options.supervise.is_some(),
        ..default
    }
}

/// Reads and verifies everything (file data too, unless told not to); `progress` is called with bytes done and bytes in all.
pub fn check(path: &Path, read_data: bool, progress: &mut dyn FnMut(u64, u64)) -> Result<Report> {
    let opened = open_image(path, OpenMode::ReadOnly)?;
    let options = CheckOptions { read_data, ..CheckOptions::default() };
    Ok(fsck::check(opened.device, &options, progress)?)
}

/// What to repair, and how.
pub struct RepairRequest {
    pub consent: Consent,
    pub read_data: bool,
    pub segment_bytes: Option<u64>,
}

/// Checks an image that nobody uses and repairs what may be.
pub fn repair(path: &Path, request: &RepairRequest, progress: &mut dyn FnMut(u64, u64)) -> Result<Outcome> {
    let writes = request.consent != Consent::DryRun;
    let mode = if writes { OpenMode::ReadWrite } else { OpenMode::ReadOnly };
    let opened = match open_image(path, mode) {
        Ok(opened) => opened,
        // Without a superblock the image does not say how large its segments are.
        Err(Error::Refused(_)) => {
            let probe = probe(path, mode)?;
            let bytes = probe.geometry().total_blocks * BLOCK_SIZE as u64;
            let given = request.segment_bytes.map(|bytes| (bytes / BLOCK_SIZE as u64) as u32);
            let segment_blocks = probe.zone_blocks().or(given);
            let guessed = || stored_copy_segment_blocks(&probe).unwrap_or_else(|| segment_blocks_for(bytes));
            let segment_blocks = segment_blocks.unwrap_or_else(guessed);
            probe.with_segment_blocks(segment_blocks)?
        }
        Err(e) => return Err(e.into()),
    };
    let check = CheckOptions { read_data: request.read_data, ..CheckOptions::default() };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let options = RepairOptions {
        check,
        consent: request.consent,
        hash_key: *uuid::Uuid::new_v4().as_bytes(),
        now: Time { secs: now.as_secs() as i64, nanos: now.subsec_nanos() },
    };
    repair::repair(&opened.device, &options, progress).about(path.display())
}

/// A structure of an image, as text for people.
pub fn dump(path: &Path, what: dump::What, out: &mut impl Write) -> Result<()> {
    let opened = open_image(path, OpenMode::ReadOnly)?;
    match dump::dump(&opened.device, what, out) {
        // Whoever reads may stop reading.
        Err(DumpError::Output(e)) if e.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        result => result.about(path.display()),
    }
}
