//! The model proxy: what the cleaner and the control channel hold of the advisor.
//!
//! `post` and `poll` only ever *try* a lock: the one that guards the current channel is held by the
//! supervisor for the moment in which a worker comes or goes, and if that is just now, the fallback
//! decides this once.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};

use super::channel::{Channel, Taken};
use super::host::{AdvisorConfig, Model};
use super::probe::timespec;
use super::protocol::{Answer, Batch, monotonic_ns};
use super::shadow::Shadow;
use super::status::{AdvisorStatus, Counters, Latencies, ModelInfo};
use super::supervisor::Supervisor;

/// The longest that a caller waits for the outcome of a swap.
const SWAP_PATIENCE: Duration = Duration::from_secs(60);

/// A waiting caller looks this often whether its worker was replaced.
const POLL_SLICE: Duration = Duration::from_millis(100);

/// What supervisor and callers share.
pub(crate) struct Shared {
    pub config: AdvisorConfig,
    /// The channel that batches go to; none while there is no ready worker.
    pub serving: Mutex<Option<Box<Channel>>>,
    /// The candidate that sees the same batches.
    pub shadow: Mutex<Option<Shadow>>,
    pub shadowing: AtomicBool,
    pub counters: Counters,
    pub latencies: Latencies,
    next_ticket: AtomicU64,
    next_serial: AtomicU64,
    /// The part of the status that the supervisor keeps up to date.
    pub face: Mutex<AdvisorStatus>,
    /// Told after each round of the supervisor, ten times a second at least.
    pub changed: Condvar,
    /// Gets the supervisor's attention.
    pub attention: OwnedFd,
}

impl Shared {
    /// Wakes the supervisor.
    pub(crate) fn call(&self) {
        // A full counter has woken it already.
        let _ = rustix::io::write(&self.attention, &1u64.to_ne_bytes());
    }

    pub(crate) fn model(&self, name: &str, bytes: &[u8]) -> Result<Arc<Model>, String> {
        let serial = self.next_serial.fetch_add(1, Ordering::Relaxed);
        Ok(Arc::new(Model::new(name, bytes, &self.config.host.rules, serial)?))
    }

    fn known(&self) -> usize {
        self.config.host.rules.known.len()
    }
}

/// What the supervisor is asked to do.
pub(crate) enum Command {
    Use { model: Arc<Model>, reply: Sender<Result<(), String>> },
    Rollback { reply: Sender<Result<(), String>> },
    Stop,
}

/// The advisor as the daemon sees it. Dropping it ends the worker.
pub struct Advisor {
    shared: Arc<Shared>,
    commands: Mutex<Sender<Command>>,
    supervisor: Option<JoinHandle<()>>,
}

impl Advisor {
    /// Starts the supervisor, and with a model in the configuration a worker. Returns at once; the
    /// only errors are a model that the static check refuses and a machine without threads.
    pub fn start(config: AdvisorConfig) -> Result<Advisor, String> {
        let attention = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map_err(|e| e.to_string())?;
        let first = config.model.clone();
        let shared = Arc::new(Shared {
            config,
            serving: Mutex::new(None),
            shadow: Mutex::new(None),
            shadowing: AtomicBool::new(false),
            counters: Counters::default(),
            latencies: Latencies::default(),
            next_ticket: AtomicU64::new(1),
            next_serial: AtomicU64::new(1),
            face: Mutex::new(AdvisorStatus::default()),
            changed: Condvar::new(),
            attention,
        });
        let model = match first {
            Some(named) => {
                Some(shared.model(&named.name, &named.bytes).map_err(|line| format!("{}: {line}", named.name))?)
            }
            None => None,
        };
        let (commands, inbox) = channel();
        let mut supervisor = Supervisor::new(shared.clone(), inbox, model);
        let thread = std::thread::Builder::new()
            .name("gleanfs-advisor".into())
            .spawn(move || supervisor.run())
            .map_err(|e| format!("starting the advisor's thread: {e}"))?;
        Ok(Advisor { shared, commands: Mutex::new(commands), supervisor: Some(thread) })
    }

    /// Publishes a dataset. False if that is not possible just now; the caller then decides itself.
    /// Never waits, never allocates.
    pub fn post(&self, batch: &Batch<'_>) -> bool {
        let shared = &*self.shared;
        let ticket = shared.next_ticket.fetch_add(1, Ordering::Relaxed);
        let (known, now) = (shared.known(), monotonic_ns());
        let posted = match shared.serving.try_lock().as_deref_mut() {
            Some(Some(channel)) => channel.post(ticket, batch, known, now),
            _ => false,
        };
        if !posted {
            shared.counters.not_posted.add(1);
            return false;
        }
        shared.counters.posted.add(1);
        if shared.shadowing.load(Ordering::Acquire)
            && let Some(Some(shadow)) = shared.shadow.try_lock().as_deref_mut()
        {
            shadow.post(ticket, batch, known, now);
        }
        true
    }

    /// Takes the next recommendation about generation `generation_min` or a later one, if it came in
    /// time. Older, late and unusable ones are dropped and counted. Never waits; with an answer made
    /// by [`Answer::with_capacity`] it never allocates.
    pub fn poll_into(&self, generation_min: u64, answer: &mut Answer) -> bool {
        let shared = &*self.shared;
        let mut serving = shared.serving.try_lock();
        let Some(Some(channel)) = serving.as_deref_mut() else { return false };
        let (now, deadline_us, counters) = (monotonic_ns(), shared.config.host.deadline_us, &shared.counters);
        let timing = loop {
            match channel.take(now, deadline_us, &mut answer.values) {
                Taken::Good(timing) if timing.label.generation < generation_min => counters.stale.add(1),
                Taken::Good(timing) => break timing,
                Taken::Late { missed_now } => counters.deadlines_missed.add(u64::from(missed_now)),
                Taken::Bad => counters.refused.add(1),
                Taken::Nothing => {
                    counters.deadlines_missed.add(channel.expire(now, deadline_us));
                    return false;
                }
                Taken::Lie(_) => {
                    shared.call();
                    return false;
                }
            }
        };
        answer.model_serial = channel.model().serial;
        drop(serving);
        (answer.generation, answer.latency_us, answer.run_ns) =
            (timing.label.generation, timing.latency_us, timing.run_ns);
        counters.answers.add(1);
        shared.latencies.record(timing.latency_us);
        if shared.shadowing.load(Ordering::Acquire)
            && let Some(Some(shadow)) = shared.shadow.try_lock().as_deref_mut()
        {
            shadow.answered_by_current(timing.label.ticket, &answer.values);
        }
        true
    }

    /// [`Advisor::poll_into`] with an answer of its own.
    pub fn poll(&self, generation_min: u64) -> Option<Answer> {
        let mut answer = Answer::default();
        self.poll_into(generation_min, &mut answer).then_some(answer)
    }

    /// [`Advisor::poll_into`] for a caller in no hurry: waits for the worker, at most for `patience`.
    /// For background work and tests; never on the path of a write.
    pub fn poll_until(&self, generation_min: u64, patience: Duration, answer: &mut Answer) -> bool {
        let until = Instant::now() + patience;
        loop {
            let Some(done) = self.shared.serving.lock().as_ref().map(|channel| channel.done_shared()) else {
                return false;
            };
            // Emptied before the ring is looked at, so that an answer after the look rings again.
            let _ = rustix::io::read(&*done, &mut [0u8; 8]);
            if self.poll_into(generation_min, answer) {
                return true;
            }
            let rest = until.saturating_duration_since(Instant::now());
            if rest.is_zero() {
                return false;
            }
            let mut fds = [PollFd::from_borrowed_fd(done.as_fd(), PollFlags::IN)];
            // An interrupted wait is only a shorter one.
            let _ = poll(&mut fds, Some(&timespec(rest.min(POLL_SLICE))));
        }
    }

    /// Waits until the status satisfies `wanted`, at most for `patience`; false if it never did.
    pub fn wait_for(&self, patience: Duration, wanted: impl Fn(&AdvisorStatus) -> bool) -> bool {
        let until = Instant::now() + patience;
        while !wanted(&self.status()) {
            let mut face = self.shared.face.lock();
            if self.shared.changed.wait_until(&mut face, until).timed_out() {
                return wanted(&{
                    drop(face);
                    self.status()
                });
            }
        }
        true
    }

    /// Whether batches can be posted at all. Never waits.
    pub fn is_ready(&self) -> bool {
        self.shared.serving.try_lock().is_some_and(|serving| serving.is_some())
    }

    /// Batches posted, and those of them whose answer missed the deadline: evidence for trust.
    pub fn deadlines(&self) -> (u64, u64) {
        (self.shared.counters.posted.get(), self.shared.counters.deadlines_missed.get())
    }

    /// The advisor as of now.
    pub fn status(&self) -> AdvisorStatus {
        let (counters, latencies) = (&self.shared.counters, &self.shared.latencies);
        AdvisorStatus {
            posted: counters.posted.get(),
            not_posted: counters.not_posted.get(),
            answers: counters.answers.get(),
            deadlines_missed: counters.deadlines_missed.get(),
            stale: counters.stale.get(),
            refused: counters.refused.get(),
            lies: counters.lies.get(),
            starts: counters.starts.get(),
            restarts: counters.restarts.get(),
            overruns_killed: counters.overruns_killed.get(),
            swaps: counters.swaps.get(),
            swaps_refused: counters.swaps_refused.get(),
            latency_p50_us: latencies.quantile_us(0.5),
            latency_p99_us: latencies.quantile_us(0.99),
            deadline_us: self.shared.config.host.deadline_us,
            ..self.shared.face.lock().clone()
        }
    }

    /// The models at hand.
    pub fn models(&self) -> Vec<ModelInfo> {
        self.shared.face.lock().models.clone()
    }

    /// Checks a model, tries it in a worker of its own, runs it in shadow, and switches to it. Waits
    /// for the outcome: not for the cleaner's thread, nor for one that the supervisor may need.
    pub fn use_model(&self, name: &str, bytes: &[u8]) -> Result<(), String> {
        let checked = self.shared.model(name, bytes);
        let model = checked.inspect_err(|_| self.shared.counters.swaps_refused.add(1))?;
        let (reply, outcome) = channel();
        self.command(Command::Use { model, reply })?;
        outcome.recv_timeout(SWAP_PATIENCE).map_err(|_| "the advisor does not answer".to_owned())?
    }

    /// Goes back to the model before the current one. Waits like [`Advisor::use_model`].
    pub fn rollback(&self) -> Result<(), String> {
        let (reply, outcome) = channel();
        self.command(Command::Rollback { reply })?;
        outcome.recv_timeout(SWAP_PATIENCE).map_err(|_| "the advisor does not answer".to_owned())?
    }

    /// Ends the workers and the supervisor, for good, whoever else still holds the advisor; does not wait for it. A swap under
    /// way is answered with an error.
    pub fn stop(&self) {
        // If the thread has ended already there is nothing to stop.
        let _ = self.command(Command::Stop);
    }

    fn command(&self, command: Command) -> Result<(), String> {
        self.commands.lock().send(command).map_err(|_| "the advisor has ended".to_owned())?;
        self.shared.call();
        Ok(())
    }
}

impl Drop for Advisor {
    fn drop(&mut self) {
        self.stop();
        if let Some(thread) = self.supervisor.take() {
            let _ = thread.join();
        }
    }
}
