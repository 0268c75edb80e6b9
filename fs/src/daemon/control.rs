//! What the control socket and ioctls ask of a mount.

use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use gleanfs_gc::telemetry::RingWriter;

use crate::cleaner::Cleaner;
use crate::control::message::Ring;
use crate::control::{ControlTarget, Request, Response};
use crate::error::{Error, Result};
use crate::fuse::{Control, Shutdown};
use crate::scrub::Pace;

use super::{Core, policy_by_name, status, use_policy};

/// Segments that `gc run` cleans at most in one call: the socket has other clients.
const RUN_SEGMENTS_MAX: usize = 4096;
/// Utilization above which `gc run` sees nothing to gain.
const RUN_UTILIZATION_MAX: f64 = 0.95;

/// The controls of a mount.
pub(super) struct Controls(pub Arc<Core>);

impl ControlTarget for Controls {
    fn handle(&self, request: Request) -> Response {
        let core = &self.0;
        match request {
            Request::Sync if core.volume.is_read_only() => {
                Response::Done("read-only: there is nothing to make durable".into())
            }
            Request::Sync => done(core.volume.checkpoint(false), "everything accepted is durable"),
            Request::Status => Response::Status(Box::new(status::take(core))),
            Request::Gc { on } => {
                core.cleaner.set_enabled(on);
                Response::Done(format!("background cleaning is {}", if on { "on" } else { "off" }))
            }
            Request::GcRun => run_cleaner(&core.cleaner),
            Request::Grow { bytes } => match core.volume.grow(bytes) {
                Ok(grown) => Response::Done(grown.map_or_else(String::new, |grown| grown.to_string())),
                Err(e) => Response::Refused(e.to_string()),
            },
            Request::ScrubStart { bytes_per_sec } => done(
                core.scrubber.start(bytes_per_sec.map_or(Pace::Polite, Pace::BytesPerSec)),
                "the scrub is under way",
            ),
            Request::ScrubStop => {
                let what =
                    if core.scrubber.stop() { "stopped; the next start goes on there" } else { "was not under way" };
                Response::Done(format!("the scrub {what}"))
            }
            Request::Policy { name } => match policy_by_name(&name) {
                Ok(policy) => {
                    use_policy(policy, &core.cleaner, &core.volume, &core.advice);
                    Response::Done(format!("the policy is {name}"))
                }
                Err(e) => Response::Refused(e.to_string()),
            },
            Request::Record => record(core).map_or_else(Response::Refused, Response::Ring),
            Request::RecordEnd { id } => {
                let what = if core.volume.taps.remove(id) { "ended" } else { "had ended before" };
                Response::Done(format!("the recording {what}"))
            }
            Request::ModelUse { path } => said(core.advice.use_model(Path::new(&path))),
            Request::ModelRollback => said(core.advice.rollback()),
            Request::ModelList => core.advice.models().map_or_else(Response::Refused, Response::Models),
            Request::AwaitEnd | Request::Upgrade { .. } => Response::Refused("the server answers this itself".into()),
        }
    }

    fn make_way(&self, executable: PathBuf, client: UnixStream) -> Option<Response> {
        self.0.handover.begin(&self.0.volume, executable, client)
    }
}

fn done(result: Result<()>, line: &str) -> Response {
    match result {
        Ok(()) => Response::Done(line.into()),
        Err(e) => Response::Refused(e.to_string()),
    }
}

fn said(outcome: std::result::Result<String, String>) -> Response {
    outcome.map_or_else(Response::Refused, Response::Done)
}

/// Begins a recording.
fn record(core: &Core) -> std::result::Result<Ring, String> {
    let ring = RingWriter::create().map_err(|e| format!("making room for telemetry: {e}"))?;
    let fd = ring.fd().as_raw_fd();
    let clock = core.volume.write_clock().0;
    let id = core.volume.taps.add(ring).ok_or("too many record this mount already")?;
    let segment_blocks = core.volume.room().segment_blocks;
    Ok(Ring { id, fd, segment_blocks, heads: core.volume.heads().into(), clock })
}

fn run_cleaner(cleaner: &Cleaner) -> Response {
    let (mut segments, mut blocks) = (0, 0);
    while segments < RUN_SEGMENTS_MAX && cleaner.gain_left(RUN_UTILIZATION_MAX) {
        match cleaner.clean_one() {
            Ok(Some(moved)) => {
                segments += 1;
                blocks += moved.blocks;
            }
            Ok(None) => break,
            Err(e) => return Response::Refused(e.to_string()),
        }
    }
    Response::Done(format!("{segments} segments cleaned, {blocks} blocks moved"))
}

impl Control for Controls {
    fn trim(&self, _offset: u64, _len: u64, _min_len: u64) -> Result<u64> {
        // Freed segments are discarded as soon as a checkpoint allows it, so taking one is all that is left to do.
        let before = self.0.volume.device().traffic().resets;
        self.0.volume.checkpoint(false)?;
        let freed = self.0.volume.device().traffic().resets - before;
        Ok(freed * self.0.volume.segment_bytes())
    }

    fn pause_after(&self, bytes: u64) -> Duration {
        self.0.cleaner.pause_after(bytes)
    }

    fn shutdown(&self, how: Shutdown) -> Result<()> {
        match how {
            Shutdown::FullSync => self.0.volume.checkpoint(false)?,
            Shutdown::LogSync => self.0.volume.sync()?,
            Shutdown::NoSync => {}
        }
        self.0.volume.abandon();
        match self.0.volume.writable() {
            Err(Error::Latched(_)) => Ok(()),
            other => other,
        }
    }
}
