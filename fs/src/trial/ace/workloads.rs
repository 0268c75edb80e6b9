//! Enumeration: which workloads there are, and which one has a given number.

use std::fmt;

use super::pool;
use crate::namespace::reference::Reference;
use crate::trial::client::{Slots, apply};
use crate::trial::ops::{Operation, Target};
use crate::trial::{Exactness, TrialClock};

/// One thing that a workload does.
#[derive(Clone, PartialEq, Eq)]
pub enum Action {
    /// An operation, or fsync, fdatasync or sync.
    Do(Operation),
    /// A checkpoint of the filesystem's own accord.
    Checkpoint,
}

impl Action {
    /// Makes durable what came before it.
    pub fn persists(&self) -> bool {
        match self {
            Self::Do(operation) => operation.is_sync(),
            Self::Checkpoint => true,
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Do(operation) => operation.fmt(f),
            Self::Checkpoint => f.write_str("checkpoint"),
        }
    }
}

/// A sequence of operations that succeed, with the persistence points that may follow each of them.
#[derive(Clone)]
struct Sequence {
    operations: Vec<usize>,
    /// For each operation the targets of fsync and fdatasync after it.
    targets: Vec<Vec<Target>>,
}

/// Points without a target: none, sync, checkpoint.
const BARE_POINTS: u64 = 3;

impl Sequence {
    fn points(&self, at: usize) -> u64 {
        BARE_POINTS + 2 * self.targets[at].len() as u64
    }

    fn workloads(&self) -> u64 {
        (0..self.operations.len()).map(|at| self.points(at)).product()
    }

    fn point(&self, at: usize, number: u64) -> Option<Action> {
        match number {
            0 => None,
            1 => Some(Action::Do(Operation::Sync)),
            2 => Some(Action::Checkpoint),
            n => {
                let target = self.targets[at][((n - BARE_POINTS) / 2) as usize].clone();
                Some(Action::Do(Operation::Fsync { target, data_only: n % 2 == 0 }))
            }
        }
    }
}

/// All workloads of one length, numbered from 0 on; the same numbers on every machine.
pub struct Workloads {
    operations: Vec<Operation>,
    sequences: Vec<Sequence>,
    /// Workloads before each sequence.
    starts: Vec<u64>,
    count: u64,
}

impl Workloads {
    /// All with `length` operations.
    pub fn new(length: usize) -> Self {
        let operations = pool::operations();
        let mut sequences = vec![(Sequence { operations: Vec::new(), targets: Vec::new() }, Ground::new())];
        for _ in 0..length {
            sequences = sequences.iter().flat_map(|(sequence, ground)| longer(sequence, ground, &operations)).collect();
        }
        let sequences: Vec<Sequence> = sequences.into_iter().map(|(sequence, _)| sequence).collect();
        let (mut starts, mut count) = (Vec::new(), 0);
        for sequence in &sequences {
            starts.push(count);
            count += sequence.workloads();
        }
        Self { operations, sequences, starts, count }
    }

    pub fn count(&self) -> u64 {
        self.count
    }

    /// What workload `number` does; it must be below [`Workloads::count`].
    pub fn actions(&self, number: u64) -> Vec<Action> {
        assert!(number < self.count, "there are {} workloads", self.count);
        let at = self.starts.partition_point(|start| *start <= number) - 1;
        let (sequence, mut rest) = (&self.sequences[at], number - self.starts[at]);
        let mut actions = Vec::new();
        for (place, operation) in sequence.operations.iter().enumerate() {
            actions.push(Action::Do(self.operations[*operation].clone()));
            actions.extend(sequence.point(place, rest % sequence.points(place)));
            rest /= sequence.points(place);
        }
        actions
    }
}

/// The tree, on a reference, after the operations of a sequence.
struct Ground {
    reference: Reference,
    slots: Slots,
}

/// For the enumeration only success counts.
const COARSE: Exactness = Exactness { times: false, sectors: false };

impl Ground {
    fn new() -> Self {
        let mut ground =
            Self { reference: Reference::with_clock(TrialClock::default().clock()), slots: Slots::default() };
        for operation in pool::tree().iter().chain([&pool::opening()]) {
            assert!(ground.accepts(operation), "{operation}: the tree can be made");
        }
        ground
    }

    fn accepts(&mut self, operation: &Operation) -> bool {
        apply(&self.reference, &mut self.slots, operation, COARSE).is_success()
    }

    fn has(&self, target: &Target) -> bool {
        let stat = Operation::Stat { target: target.clone() };
        apply(&self.reference, &mut self.slots.clone(), &stat, COARSE).is_success()
    }

    fn fork(&self) -> Self {
        Self { reference: self.reference.fork(), slots: self.slots.clone() }
    }
}

/// The sequence with one operation more, each that succeeds there. Points after it aim at what any operation so far has touched and what
/// is there.
fn longer(sequence: &Sequence, ground: &Ground, pool: &[Operation]) -> Vec<(Sequence, Ground)> {
    let mut all = Vec::new();
    for (number, operation) in pool.iter().enumerate() {
        let mut after = ground.fork();
        if !after.accepts(operation) {
            continue;
        }
        let mut longer = sequence.clone();
        longer.operations.push(number);
        let mut targets: Vec<Target> = Vec::new();
        for target in longer.operations.iter().flat_map(|n| pool::touched(&pool[*n])) {
            if after.has(&target) && !targets.contains(&target) {
                targets.push(target);
            }
        }
        longer.targets.push(targets);
        all.push((longer, after));
    }
    all
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn numbers_stand_for_different_workloads() {
        let all = Workloads::new(1);
        let texts: HashSet<String> =
            (0..all.count()).map(|n| all.actions(n).iter().map(|a| format!("{a}\n")).collect()).collect();
        assert_eq!(texts.len() as u64, all.count());
    }

    /// The figures that the documentation states.
    #[test]
    fn there_are_as_many_as_said() {
        assert_eq!([1, 2].map(|length| Workloads::new(length).count()), super::super::COUNTS);
    }
}
