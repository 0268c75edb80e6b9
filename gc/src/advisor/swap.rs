//! Replacing the model while it is in use: try the new one beside the old, then switch.
//!
//! trying (start, probe) -> shadow (the same live batches as the current model) -> switching (the
//! next moment without a batch in flight). Until the switch nothing has changed for the cleaner, and
//! whatever goes wrong before it only ends the candidate.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use super::channel::Channel;
use super::host::Model;
use super::probe::{Step, Trial};
use super::process::Child;
use super::protocol::monotonic_ns;
use super::shadow::{Seen, Shadow};
use super::supervisor::{Seat, Supervisor};

/// A switch waits no longer for a moment without a batch in flight.
const SWITCH_PATIENCE: Duration = Duration::from_millis(300);

type Reply = Option<Sender<Result<(), String>>>;

enum Stage {
    Trying(Trial),
    /// The candidate's channel is in `Shared::shadow`; `done` is its bell.
    Shadowing {
        process: Child,
        done: Arc<OwnedFd>,
        since: Instant,
    },
    Switching {
        channel: Box<Channel>,
        process: Child,
        since: Instant,
    },
}

/// A candidate on its way.
pub(crate) struct Swap {
    model: Arc<Model>,
    stage: Stage,
    reply: Reply,
    rollback: bool,
}

impl Swap {
    pub(crate) fn model(&self) -> &Model {
        &self.model
    }

    pub(crate) fn is_switching(&self) -> bool {
        matches!(self.stage, Stage::Switching { .. })
    }

    /// What to wait for.
    pub(crate) fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        match &self.stage {
            Stage::Trying(trial) => vec![trial.channel.done(), trial.process.pidfd()],
            Stage::Shadowing { process, done, .. } => vec![done.as_fd(), process.pidfd()],
            Stage::Switching { .. } => vec![],
        }
    }
}

/// What became of one step of a swap.
enum Outcome {
    Goes(Stage),
    Refused(String),
    Switched,
}

impl Supervisor {
    pub(super) fn begin_swap(&mut self, model: Arc<Model>, reply: Reply) {
        self.begin(model, reply, false);
    }

    pub(super) fn begin_rollback(&mut self, reply: Sender<Result<(), String>>) {
        match self.previous.clone() {
            Some(model) => self.begin(model, Some(reply), true),
            None => answer(Some(reply), Err("there is no previous model".into())),
        }
    }

    fn begin(&mut self, model: Arc<Model>, reply: Reply, rollback: bool) {
        if self.swap.is_some() {
            return answer(reply, Err("another model is being tried".into()));
        }
        self.shared.counters.starts.add(1);
        // A model that was in use before has passed the probe before.
        match Trial::begin(&self.shared.config.host, model.clone(), !rollback) {
            Ok(trial) => self.swap = Some(Swap { model, stage: Stage::Trying(trial), reply, rollback }),
            Err(failure) => self.refuse(&model, reply, failure.line),
        }
    }

    pub(super) fn step_swap(&mut self) {
        let Some(Swap { model, stage, reply, rollback }) = self.swap.take() else { return };
        let outcome = match stage {
            Stage::Trying(trial) => self.step_trying(trial, rollback),
            Stage::Shadowing { process, done, since } => self.step_shadowing(process, done, since),
            Stage::Switching { channel, process, since } => self.step_switching(&model, channel, process, since),
        };
        match outcome {
            Outcome::Goes(stage) => self.swap = Some(Swap { model, stage, reply, rollback }),
            Outcome::Refused(line) => self.refuse(&model, reply, line),
            Outcome::Switched => {
                self.shared.counters.swaps.add(1);
                self.show();
                answer(reply, Ok(()));
            }
        }
    }

    fn refuse(&self, model: &Model, reply: Reply, line: String) {
        self.shared.counters.swaps_refused.add(1);
        if reply.is_none() {
            self.complain(format!("{}: {line}", model.name));
        }
        // Whoever asked finds a status that fits the answer.
        self.show();
        answer(reply, Err(line));
    }

    fn step_trying(&mut self, mut trial: Trial, rollback: bool) -> Outcome {
        match trial.step(&self.shared.config.host) {
            Step::Pending => return Outcome::Goes(Stage::Trying(trial)),
            Step::Failed(failure) => return Outcome::Refused(failure.line),
            Step::Passed(_) => {}
        }
        let Trial { channel, process, .. } = trial;
        let since = Instant::now();
        if rollback || !matches!(self.seat, Seat::Serving(_)) {
            self.shared.call();
            return Outcome::Goes(Stage::Switching { channel, process, since });
        }
        let done = channel.done_shared();
        *self.shared.shadow.lock() = Some(Shadow::new(channel));
        self.shared.shadowing.store(true, Ordering::Release);
        Outcome::Goes(Stage::Shadowing { process, done, since })
    }

    fn step_shadowing(&mut self, mut process: Child, done: Arc<OwnedFd>, since: Instant) -> Outcome {
        let config = &self.shared.config;
        let seen = {
            let mut shadow = self.shared.shadow.lock();
            let Some(shadow) = shadow.as_mut() else { return Outcome::Refused("it was stopped".into()) };
            shadow.channel().hush();
            shadow.drain(monotonic_ns(), config.host.deadline_us);
            shadow.seen()
        };
        let ended = process.ended().map(|how| format!("its worker {how} in shadow"));
        let enough = seen.batches() >= config.shadow_batches || since.elapsed() >= config.shadow_time;
        let objection = ended.or_else(|| if enough || seen.lie.is_some() { seen.objection() } else { None });
        if objection.is_none() && !enough {
            return Outcome::Goes(Stage::Shadowing { process, done, since });
        }
        self.shared.shadowing.store(false, Ordering::Release);
        let shadow = self.shared.shadow.lock().take();
        match (objection, shadow) {
            (Some(line), _) => Outcome::Refused(line),
            (None, None) => Outcome::Refused("it was stopped".into()),
            (None, Some(shadow)) => {
                report(&seen);
                self.shared.call();
                let since = Instant::now();
                Outcome::Goes(Stage::Switching { channel: shadow.into_channel(), process, since })
            }
        }
    }

    fn step_switching(
        &mut self,
        model: &Arc<Model>,
        channel: Box<Channel>,
        mut process: Child,
        since: Instant,
    ) -> Outcome {
        if let Some(how) = process.ended() {
            return Outcome::Refused(format!("its worker {how}"));
        }
        let idle = match &self.seat {
            Seat::Serving(service) => service.pulse.idle(),
            _ => true,
        };
        if !idle && since.elapsed() < SWITCH_PATIENCE {
            return Outcome::Goes(Stage::Switching { channel, process, since });
        }
        self.serve(channel, process);
        (self.proven, self.failures) = (true, 0);
        self.previous = self.model.replace(model.clone()).or(self.previous.take());
        Outcome::Switched
    }
}

fn report(seen: &Seen) {
    let agreement = seen.agreement().map_or("nothing to compare".into(), |r| format!("correlation {r:.2}"));
    tracing::info!("advisor: new model ran beside the old for {} batches, {agreement}", seen.batches());
}

/// Tells whoever asked; nobody may be waiting any more.
fn answer(reply: Reply, outcome: Result<(), String>) {
    if let Some(reply) = reply {
        let _ = reply.send(outcome);
    }
}
