//! What the supervisor watches while somebody else uses the channel: no lock, only words.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::region::Region;
use super::ring::answer_pending;
use crate::words::{Atomic64, SharedWords};

/// How far the owner of a channel is.
#[derive(Debug, Default)]
pub(crate) struct Pulse<A = AtomicU64> {
    /// When the oldest batch in flight was posted; 0 without any.
    oldest_ns: A,
    taken: A,
    lied: AtomicBool,
}

impl<A: Atomic64> Pulse<A> {
    /// With words of another kind, for tests.
    #[cfg(test)]
    pub(super) fn over(oldest_ns: A, taken: A) -> Self {
        Self { oldest_ns, taken, lied: AtomicBool::new(false) }
    }

    /// The oldest batch in flight, if there is one, was posted at `oldest_ns`, and `taken` answers were taken so far.
    pub(crate) fn beat(&self, oldest_ns: Option<u64>, taken: u64) {
        self.oldest_ns.store(oldest_ns.map_or(0, |ns| ns.max(1)), Ordering::Relaxed);
        self.taken.store(taken, Ordering::Release);
    }

    /// Whether nothing is in flight.
    pub(crate) fn idle(&self) -> bool {
        self.oldest_ns.load(Ordering::Relaxed) == 0
    }

    /// The worker was caught at a lie.
    pub(crate) fn caught(&self) {
        self.lied.store(true, Ordering::Relaxed);
    }

    /// Whether the worker was caught at a lie.
    pub(crate) fn lied(&self) -> bool {
        self.lied.load(Ordering::Relaxed)
    }

    /// Whether the worker owes an answer for longer than `limit_us`. Answers that nobody has taken
    /// yet are no debt of the worker's.
    pub(crate) fn overrun<W: SharedWords>(&self, region: &Region<W>, now_ns: u64, limit_us: u64) -> bool {
        // In the opposite order of `beat`: whoever sees an answer taken sees its debt gone.
        let pending = answer_pending(region, self.taken.load(Ordering::Acquire));
        let oldest = self.oldest_ns.load(Ordering::Relaxed);
        oldest != 0 && now_ns.saturating_sub(oldest) / 1000 > limit_us && !pending
    }
}
