//! The plan that victim and placement share: how many groups are queues, how long each may be, and how large the volume is.
//!
//! Atomics without an order among them: the two are called under different locks, and a plan that is half old costs one choice.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};

use super::CLASSES;

/// Segments that each queue may have, from the HOT group on. Groups beyond are one, without a size.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Sizes {
    pub segments: [u32; CLASSES as usize],
    /// Queues: `segments` has a meaning below this.
    pub queues: u8,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Plan {
    sizes: [AtomicU32; CLASSES as usize],
    queues: AtomicU32,
    /// Beyond the queues survivors stay where they are, and do not move on a group.
    recycles: AtomicBool,
    /// Sealed segments, as the victim's side last saw; 0 if nobody has.
    sealed: AtomicU32,
}

impl Plan {
    /// Sets the queues; what is beyond them recycles into itself.
    pub(crate) fn adopt(&self, sizes: &Sizes) {
        for (mine, new) in self.sizes.iter().zip(sizes.segments) {
            mine.store(new, Relaxed);
        }
        self.queues.store(sizes.queues.into(), Relaxed);
        self.recycles.store(true, Relaxed);
    }

    /// From this group on the plan was wrong: the chain goes on there without sizes.
    pub(crate) fn give_up_from(&self, group: u8) {
        self.queues.fetch_min(group.into(), Relaxed);
        self.recycles.store(false, Relaxed);
    }

    /// Groups that are queues, from the HOT group on.
    pub(crate) fn queues(&self) -> u8 {
        self.queues.load(Relaxed) as u8
    }

    /// Segments that a queue may have.
    pub(crate) fn size(&self, group: u8) -> u32 {
        self.sizes[usize::from(group)].load(Relaxed)
    }

    pub(crate) fn recycles(&self) -> bool {
        self.recycles.load(Relaxed)
    }

    pub(crate) fn saw_sealed(&self, segments: u32) {
        self.sealed.store(segments, Relaxed);
    }

    pub(crate) fn sealed(&self) -> u32 {
        self.sealed.load(Relaxed)
    }
}
