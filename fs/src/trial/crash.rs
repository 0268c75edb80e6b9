//! The crash trial: the state after a crash is that after a prefix of the accepted operations, and every operation that a successful fsync
//! or sync followed is in it (I6).
//!
//! The power is cut at every write of a run, or at some of them. What is found then is compared with the reference's state after each operation
//! since the last acknowledged sync. The operation in which the power went counts as accepted or not. Only contents of a file may be
//! in effect in part, block by block, where [`Operation::may_be_split`] says so. After that the run goes on with the operations that
//! were left, on what was recovered, until a second cut and, after that, until a third one at the end.

use std::ops::Range;

use super::client::Outcome;
use super::compare::Tree;
use super::mix::Mix;
use super::model::Pair;
use super::ops::Operation;
use super::random::Random;
use super::shrink::shrink;
use super::{Exactness, Failure, Found, Subject, from_env, guarded, seeds};
use crate::namespace::reference::Reference;

/// Runs that shrinking may take.
const SHRINK_TRIES: usize = 150;
/// Cuts tried for each list while shrinking.
const SHRINK_CUTS: u64 = 40;
/// Tells the seed of later cuts from that of what survives.
const REPEATED: u64 = 0x7265_7065_6174;

/// A crash trial: `seeds` lists of `operations` operations, each run once for every cut.
///
/// `GLEANFS_SEED` in the environment runs that one alone, `GLEANFS_SEEDS` that many, `GLEANFS_OPS` sets the number of operations, `GLEANFS_CUT` cuts only there.
pub struct CrashTrial<'a> {
    /// The cargo command that runs the test, for the message of a failure.
    pub command: &'a str,
    pub mix: Mix,
    pub seeds: u64,
    pub operations: usize,
    /// Most cuts of a list; if it writes more often, they are spread evenly.
    pub cuts_max: u64,
    /// Blocks up to which a write is whole or absent.
    pub record_blocks: u64,
}

/// Where and how the power goes.
#[derive(Clone, Copy, Debug)]
struct Cut {
    /// Writes that still happen; `None`: all of the list's.
    after: Option<u64>,
    /// Seed of what survives.
    seed: u64,
}

impl CrashTrial<'_> {
    /// Panics with a report if the subject fails.
    pub fn run(&self, subject: &impl Subject) {
        let seeds = seeds(self.seeds);
        let count = from_env("GLEANFS_OPS").map_or(self.operations, |n| n as usize);
        if let Err(report) = self.try_run(subject, seeds, count, from_env("GLEANFS_CUT")) {
            panic!("{report}");
        }
    }

    /// The report of the first failure, shrunk, with the command that replays it. `cut`: only there.
    pub fn try_run(
        &self,
        subject: &impl Subject,
        seeds: Range<u64>,
        count: usize,
        cut: Option<u64>,
    ) -> Result<(), String> {
        for seed in seeds {
            self.try_seed(subject, seed, count, cut).map_err(|found| {
                let only = found.cut.map_or(String::new(), |after| format!("GLEANFS_CUT={after} "));
                found.report(&format!("GLEANFS_SEED={seed} GLEANFS_OPS={count} {only}{}", self.command))
            })?;
        }
        Ok(())
    }

    /// Runs the list of one seed with all its cuts; how often the power went. The failure is shrunk.
    pub fn try_seed(
        &self,
        subject: &impl Subject,
        seed: u64,
        count: usize,
        cut: Option<u64>,
    ) -> Result<u64, Box<Found>> {
        let operations = self.mix.generate(seed, count);
        let cuts = Cuts { seed, only: cut, most: self.cuts_max };
        self.every_cut(subject, &operations, &cuts).map_err(|(cut, failure)| {
            let cuts = Cuts { seed, only: None, most: SHRINK_CUTS };
            let fails = |ops: &[Operation]| self.every_cut(subject, ops, &cuts).err();
            let first = cut;
            let (operations, (cut, failure)) = shrink(operations, (cut, failure), SHRINK_TRIES, fails);
            let place = cut.after.map_or("at the end of".into(), |n| format!("after {n} writes of"));
            let failure = Failure::new(failure.step, format!("{}\nwith the power cut {place} the list", failure.what));
            Box::new(Found { operations, failure, cut: first.after })
        })
    }

    fn every_cut<S: Subject>(&self, subject: &S, ops: &[Operation], cuts: &Cuts) -> Result<u64, (Cut, Failure)> {
        let cut_at = |after: Option<u64>, writes: u64| {
            let seed = cuts.seed.wrapping_mul(1_000_003).wrapping_add(after.map_or(0, |n| n + 1));
            let cut = Cut { after, seed };
            guarded(|| Run { trial: self, subject, cut, writes }.run(ops)).map_err(|failure| (cut, failure))
        };
        if cuts.only.is_some() {
            return cut_at(cuts.only, ops.len() as u64).map(|came| came.crashes);
        }
        let Came { writes, mut crashes } = cut_at(None, 0)?;
        let stride = writes.div_ceil(cuts.most).max(1);
        // Another seed begins elsewhere, so that together they come to every write.
        for after in (cuts.seed % stride..writes).step_by(stride as usize) {
            crashes += cut_at(Some(after), ops.len() as u64)?.crashes;
        }
        Ok(crashes)
    }
}

/// Which cuts to try.
struct Cuts {
    seed: u64,
    only: Option<u64>,
    most: u64,
}

/// What counts as the same state.
#[derive(Clone, Copy, Debug)]
pub(super) struct Judge {
    pub exact: Exactness,
    /// Blocks up to which a write is whole or absent.
    pub record_blocks: u64,
}

/// How recovery came out.
pub(super) enum Recovered {
    /// As after this state.
    At(usize),
    /// In the middle of the operation that follows it.
    Within,
}

struct Run<'a, S: Subject> {
    trial: &'a CrashTrial<'a>,
    subject: &'a S,
    cut: Cut,
    /// Writes within which the second cut comes.
    writes: u64,
}

/// What came of a run.
#[derive(Clone, Copy, Debug, Default)]
struct Came {
    /// Writes before the first crash.
    writes: u64,
    crashes: u64,
}

impl<S: Subject> Run<'_, S> {
    /// Runs the list with a crash at the cut, one somewhere in what is left after it, and one at the end.
    fn run(&self, operations: &[Operation]) -> Result<Came, Failure> {
        let mut pair = Pair::start(self.subject).map_err(|e| Failure::new(0, format!("format and mount: {e}")))?;
        let mut random = Random::new(self.cut.seed ^ REPEATED);
        let cuts = match self.cut.after {
            None => vec![None],
            Some(first) => vec![Some(first), Some(random.within(0..self.writes + 1)), None],
        };
        let mut came = Came::default();
        let mut done = 0;
        for (nth, cut) in cuts.into_iter().enumerate() {
            let before = self.subject.writes(&pair.medium);
            if let Some(after) = cut {
                self.subject.cut_after(&pair.medium, after);
            }
            let (end, states) = self.until_crash(&mut pair, operations, done)?;
            if cut.is_none() && end < operations.len() {
                return Err(Failure::new(end, "the device works, but the filesystem says that it does not"));
            }
            if nth == 0 {
                came.writes = self.subject.writes(&pair.medium) - before;
            }
            came.crashes += 1;
            if !self.crash(&mut pair, operations, end, states)? {
                return Ok(came);
            }
            done = end;
        }
        let end = pair.compare().and_then(|()| pair.step(&Operation::Remount)).and_then(|()| pair.compare());
        end.map_err(|what| Failure::new(operations.len(), format!("after the last recovery: {what}")))?;
        Ok(came)
    }

    /// Runs operations from `from` on until the device is gone or the list ends. Returns how far it came, and the reference's states
    /// since the last sync; the last of them is that after the operation in which the device went.
    fn until_crash(
        &self,
        pair: &mut Pair<'_, S>,
        operations: &[Operation],
        from: usize,
    ) -> Result<(usize, Vec<Reference>), Failure> {
        let mut states = vec![pair.reference.fork()];
        for (step, operation) in operations.iter().enumerate().skip(from) {
            match pair.background(step) {
                Ok(false) => {}
                Ok(true) => drop(states.drain(..states.len() - 1)),
                Err(error) if Outcome::of(&error).is_power_loss() => return Ok((step, states)),
                Err(error) => return Err(Failure::new(step, format!("in the background: {error}"))),
            }
            let (expected, found) = pair.apply(operation);
            states.push(pair.reference.fork());
            if found.is_power_loss() {
                return Ok((step + 1, states));
            }
            if let Some(why) = expected.difference(&found) {
                return Err(Failure::new(step, format!("{operation}: reference against subject: {why}")));
            }
            if operation.is_sync() && found.is_success() {
                states.drain(..states.len() - 1);
            }
        }
        Ok((operations.len(), states))
    }

    /// Cuts the power, recovers, and finds what the filesystem went back to. False if that is within an operation, where
    /// the reference cannot follow.
    fn crash(
        &self,
        pair: &mut Pair<'_, S>,
        operations: &[Operation],
        done: usize,
        mut states: Vec<Reference>,
    ) -> Result<bool, Failure> {
        let failed = |what: String| Failure::new(done, format!("after the crash: {what}"));
        self.recover(pair).map_err(failed)?;
        let tree = pair.tree().map_err(failed)?;
        let since = &operations[done + 1 - states.len()..done];
        match find(&tree, &states, since, self.judge()).map_err(failed)? {
            Recovered::At(at) => {
                pair.reference = states.swap_remove(at);
                pair.reference.forget_all();
                Ok(true)
            }
            Recovered::Within => {
                pair.step(&Operation::Remount).map_err(failed)?;
                let again = pair.tree().map_err(failed)?;
                match tree.difference(&again, ["recovered tree", "same tree mounted again"]) {
                    Some(why) => Err(failed(why)),
                    None => Ok(false),
                }
            }
        }
    }

    /// Crashes and mounts again, at times with a crash in the middle of recovery.
    fn recover(&self, pair: &mut Pair<'_, S>) -> Result<(), String> {
        let mut random = Random::new(self.cut.seed);
        self.lose_power(pair, random.word());
        if random.one_in(3) {
            self.subject.cut_after(&pair.medium, random.within(0..8));
            // Whether it gets through or not, the power goes again.
            pair.mounted = self.subject.mount(&pair.medium, pair.clock.clock()).ok();
            self.lose_power(pair, random.word());
        }
        (pair.slots, pair.subject_slots) = Default::default();
        pair.mount()
    }

    fn judge(&self) -> Judge {
        Judge { exact: self.subject.exactness(), record_blocks: self.trial.record_blocks }
    }

    fn lose_power(&self, pair: &mut Pair<'_, S>, seed: u64) {
        let after = self.subject.crash(&pair.medium, seed);
        // Only now may the old mount end: what it still writes does not reach the new medium.
        pair.mounted = None;
        pair.medium = after;
    }
}

/// Which state this is. `operations` are those that lead from one state to the next.
pub(super) fn find(
    found: &Tree,
    states: &[Reference],
    operations: &[Operation],
    judge: Judge,
) -> Result<Recovered, String> {
    let expected = |state: &Reference| Ok(Tree::read(state, judge.exact)?.with_losses_of(found));
    let trees: Vec<Tree> = states.iter().map(expected).collect::<Result<_, String>>()?;
    if let Some(at) = trees.iter().rposition(|tree| tree == found) {
        return Ok(Recovered::At(at));
    }
    let split = trees
        .windows(2)
        .zip(operations)
        .any(|(pair, operation)| operation.may_be_split(judge.record_blocks) && found.is_between(&pair[0], &pair[1]));
    if split {
        return Ok(Recovered::Within);
    }
    let against =
        |tree: Option<&Tree>| tree.and_then(|t| t.difference(found, ["reference", "subject"])).unwrap_or_default();
    Err(format!(
        "no prefix of the {} operations since the last sync leads to what is found.\n\
         against the state at that sync: {}\nagainst the newest: {}",
        operations.len(),
        against(trees.first()),
        against(trees.last()),
    ))
}
