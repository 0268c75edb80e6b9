//! Running a schedule, with the oracle that knows what each injected thing permits.

use std::ops::ControlFlow;
use std::sync::Arc;

use super::schedule::Step;
use super::subject::Damaged;
use super::{Failure, Injected};
use crate::device::memory::{Fault, FaultOp, MemoryDevice};
use crate::error::{Error, Result};
use crate::format::key::{Key, Kind};
use crate::format::value::{ExtentKind, Value};
use crate::meta::volume::Volume;
use crate::namespace::reference::Reference;
use crate::trial::Subject;
use crate::trial::client::{Outcome, Slots};
use crate::trial::compare::Tree;
use crate::trial::crash::{Judge, Recovered, find};
use crate::trial::model::Pair;
use crate::trial::on_memory::Mounted;
use crate::trial::ops::{Operation, SLOTS};
use crate::trial::random::Random;
use crate::types::{BlockAddr, Ino};

/// Whether the reference can follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Course {
    On,
    /// An operation is in effect in part, as it may be: the run ends here.
    Ends,
}

type Checked<T = ()> = std::result::Result<T, String>;

/// A fault in the device.
#[derive(Clone, Copy)]
struct Planted {
    op: FaultOp,
    forever: bool,
}

struct Run<'a> {
    subject: &'a Damaged,
    pair: Pair<'a, Damaged>,
    /// The reference's states since the last sync, and the operations that lead from one to the next.
    states: Vec<Reference>,
    since: Vec<Operation>,
    planted: Vec<Planted>,
    /// Seed of the cut that is to come.
    cut: u64,
    random: Random,
    injected: Injected,
}

/// Runs the schedule, cuts the power at its end, and compares a last time after a clean unmount.
pub(super) fn run(subject: &Damaged, steps: &[Step], seed: u64) -> std::result::Result<Injected, Failure> {
    let pair = Pair::start(subject).map_err(|e| Failure::new(0, format!("format and mount: {e}")))?;
    let mut run = Run {
        subject,
        pair,
        states: Vec::new(),
        since: Vec::new(),
        planted: Vec::new(),
        cut: seed,
        random: Random::new(seed),
        injected: Injected::default(),
    };
    run.settle();
    for (step, what) in steps.iter().enumerate() {
        let course = run.step(what).map_err(|why| Failure::new(step, format!("{what}: {why}")))?;
        if course == Course::Ends {
            return Ok(run.injected);
        }
    }
    run.end().map_err(|why| Failure::new(steps.len(), format!("at the end: {why}")))?;
    Ok(run.injected)
}

impl Run<'_> {
    fn step(&mut self, step: &Step) -> Checked<Course> {
        match step {
            Step::Do(Operation::Remount) => self.remount(),
            Step::Do(operation) => self.operation(operation),
            Step::Clean => self.own_work(|m| m.clean().and_then(|()| m.filesystem.reap(1).map(drop))),
            Step::Extend => self.own_work(|m| m.volume.extend_log().map(drop)),
            Step::Checkpoint => self.checkpoint(),
            Step::Break { op, spared, forever } => {
                let fault = if *forever { Fault::forever(*op, *spared) } else { Fault::once(*op, *spared) };
                self.pair.medium.plant(fault);
                self.planted.push(Planted { op: *op, forever: *forever });
                self.injected.faults += 1;
                Ok(Course::On)
            }
            Step::Heal => {
                self.heal();
                Ok(Course::On)
            }
            Step::Flip { nth, bit } => self.flip(*nth, *bit),
            Step::Cut { after, seed } => {
                self.pair.medium.crash_after(*after);
                self.cut = *seed;
                Ok(Course::On)
            }
        }
    }

    fn operation(&mut self, operation: &Operation) -> Checked<Course> {
        let (before, slots) = (self.pair.reference.fork(), self.pair.slots.clone());
        let (expected, found) = self.pair.apply(operation);
        self.states.push(self.pair.reference.fork());
        self.since.push(operation.clone());
        if self.pair.medium.power_is_gone() && !found.is_success() {
            return self.recover();
        }
        if is_failure(&found) {
            self.excuse(&found)?;
            self.demand_latch(operation.is_sync() && self.only_writing_is_broken(), &found)?;
            return self.failed(operation, before, slots);
        }
        if matches!(operation, Operation::TouchAtime { .. }) && self.volume().writable().is_err() {
            // Reading a file succeeds on a read-only mount, and leaves no trace.
            return self.failed(operation, before, slots);
        }
        if let Some(why) = expected.difference(&found) {
            return Err(format!("reference against subject: {why}"));
        }
        if operation.is_sync() && found.is_success() {
            self.settle();
        }
        Ok(Course::On)
    }

    /// After an operation that failed: it is in effect or not.
    fn failed(&mut self, operation: &Operation, before: Reference, slots: Slots) -> Checked<Course> {
        let tree = self.look()?;
        let judge = self.judge();
        let states = [before, self.pair.reference.fork()];
        match find(&tree, &states, std::slice::from_ref(operation), judge)? {
            Recovered::Within => return Ok(Course::Ends),
            Recovered::At(0) => {
                let [before, _] = states;
                self.pair.reference = before;
                self.pair.slots = slots;
                self.states.pop();
                self.since.pop();
            }
            Recovered::At(_) => {}
        }
        // What is open may have no name, so nobody sees whether the operation is in effect there.
        for slot in 0..SLOTS as u8 {
            self.pair.apply(&Operation::Close { slot });
        }
        Ok(Course::On)
    }

    /// Work of the filesystem's own, which changes nothing that anybody sees.
    fn own_work(&mut self, work: impl FnOnce(&Mounted) -> Result<()>) -> Checked<Course> {
        let Err(error) = work(self.mounted()) else { return Ok(Course::On) };
        if self.pair.medium.power_is_gone() {
            return self.recover();
        }
        let found = Outcome::of(&error);
        if !is_failure(&found) {
            return Err(error.to_string());
        }
        self.excuse(&found)?;
        self.compare()?;
        Ok(Course::On)
    }

    fn checkpoint(&mut self) -> Checked<Course> {
        let (before, only_writing) = (self.injected.cuts, self.only_writing_is_broken());
        let mut failure = None;
        let course = self.own_work(|mounted| {
            let done = mounted.volume.checkpoint(false);
            failure = done.as_ref().err().map(Outcome::of);
            done
        })?;
        match failure {
            None => self.settle(),
            Some(found) if self.injected.cuts == before => self.demand_latch(only_writing, &found)?,
            Some(_) => {}
        }
        Ok(course)
    }

    /// Unmounts cleanly where that is possible; else the daemon ends as it does in a crash.
    fn remount(&mut self) -> Checked<Course> {
        self.heal();
        if self.volume().writable().is_err() {
            return self.recover();
        }
        let (_, found) = self.pair.apply(&Operation::Remount);
        if self.pair.mounted.is_none() && self.pair.medium.power_is_gone() {
            return self.recover();
        }
        if let Outcome::Broken(why) = found {
            return Err(why);
        }
        self.settle();
        self.compare()?;
        Ok(Course::On)
    }

    fn flip(&mut self, nth: u64, bit: u64) -> Checked<Course> {
        // Only what a checkpoint reaches: in the log behind it a flipped bit cannot be told from a torn write.
        let cuts = self.injected.cuts;
        let course = self.checkpoint()?;
        if self.injected.cuts != cuts || self.volume().writable().is_err() || self.pair.medium.power_is_gone() {
            return Ok(course);
        }
        let blocks = match data_blocks(self.volume()) {
            Ok(blocks) => blocks,
            Err(error) => return self.excuse(&Outcome::of(&error)).map(|()| course),
        };
        if let Some(addr) = blocks.get(nth as usize % blocks.len().max(1)) {
            self.pair.medium.tamper(*addr, |block| block[bit as usize / 8] ^= 1 << (bit % 8));
            self.subject.flips.set(self.subject.flips.get() + 1);
            self.injected.flips += 1;
        }
        Ok(course)
    }

    fn end(&mut self) -> Checked {
        if self.recover()? == Course::On {
            self.remount()?;
            self.compare()?;
        }
        Ok(())
    }
}

/// Power cuts and recovery.
impl Run<'_> {
    /// The power goes, or has gone. Mounts what is left, with another cut or a failing read in the middle of that at times.
    fn recover(&mut self) -> Checked<Course> {
        self.lose_power();
        if self.random.one_in(3) {
            if self.random.one_in(2) {
                self.pair.medium.crash_after(self.random.within(0..8));
            } else {
                self.pair.medium.plant(Fault::once(FaultOp::Read, self.random.within(0..12)));
                self.injected.faults += 1;
            }
            self.pair.mounted = self.subject.mount(&self.pair.medium, self.pair.clock.clock()).ok();
            self.lose_power();
        }
        (self.pair.slots, self.pair.subject_slots) = Default::default();
        self.pair.mount().map_err(|why| format!("after the crash: {why}"))?;
        let tree = self.look()?;
        match find(&tree, &self.states, &self.since, self.judge()).map_err(|why| format!("after the crash: {why}"))? {
            Recovered::Within => Ok(Course::Ends),
            Recovered::At(at) => {
                self.pair.reference = self.states.swap_remove(at);
                self.pair.reference.forget_all();
                self.settle();
                Ok(Course::On)
            }
        }
    }

    fn lose_power(&mut self) {
        let after: Arc<MemoryDevice> = self.subject.crash(&self.pair.medium, self.cut);
        self.cut = self.random.word();
        // Only now may the old mount end: what it still writes does not reach the new medium.
        self.pair.mounted = None;
        self.pair.medium = after;
        self.planted.clear();
        self.injected.cuts += 1;
    }

    /// Everything is durable now.
    fn settle(&mut self) {
        self.states = vec![self.pair.reference.fork()];
        self.since.clear();
    }
}

/// What is permitted.
impl Run<'_> {
    /// Whether something that was done permits a failure.
    fn excuse(&self, found: &Outcome) -> Checked {
        if !self.planted.is_empty() || self.subject.flips.get() > 0 || self.volume().writable().is_err() {
            return Ok(());
        }
        Err(format!("nothing was done that permits {}", found.brief()))
    }

    /// Whether nothing that was planted lets an operation fail that leaves the filesystem as it was, as a full host does.
    fn only_writing_is_broken(&self) -> bool {
        self.planted.iter().all(|planted| matches!(planted.op, FaultOp::Write | FaultOp::Flush))
    }

    /// Where nothing but writing was broken, what was to make things durable and failed leaves the mount read-only.
    fn demand_latch(&self, is_due: bool, found: &Outcome) -> Checked {
        if is_due && *found == Outcome::Refused("Device".into()) && self.volume().writable().is_ok() {
            return Err("it failed, and the mount is not read-only".into());
        }
        Ok(())
    }

    fn judge(&self) -> Judge {
        Judge { exact: self.subject.exactness(), record_blocks: 1 }
    }

    /// The tree as it is, with the device's faults out of the way for so long. Some of it may be damaged.
    fn look(&mut self) -> Checked<Tree> {
        self.pair.medium.clear_faults();
        let tree = Tree::read_damaged(self.subject.namespace(self.mounted()), self.subject.exactness())?;
        // Of what was to come once nobody knows whether it has come.
        self.planted.retain(|planted| planted.forever);
        for planted in &self.planted {
            self.pair.medium.plant(Fault::forever(planted.op, 0));
        }
        match (tree.lost_blocks(), self.subject.flips.get()) {
            (lost, flips) if lost > flips => Err(format!("{lost} blocks cannot be read, {flips} were flipped")),
            _ => Ok(tree),
        }
    }

    fn compare(&mut self) -> Checked {
        let found = self.look()?;
        let expected = Tree::read(&self.pair.reference, self.subject.exactness())?.with_losses_of(&found);
        expected.difference(&found, ["reference", "subject"]).map_or(Ok(()), Err)
    }

    fn heal(&mut self) {
        self.pair.medium.clear_faults();
        self.planted.clear();
    }

    fn mounted(&self) -> &Mounted {
        self.pair.mounted.as_ref().expect("mounted between steps")
    }

    fn volume(&self) -> &Volume {
        &self.mounted().volume
    }
}

/// EIO or EROFS.
fn is_failure(outcome: &Outcome) -> bool {
    let names = ["Device", "Damaged", "Decode", "Latched", "ReadOnly"];
    matches!(outcome, Outcome::Refused(name) if names.contains(&name.as_str()))
}

/// Where file data stands, block by block.
fn data_blocks(volume: &Volume) -> Result<Vec<BlockAddr>> {
    let (from, to) = (Key::inode(Ino::ROOT), Key::new(Ino(u64::MAX), Kind::Extent, u64::MAX));
    volume.view(|view| {
        let mut blocks = Vec::new();
        view.scan(&from, &to, &mut |_, value| {
            if let Value::Extent(extent) = value
                && extent.kind == ExtentKind::Data
            {
                blocks.extend((0..u64::from(extent.blocks)).map(|n| extent.addr.offset(n)));
            }
            ControlFlow::Continue(())
        })?;
        Ok::<_, Error>(blocks)
    })
}
