//! The advisor of a mount: finds its library and its first model, starts it, answers for it to the control socket.
//!
//! Nothing here is on the path of a write. A mount without a library, or with a worker that does not come up, goes on with its fallback
//! policy and says so.

use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use gleanfs_gc::advisor::{
    Advisor, AdvisorConfig, AdvisorState, AdvisorStatus, Host, MODEL_BYTES_MAX, ModelInfo, ModelKind, ModelRole,
    NamedModel, Rules, TrustLevel, check_file,
};
use gleanfs_gc::features::{PLACEMENT, SCHEMA};
use gleanfs_gc::placement::Placement;

use crate::control::message::{self, Model};
use crate::control::status;

use super::{Authority, Proxy, Surroundings, trust_config};

/// The model that comes with the program.
pub const SHIPPED: &[u8] = include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/../models/first.onnx"));
/// What it is called.
pub const SHIPPED_NAME: &str = "first (shipped)";
/// This program, even after its file was replaced.
const THIS_PROGRAM: &str = "/proc/self/exe";

/// What a mount was asked for.
#[derive(Clone, Debug)]
pub struct AdviceOptions {
    /// The first model; `None`: the shipped one.
    pub model: Option<PathBuf>,
    /// A file that becomes the model whenever it is replaced.
    pub watch: Option<PathBuf>,
    /// The ONNX Runtime library, or why there is none.
    pub library: Result<PathBuf, String>,
    pub authority: Authority,
    pub deadline_us: u64,
}

/// What is needed to start, read and checked before anything of the mount is touched; or why there will be no advice.
pub struct Prepared(Result<AdvisorConfig, String>, Authority);

impl Prepared {
    /// None, for this reason.
    pub fn absent(why: impl Into<String>) -> Self {
        Self(Err(why.into()), Authority::Earned(TrustLevel::Fallback))
    }

    /// A model that cannot be the first one is an error of one line; that there is no library is none.
    pub fn new(options: &AdviceOptions) -> Result<Self, String> {
        let model = first_model(options.model.as_deref())?;
        if options.authority == Authority::Earned(TrustLevel::Fallback) {
            return Ok(Self::absent("trust=fallback"));
        }
        let library = match &options.library {
            Ok(library) => library.clone(),
            Err(why) => return Ok(Self::absent(why)),
        };
        let host = host(library, options.deadline_us);
        let config = AdvisorConfig { model: Some(model), watch: options.watch.clone(), ..AdvisorConfig::new(host) };
        Ok(Self(Ok(config), options.authority))
    }

    /// Starts it. Returns at once: the worker comes up beside the mount.
    pub fn start(self, fallback: Box<dyn Placement>, around: Surroundings) -> Result<Advice, String> {
        let config = match self.0 {
            Ok(config) => config,
            Err(why) => return Ok(Advice { running: Err(why) }),
        };
        let deadline = Duration::from_micros(config.host.deadline_us);
        let advisor = Arc::new(Advisor::start(config)?);
        let proxy = Proxy::start(advisor.clone(), self.1, trust_config(), deadline, fallback, around)
            .map_err(|e| format!("starting the model proxy's thread: {e}"))?;
        Ok(Advice { running: Ok(Running { advisor, proxy }) })
    }
}

fn first_model(path: Option<&Path>) -> Result<NamedModel, String> {
    let Some(path) = path else {
        return Ok(NamedModel { name: SHIPPED_NAME.into(), bytes: SHIPPED.to_vec() });
    };
    let named = |why| format!("{}: {why}", path.display());
    let model = read_model(path).map_err(named)?;
    check_file(&model.bytes, &rules()).map_err(named)?;
    Ok(model)
}

/// A mount's advice, or why it has none.
pub struct Advice {
    running: Result<Running, String>,
}

struct Running {
    advisor: Arc<Advisor>,
    proxy: Proxy,
}

impl Advice {
    /// The placement that asks the model, if there is one to ask.
    pub fn placement(&self, heads: u8) -> Option<Box<dyn Placement>> {
        Some(self.running.as_ref().ok()?.proxy.placement(heads))
    }

    /// Replaces the fallback placement; gives it back if there is no advice, for whoever then has to see to it.
    pub fn set_fallback(&self, fallback: Box<dyn Placement>) -> Option<Box<dyn Placement>> {
        match &self.running {
            Ok(running) => {
                running.proxy.set_fallback(fallback);
                None
            }
            Err(_) => Some(fallback),
        }
    }

    /// Validates the model in this file, tries it in shadow, switches to it. Waits for all of that. Answers with a line about it.
    pub fn use_model(&self, path: &Path) -> Result<String, String> {
        let advisor = self.advisor()?;
        let model = read_model(path).map_err(|why| format!("{}: {why}", path.display()))?;
        advisor.use_model(&model.name, &model.bytes).map_err(|why| format!("{}: {why}", path.display()))?;
        Ok(format!("the model is {}", current_name(advisor)))
    }

    pub fn rollback(&self) -> Result<String, String> {
        let advisor = self.advisor()?;
        advisor.rollback()?;
        Ok(format!("the model is {} again", current_name(advisor)))
    }

    pub fn models(&self) -> Result<Vec<Model>, String> {
        Ok(self.advisor()?.models().iter().map(model_of).collect())
    }

    fn advisor(&self) -> Result<&Advisor, String> {
        match &self.running {
            Ok(running) => Ok(&running.advisor),
            Err(why) => Err(format!("this mount has no advisor: {why}")),
        }
    }

    /// The advisor's part of a status; what the volume and the cleaner know of it is left as it is by default.
    pub fn status(&self) -> status::Advisor {
        let running = match &self.running {
            Ok(running) => running,
            Err(why) => {
                let worker = format!("absent: {why}");
                return status::Advisor { trust: "fallback".into(), worker, ..status::Advisor::default() };
            }
        };
        let (advisor, proxy) = (running.advisor.status(), &running.proxy);
        let current = advisor.models.iter().find(|m| m.role == ModelRole::Current);
        status::Advisor {
            trust: trust_name(proxy).into(),
            efficiency: proxy.trust().efficiency,
            model: current.map(|m| m.name.clone()),
            model_sha256: current.map(|m| m.sha256.clone()),
            worker: worker_line(&advisor),
            worker_pid: advisor.pid.and_then(|pid| pid.try_into().ok()),
            worker_restarts: advisor.restarts,
            recommendations: proxy.recommendations(),
            batches: advisor.answers,
            deadlines_missed: advisor.deadlines_missed,
            latency_p50_us: advisor.latency_p50_us,
            latency_p99_us: advisor.latency_p99_us,
            swaps: advisor.swaps,
            swaps_refused: advisor.swaps_refused,
            last_error: advisor.last_error.clone(),
            ..status::Advisor::default()
        }
    }

    /// Ends worker and threads; whoever waits for a swap is told. The placement that was given out stays, and leaves everything to the fallback.
    pub fn stop(&self) {
        if let Ok(running) = &self.running {
            running.advisor.stop();
            running.proxy.stop();
        }
    }
}

/// What a mount demands of a model.
pub fn rules() -> Rules {
    let names: Vec<&str> = PLACEMENT.iter().map(|f| f.name).collect();
    Rules::new(&names, &SCHEMA.to_string(), Some(ModelKind::Placement))
}

/// How workers are started: this program again, under its hidden subcommand.
pub fn host(library: PathBuf, deadline_us: u64) -> Host {
    Host { deadline_us, ..Host::new(THIS_PROGRAM.into(), library, rules()) }
}

/// Reads a model file, at most one byte more than a model may have, so that the check refuses it. What is no regular file is not waited for.
pub fn read_model(path: &Path) -> Result<NamedModel, String> {
    let mut open = std::fs::OpenOptions::new();
    let file = open.read(true).custom_flags(libc::O_NONBLOCK).open(path).map_err(|e| e.to_string())?;
    if !file.metadata().map_err(|e| e.to_string())?.is_file() {
        return Err("not a regular file".into());
    }
    let mut bytes = Vec::new();
    file.take(MODEL_BYTES_MAX as u64 + 1).read_to_end(&mut bytes).map_err(|e| e.to_string())?;
    let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
    Ok(NamedModel { name, bytes })
}

fn current_name(advisor: &Advisor) -> String {
    let models = advisor.models();
    models.into_iter().find(|m| m.role == ModelRole::Current).map_or_else(|| "unknown".into(), |m| m.name)
}

fn model_of(info: &ModelInfo) -> Model {
    let role = match info.role {
        ModelRole::Current => message::ModelRole::Active,
        ModelRole::Shadow => message::ModelRole::Shadow,
        ModelRole::Previous => message::ModelRole::Previous,
    };
    Model { name: info.name.clone(), sha256: info.sha256.clone(), role }
}

fn trust_name(proxy: &Proxy) -> &'static str {
    match (proxy.authority(), proxy.level()) {
        (Authority::Forced, TrustLevel::Recommendation) => "forced",
        (_, level) => level_name(level),
    }
}

fn level_name(level: TrustLevel) -> &'static str {
    match level {
        TrustLevel::Fallback => "fallback",
        TrustLevel::Learning => "learning",
        TrustLevel::Collaboration => "collaboration",
        TrustLevel::Recommendation => "recommendation",
    }
}

/// The state of the worker, with the reason where it is not ready.
fn worker_line(advisor: &AdvisorStatus) -> String {
    let state = match advisor.state {
        AdvisorState::Ready => return "ready".into(),
        AdvisorState::Starting => "starting",
        AdvisorState::Idle => "absent",
        AdvisorState::Waiting => "dead",
    };
    match &advisor.last_error {
        Some(why) => format!("{state}: {why}"),
        None => state.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_model_is_one_that_a_mount_takes() {
        let card = gleanfs_gc::advisor::check_file(SHIPPED, &rules()).unwrap();
        assert_eq!(card.kind, ModelKind::Placement);
    }

    #[test]
    fn what_is_no_model_file_is_refused_in_one_line() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(read_model(directory.path()).unwrap_err(), "not a regular file");
        assert!(read_model(&directory.path().join("gone")).unwrap_err().contains("No such file"));
        let fifo = directory.path().join("fifo");
        rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, rustix::fs::Mode::RUSR).unwrap();
        assert_eq!(read_model(&fifo).unwrap_err(), "not a regular file");
    }
}
