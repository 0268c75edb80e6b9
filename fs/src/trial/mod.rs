//! Trials: seeded lists of operations, run on a filesystem and on [`crate::namespace::reference::Reference`], and compared.
//!
//! Used by the tests of this crate and by `xtests`; nothing else imports it. A [`Subject`] is what is tried: something that can be
//! made, mounted, unmounted and have its power cut. [`model`] compares every answer and whole trees; [`crash`] cuts the power
//! and demands a prefix of the accepted operations. A trial that fails is shrunk, and says which command replays it.

use std::cell::Cell;
use std::fmt::Display;
use std::ops::Range;
use std::panic::{self, AssertUnwindSafe};
use std::sync::{Arc, Once};

use parking_lot::Mutex;

use crate::error::{Result, panic_text};
use crate::format::value::Time;
use crate::namespace::api::Namespace;
use crate::namespace::reference::Clock;
use crate::trial::ops::Operation;

pub mod ace;
pub mod chaos;
pub mod client;
pub mod compare;
pub mod corruption;
pub mod crash;
pub mod generate;
pub mod listing;
pub mod mix;
pub mod model;
pub mod on_memory;
pub mod ops;
pub mod random;
pub mod shrink;
pub mod toy;
mod unruly;
mod walk;

/// A kind of filesystem under trial, with the medium below it.
pub trait Subject {
    type Medium;
    type Mounted;

    /// The filesystem that is mounted.
    fn namespace<'a>(&self, mounted: &'a Self::Mounted) -> &'a dyn Namespace;

    /// An empty filesystem on a new medium. Its root belongs to root and has mode 755.
    fn format(&self) -> Result<Self::Medium>;

    /// Mounts what is on the medium, recovering it if need be. `clock` is where the filesystem takes the time from; if it
    /// cannot, let [`Subject::exactness`] say so.
    fn mount(&self, medium: &Self::Medium, clock: Clock) -> Result<Self::Mounted>;

    /// Unmounts cleanly: everything becomes durable.
    fn unmount(&self, medium: &Self::Medium, mounted: Self::Mounted) -> Result<()>;

    /// Writes that the medium has seen since it was made.
    fn writes(&self, medium: &Self::Medium) -> u64;

    /// From now on the medium takes `writes` more writes; after that every access fails.
    fn cut_after(&self, medium: &Self::Medium, writes: u64);

    /// The medium as it is found after the power failed now: what was flushed, and of the rest what `seed` lets survive. It has
    /// power, without limit. Whatever is still mounted on `medium` is dropped afterwards and must not reach the new one.
    fn crash(&self, medium: &Self::Medium, seed: u64) -> Self::Medium;

    /// A second medium with the same contents, which has power and goes its own way from here.
    fn fork(&self, medium: &Self::Medium) -> Self::Medium;

    /// Makes everything durable in the other way that there is, that of its own accord.
    fn checkpoint(&self, mounted: &Self::Mounted) -> Result<()> {
        self.namespace(mounted).sync()
    }

    /// What goes on beside the operations, like checkpoints and cleaning: called before operation `step`, so that a list replays exactly.
    /// True if everything before it is durable now.
    fn background(&self, _mounted: &Self::Mounted, _step: usize) -> Result<bool> {
        Ok(false)
    }

    /// Looks for damage that no operation shows, as fsck does: on a medium that is not mounted, after a crash too.
    fn check(&self, _medium: &Self::Medium) -> std::result::Result<(), String> {
        Ok(())
    }

    fn exactness(&self) -> Exactness {
        Exactness { times: true, sectors: true }
    }
}

/// What must be the same as in the reference beyond names, modes, owners, sizes, links, contents and xattrs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exactness {
    /// The subject runs on the trial's clock.
    pub times: bool,
    /// The subject counts blocks of files as the reference does: written and promised ones.
    pub sectors: bool,
}

/// The clock of a trial: it stands still during an operation, so it does not matter how often somebody looks at it.
#[derive(Clone, Default)]
pub struct TrialClock(Arc<Mutex<Time>>);

impl TrialClock {
    /// Goes on by a second and a bit; every sixteenth time by more than a day.
    pub fn tick(&self) {
        let mut time = self.0.lock();
        time.secs += if time.nanos % 16 == 15 { 100_000 } else { 1 };
        time.nanos += 1;
    }

    /// A second clock that shows the same time and goes on by itself.
    pub fn fork(&self) -> Self {
        Self(Arc::new(Mutex::new(*self.0.lock())))
    }

    pub fn clock(&self) -> Clock {
        let time = self.0.clone();
        Arc::new(move || *time.lock())
    }
}

/// Why a trial failed, and at which operation.
#[derive(Clone, Debug)]
pub struct Failure {
    /// Operations that had been accepted before.
    pub step: usize,
    pub what: String,
}

impl Failure {
    pub fn new(step: usize, what: impl Display) -> Self {
        Self { step, what: what.to_string() }
    }
}

/// A list that fails, as short as it goes.
pub struct Found {
    pub operations: Vec<Operation>,
    pub failure: Failure,
    /// The cut at which the whole list failed, if it was one.
    pub cut: Option<u64>,
}

impl Found {
    /// What there is to say, with the command that replays it.
    pub fn report(&self, replay: &str) -> String {
        report(&self.operations, &self.failure, replay)
    }
}

/// What a failing trial prints.
fn report(list: &[impl Display], failure: &Failure, replay: &str) -> String {
    let list: String = list.iter().enumerate().map(|(i, item)| format!("  {i}: {item}\n")).collect();
    format!(
        "{}\nat operation {} of this list, made as short as it goes:\n{list}replay with: {replay}",
        failure.what, failure.step
    )
}

thread_local! {
    /// Panics of this thread are caught and told in a failure; nothing else needs to print them.
    static QUIET: Cell<bool> = const { Cell::new(false) };
}

/// Runs one list; a panic is a failure as well.
pub(crate) fn guarded<T>(run: impl FnOnce() -> std::result::Result<T, Failure>) -> std::result::Result<T, Failure> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !QUIET.get() {
                before(info);
            }
        }));
    });
    QUIET.set(true);
    let outcome = panic::catch_unwind(AssertUnwindSafe(run));
    QUIET.set(false);
    outcome.unwrap_or_else(|cause| Err(Failure::new(0, format!("panicked: {}", panic_text(&*cause)))))
}

/// A number that the environment may set.
pub(crate) fn from_env(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    match text.parse() {
        Ok(number) => Some(number),
        Err(_) => panic!("{name}={text}: a number is wanted"),
    }
}

/// The seeds to run: `count` from 1 on, unless the environment says otherwise.
pub fn seeds(count: u64) -> Range<u64> {
    match from_env("GLEANFS_SEED") {
        Some(seed) => seed..seed + 1,
        None => 1..from_env("GLEANFS_SEEDS").unwrap_or(count) + 1,
    }
}
