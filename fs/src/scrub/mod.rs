//! Scrub: every live block of a mounted volume is read and verified while the mount goes on.
//!
//! Above `meta` and `log`, beside the cleaner; never writes, but that metadata which memory still holds whole is handed to the next checkpoint.
//! Takes no lock over I/O. What is read may move meanwhile, so a block that is not what was expected is looked up again, and only one that
//! stands where it stood is damage. Memory: one piece of the walk, whatever the size.
//!
//! - `pass`: where the walk is, one piece after the other. - `metadata`, `data`: the pieces. - `tally`: what was seen. - `pace`: how fast.
//!
//! Not looked at: headers of chunks, which only replay and the cleaner read; `fsck` does.

mod data;
mod metadata;
mod pace;
mod pass;
mod tally;

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Instant;

use parking_lot::{Condvar, Mutex};

use crate::error::{Error, Result};
use crate::meta::volume::Volume;

pub use pace::Pace;
pub use pass::Pass;
pub use tally::{Found, State, Summary, Tally};

use pace::Pacer;

/// Whether the cleaner is pressed so hard that a scrub has to stand back.
pub type PressedFn = Box<dyn Fn() -> bool + Send + Sync>;

/// The scrubber of a mount: one pass at a time, on a thread of its own while it lasts.
pub struct Scrubber {
    volume: Arc<Volume>,
    pressed: PressedFn,
    shared: Mutex<Shared>,
    /// Somebody wants the pass to stop, or it has ended.
    changed: Condvar,
    /// Held by whoever starts or stops.
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Default)]
struct Shared {
    state: State,
    /// Where the next start goes on: a pass that was stopped.
    halted: Option<Pass>,
    is_to_stop: bool,
    /// The mount is about to end: nothing is begun any more.
    is_closed: bool,
    summary: Summary,
}

impl Scrubber {
    pub fn new(volume: Arc<Volume>, pressed: PressedFn) -> Arc<Self> {
        let (shared, changed, thread) = Default::default();
        Arc::new(Self { volume, pressed, shared, changed, thread })
    }

    /// Begins a pass, or goes on with one that was stopped. `Refused` if one is under way.
    pub fn start(self: &Arc<Self>, pace: Pace) -> Result<()> {
        let mut thread = self.thread.lock();
        let pass = {
            let mut shared = self.shared.lock();
            if shared.is_closed {
                return Err(Error::Refused("the mount is about to end".into()));
            }
            if shared.state == State::Running {
                return Err(Error::Refused("a scrub is under way already".into()));
            }
            (shared.state, shared.is_to_stop) = (State::Running, false);
            shared.halted.take().unwrap_or_default()
        };
        let this = Arc::clone(self);
        match std::thread::Builder::new().name("scrub".into()).spawn(move || this.run(pass, pace)) {
            Ok(started) => *thread = Some(started),
            Err(e) => {
                self.shared.lock().state = State::Failed;
                return Err(Error::Refused(format!("a scrub needs a thread: {e}")));
            }
        }
        Ok(())
    }

    /// Ends the pass under way after the piece that it is at, and waits for that. False if there is none.
    pub fn stop(&self) -> bool {
        let mut thread = self.thread.lock();
        let was_running = {
            let mut shared = self.shared.lock();
            shared.is_to_stop = true;
            shared.state == State::Running
        };
        self.changed.notify_all();
        if let Some(Err(_)) = thread.take().map(JoinHandle::join) {
            tracing::error!("the scrub ended in a panic");
        }
        was_running
    }

    /// [`Scrubber::stop`] for good.
    pub fn close(&self) {
        self.shared.lock().is_closed = true;
        self.stop();
    }

    /// Waits until no pass is under way.
    pub fn wait(&self) {
        let mut shared = self.shared.lock();
        while shared.state == State::Running {
            self.changed.wait(&mut shared);
        }
    }

    /// What the pass under way, or the last one, has seen so far.
    pub fn summary(&self) -> Summary {
        let shared = self.shared.lock();
        Summary { state: shared.state, ..shared.summary.clone() }
    }

    fn run(&self, mut pass: Pass, pace: Pace) {
        let mut pacer = Pacer::new(pace, self.volume.device().traffic());
        let state = loop {
            let began = Instant::now();
            let more = pass.step(&self.volume);
            self.shared.lock().summary = pass.summary();
            match more {
                Ok(true) => {}
                Ok(false) => break State::Done,
                Err(e) => {
                    tracing::error!("the scrub cannot go on: {e}");
                    self.shared.lock().summary.failure = Some(e.to_string());
                    break State::Failed;
                }
            }
            let pause = pacer.pause(pass.bytes(), began.elapsed(), self.volume.device().traffic(), &self.pressed);
            let mut shared = self.shared.lock();
            if !shared.is_to_stop && !pause.is_zero() {
                self.changed.wait_for(&mut shared, pause);
            }
            if shared.is_to_stop {
                break State::Stopped;
            }
        };
        let mut shared = self.shared.lock();
        shared.state = state;
        shared.halted = (state == State::Stopped).then_some(pass);
        drop(shared);
        self.changed.notify_all();
    }
}
