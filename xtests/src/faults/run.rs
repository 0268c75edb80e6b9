//! One run of the work with one thing going wrong, and what must hold of it.
//!
//! Always: no panic, nothing that waits for ever, every answer right or an error that a failing device explains. As soon as something has gone wrong:
//! all that was accepted can still be read, and a failed flush has made the mount read-only. On a good device afterwards, with a power cut or without one: fsck is
//! content and the files are as after one of the steps since the last success of a sync. And once more after that: what is synced now survives the next
//! power cut, whatever the first failure left in the caches.

use std::cell::Cell;
use std::sync::Arc;

use gleanfs::device::MemoryDevice;
use gleanfs::device::memory::FaultOp;
use gleanfs::error::Error;
use gleanfs::namespace::api::Namespace;
use gleanfs::trial::Subject;
use gleanfs::trial::on_memory::{Mounted, OnMemory};

use super::model::{FILES, Model, Seen, is_of_device};
use super::trouble::Trouble;
use super::work::{Kind, Step, mount, mount_read_only};

/// What a run came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Operations that failed because of what was planted.
    pub struck: u64,
    /// The mount went read-only, or could not be made.
    pub ended: bool,
}

/// What is wrong, in a sentence.
pub type Wrong = String;

struct Run {
    kind: Kind,
    subject: OnMemory,
    trouble: Option<Trouble>,
    device: Arc<MemoryDevice>,
    mounted: Option<Mounted>,
    /// What was accepted, since the last promise; the last is the present.
    states: Vec<Model>,
    /// Reads that only looked.
    looks: Cell<u64>,
}

/// Operations of each kind of the device that the work takes when nothing goes wrong, mkfs's not among them.
pub fn count(kind: Kind, steps: &[Step]) -> Result<Vec<(FaultOp, u64)>, Wrong> {
    let mut run = Run::start(kind, None)?;
    let before = FaultOp::ALL.map(|op| run.device.operations(op));
    run.work(steps)?;
    let looked = |op| if op == FaultOp::Read { run.looks.get() } else { 0 };
    let after = FaultOp::ALL.map(|op| (op, run.device.operations(op) - looked(op)));
    Ok(after.into_iter().zip(before).map(|((op, after), before)| (op, after - before)).collect())
}

/// The work with `trouble`.
pub fn run(kind: Kind, steps: &[Step], trouble: Trouble) -> Result<Outcome, Wrong> {
    let mut run = Run::start(kind, Some(trouble))?;
    trouble.plant(&run.device);
    let ended = run.work(steps)?;
    let outcome = Outcome { struck: run.device.struck(), ended: ended || run.is_latched() };
    if outcome.ended && trouble.must_be_survived() {
        let why = run.mounted.as_ref().map(|m| format!("{:?}", m.volume.writable()));
        return Err(format!("the mount did not survive: {}", why.unwrap_or_else(|| "no mount".into())));
    }
    run.end()?;
    Ok(outcome)
}

impl Run {
    fn start(kind: Kind, trouble: Option<Trouble>) -> Result<Self, Wrong> {
        let subject = kind.subject();
        let device = subject.format().map_err(|e| format!("format: {e}"))?;
        Ok(Self { kind, subject, trouble, device, mounted: None, states: vec![Model::default()], looks: Cell::new(0) })
    }

    /// Looks at the files while nothing fails.
    fn see(&self, mounted: &Mounted) -> Result<Seen, Wrong> {
        let before = self.device.operations(FaultOp::Read);
        let seen = self.device.without_faults(|| Model::read(&mounted.filesystem));
        self.looks.set(self.looks.get() + self.device.operations(FaultOp::Read) - before);
        seen
    }

    fn takes_data(&self) -> bool {
        self.trouble.is_some_and(|t| t.takes_data())
    }

    fn present(&self) -> &Model {
        self.states.last().expect("there is always one")
    }

    fn is_latched(&self) -> bool {
        self.mounted.as_ref().is_some_and(|m| m.volume.writable().is_err())
    }

    /// Does the steps. True if there is no mount any more, or the rest cannot be followed.
    fn work(&mut self, steps: &[Step]) -> Result<bool, Wrong> {
        if self.mount()? {
            return Ok(true);
        }
        for (n, step) in steps.iter().enumerate() {
            if let Some(trouble) = self.trouble {
                trouble.come(n as u64, &self.device);
            }
            let struck = self.device.struck();
            let is_over = self.step(step).map_err(|why| format!("step {n}, {step:?}: {why}"))?;
            if self.device.struck() > struck {
                self.look(step).map_err(|why| format!("after step {n}, {step:?}: {why}"))?;
            }
            if is_over {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn step(&mut self, step: &Step) -> Result<bool, Wrong> {
        match step {
            Step::Remount => {
                let mounted = self.mounted.take().ok_or("nothing is mounted")?;
                match self.subject.unmount(&self.device, mounted) {
                    Ok(()) => self.promise(),
                    Err(e) => explained(&e)?,
                }
                return self.mount();
            }
            Step::Kill => {
                self.mounted = None;
                return self.mount();
            }
            _ => {}
        }
        let mounted = self.mounted.as_ref().ok_or("nothing is mounted")?;
        let (before, mut after) = (self.present().clone(), self.present().clone());
        step.change(&mut after);
        match step.run(mounted) {
            Ok(()) => {
                self.states.push(after);
                if step.promises() {
                    self.promise();
                }
            }
            Err(e) => {
                explained(&e)?;
                if before != after {
                    match self.see(mounted)? {
                        Seen::Whole(found) if found.is_between(&before, &after) => self.states.push(found),
                        Seen::Whole(found) => return Err(format!("half done: {}", found.difference(&before))),
                        Seen::Partly(..) if self.takes_data() => {
                            self.states.push(after);
                            return Ok(true);
                        }
                        Seen::Partly(_, why) => return Err(format!("unreadable after {e}: {why}")),
                    }
                }
            }
        }
        Ok(false)
    }

    /// Everything accepted so far is durable.
    fn promise(&mut self) {
        if self.takes_data() {
            // With a part of the log gone the files may be as they were at any time.
            return;
        }
        self.states.drain(..self.states.len() - 1);
    }

    /// Mounts; what is found then is durable. True if the device does not let it.
    fn mount(&mut self) -> Result<bool, Wrong> {
        match mount(&self.subject, &self.device) {
            Ok(mounted) => {
                let found = self.see(&mounted)?;
                self.mounted = Some(mounted);
                match found {
                    Seen::Whole(found) => {
                        self.expect(&found, "mounted again")?;
                        self.states.push(found);
                        self.promise();
                    }
                    Seen::Partly(found, why) => {
                        if !self.takes_data() || !self.is_known(&found) {
                            return Err(format!("mounted again: {why}; {}", found.difference(self.present())));
                        }
                        return Ok(true);
                    }
                }
                Ok(false)
            }
            Err(e) => explained(&e).map(|()| true),
        }
    }

    /// What is found must be a state since the last promise, or between two of them.
    fn expect(&self, found: &Model, when: &str) -> Result<(), Wrong> {
        let between = self.states.windows(2).any(|pair| found.is_between(&pair[0], &pair[1]));
        if between || self.states.contains(found) {
            return Ok(());
        }
        let oldest = found.difference(&self.states[0]);
        let newest = found.difference(self.present());
        Err(format!("{when}: not a state since the last sync; against the oldest: {oldest}; the newest: {newest}"))
    }

    /// Whether what could be read is of some state, or between two of them.
    fn is_known(&self, found: &Model) -> bool {
        self.states.iter().any(|state| found.agrees(state))
            || self.states.windows(2).any(|pair| between_with_gaps(found, pair))
    }

    /// Something has just gone wrong: all that was accepted is readable, and a failed flush was the last.
    fn look(&self, step: &Step) -> Result<(), Wrong> {
        let Some(mounted) = &self.mounted else { return Ok(()) };
        let seen = self.see(mounted)?.whole()?;
        if seen != *self.present() {
            return Err(format!("shown wrongly: {}", seen.difference(self.present())));
        }
        let mounts = matches!(step, Step::Remount | Step::Kill);
        if !mounts && self.trouble.is_some_and(|t| t.is_flush()) {
            match mounted.volume.writable() {
                Err(Error::Latched(_)) => {}
                other => return Err(format!("a flush failed, and the mount says {other:?}")),
            }
        }
        Ok(())
    }

    /// After the work: a power cut, and a device that works again.
    fn end(mut self) -> Result<(), Wrong> {
        if let Some(mounted) = &self.mounted
            && !self.takes_data()
        {
            let seen = self.see(mounted)?.whole()?;
            if seen != *self.present() {
                return Err(format!("shown wrongly at the end: {}", seen.difference(self.present())));
            }
            match mounted.filesystem.sync() {
                Ok(()) => self.promise(),
                Err(e) => explained(&e)?,
            }
        }
        let seed = self.device.struck() + self.states.len() as u64;
        let cut = Arc::new(self.device.crash(seed));
        if self.takes_data() {
            return self.end_with_less(&cut);
        }
        if self.trouble.is_some_and(|t| t.takes_superblocks()) {
            return self.end_without_superblocks(&cut);
        }
        self.recover(&cut, "after a power cut")?;
        self.device.clear_faults();
        self.mounted = None;
        let device = Arc::clone(&self.device);
        let mounted = self.recover(&device, "on a device that works again")?;
        self.go_on(&device, mounted)
    }

    /// With a part of the medium gone: nothing panics, and what can be read is right.
    fn end_with_less(mut self, cut: &Arc<MemoryDevice>) -> Result<(), Wrong> {
        self.mounted = None;
        // Findings are expected: fsck says what the device took.
        let _ = self.subject.check(cut);
        match mount(&self.subject, cut) {
            Ok(mounted) => {
                let (Seen::Whole(found) | Seen::Partly(found, _)) = Model::read(&mounted.filesystem)?;
                if self.is_known(&found) {
                    Ok(())
                } else {
                    Err(format!("with a zone gone: {}", found.difference(self.present())))
                }
            }
            Err(e) => explained(&e),
        }
    }

    /// With a zone of superblocks that takes nothing more there may be no mount that writes, and there is one that reads.
    fn end_without_superblocks(&self, cut: &Arc<MemoryDevice>) -> Result<(), Wrong> {
        let when = "without a zone for superblocks";
        self.subject.check(cut).map_err(|why| format!("{when}: {why}"))?;
        let filesystem = mount_read_only(cut).map_err(|e| format!("{when}: mount: {e}"))?;
        let found = Model::read(&filesystem)?.whole().map_err(|why| format!("{when}: {why}"))?;
        self.expect(&found, when)?;
        mount(&self.subject, cut).map(drop).or_else(|e| explained(&e))
    }

    /// fsck, a mount, and a look at it.
    fn recover(&self, device: &Arc<MemoryDevice>, when: &str) -> Result<Mounted, Wrong> {
        self.subject.check(device).map_err(|why| format!("{when}: {why}"))?;
        let mounted = mount(&self.subject, device).map_err(|e| format!("{when}: mount: {e}"))?;
        let found = Model::read(&mounted.filesystem)?.whole().map_err(|why| format!("{when}: {why}"))?;
        self.expect(&found, when)?;
        Ok(mounted)
    }

    /// Work, a sync, and a power cut: what is synced now is there, although something failed before.
    fn go_on(&self, device: &Arc<MemoryDevice>, mounted: Mounted) -> Result<(), Wrong> {
        for file in 0..FILES {
            let step = Step::Write { file, first: 3, blocks: 9, stamp: 1_000_000 + file };
            step.run(&mounted).map_err(|e| format!("writing again: {e}"))?;
        }
        mounted.filesystem.sync().map_err(|e| format!("syncing again: {e}"))?;
        let synced = Model::read(&mounted.filesystem)?.whole()?;
        let cut = Arc::new(device.crash(7));
        drop(mounted);
        if self.kind == Kind::Zoned && self.trouble.is_some_and(|t| t.is_flush()) {
            // What a flush that failed left in the cache of a zone cannot be written to it once more.
            return Ok(());
        }
        let when = "after going on and a power cut";
        self.subject.check(&cut).map_err(|why| format!("{when}: {why}"))?;
        let mounted = mount(&self.subject, &cut).map_err(|e| format!("{when}: mount: {e}"))?;
        let found = Model::read(&mounted.filesystem)?.whole().map_err(|why| format!("{when}: {why}"))?;
        if found == synced { Ok(()) } else { Err(format!("{when}: {}", found.difference(&synced))) }
    }
}

fn between_with_gaps(found: &Model, pair: &[Model]) -> bool {
    (0..FILES).all(|file| {
        let only = |of: &Model| Model(of.0.iter().filter(|(f, _)| **f == file).map(|(f, b)| (*f, b.clone())).collect());
        let found = only(found);
        found.agrees(&only(&pair[0]))
            || found.agrees(&only(&pair[1]))
            || found.is_between(&only(&pair[0]), &only(&pair[1]))
    })
}

fn explained(error: &Error) -> Result<(), Wrong> {
    if is_of_device(error) { Ok(()) } else { Err(format!("no failing device explains this: {error}")) }
}
