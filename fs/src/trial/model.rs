//! The model-based trial: every answer of the subject is that of the reference, and so is the whole tree, now and then, at the end, and
//! after one more mount.

use std::ops::Range;

use super::client::{Outcome, Slots, apply};
use super::compare::Tree;
use super::mix::Mix;
use super::ops::Operation;
use super::shrink::shrink;
use super::{Failure, Found, Subject, TrialClock, from_env, guarded, seeds};
use crate::error::Result;
use crate::namespace::api::{AttrChange, Caller, Namespace, SetTime};
use crate::namespace::reference::Reference;
use crate::types::Ino;

/// Operations between two comparisons of the whole tree.
const COMPARE_EVERY: usize = 50;
/// Runs that shrinking may take.
const SHRINK_TRIES: usize = 2000;

/// A model-based trial: `seeds` lists of `operations` operations.
///
/// `GLEANFS_SEED` in the environment runs that one alone, `GLEANFS_SEEDS` that many, `GLEANFS_OPS` sets the number of operations.
pub struct ModelTrial<'a> {
    /// The cargo command that runs the test, for the message of a failure.
    pub command: &'a str,
    pub mix: Mix,
    pub seeds: u64,
    pub operations: usize,
}

impl ModelTrial<'_> {
    /// Panics with a report if the subject fails.
    pub fn run(&self, subject: &impl Subject) {
        let seeds = seeds(self.seeds);
        let count = from_env("GLEANFS_OPS").map_or(self.operations, |n| n as usize);
        if let Err(report) = self.try_run(subject, seeds, count) {
            panic!("{report}");
        }
    }

    /// The report of the first failure, shrunk, with the command that replays it.
    pub fn try_run(&self, subject: &impl Subject, seeds: Range<u64>, count: usize) -> std::result::Result<(), String> {
        for seed in seeds {
            self.try_seed(subject, seed, count)
                .map_err(|found| found.report(&format!("GLEANFS_SEED={seed} GLEANFS_OPS={count} {}", self.command)))?;
        }
        Ok(())
    }

    /// Runs the list of one seed. The failure is shrunk.
    pub fn try_seed(&self, subject: &impl Subject, seed: u64, count: usize) -> std::result::Result<(), Box<Found>> {
        let operations = self.mix.generate(seed, count);
        run(subject, &operations).map_err(|failure| {
            let fails = |ops: &[Operation]| run(subject, ops).err();
            let (operations, failure) = shrink(operations, failure, SHRINK_TRIES, fails);
            Box::new(Found { operations, failure, cut: None })
        })
    }
}

/// Runs one list on a new subject and a new reference.
pub fn run<S: Subject>(subject: &S, operations: &[Operation]) -> std::result::Result<(), Failure> {
    guarded(|| compare_all(subject, operations))
}

fn compare_all<S: Subject>(subject: &S, operations: &[Operation]) -> std::result::Result<(), Failure> {
    let mut pair = Pair::start(subject).map_err(|e| Failure::new(0, format!("format and mount: {e}")))?;
    for (step, operation) in operations.iter().enumerate() {
        pair.background(step).map_err(|e| Failure::new(step, format!("in the background: {e}")))?;
        pair.step(operation).map_err(|what| Failure::new(step, what))?;
        if step % COMPARE_EVERY == COMPARE_EVERY - 1 {
            pair.compare().map_err(|what| Failure::new(step, format!("after this operation: {what}")))?;
        }
    }
    let end = pair.compare().and_then(|()| pair.step(&Operation::Remount)).and_then(|()| pair.compare());
    end.map_err(|what| Failure::new(operations.len(), format!("at the end: {what}")))
}

/// A subject and the reference, side by side.
pub(super) struct Pair<'a, S: Subject> {
    subject: &'a S,
    pub medium: S::Medium,
    pub mounted: Option<S::Mounted>,
    /// Inode numbers of what is open differ, so each has its own.
    pub subject_slots: Slots,
    pub reference: Reference,
    pub slots: Slots,
    pub clock: TrialClock,
}

impl<'a, S: Subject> Pair<'a, S> {
    pub(super) fn start(subject: &'a S) -> Result<Self> {
        let clock = TrialClock::default();
        let reference = Reference::with_clock(clock.clock());
        let medium = subject.format()?;
        let mounted = Some(subject.mount(&medium, clock.clock())?);
        let pair = Self {
            subject,
            medium,
            mounted,
            subject_slots: Slots::default(),
            reference,
            slots: Slots::default(),
            clock,
        };
        pair.align_root()?;
        Ok(pair)
    }

    /// What is on `medium` and its reference, mounted. Both have the time from `clock`.
    pub(super) fn resume(subject: &'a S, medium: S::Medium, reference: Reference, clock: TrialClock) -> Result<Self> {
        let (slots, subject_slots) = Default::default();
        let mounted = Some(subject.mount(&medium, clock.clock())?);
        Ok(Self { subject, medium, mounted, subject_slots, reference, slots, clock })
    }

    /// mkfs made the subject's root at a time of its own: both get the same times, durably.
    fn align_root(&self) -> Result<()> {
        let now = SetTime::At((self.clock.clock())());
        let times = AttrChange {
            atime: Some(now),
            mtime: Some(now),
            ctime: Some((self.clock.clock())()),
            ..Default::default()
        };
        let who = Caller { uid: 0, gid: 0, pid: 1 };
        self.reference.setattr(&who, Ino::ROOT, &times)?;
        if let Some(mounted) = &self.mounted {
            let fs = self.subject.namespace(mounted);
            fs.setattr(&who, Ino::ROOT, &times)?;
            fs.sync()?;
        }
        Ok(())
    }

    /// Applies an operation to both; `Err` if they differ.
    pub(super) fn step(&mut self, operation: &Operation) -> std::result::Result<(), String> {
        let (expected, found) = self.apply(operation);
        match expected.difference(&found) {
            Some(why) => Err(format!("{operation}: reference against subject: {why}")),
            None => Ok(()),
        }
    }

    /// Applies an operation to both, with the clock gone on.
    pub(super) fn apply(&mut self, operation: &Operation) -> (Outcome, Outcome) {
        self.clock.tick();
        if *operation == Operation::Remount {
            return (self.forget_all(), self.remount().map_or_else(Outcome::Broken, |()| Outcome::Done));
        }
        let exact = self.subject.exactness();
        let expected = apply(&self.reference, &mut self.slots, operation, exact);
        let mounted = self.mounted.as_ref().expect("mounted between operations");
        (expected, apply(self.subject.namespace(mounted), &mut self.subject_slots, operation, exact))
    }

    /// Lets the subject do what it does beside operations; true if everything is durable now.
    pub(super) fn background(&self, step: usize) -> Result<bool> {
        self.subject.background(self.mounted.as_ref().expect("mounted between operations"), step)
    }

    fn forget_all(&mut self) -> Outcome {
        self.slots = Slots::default();
        self.reference.forget_all();
        Outcome::Done
    }

    fn remount(&mut self) -> std::result::Result<(), String> {
        self.subject_slots = Slots::default();
        if let Some(mounted) = self.mounted.take() {
            self.subject.unmount(&self.medium, mounted).map_err(|e| format!("unmount: {e}"))?;
        }
        self.mount()
    }

    /// Looks for damage, and mounts what is on the medium.
    pub(super) fn mount(&mut self) -> std::result::Result<(), String> {
        self.subject.check(&self.medium)?;
        let mounted = self.subject.mount(&self.medium, self.clock.clock()).map_err(|e| format!("mount: {e}"))?;
        self.mounted = Some(mounted);
        Ok(())
    }

    /// Compares the whole trees.
    pub(super) fn compare(&self) -> std::result::Result<(), String> {
        let found = self.tree()?;
        let expected = Tree::read(&self.reference, self.subject.exactness())?;
        match expected.difference(&found, ["reference", "subject"]) {
            Some(why) => Err(why),
            None => Ok(()),
        }
    }

    /// The subject's tree.
    pub(super) fn tree(&self) -> std::result::Result<Tree, String> {
        let mounted = self.mounted.as_ref().expect("mounted between operations");
        Tree::read(self.subject.namespace(mounted), self.subject.exactness()).map_err(|why| format!("subject: {why}"))
    }
}
