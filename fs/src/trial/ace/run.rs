//! Running a workload: the prepared medium is forked, not made anew.

use std::ops::Range;

use super::pool;
use super::workloads::{Action, Workloads};
use crate::namespace::reference::Reference;
use crate::trial::client::Outcome;
use crate::trial::crash::{Judge, Recovered, find};
use crate::trial::model::Pair;
use crate::trial::ops::Operation;
use crate::trial::random::Random;
use crate::trial::shrink::shrink;
use crate::trial::{Failure, Subject, TrialClock, guarded, report};

/// Runs that shrinking may take.
const SHRINK_TRIES: usize = 50;
/// One run in so many goes on after its recovery.
const SEQUEL_ONE_IN: u64 = 4;
/// Lotteries of what survives, for a cut at the end of a workload of one operation.
const LOTTERIES: u64 = 4;

/// The tree on a medium, with everything that it takes to run workloads on copies of it.
pub struct Ace<'a, S: Subject> {
    subject: &'a S,
    record_blocks: u64,
    medium: S::Medium,
    reference: Reference,
    clock: TrialClock,
}

/// A workload that failed, as short as it goes.
pub struct Found {
    pub workload: u64,
    pub actions: Vec<Action>,
    pub failure: Failure,
}

impl Found {
    /// What there is to say, with the command that runs this workload alone.
    pub fn report(&self, replay: &str) -> String {
        report(&self.actions, &self.failure, replay)
    }
}

/// When the power goes.
#[derive(Clone, Copy, Debug)]
struct Cut {
    /// Writes of the workload that still happen; `None`: all.
    after: Option<u64>,
    seed: u64,
    /// Whether the run goes on after the recovery.
    sequel: bool,
}

impl<'a, S: Subject> Ace<'a, S> {
    /// Makes the tree. Writes are whole or absent up to `record_blocks`.
    pub fn new(subject: &'a S, record_blocks: u64) -> Result<Self, String> {
        let mut pair = Pair::start(subject).map_err(|e| format!("format and mount: {e}"))?;
        for operation in pool::tree() {
            pair.step(&operation)?;
        }
        pair.step(&Operation::Remount)?;
        let Pair { medium, mounted, reference, clock, .. } = pair;
        if let Some(mounted) = mounted {
            subject.unmount(&medium, mounted).map_err(|e| format!("unmount: {e}"))?;
        }
        Ok(Self { subject, record_blocks, medium, reference, clock })
    }

    /// Runs those of `workloads` whose numbers are in `range`, `stride` apart; how many crashes that were.
    pub fn run(&self, workloads: &Workloads, range: Range<u64>, stride: u64) -> Result<u64, Box<Found>> {
        let mut crashes = 0;
        for workload in range.step_by(stride as usize) {
            let actions = workloads.actions(workload);
            crashes += self.workload(&actions, workload).map_err(|failure| {
                let fails = |actions: &[Action]| self.workload(actions, workload).err();
                let (actions, failure) = shrink(actions, failure, SHRINK_TRIES, fails);
                Box::new(Found { workload, actions, failure })
            })?;
        }
        Ok(crashes)
    }

    /// Runs one workload with all its cuts; how many those were.
    fn workload(&self, actions: &[Action], seed: u64) -> Result<u64, Failure> {
        let operations = actions.iter().filter(|action| !action.persists()).count();
        let cut = |after, seed: u64| {
            let cut = Cut { after, seed, sequel: seed.is_multiple_of(SEQUEL_ONE_IN) };
            guarded(|| self.cut(actions, cut))
        };
        if operations > 1 {
            return cut(None, seed).map(|_| 1);
        }
        let mut writes = 0;
        for lottery in 0..LOTTERIES {
            writes = cut(None, seed * LOTTERIES + lottery)?;
        }
        for after in 0..writes {
            cut(Some(after), seed + after)?;
        }
        Ok(LOTTERIES + writes)
    }

    /// One run with its crash; how many writes came before it.
    fn cut(&self, actions: &[Action], cut: Cut) -> Result<u64, Failure> {
        let clock = self.clock.fork();
        let reference = self.reference.fork().on_clock(clock.clock());
        let pair = Pair::resume(self.subject, self.subject.fork(&self.medium), reference, clock);
        let pair = pair.map_err(|e| Failure::new(0, format!("mount: {e}")))?;
        let mut run = Run { ace: self, pair, since: Vec::new(), states: Vec::new() };
        run.pair.step(&pool::opening()).map_err(|what| Failure::new(0, what))?;
        let before = self.subject.writes(&run.pair.medium);
        if let Some(after) = cut.after {
            self.subject.cut_after(&run.pair.medium, after);
        }
        run.actions(actions)?;
        let writes = self.subject.writes(&run.pair.medium) - before;
        let failed = |what: String| Failure::new(actions.len(), what);
        let mut random = Random::new(cut.seed);
        let goes_on = run.crash(&mut random).map_err(|what| failed(format!("after the crash: {what}")))?;
        if cut.sequel && goes_on {
            run.sequel(&mut random).map_err(|what| failed(format!("in what followed the recovery: {what}")))?;
        }
        Ok(writes)
    }
}

/// A run of one workload.
struct Run<'a, 'b, S: Subject> {
    ace: &'b Ace<'a, S>,
    pair: Pair<'a, S>,
    /// The reference's states since the last persistence point, and the operations that lead from one to the next.
    states: Vec<Reference>,
    since: Vec<Operation>,
}

impl<S: Subject> Run<'_, '_, S> {
    /// Runs them until the device is gone.
    fn actions(&mut self, actions: &[Action]) -> Result<(), Failure> {
        self.settle();
        for (step, action) in actions.iter().enumerate() {
            if !self.action(action).map_err(|what| Failure::new(step, format!("{action}: {what}")))? {
                break;
            }
        }
        Ok(())
    }

    /// False if the device is gone.
    fn action(&mut self, action: &Action) -> Result<bool, String> {
        let Action::Do(operation) = action else {
            let mounted = self.pair.mounted.as_ref().expect("mounted between operations");
            return match self.ace.subject.checkpoint(mounted) {
                Ok(()) => {
                    self.settle();
                    Ok(true)
                }
                Err(error) if Outcome::of(&error).is_power_loss() => Ok(false),
                Err(error) => Err(error.to_string()),
            };
        };
        let (expected, found) = self.pair.apply(operation);
        self.states.push(self.pair.reference.fork());
        self.since.push(operation.clone());
        if found.is_power_loss() {
            return Ok(false);
        }
        if let Some(why) = expected.difference(&found) {
            return Err(format!("reference against subject: {why}"));
        }
        if operation.is_sync() && found.is_success() {
            self.settle();
        }
        Ok(true)
    }

    /// Everything is durable now.
    fn settle(&mut self) {
        self.states = vec![self.pair.reference.fork()];
        self.since.clear();
    }

    /// Cuts the power and recovers, with another cut in the middle of that at times. False if the reference cannot follow.
    fn crash(&mut self, random: &mut Random) -> Result<bool, String> {
        self.lose_power(random.word());
        if random.one_in(4) {
            self.ace.subject.cut_after(&self.pair.medium, random.within(0..4));
            self.pair.mounted = self.ace.subject.mount(&self.pair.medium, self.pair.clock.clock()).ok();
            self.lose_power(random.word());
        }
        (self.pair.slots, self.pair.subject_slots) = Default::default();
        self.pair.mount()?;
        let judge = Judge { exact: self.ace.subject.exactness(), record_blocks: self.ace.record_blocks };
        match find(&self.pair.tree()?, &self.states, &self.since, judge)? {
            Recovered::Within => Ok(false),
            Recovered::At(at) => {
                self.pair.reference = self.states.swap_remove(at);
                self.pair.reference.forget_all();
                self.settle();
                Ok(true)
            }
        }
    }

    fn lose_power(&mut self, seed: u64) {
        let after = self.ace.subject.crash(&self.pair.medium, seed);
        self.pair.mounted = None;
        self.pair.medium = after;
    }

    /// Writes again on what was recovered, and cuts again.
    fn sequel(&mut self, random: &mut Random) -> Result<(), String> {
        for operation in pool::sequel() {
            if !self.action(&Action::Do(operation))? {
                return Err("the device works, but the filesystem says that it does not".into());
            }
        }
        self.crash(random).map(drop)
    }
}
