//! What an advisor is made of: how to start a worker, and the models that workers are given.

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Duration;

use super::check::{ModelCard, Rules, check_file};
use crate::words::sealed_copy;

/// How workers are started and judged.
#[derive(Debug, Clone)]
pub struct Host {
    /// The program to start again, usually this one.
    pub exe: PathBuf,
    /// The words that make it a worker.
    pub exe_args: Vec<OsString>,
    /// The ONNX Runtime library, see [`crate::runtime::locate`].
    pub library: PathBuf,
    /// The features that the caller computes, and the kind of model it wants.
    pub rules: Rules,
    /// Age at which an answer is of no use any more.
    pub deadline_us: u64,
    /// A worker that owes an answer for so long is killed.
    pub overrun: Duration,
    /// A worker that is not ready after so long is killed.
    pub ready_timeout: Duration,
    /// Memory that a worker's allocator is given, touched and locked, before it starts.
    pub reserve_bytes: usize,
    /// User and group whom workers become, so that a parent who is this user by then may end them.
    pub user: Option<(u32, u32)>,
    /// Rows of the batches whose latency decides whether a model is fast enough.
    pub probe_rows: usize,
}

impl Host {
    pub fn new(exe: PathBuf, library: PathBuf, rules: Rules) -> Host {
        Host {
            exe,
            exe_args: vec!["advisor".into()],
            library,
            rules,
            deadline_us: 10_000,
            overrun: Duration::from_millis(500),
            ready_timeout: Duration::from_secs(10),
            reserve_bytes: 16 << 20,
            user: None,
            probe_rows: 256,
        }
    }
}

/// A model file's contents and what to call it.
#[derive(Debug, Clone)]
pub struct NamedModel {
    pub name: String,
    pub bytes: Vec<u8>,
}

/// What an advisor is started with.
#[derive(Debug, Clone)]
pub struct AdvisorConfig {
    pub host: Host,
    pub model: Option<NamedModel>,
    /// A file that becomes the model whenever it is replaced.
    pub watch: Option<PathBuf>,
    /// A new model runs in shadow for so many batches ...
    pub shadow_batches: u64,
    /// ... or for so long, whichever is sooner.
    pub shadow_time: Duration,
    /// Pause before the first restart of a worker; doubles with each that follows ...
    pub backoff_min: Duration,
    /// ... up to this.
    pub backoff_max: Duration,
}

impl AdvisorConfig {
    pub fn new(host: Host) -> AdvisorConfig {
        AdvisorConfig {
            host,
            model: None,
            watch: None,
            shadow_batches: 16,
            shadow_time: Duration::from_secs(2),
            backoff_min: Duration::from_millis(100),
            backoff_max: Duration::from_secs(30),
        }
    }
}

/// A model that passed the static check, in a sealed memfd, as workers get it.
#[derive(Debug)]
pub(crate) struct Model {
    pub name: String,
    pub card: ModelCard,
    pub fd: OwnedFd,
    /// Counts the models since the start.
    pub serial: u64,
}

impl Model {
    pub(crate) fn new(name: &str, bytes: &[u8], rules: &Rules, serial: u64) -> Result<Model, String> {
        let card = check_file(bytes, rules)?;
        let fd = sealed_copy(bytes).map_err(|e| format!("keeping a copy of it: {e}"))?;
        Ok(Model { name: name.into(), card, fd, serial })
    }
}
