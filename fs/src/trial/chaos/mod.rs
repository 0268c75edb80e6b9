//! Everything at once, in one schedule from one seed: operations, cleaning, checkpoints, extensions, remounts, failures of the device, flipped bits,
//! power cuts (in recovery, too) and, if the subject has one, an advisor that misbehaves.
//!
//! What is demanded, whatever happens:
//! - an operation succeeds as in the reference, or fails with EIO or EROFS where something that was done to the device permits it; then the
//!   tree is that before it or after it, and never answers wrong bytes;
//! - as many blocks cannot be read as bits were flipped, or fewer, and all else can;
//! - where a sync or a checkpoint fails because a write or a flush did, the mount is read-only from then on;
//! - what is found after the next mount is a prefix of what was accepted, with everything acknowledged (I6), and fsck names
//!   nothing but flipped blocks.

mod run;
mod schedule;
mod subject;

pub use schedule::Step;

use super::mix::Mix;
use super::on_memory::OnMemory;
use super::shrink::shrink;
use super::{Failure, guarded, report};
use subject::Damaged;

/// Runs that shrinking may take.
const SHRINK_TRIES: usize = 1000;

/// What was done to the filesystem.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Injected {
    pub cuts: u64,
    pub faults: u64,
    pub flips: u64,
}

/// A schedule that failed, as short as it goes.
pub struct Found {
    pub steps: Vec<Step>,
    pub failure: Failure,
}

impl Found {
    /// What there is to say, with the command that replays it.
    pub fn report(&self, replay: &str) -> String {
        report(&self.steps, &self.failure, replay)
    }
}

/// Runs the schedule of one seed, with `count` operations in it. The failure is shrunk.
pub fn try_seed(subject: OnMemory, mix: &Mix, seed: u64, count: usize) -> Result<Injected, Box<Found>> {
    let run = |steps: &[Step]| {
        let subject = Damaged { inner: subject, flips: 0.into() };
        guarded(|| run::run(&subject, steps, seed))
    };
    let steps = schedule::generate(mix, seed, count);
    run(&steps).map_err(|failure| {
        let (steps, failure) = shrink(steps, failure, SHRINK_TRIES, |steps| run(steps).err());
        Box::new(Found { steps, failure })
    })
}
