//! Where the command line meets the filesystem: the only file of `cli` that calls its layers.
//!
//! Each function takes what the command line has checked and answers with plain data, so that the commands
//! need not know how a volume is put together.

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use gleanfs_gc::advisor::{self, TrustLevel, check_file};
use gleanfs_gc::runtime;

use super::daemon::Ready;
use super::failure::{About, Failure, Result};
use super::mkfs::{MkfsOptions, ZonedOptions};
use super::mount::MountRequest;
use super::options::{Atime, GcMode, MountOptions, TrustMax};
use super::size::Size;
use crate::daemon::{self, Cleaning, DaemonOptions};
use crate::device::open::{DeviceKind, OpenMode, probe};
use crate::device::zoned::{ZonedImage, layout};
use crate::device::{ZonedSpec, file};
use crate::dump::{self, DumpError};
use crate::format::value::Time;
use crate::fsck::{self, CheckOptions, Report};
use crate::fuse;
use crate::meta::image::open_image;
use crate::meta::mkfs::{FormatOptions, format as format_device};
use crate::meta::space::segment_blocks_for;
use crate::namespace::root_edits;
use crate::proxy::Authority;
use crate::proxy::service::{self, AdviceOptions};
use crate::types::BLOCK_SIZE;

/// Makes an empty filesystem. Answers with a line about what was made (size, segments, room for users, UUID).
pub fn format(path: &Path, options: &MkfsOptions) -> Result<String> {
    let shown = path.display();
    match &options.zoned {
        Some(zoned) => make_zones(path, options, zoned)?,
        None => make_file(path, options)?,
    }
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
        overprovision_percent: f64::from(options.overprovision.hundredths()) / 100.0,
        ..FormatOptions::new(options.uuid, *uuid::Uuid::new_v4().as_bytes(), time.secs)
    };
    let made = format_device(opened.device, &wanted, &root_edits(0, 0, time)).about(&shown)?;
    let bytes = u64::from(made.segments) * u64::from(made.segment_blocks) * BLOCK_SIZE as u64;
    Ok(format!(
        "{kind} of {}, {} segments of {}, {} for users, UUID {}",
        Size(bytes),
        made.segments,
        Size(u64::from(made.segment_blocks) * BLOCK_SIZE as u64),
        Size(made.capacity_blocks * BLOCK_SIZE as u64),
        uuid::Uuid::from_bytes(made.uuid),
    ))
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
    OpenOptions::new().write(true).open(path).and_then(|f| f.set_len(size)).about(path.display())
}

fn make_zones(path: &Path, options: &MkfsOptions, zoned: &ZonedOptions) -> Result<()> {
    let blocks = |bytes: u64| (bytes / BLOCK_SIZE as u64) as u32;
    let size = options.size.ok_or_else(|| Failure::new("--zoned needs --size"))?;
    if options.force && path.exists() {
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

/// Mounts and serves until the mount ends; calls `mounted` once requests are answered. Returns after the last
/// checkpoint is durable.
pub fn serve(request: &MountRequest, mounted: Ready) -> Result<()> {
    let options = daemon_options(request);
    if let Err(why) = &options.advice.library
        && !options.read_only
        && options.advice.authority != Authority::Earned(TrustLevel::Fallback)
    {
        eprintln!("gleanfs: no model will be asked: {why}; gleanfs model fetch gets the library");
    }
    daemon::serve(options, mounted).map_err(|e| Failure::new(format_args!("{e:#}")))
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
        deadline_us: u64::from(options.deadline_us),
    }
}

fn library(explicit: Option<PathBuf>) -> std::result::Result<PathBuf, String> {
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
    let card = check_file(&model.bytes, &service::rules()).about(&shown)?;
    let library = library(explicit).map_err(|why| {
        Failure::new(format_args!(
            "{shown}: the file is well-formed, but it cannot be tried: {why}; gleanfs model fetch gets it"
        ))
    })?;
    let host = service::host(library, u64::from(deadline_us));
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
        ..default
    }
}

/// Reads and verifies everything (file data too, unless told not to); `progress` is called with bytes done and bytes in all.
pub fn check(path: &Path, read_data: bool, progress: &mut dyn FnMut(u64, u64)) -> Result<Report> {
    let opened = open_image(path, OpenMode::ReadOnly)?;
    let options = CheckOptions { read_data, ..CheckOptions::default() };
    Ok(fsck::check(opened.device, &options, progress)?)
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
