//! The thread that starts, watches, restarts and replaces workers.
//!
//! It sleeps in one `poll` on the descriptors of everything that can happen, and looks at overruns
//! ten times a second. It may wait; nobody on the cleaner's path waits for it. It is also the parent
//! of every worker, as the kernel kills a worker when the *thread* that started it ends.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};

use super::channel::Channel;
use super::host::Model;
use super::probe::{Failure, Step, Trial, timespec};
use super::process::Child;
use super::protocol::{header, monotonic_ns, sandbox_bits};
use super::proxy::{Command, Shared};
use super::pulse::Pulse;
use super::region::Region;
use super::status::{AdvisorState, ModelInfo, ModelRole};
use super::swap::Swap;
use super::watch::Watch;

const TICK: Duration = Duration::from_millis(100);
/// How soon to look again for a moment to switch.
const SWITCH_TICK: Duration = Duration::from_millis(2);
const WATCH_INTERVAL: Duration = Duration::from_secs(1);
/// A worker that lived so long ends a series of restarts.
const STEADY: Duration = Duration::from_secs(10);

/// Where the current model's worker is.
pub(crate) enum Seat {
    Empty,
    Starting(Trial),
    Serving(Service),
    Waiting { until: Instant },
}

/// A worker whose channel is in `Shared::serving`.
pub(crate) struct Service {
    process: Child,
    since: Instant,
    pub(super) pulse: Arc<Pulse>,
    region: Arc<Region>,
}

/// See the module's description.
pub(crate) struct Supervisor {
    pub(super) shared: Arc<Shared>,
    inbox: Receiver<Command>,
    pub(super) model: Option<Arc<Model>>,
    pub(super) previous: Option<Arc<Model>>,
    pub(super) seat: Seat,
    pub(super) swap: Option<Swap>,
    /// Whether the current model has passed the probe; a restart need not repeat it.
    pub(super) proven: bool,
    /// Failures in a row; the pause before the next start doubles with each.
    pub(super) failures: u32,
    watch: Option<(Watch, Instant)>,
}

impl Supervisor {
    pub(crate) fn new(shared: Arc<Shared>, inbox: Receiver<Command>, model: Option<Arc<Model>>) -> Supervisor {
        let watch = shared.config.watch.as_deref().map(|path| (Watch::new(path), Instant::now()));
        let seat = if model.is_some() { Seat::Waiting { until: Instant::now() } } else { Seat::Empty };
        Supervisor { shared, inbox, model, previous: None, seat, swap: None, proven: false, failures: 0, watch }
    }

    /// Runs until told to stop; its workers end with it.
    pub(crate) fn run(&mut self) {
        loop {
            while let Ok(command) = self.inbox.try_recv() {
                match command {
                    Command::Stop => return self.stop(),
                    Command::Use { model, reply } => self.begin_swap(model, Some(reply)),
                    Command::Rollback { reply } => self.begin_rollback(reply),
                }
            }
            self.look_at_file();
            self.step_seat();
            self.step_swap();
            self.show();
            self.sleep();
        }
    }

    fn stop(&mut self) {
        *self.shared.serving.lock() = None;
        *self.shared.shadow.lock() = None;
        (self.seat, self.swap) = (Seat::Empty, None);
        self.show();
    }

    fn look_at_file(&mut self) {
        let Some((watch, looked)) = &mut self.watch else { return };
        if looked.elapsed() < WATCH_INTERVAL || self.swap.is_some() {
            return;
        }
        *looked = Instant::now();
        let Some(found) = watch.look() else { return };
        let model = found.map_err(|e| format!("the watched model file: {e}")).and_then(|named| {
            self.shared.model(&named.name, &named.bytes).map_err(|line| format!("{}: {line}", named.name))
        });
        match model {
            Ok(model) => self.begin_swap(model, None),
            Err(line) => {
                self.shared.counters.swaps_refused.add(1);
                self.complain(line);
            }
        }
    }

    fn step_seat(&mut self) {
        match &mut self.seat {
            Seat::Empty => {}
            Seat::Waiting { until } if Instant::now() < *until => {}
            Seat::Waiting { .. } => self.start_worker(),
            Seat::Starting(trial) => match trial.step(&self.shared.config.host) {
                Step::Pending => {}
                Step::Passed(_) => self.seat_worker(),
                Step::Failed(failure) => self.start_failed(failure),
            },
            Seat::Serving(service) => {
                let Some(trouble) = trouble(&self.shared, service) else { return };
                if service.since.elapsed() > STEADY {
                    self.failures = 0;
                }
                self.unseat(trouble);
            }
        }
    }

    /// Takes the channel away from the cleaner first; then there is time for everything else.
    fn unseat(&mut self, trouble: Trouble) {
        let old = self.shared.serving.lock().take();
        let mut face = self.shared.face.lock();
        (face.state, face.pid) = (AdvisorState::Waiting, None);
        drop(face);
        drop(old);
        let counters = &self.shared.counters;
        counters.restarts.add(1);
        match trouble.sort {
            Sort::Ended => {}
            Sort::Lie => counters.lies.add(1),
            Sort::Overrun => counters.overruns_killed.add(1),
        }
        self.complain(trouble.line);
        self.pause();
    }

    fn start_worker(&mut self) {
        let Some(model) = self.model.clone() else {
            self.seat = Seat::Empty;
            return;
        };
        self.shared.counters.starts.add(1);
        match Trial::begin(&self.shared.config.host, model, !self.proven) {
            Ok(trial) => self.seat = Seat::Starting(trial),
            Err(failure) => self.start_failed(failure),
        }
    }

    fn seat_worker(&mut self) {
        if let Seat::Starting(trial) = std::mem::replace(&mut self.seat, Seat::Empty) {
            let Trial { channel, process, .. } = trial;
            self.proven = true;
            self.serve(channel, process);
        }
    }

    /// The commit point of every start and swap: from here on this channel gets the batches.
    pub(super) fn serve(&mut self, mut channel: Box<Channel>, process: Child) {
        channel.disown();
        show_worker(&self.shared, channel.region());
        let (pulse, region) = (channel.pulse().clone(), channel.region().clone());
        let old = self.shared.serving.lock().replace(channel);
        self.seat = Seat::Serving(Service { process, since: Instant::now(), pulse, region });
        drop(old);
    }

    fn start_failed(&mut self, failure: Failure) {
        let name = self.model.as_ref().map_or("", |model| &model.name);
        self.complain(if failure.refused { format!("{name}: {}", failure.line) } else { failure.line });
        // A proven model that suddenly does not load meets a machine in trouble.
        if failure.refused && !self.proven {
            (self.model, self.seat) = (None, Seat::Empty);
        } else {
            self.pause();
        }
    }

    /// Waits for twice as long with every failure.
    fn pause(&mut self) {
        let config = &self.shared.config;
        let pause = config.backoff_min.saturating_mul(1 << self.failures.min(20)).min(config.backoff_max);
        self.failures += 1;
        self.seat = Seat::Waiting { until: Instant::now() + pause };
    }

    pub(super) fn complain(&self, line: String) {
        tracing::warn!("advisor: {line}");
        self.shared.face.lock().last_error = Some(line);
    }

    /// Brings the public picture up to date.
    pub(super) fn show(&self) {
        let info = |role, model: &Model| ModelInfo {
            role,
            name: model.name.clone(),
            kind: model.card.kind,
            features: model.card.features.clone(),
            bytes: model.card.bytes,
            sha256: model.card.sha256.clone(),
            serial: model.serial,
        };
        let candidate = self.swap.as_ref().map(Swap::model);
        let models = [
            self.model.as_deref().map(|model| info(ModelRole::Current, model)),
            candidate.map(|model| info(ModelRole::Shadow, model)),
            self.previous.as_deref().map(|model| info(ModelRole::Previous, model)),
        ];
        let (state, pid) = match &self.seat {
            Seat::Empty => (AdvisorState::Idle, None),
            Seat::Starting(trial) => (AdvisorState::Starting, Some(trial.process.pid())),
            Seat::Serving(service) => (AdvisorState::Ready, Some(service.process.pid())),
            Seat::Waiting { .. } => (AdvisorState::Waiting, None),
        };
        let mut face = self.shared.face.lock();
        (face.state, face.pid) = (state, pid);
        face.models = models.into_iter().flatten().collect();
        drop(face);
        self.shared.changed.notify_all();
    }

    fn sleep(&self) {
        let mut fds = vec![PollFd::from_borrowed_fd(self.shared.attention.as_fd(), PollFlags::IN)];
        let mut add = |fd| fds.push(PollFd::from_borrowed_fd(fd, PollFlags::IN));
        let mut wait = TICK;
        match &self.seat {
            Seat::Starting(trial) => {
                add(trial.channel.done());
                add(trial.process.pidfd());
            }
            Seat::Serving(service) => add(service.process.pidfd()),
            Seat::Waiting { until } => wait = wait.min(until.saturating_duration_since(Instant::now())),
            Seat::Empty => {}
        }
        if let Some(swap) = &self.swap {
            wait = if swap.is_switching() { SWITCH_TICK } else { wait };
            swap.descriptors().into_iter().for_each(&mut add);
        }
        // An interrupted sleep is only a shorter one.
        let _ = poll(&mut fds, Some(&timespec(wait)));
        let _ = rustix::io::read(&self.shared.attention, &mut [0u8; 8]);
    }
}

enum Sort {
    Ended,
    Lie,
    Overrun,
}

/// What is wrong with a worker.
struct Trouble {
    sort: Sort,
    line: String,
}

/// What is wrong with the serving worker, if anything.
fn trouble(shared: &Shared, service: &mut Service) -> Option<Trouble> {
    if let Some(how) = service.process.ended() {
        return Some(Trouble { sort: Sort::Ended, line: format!("the worker {how}") });
    }
    if service.pulse.lied() {
        return Some(Trouble { sort: Sort::Lie, line: "the worker misbehaves and was killed".into() });
    }
    let limit = shared.config.host.overrun;
    let overrun = service.pulse.overrun(&service.region, monotonic_ns(), limit.as_micros() as u64);
    overrun.then(|| Trouble {
        sort: Sort::Overrun,
        line: format!("the worker gave no answer within {limit:?} and was killed"),
    })
}

/// Copies what a ready worker says of itself into the status.
fn show_worker(shared: &Shared, region: &Region) {
    let bits = region.u32(header::SANDBOX).load(Ordering::Relaxed);
    let names = [
        (sandbox_bits::LANDLOCK_FULL, "landlock"),
        (sandbox_bits::LANDLOCK_PARTIAL, "landlock (in part)"),
        (sandbox_bits::SECCOMP, "seccomp"),
    ];
    let sandbox: Vec<&str> = names.into_iter().filter(|(bit, _)| bits & bit != 0).map(|(_, name)| name).collect();
    let mut face = shared.face.lock();
    face.sandbox = sandbox.join(", ");
    face.locked_bytes = region.u64(header::LOCKED_BYTES).load(Ordering::Relaxed);
    face.library_version = region.load_text(header::LIBRARY_VERSION, header::LIBRARY_VERSION_BYTES);
}
