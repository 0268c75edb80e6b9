//! A stand-in for an advisor that misbehaves: any log head for any block, and victims that are free, open, full, gone or nowhere.
//!
//! What it says may cost speed and never data (I4). It is a function of its seed and of the questions.

use gleanfs_gc::placement::{MoveFacts, Placement, WriteFacts};
use parking_lot::Mutex;

use super::random::Random;
use crate::cleaner::{Cleaner, Recommendation, Recommender};

/// Classes that it claims to know; more than there are log heads.
const CLASSES: u8 = 8;
/// Sealed segments that it remembers.
const REMEMBERED: usize = 64;

/// Chooses any class.
pub(super) struct UnrulyPlacement(Random);

impl UnrulyPlacement {
    pub(super) fn new(seed: u64) -> Self {
        Self(Random::new(seed))
    }

    /// A class that there is, or one that there is not.
    fn any(&mut self) -> u8 {
        if self.0.one_in(4) { self.0.word() as u8 } else { self.0.within(0..u64::from(CLASSES)) as u8 }
    }
}

impl Placement for UnrulyPlacement {
    fn name(&self) -> &'static str {
        "unruly"
    }

    fn classes(&self) -> u8 {
        CLASSES
    }

    fn user_write(&mut self, _: &WriteFacts) -> u8 {
        self.any()
    }

    fn cleaning_write(&mut self, _: &MoveFacts) -> u8 {
        self.any()
    }
}

/// Recommends any segment.
pub(super) struct UnrulyVictims(Mutex<Victims>);

struct Victims {
    random: Random,
    /// Segments that were sealed at some time, with the clock of their seal: the newest that were seen, some of them long gone.
    seen: Vec<(u32, u64)>,
    segments: u32,
}

impl UnrulyVictims {
    pub(super) fn new(seed: u64) -> Self {
        Self(Mutex::new(Victims { random: Random::new(!seed), seen: Vec::new(), segments: 0 }))
    }

    /// Looks at the segments that there are, so that some of what it names later is, or was, there.
    pub(super) fn look(&self, cleaner: &Cleaner) {
        let mut victims = self.0.lock();
        cleaner.survey(|index, _, _| {
            victims.segments = index.slots();
            victims.seen.extend(index.iter().map(|s| (s.seg, s.seal_clock)));
        });
        let old = victims.seen.len().saturating_sub(REMEMBERED);
        victims.seen.drain(..old);
    }
}

impl Recommender for UnrulyVictims {
    fn victim(&self, now: u64) -> Option<Recommendation> {
        let mut victims = self.0.lock();
        let Victims { random, seen, segments } = &mut *victims;
        let (seg, sealed) = match random.within(0..6) {
            0 => return None,
            1 => (random.word() as u32, now),
            2 => (random.within(0..u64::from(*segments) + 2) as u32, random.within(0..now + 1)),
            _ if seen.is_empty() => return None,
            _ => *random.pick(seen),
        };
        let moves_max = *random.pick(&[0, 1, 7, 128, u32::MAX]);
        Some(Recommendation { seg, sealed, moves_max })
    }
}
