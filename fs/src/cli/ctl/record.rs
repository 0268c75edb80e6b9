//! `gleanfs ctl MNT record FILE`: drains a mount's telemetry into a file somewhere else.
//!
//! The daemon fills a ring in memory and never waits; whoever records maps it and writes. Ends on SIGINT, SIGTERM or SIGHUP, when the time is up, or with the mount.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use gleanfs_gc::telemetry::{self, Header, RingReader};

use super::super::failure::{About, Failure, Result};
use super::unexpected;
use crate::control::message::Ring;
use crate::control::{Client, Request, Response, mounts};
use crate::fuse::signals::Signals;

/// How often the ring is looked at. It holds what a fast mount does in a second.
const LOOK_EVERY: Duration = Duration::from_millis(50);
const BUFFER_BYTES: usize = 1 << 20;

#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// File to be made, off the mount; compressed if its name ends in .gz
    file: PathBuf,
    /// Stop after so many seconds [default: when interrupted, or with the mount]
    #[arg(long)]
    seconds: Option<u64>,
}

/// What was recorded.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    events: u64,
    lost: u64,
}

pub fn run(mount_point: &Path, arguments: &Args) -> Result<()> {
    let shown = arguments.file.display();
    let signals = Signals::block().map_err(Failure::new)?;
    refuse_inside(mount_point, &arguments.file)?;
    let file = File::create_new(&arguments.file).about(&shown)?;
    let (ring, mut reader) = match begin(mount_point) {
        Ok(begun) => begun,
        Err(failure) => {
            // Nothing was recorded, so nothing is left.
            let _ = std::fs::remove_file(&arguments.file);
            return Err(failure);
        }
    };
    let header = Header { segment_blocks: ring.segment_blocks, heads: ring.heads, clock: ring.clock };
    let out = BufWriter::with_capacity(BUFFER_BYTES, file);
    let compressed = arguments.file.extension().is_some_and(|extension| extension == "gz");
    let mut writer = telemetry::Writer::new(out, compressed, &header).about(&shown)?;
    let until = arguments.seconds.map(|secs| Instant::now() + Duration::from_secs(secs));
    let mut counts = Counts::default();
    let drained = drain(&mut reader, &mut writer, &mut counts, || {
        until.is_some_and(|until| Instant::now() >= until) || !matches!(signals.wait_for(LOOK_EVERY), Ok(None))
    });
    // Only now: what was written until somebody asked for the end belongs to it. A daemon that has gone needs not be told.
    let _ = Client::connect(mount_point).and_then(|mut client| client.ask(&Request::RecordEnd { id: ring.id }));
    let rest = drained.and_then(|()| drain(&mut reader, &mut writer, &mut counts, || true));
    rest.and_then(|()| writer.finish()?.flush()).about(&shown)?;
    println!("{} events written to {shown}, {} lost", counts.events, counts.lost);
    Ok(())
}

/// The connection is not kept: the daemon has others to answer.
fn begin(mount_point: &Path) -> Result<(Ring, RingReader)> {
    let mut client = Client::connect(mount_point)?;
    let ring = match client.ask(&Request::Record)? {
        Response::Ring(ring) => ring,
        other => return Err(unexpected(&other)),
    };
    let pid = client.daemon_pid().as_raw_nonzero();
    let fd = File::options().read(true).write(true).open(format!("/proc/{pid}/fd/{}", ring.fd));
    let reader = fd.map_err(|e| e.to_string()).and_then(|fd| RingReader::open(fd.into()));
    match reader {
        Ok(reader) => Ok((ring, reader)),
        Err(why) => {
            client.ask(&Request::RecordEnd { id: ring.id })?;
            Err(Failure::new(format_args!("the daemon's ring: {why}")))
        }
    }
}

/// Writes events until the ring is closed, or `enough` and what was there is written.
fn drain<W: Write>(
    reader: &mut RingReader,
    writer: &mut telemetry::Writer<W>,
    counts: &mut Counts,
    mut enough: impl FnMut() -> bool,
) -> std::io::Result<()> {
    loop {
        let ends = enough();
        let mut outcome = Ok(());
        let taken = reader.take(usize::MAX, |event| {
            if outcome.is_ok() {
                outcome = writer.event(event);
            }
        });
        outcome?;
        writer.lost(taken.lost)?;
        counts.events += taken.events as u64;
        counts.lost += taken.lost;
        if ends || taken.closed {
            return Ok(());
        }
    }
}

/// A recording that lay on the mount would record itself.
fn refuse_inside(mount_point: &Path, file: &Path) -> Result<()> {
    let dir = file.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let there = std::fs::metadata(dir).about(dir.display())?.dev();
    let inside = mounts::at(mount_point)?
        .is_some_and(|mount| there == rustix::fs::makedev(mount.device.major, mount.device.minor));
    match inside {
        true => Err(Failure::new(format_args!(
            "{}: lies on the mount that is recorded; name a file elsewhere",
            file.display()
        ))),
        false => Ok(()),
    }
}
