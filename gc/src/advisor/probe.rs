//! A worker with a model on its way to be used: start, ready, probe, passed.
//!
//! A state machine that is stepped whenever something happened, so that the supervisor can try a
//! new model while it watches over the old one; [`check_model`] steps the same machine to its end.

use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::Serialize;

use super::channel::{Channel, Taken};
use super::check::ModelCard;
use super::process::Child;
use super::protocol::{Batch, FEATURES_MAX, ROWS_MAX, WorkerState, header, monotonic_ns};
use super::{Host, Model};

/// Batches per round of the probe; the latency that counts is the second highest of a round.
const ROUND: usize = 100;
/// Rounds that a model gets: a busy machine can spoil one.
const ROUNDS: usize = 3;

/// The least time that a batch of the probe gets, however short the daemon's patience later.
const PATIENCE_MIN: Duration = Duration::from_secs(5);

/// What a probe found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct ProbeReport {
    /// Rows of each timed batch.
    pub rows: usize,
    pub p50_us: u64,
    pub p99_us: u64,
    pub deadline_us: u64,
}

/// Why a trial ended badly.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    /// The model is at fault: it makes no sense to try it again. Slowness is not counted as that, as
    /// the machine may only have been busy.
    pub refused: bool,
    pub line: String,
}

impl Failure {
    fn model(line: impl Into<String>) -> Failure {
        Failure { refused: true, line: line.into() }
    }

    pub(crate) fn machine(line: impl Into<String>) -> Failure {
        Failure { refused: false, line: line.into() }
    }
}

/// What a step came to.
pub(crate) enum Step {
    Pending,
    Passed(Option<ProbeReport>),
    Failed(Failure),
}

enum Stage {
    Starting { since: Instant },
    Probing(Box<Probe>),
}

/// See the module's description.
pub(crate) struct Trial {
    pub channel: Box<Channel>,
    pub process: Child,
    stage: Stage,
    wants_probe: bool,
}

impl Trial {
    /// Starts a worker for the model.
    pub(crate) fn begin(host: &Host, model: std::sync::Arc<Model>, wants_probe: bool) -> Result<Trial, Failure> {
        let begin = || -> std::io::Result<Trial> {
            let channel = Box::new(Channel::new(model)?);
            let process = channel.start(host)?;
            Ok(Trial { channel, process, stage: Stage::Starting { since: Instant::now() }, wants_probe })
        };
        begin().map_err(|e| Failure::machine(format!("starting {}: {e}", host.exe.display())))
    }

    /// Goes on as far as possible without waiting.
    pub(crate) fn step(&mut self, host: &Host) -> Step {
        self.channel.hush();
        match &mut self.stage {
            Stage::Starting { since } => {
                let since = *since;
                match self.ready(host, since) {
                    Ok(false) => Step::Pending,
                    Ok(true) if self.wants_probe => {
                        self.stage = Stage::Probing(Box::new(Probe::new(host)));
                        self.step(host)
                    }
                    Ok(true) => Step::Passed(None),
                    Err(failure) => Step::Failed(failure),
                }
            }
            Stage::Probing(probe) => match probe.step(&mut self.channel, host) {
                Ok(None) => match self.process.ended() {
                    Some(how) => Step::Failed(Failure::model(format!("it does not survive the probe: {how}"))),
                    None => Step::Pending,
                },
                Ok(Some(report)) => Step::Passed(Some(report)),
                Err(failure) => Step::Failed(failure),
            },
        }
    }

    fn ready(&mut self, host: &Host, since: Instant) -> Result<bool, Failure> {
        let region = self.channel.region().clone();
        // The order matters: what an ended worker said before is seen after it has ended.
        let ended = self.process.ended().map(str::to_owned);
        let state = region.u32(header::STATE).load(std::sync::atomic::Ordering::Acquire);
        let message = || region.load_text(header::MESSAGE, header::MESSAGE_BYTES);
        match (WorkerState::from_code(state), ended) {
            (WorkerState::Failed, _) => Err(Failure::machine(message())),
            (WorkerState::Refused, _) => Err(Failure::model(message())),
            (_, Some(how)) => Err(Failure::machine(format!("the worker {how} before it was ready"))),
            (WorkerState::Ready, None) => Ok(true),
            (WorkerState::Starting, None) if since.elapsed() > host.ready_timeout => {
                Err(Failure::machine(format!("the worker was not ready after {:?}", host.ready_timeout)))
            }
            (WorkerState::Starting, None) => Ok(false),
        }
    }
}

/// The probe set on its way through the model, one batch at a time.
struct Probe {
    row_features: usize,
    rows: usize,
    /// Batches answered so far; the first few are of the largest size and not timed.
    answered: usize,
    round: usize,
    asked: Option<Instant>,
    latencies_us: Vec<u64>,
    values: Vec<f32>,
    y: Vec<f32>,
    seed: u64,
}

/// Batches of the largest size that each round begins with, one per pattern of values.
const PATTERNS: usize = 4;

impl Probe {
    fn new(host: &Host) -> Probe {
        Probe {
            row_features: host.rules.known.len(),
            rows: host.probe_rows.clamp(1, ROWS_MAX),
            answered: 0,
            round: 0,
            asked: None,
            latencies_us: Vec::with_capacity(ROUND),
            values: Vec::with_capacity(ROWS_MAX * FEATURES_MAX),
            y: Vec::with_capacity(ROWS_MAX),
            seed: 0x9e37_79b9_7f4a_7c15,
        }
    }

    /// Posts the next batch or judges the last answer; a report once all is done.
    fn step(&mut self, channel: &mut Channel, host: &Host) -> Result<Option<ProbeReport>, Failure> {
        let patience = host.overrun.max(PATIENCE_MIN);
        loop {
            let Some(asked) = self.asked else {
                self.ask(channel)?;
                continue;
            };
            // No deadline for the single answer: the round is judged as a whole.
            match channel.take(monotonic_ns(), u64::MAX, &mut self.y) {
                Taken::Nothing if asked.elapsed() > patience => {
                    return Err(Failure::machine(format!("it gives no answer within {patience:?}")));
                }
                Taken::Nothing => return Ok(None),
                Taken::Good(timing) => {
                    self.asked = None;
                    if self.answered >= PATTERNS {
                        self.latencies_us.push(timing.latency_us);
                    }
                    self.answered += 1;
                }
                Taken::Bad => return Err(Failure::model("its output on the probe set is not finite")),
                Taken::Lie(lie) => return Err(Failure::model(format!("its worker misbehaves: {}", lie.0))),
                Taken::Late { .. } => return Err(Failure::machine("an answer was late without a deadline")),
            }
            if let Some(report) = self.judge(host)? {
                return Ok(Some(report));
            }
        }
    }

    /// A report if the round is over and good, an error if it was the last and bad. A round is over
    /// too when it cannot be good any more.
    fn judge(&mut self, host: &Host) -> Result<Option<ProbeReport>, Failure> {
        let late = self.latencies_us.iter().filter(|&&us| us > host.deadline_us).count();
        if late < 2 {
            return Ok((self.latencies_us.len() == ROUND).then(|| self.report(host)));
        }
        self.round += 1;
        if self.round == ROUNDS {
            let (p99, deadline) = (self.report(host).p99_us, host.deadline_us);
            let line = format!("{} rows take {p99} us (p99), the deadline is {deadline} us", self.rows);
            return Err(Failure::machine(line));
        }
        self.latencies_us.clear();
        Ok(None)
    }

    fn ask(&mut self, channel: &mut Channel) -> Result<(), Failure> {
        let rows = if self.answered < PATTERNS { ROWS_MAX } else { self.rows };
        self.fill(rows);
        let kind = channel.model().card.kind;
        let batch = Batch { generation: self.answered as u64, kind, rows, values: &self.values };
        if !channel.post(self.answered as u64, &batch, self.row_features, monotonic_ns()) {
            return Err(Failure::machine("its worker takes no batches"));
        }
        self.asked = Some(Instant::now());
        Ok(())
    }

    /// Zeros, ones, and seeded values from the ranges that features have (shares and logarithms).
    fn fill(&mut self, rows: usize) {
        let (pattern, count) = (self.answered % PATTERNS, rows * self.row_features);
        self.values.clear();
        for _ in 0..count {
            self.seed = self.seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let unit = (self.seed >> 40) as f32 / (1u32 << 24) as f32;
            self.values.push(match pattern {
                0 => 0.0,
                1 => 1.0,
                2 => unit,
                _ => unit * 64.0 - 32.0,
            });
        }
    }

    fn report(&self, host: &Host) -> ProbeReport {
        let mut sorted = self.latencies_us.clone();
        sorted.sort_unstable();
        ProbeReport {
            rows: self.rows,
            p50_us: sorted[sorted.len() / 2],
            p99_us: sorted[sorted.len().saturating_sub(2)],
            deadline_us: host.deadline_us,
        }
    }
}

/// The whole check of a model file, as `gleanfs model check` does it: what it says of itself, then
/// a run on the probe set in a worker of its own. Waits; not for the daemon's path.
pub fn check_model(host: &Host, name: &str, bytes: &[u8]) -> Result<(ModelCard, ProbeReport), String> {
    let model = Model::new(name, bytes, &host.rules, 0)?;
    let card = model.card.clone();
    let mut trial = Trial::begin(host, std::sync::Arc::new(model), true).map_err(|failure| failure.line)?;
    loop {
        match trial.step(host) {
            Step::Passed(Some(report)) => return Ok((card, report)),
            Step::Passed(None) => return Err("the probe did not run".into()),
            Step::Failed(failure) => return Err(failure.line),
            Step::Pending => {}
        }
        let mut fds = [
            PollFd::from_borrowed_fd(trial.channel.done(), PollFlags::IN),
            PollFd::from_borrowed_fd(trial.process.pidfd(), PollFlags::IN),
        ];
        // An interrupted wait is only a shorter one.
        let _ = poll(&mut fds, Some(&timespec(Duration::from_millis(100))));
    }
}

pub(crate) fn timespec(duration: Duration) -> Timespec {
    Timespec { tv_sec: duration.as_secs() as i64, tv_nsec: i64::from(duration.subsec_nanos()) }
}
