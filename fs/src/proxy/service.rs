//! The advisors of a mount, one per kind of model: finds their library and first models, starts them, answers for them to the control socket.
//!
//! Nothing here is on the path of a write. A mount without a library, or with a worker that does not come up, goes on with its fallback
//! policy and says so.

use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use gleanfs_gc::advisor::{
    Advisor, AdvisorConfig, AdvisorState, AdvisorStatus, Host, MODEL_BYTES_MAX, ModelCard, ModelInfo, ModelKind,
    ModelRole, NamedModel, RegretStatus, Rules, TrustLevel, check_file, declared_kind,
};
use gleanfs_gc::features::{PLACEMENT, SCHEMA, VICTIM};
use gleanfs_gc::placement::Placement;
use gleanfs_gc::telemetry::Taps;
use parking_lot::Mutex;

use crate::cleaner::Recommender;
use crate::control::message::{self, Model};
use crate::control::status;

use super::learner::{Classroom, Learner, Learning, Lessons};
use super::{Asked, Authority, Proxy, Standing, Surroundings, VictimProxy, VictimSurroundings};
use super::{trust_config, victim_trust_config};

/// The model of placement that comes with the program.
pub const SHIPPED: &[u8] = include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/../models/first.onnx"));
/// What it is called.
pub const SHIPPED_NAME: &str = "first (shipped)";
/// The model of victims that comes with the program.
pub const SHIPPED_VICTIM: &[u8] = include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/../models/first-victim.onnx"));
/// What it is called.
pub const SHIPPED_VICTIM_NAME: &str = "first-victim (shipped)";
/// This program, even after its file was replaced.
const THIS_PROGRAM: &str = "/proc/self/exe";

/// What models are asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Advise {
    Both,
    Only(ModelKind),
}

impl Advise {
    fn includes(self, kind: ModelKind) -> bool {
        self == Self::Both || self == Self::Only(kind)
    }
}

/// What a mount was asked for.
#[derive(Clone, Debug)]
pub struct AdviceOptions {
    /// The first model of its kind; `None`: the shipped ones.
    pub model: Option<PathBuf>,
    /// A file that becomes the model of its kind whenever it is replaced; of placement if it is not there yet.
    pub watch: Option<PathBuf>,
    /// The ONNX Runtime library, or why there is none.
    pub library: Result<PathBuf, String>,
    pub authority: Authority,
    pub advise: Advise,
    pub learning: Learning,
    pub deadline_us: u64,
    /// User and group whom workers become.
    pub user: Option<(u32, u32)>,
}

/// What is needed to start, read and checked before anything of the mount is touched; or why there will be no advice.
pub struct Prepared {
    placement: Result<AdvisorConfig, String>,
    victim: Result<AdvisorConfig, String>,
    authority: Authority,
    learning: Learning,
}

impl Prepared {
    /// None, for this reason.
    pub fn absent(why: impl Into<String>) -> Self {
        let why = why.into();
        let authority = Authority::Earned(TrustLevel::Fallback);
        Self { placement: Err(why.clone()), victim: Err(why), authority, learning: Learning::Off }
    }

    /// A model that cannot be the first one is an error of one line; that there is no library is none.
    pub fn new(options: &AdviceOptions) -> Result<Self, String> {
        let given = options.model.as_deref().map(first_model).transpose()?;
        if options.authority == Authority::Earned(TrustLevel::Fallback) {
            return Ok(Self::absent("trust=fallback"));
        }
        let library = match &options.library {
            Ok(library) => library.clone(),
            Err(why) => return Ok(Self::absent(why)),
        };
        let watched = options.watch.as_ref().map(|path| {
            let there = read_model(path).ok().and_then(|model| declared_kind(&model.bytes));
            (there.unwrap_or(ModelKind::Placement), path.clone())
        });
        let of_kind = |kind: ModelKind, shipped: (&str, &[u8])| {
            if !options.advise.includes(kind) {
                return Err("the mount's option advise= leaves it out".into());
            }
            let host = Host { user: options.user, ..host(library.clone(), options.deadline_us, kind) };
            let given = given.as_ref().filter(|(given, _)| *given == kind).map(|(_, model)| model.clone());
            let model = given.unwrap_or_else(|| NamedModel { name: shipped.0.into(), bytes: shipped.1.to_vec() });
            let watch = watched.as_ref().filter(|(watched, _)| *watched == kind).map(|(_, path)| path.clone());
            Ok(AdvisorConfig { model: Some(model), watch, ..AdvisorConfig::new(host) })
        };
        Ok(Self {
            placement: of_kind(ModelKind::Placement, (SHIPPED_NAME, SHIPPED)),
            victim: of_kind(ModelKind::Victim, (SHIPPED_VICTIM_NAME, SHIPPED_VICTIM)),
            authority: options.authority,
            learning: options.learning,
        })
    }

    /// Starts it. Returns at once: the workers come up beside the mount.
    pub fn start(
        self,
        fallback: Box<dyn Placement>,
        around: Surroundings,
        around_victims: VictimSurroundings,
        taps: Arc<Taps>,
    ) -> Result<Advice, String> {
        let authority = self.authority;
        let first = self.placement.as_ref().ok().and_then(|config| config.model.clone());
        let failed = |e: std::io::Error| format!("starting the model proxy's thread: {e}");
        let placement = serve(self.placement, |asked, deadline| {
            Proxy::start(asked, authority, trust_config(), deadline, fallback, around).map_err(failed)
        })?;
        let account = placement.as_ref().ok().map(|served| served.proxy.account());
        let victim = serve(self.victim, |asked, deadline| {
            let trust = victim_trust_config();
            VictimProxy::start(asked, authority, trust, deadline, account, around_victims).map_err(failed)
        })?;
        let learner = match (&placement, first, self.learning) {
            (Ok(served), Some(first), Learning::Shadow | Learning::On) => {
                let (advisor, shared) = (Arc::clone(&served.advisor), served.proxy.shared());
                let room = Classroom { taps, advisor, first, check, shared };
                let started = Learner::start(self.learning, Path::new(THIS_PROGRAM), room);
                Some(started.map_err(|e| format!("starting the learner's thread: {e}"))?)
            }
            _ => None,
        };
        Ok(Advice { learner, placement, victim, used_last: Mutex::new(ModelKind::Placement) })
    }
}

/// Starts an advisor and the proxy that asks it.
fn serve<P>(
    config: Result<AdvisorConfig, String>,
    start: impl FnOnce(Arc<Asked>, Duration) -> Result<P, String>,
) -> Result<Result<Served<P>, String>, String> {
    let config = match config {
        Ok(config) => config,
        Err(why) => return Ok(Err(why)),
    };
    let deadline = Duration::from_micros(config.host.deadline_us);
    let kind = config.host.rules.kind.unwrap_or(ModelKind::Placement);
    let advisor = Arc::new(Advisor::start(config)?);
    let proxy = start(Arc::new(Asked(Arc::clone(&advisor), kind)), deadline)?;
    Ok(Ok(Served { advisor, proxy }))
}

/// What a file that is to be a model says it is; what says nothing is checked, and refused, as a model of placement.
fn kind_of(model: &NamedModel) -> ModelKind {
    declared_kind(&model.bytes).unwrap_or(ModelKind::Placement)
}

fn first_model(path: &Path) -> Result<(ModelKind, NamedModel), String> {
    let named = |why| format!("{}: {why}", path.display());
    let model = read_model(path).map_err(named)?;
    check(&model).map_err(named)?;
    Ok((kind_of(&model), model))
}

/// Checks everything that can be checked without running the model, by the rules of its kind.
pub fn check(model: &NamedModel) -> Result<ModelCard, String> {
    check_file(&model.bytes, &rules(kind_of(model)))
}

/// A mount's advice, of either kind, or why it has none.
pub struct Advice {
    learner: Option<Learner>,
    placement: Result<Served<Proxy>, String>,
    victim: Result<Served<VictimProxy>, String>,
    /// The kind of the model that was used last, which is what a rollback undoes.
    used_last: Mutex<ModelKind>,
}

struct Served<P> {
    advisor: Arc<Advisor>,
    proxy: P,
}

impl Advice {
    /// The placement that asks the model, if there is one to ask.
    pub fn placement(&self, heads: u8) -> Option<Box<dyn Placement>> {
        Some(self.placement.as_ref().ok()?.proxy.placement(heads))
    }

    /// Who recommends victims, if anybody does.
    pub fn recommender(&self) -> Option<Arc<dyn Recommender>> {
        Some(self.victim.as_ref().ok()?.proxy.recommender())
    }

    /// Replaces the fallback placement; gives it back if there is no advice, for whoever then has to see to it.
    pub fn set_fallback(&self, fallback: Box<dyn Placement>) -> Option<Box<dyn Placement>> {
        match &self.placement {
            Ok(served) => {
                served.proxy.set_fallback(fallback);
                None
            }
            Err(_) => Some(fallback),
        }
    }

    /// Validates the model in this file, tries it in shadow, switches to it. Waits for all of that. Answers with a line about it.
    pub fn use_model(&self, path: &Path) -> Result<String, String> {
        let named = |why| format!("{}: {why}", path.display());
        // Without any advice there is no reason to look at the file.
        self.advisor(ModelKind::Placement).or_else(|_| self.advisor(ModelKind::Victim))?;
        let model = read_model(path).map_err(named)?;
        let kind = kind_of(&model);
        let advisor = self.advisor(kind)?;
        advisor.use_model(&model.name, &model.bytes).map_err(named)?;
        *self.used_last.lock() = kind;
        Ok(format!("the {} model is {}", kind.name(), current_name(advisor)))
    }

    pub fn rollback(&self) -> Result<String, String> {
        let kind = *self.used_last.lock();
        let advisor = self.advisor(kind)?;
        advisor.rollback()?;
        Ok(format!("the {} model is {} again", kind.name(), current_name(advisor)))
    }

    pub fn models(&self) -> Result<Vec<Model>, String> {
        let known: Vec<Model> = [ModelKind::Placement, ModelKind::Victim]
            .into_iter()
            .filter_map(|kind| self.advisor(kind).ok())
            .flat_map(|advisor| advisor.models().iter().map(model_of).collect::<Vec<_>>())
            .collect();
        if known.is_empty() {
            self.advisor(ModelKind::Placement)?;
        }
        Ok(known)
    }

    fn advisor(&self, kind: ModelKind) -> Result<&Advisor, String> {
        self.served(kind).map(|(advisor, _)| advisor).map_err(|why| {
            let kind = kind.name();
            format!("this mount has no advisor for {kind}: {why}")
        })
    }

    fn served(&self, kind: ModelKind) -> Result<(&Advisor, Standing), &String> {
        match kind {
            ModelKind::Placement => self.placement.as_ref().map(|served| (&*served.advisor, served.proxy.standing())),
            ModelKind::Victim => self.victim.as_ref().map(|served| (&*served.advisor, served.proxy.standing())),
        }
    }

    /// An advisor's part of a status; what the volume and the cleaner know of it is left as it is by default.
    pub fn status(&self, kind: ModelKind) -> status::Advisor {
        let (advisor, standing) = match self.served(kind) {
            Ok((advisor, standing)) => (advisor.status(), standing),
            Err(why) => {
                let worker = format!("absent: {why}");
                return status::Advisor { trust: "fallback".into(), worker, ..status::Advisor::default() };
            }
        };
        let current = advisor.models.iter().find(|m| m.role == ModelRole::Current);
        status::Advisor {
            trust: trust_name(&standing).into(),
            efficiency: standing.efficiency,
            model: current.map(|m| m.name.clone()),
            model_sha256: current.map(|m| m.sha256.clone()),
            worker: worker_line(&advisor),
            worker_pid: advisor.pid.and_then(|pid| pid.try_into().ok()),
            worker_restarts: advisor.restarts,
            recommendations: standing.recommendations,
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

    /// What the model of placement has cost.
    pub fn regret(&self) -> Option<RegretStatus> {
        Some(self.placement.as_ref().ok()?.proxy.regret())
    }

    /// How learning on this mount's load stands.
    pub fn learning(&self) -> status::Learning {
        let Some(learner) = &self.learner else {
            return status::Learning { mode: "off".into(), ..status::Learning::default() };
        };
        let mode = if learner.mode() == Learning::On { "on" } else { "shadow" };
        let Lessons { pid, restarts, report, offered, taken, refused, withdrawn, last_error } = learner.lessons();
        status::Learning {
            mode: mode.into(),
            trainer_pid: pid.and_then(|pid| pid.try_into().ok()),
            trainer_restarts: restarts,
            events: report.events,
            events_lost: report.lost,
            fits: report.fits,
            fit_cpu_ms: report.fit_cpu_ms,
            samples: report.samples,
            examples: report.examples,
            candidate_of_rule: report.candidate_of_rule,
            candidate_of_model: report.candidate_of_model,
            in_charge_of_rule: report.in_charge_of_rule,
            offered,
            taken,
            refused,
            withdrawn,
            last_error,
        }
    }

    /// Ends worker and threads; whoever waits for a swap is told. The placement that was given out stays, and leaves everything to the fallback.
    pub fn stop(&self) {
        // The advisor first: the learner may be waiting for a swap, and is told.
        if let Ok(served) = &self.placement {
            served.advisor.stop();
        }
        if let Some(learner) = &self.learner {
            learner.stop();
        }
        if let Ok(served) = &self.placement {
            served.proxy.stop();
        }
        if let Ok(served) = &self.victim {
            served.advisor.stop();
            served.proxy.stop();
        }
    }
}

/// What a mount demands of a model.
pub fn rules(kind: ModelKind) -> Rules {
    let names: Vec<&str> = match kind {
        ModelKind::Placement => PLACEMENT.iter().map(|f| f.name).collect(),
        ModelKind::Victim => VICTIM.iter().map(|f| f.name).collect(),
    };
    Rules::new(&names, &SCHEMA.to_string(), Some(kind))
}

/// How workers are started: this program again, under its hidden subcommand.
pub fn host(library: PathBuf, deadline_us: u64, kind: ModelKind) -> Host {
    Host { deadline_us, ..Host::new(THIS_PROGRAM.into(), library, rules(kind)) }
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
    Model { name: info.name.clone(), kind: info.kind.name().into(), sha256: info.sha256.clone(), role }
}

fn trust_name(standing: &Standing) -> &'static str {
    match (standing.authority, standing.level) {
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
    fn the_shipped_models_are_such_that_a_mount_takes() {
        for (bytes, kind) in [(SHIPPED, ModelKind::Placement), (SHIPPED_VICTIM, ModelKind::Victim)] {
            let card = check(&NamedModel { name: "shipped".into(), bytes: bytes.to_vec() }).unwrap();
            assert_eq!(card.kind, kind);
        }
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
