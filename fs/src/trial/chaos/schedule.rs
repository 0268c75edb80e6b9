//! What happens in a run, as plain data: operations of clients, work of the filesystem's own, and what is done to it.

use std::fmt;

use crate::device::memory::FaultOp;
use crate::trial::mix::{Kind, Mix};
use crate::trial::ops::Operation;
use crate::trial::random::Random;

/// One step of a schedule.
#[derive(Clone)]
pub enum Step {
    Do(Operation),
    /// A segment is cleaned.
    Clean,
    Checkpoint,
    /// The log is extended.
    Extend,
    /// The device fails the operation of this kind that comes after `spared` others, once or from then on.
    Break {
        op: FaultOp,
        spared: u64,
        forever: bool,
    },
    /// The device works again.
    Heal,
    /// A bit of some block of file data that is on the medium turns over.
    Flip {
        nth: u64,
        bit: u64,
    },
    /// After so many writes the power goes; what survives is drawn from the seed.
    Cut {
        after: u64,
        seed: u64,
    },
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Do(operation) => operation.fmt(f),
            Self::Clean => f.write_str("clean a segment"),
            Self::Checkpoint => f.write_str("checkpoint"),
            Self::Extend => f.write_str("extend the log"),
            Self::Break { op, spared, forever } => {
                write!(f, "fail {op:?} after {spared} more, {}", if *forever { "for ever" } else { "once" })
            }
            Self::Heal => f.write_str("heal the device"),
            Self::Flip { nth, bit } => write!(f, "flip bit {bit} of data block {nth}"),
            Self::Cut { after, seed } => write!(f, "cut the power after {after} writes, seed {seed:x}"),
        }
    }
}

/// What of all that a seed brings about; some seeds have no faults, some no flips, so that each oracle is at times the strict one.
struct Tempers {
    faults: bool,
    flips: bool,
}

/// `count` steps; the same for the same seed.
pub(super) fn generate(mix: &Mix, seed: u64, count: usize) -> Vec<Step> {
    let mut random = Random::new(seed ^ 0x0063_6861_6f73);
    let tempers = Tempers { faults: !random.one_in(4), flips: !random.one_in(3) };
    let operations = operations(mix, seed, count);
    let mut steps = Vec::with_capacity(count * 2);
    for operation in operations {
        steps.extend(beside(&mut random, &tempers));
        steps.push(Step::Do(operation));
    }
    steps
}

fn operations(mix: &Mix, seed: u64, count: usize) -> Vec<Operation> {
    let mut mix = mix.clone();
    mix.set(Kind::Fsync, 4);
    mix.set(Kind::Sync, 2);
    mix.set(Kind::Remount, 1);
    Mix { disturb: false, align_copies: true, ..mix }.generate(seed, count)
}

/// What goes on before the next operation, if anything does.
fn beside(random: &mut Random, tempers: &Tempers) -> Option<Step> {
    Some(match random.within(0..100) {
        0..12 => Step::Clean,
        12..16 => Step::Checkpoint,
        16..22 => Step::Extend,
        22..26 if tempers.faults => broken(random),
        26..30 if tempers.faults => Step::Heal,
        30..33 if tempers.flips => Step::Flip { nth: random.word() >> 32, bit: random.within(0..32_768) },
        33..35 => Step::Cut { after: random.within(0..40), seed: random.word() },
        _ => return None,
    })
}

fn broken(random: &mut Random) -> Step {
    use FaultOp::{Finish, Flush, Read, Reserve, Reset, Write};
    let op = *random.pick(&[Read, Read, Write, Write, Flush, Flush, Reset, Reserve, Finish]);
    Step::Break { op, spared: random.within(0..12), forever: random.one_in(3) }
}
