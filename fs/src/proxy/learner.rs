//! Learning on the user's own load: the daemon's side of a trainer process.
//!
//! A thread of its own keeps a trainer going, hears what it has found, and hands what it offers to the advisor, which checks and tries it as it would a user's file.
//! Nothing here is on the path of a write: telemetry goes into a ring that nobody waits for, and a trainer that is killed, stopped or mad costs what it would have taught.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use gleanfs_gc::advisor::{Advisor, ModelCard, ModelRole, NamedModel};
use gleanfs_gc::learn::{Answer, Line, ModelFollows, Report, TrainerProcess, learned_name};
use gleanfs_gc::telemetry::{RingWriter, Taps};
use parking_lot::{Condvar, Mutex};

use super::join;
use super::oracle::digest;
use super::shared::Shared;

/// The hidden subcommand that makes this program a trainer.
pub const TRAINER: &str = "trainer";
/// Largest model that a trainer may offer.
const LEARNED_BYTES_MAX: usize = 1 << 20;
/// How often it is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// A trainer that ended is followed by another after this, doubled each time ...
const PAUSE_MIN: Duration = Duration::from_secs(1);
/// ... up to this.
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// What the mount does with what is learnt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Learning {
    /// Nothing is learnt.
    Off,
    /// Models are fitted and examined, and none is used.
    Shadow,
    /// A model that has been better takes the place of the one in charge.
    On,
}

/// How learning stands.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Lessons {
    pub pid: Option<i32>,
    pub restarts: u64,
    pub report: Report,
    pub offered: u64,
    pub taken: u64,
    pub refused: u64,
    pub withdrawn: u64,
    pub last_error: Option<String>,
}

/// Where the events of the mount can be had, and what becomes of what is learnt.
pub struct Classroom {
    pub taps: Arc<Taps>,
    pub advisor: Arc<Advisor>,
    /// What a learned model that was taken back leaves the place to.
    pub first: NamedModel,
    /// What the mount demands of a model's file.
    pub check: fn(&NamedModel) -> Result<ModelCard, String>,
    pub(super) shared: Arc<Shared>,
}

struct State {
    stop: Mutex<bool>,
    stopped: Condvar,
    lessons: Mutex<Lessons>,
}

/// The running thread. Stopping it ends the trainer; the model in charge stays.
pub struct Learner {
    state: Arc<State>,
    mode: Learning,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Learner {
    /// Starts the thread, and with it `program` as a trainer again and again.
    pub fn start(mode: Learning, program: &'static Path, room: Classroom) -> io::Result<Self> {
        let state = Arc::new(State { stop: Mutex::new(false), stopped: Condvar::new(), lessons: Mutex::default() });
        let teacher = Teacher { mode, program, room, state: Arc::clone(&state), ours: None };
        let thread = std::thread::Builder::new().name("learner".into()).spawn(move || teacher.run())?;
        Ok(Self { state, mode, thread: Mutex::new(Some(thread)) })
    }

    pub fn mode(&self) -> Learning {
        self.mode
    }

    /// What it has come to.
    pub fn lessons(&self) -> Lessons {
        self.state.lessons.lock().clone()
    }

    pub fn stop(&self) {
        *self.state.stop.lock() = true;
        self.state.stopped.notify_all();
        join(&self.thread);
    }
}

impl Drop for Learner {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The thread.
struct Teacher {
    mode: Learning,
    program: &'static Path,
    room: Classroom,
    state: Arc<State>,
    /// Name of the learned model in charge.
    ours: Option<String>,
}

impl Teacher {
    fn run(mut self) {
        let mut pause = PAUSE_MIN;
        while let Err(why) = self.teach() {
            self.note(|lessons| {
                lessons.pid = None;
                lessons.restarts += 1;
                lessons.last_error = Some(why);
            });
            if self.stops_within(pause) {
                return;
            }
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    /// The life of one trainer: `Ok` when it is time to end, otherwise why it ended.
    fn teach(&mut self) -> Result<(), String> {
        let ring = RingWriter::create().map_err(|e| format!("making room for telemetry: {e}"))?;
        let started = TrainerProcess::start(self.program, &[TRAINER.into()], ring.fd());
        let mut trainer = started.map_err(|e| format!("starting the trainer: {e}"))?;
        let ring = self.room.taps.add(ring).ok_or("too many record this mount")?;
        self.note(|lessons| lessons.pid = Some(trainer.pid()));
        let outcome = self.attend(&mut trainer, ring);
        self.room.taps.remove(ring);
        outcome
    }

    fn attend(&mut self, trainer: &mut TrainerProcess, ring: u64) -> Result<(), String> {
        while !self.stops_within(Duration::ZERO) {
            match trainer.hear(LOOK_EVERY) {
                Ok(Some(line)) => self.heard(trainer, line)?,
                Ok(None) if !self.room.taps.taps().iter().any(|tap| tap.id == ring) => {
                    return Err("the trainer does not take what happens".into());
                }
                Ok(None) => self.look(trainer)?,
                Err(e) => {
                    return Err(trainer.ended().map_or_else(|| e.to_string(), |how| format!("the trainer {how}")));
                }
            }
        }
        Ok(())
    }

    fn heard(&mut self, trainer: &mut TrainerProcess, line: Line) -> Result<(), String> {
        match line {
            Line::Report(report) => {
                self.note(|lessons| lessons.report = report);
                Ok(())
            }
            Line::Offer(follows) => self.offered(trainer, &follows),
            Line::Withdraw => {
                self.withdraw();
                Ok(())
            }
        }
    }

    fn offered(&mut self, trainer: &mut TrainerProcess, follows: &ModelFollows) -> Result<(), String> {
        let failed = |e: io::Error| format!("the trainer's offer: {e}");
        let bytes = trainer.model(follows, LEARNED_BYTES_MAX).map_err(failed)?;
        self.note(|lessons| lessons.offered += 1);
        if self.mode == Learning::Shadow {
            return trainer.answer(&Answer::Refused(follows.number)).map_err(failed);
        }
        let answer = match self.put_in_charge(follows.number, bytes) {
            Ok(name) => {
                self.ours = Some(name);
                self.note(|lessons| lessons.taken += 1);
                Answer::Taken(follows.number)
            }
            Err(why) => {
                self.note(|lessons| {
                    lessons.refused += 1;
                    lessons.last_error = Some(why);
                });
                Answer::Refused(follows.number)
            }
        };
        trainer.answer(&answer).map_err(failed)
    }

    /// Has the advisor check, try and use a model. It was better than what is in charge, on the same writes: so it inherits the trust, and is watched on.
    fn put_in_charge(&self, number: u64, bytes: Vec<u8>) -> Result<String, String> {
        let model = NamedModel { name: learned_name(number), bytes };
        let named = |why| format!("{}: {why}", model.name);
        let card = (self.room.check)(&model).map_err(named)?;
        self.room.shared.expect_successor(digest(&card.sha256));
        self.room.advisor.use_model(&model.name, &model.bytes).map_err(named)?;
        Ok(model.name)
    }

    /// The model that was learnt loses against the rule: the first one gets its place back, and has to earn its trust anew.
    fn withdraw(&mut self) {
        if self.ours.take().is_none() {
            return;
        }
        let NamedModel { name, bytes } = &self.room.first;
        let outcome = self.room.advisor.use_model(name, bytes);
        self.note(|lessons| {
            lessons.withdrawn += 1;
            if let Err(why) = outcome {
                lessons.last_error = Some(format!("{name}: {why}"));
            }
        });
    }

    /// Whether somebody else has put another model in charge.
    fn look(&mut self, trainer: &mut TrainerProcess) -> Result<(), String> {
        let Some(ours) = &self.ours else { return Ok(()) };
        let models = self.room.advisor.models();
        if models.iter().any(|m| m.role == ModelRole::Current && m.name == *ours) {
            return Ok(());
        }
        self.ours = None;
        trainer.answer(&Answer::TakenBack).map_err(|e| e.to_string())
    }

    fn note(&self, change: impl FnOnce(&mut Lessons)) {
        change(&mut self.state.lessons.lock());
    }

    /// Whether it is told to stop before so much time has passed.
    fn stops_within(&self, patience: Duration) -> bool {
        let mut stop = self.state.stop.lock();
        if !*stop && !patience.is_zero() {
            self.state.stopped.wait_for(&mut stop, patience);
        }
        *stop
    }
}
