//! Policies under the clock: what a decision costs.

use std::time::{Duration, Instant};

use crate::features::VictimContext;
use crate::index::UtilizationIndex;
use crate::placement::{DiscardFacts, MoveFacts, Opinions, Placement, WriteFacts};
use crate::segment::SegmentFacts;
use crate::victim::VictimPolicy;

/// Of so many placements one is timed: the clock costs more than most of them.
const EVERY: u64 = 61;

/// A policy, and the time that it took.
#[derive(Debug)]
pub(super) struct Timed<'a, P: ?Sized> {
    pub inner: &'a mut P,
    calls: u64,
    timed: u64,
    took: Duration,
}

impl<'a, P: ?Sized> Timed<'a, P> {
    pub(super) fn new(inner: &'a mut P) -> Self {
        Self { inner, calls: 0, timed: 0, took: Duration::ZERO }
    }

    /// Nanoseconds per timed call; 0 if there was none.
    pub(super) fn mean_ns(&self) -> f64 {
        self.took.as_nanos() as f64 / self.timed.max(1) as f64
    }

    fn call<R>(&mut self, every: u64, work: impl FnOnce(&mut P) -> R) -> R {
        self.calls += 1;
        if !self.calls.is_multiple_of(every) {
            return work(self.inner);
        }
        let begun = Instant::now();
        let answer = work(self.inner);
        self.took += begun.elapsed();
        self.timed += 1;
        answer
    }
}

impl<P: VictimPolicy + ?Sized> VictimPolicy for Timed<'_, P> {
    fn name(&self) -> &'static str {
        self.inner.name()
    }

    fn asks_ages(&self) -> bool {
        self.inner.asks_ages()
    }

    fn bytes(&self) -> usize {
        self.inner.bytes()
    }

    fn tell(&mut self, volume: &VictimContext) {
        self.inner.tell(volume);
    }

    fn observe(&mut self, index: &UtilizationIndex, now: u64) {
        self.inner.observe(index, now);
    }

    fn score(&self, s: &SegmentFacts, now: u64) -> f64 {
        self.inner.score(s, now)
    }

    fn choose(&mut self, index: &UtilizationIndex, now: u64) -> Option<SegmentFacts> {
        self.call(1, |policy| policy.choose(index, now))
    }
}

impl<P: Placement + ?Sized> Placement for Timed<'_, P> {
    fn name(&self) -> &'static str {
        self.inner.name()
    }

    fn classes(&self) -> u8 {
        self.inner.classes()
    }

    fn user_write(&mut self, w: &WriteFacts) -> u8 {
        self.call(EVERY, |policy| policy.user_write(w))
    }

    fn cleaning_write(&mut self, m: &MoveFacts) -> u8 {
        self.call(EVERY, |policy| policy.cleaning_write(m))
    }

    fn discarded(&mut self, d: &DiscardFacts) {
        self.inner.discarded(d);
    }

    fn segment_cleaned(&mut self, s: &SegmentFacts, now: u64) {
        self.inner.segment_cleaned(s, now);
    }

    fn emergency_move(&mut self, m: &MoveFacts) {
        self.inner.emergency_move(m);
    }

    fn per_block(&self) -> bool {
        self.inner.per_block()
    }

    fn bytes(&self) -> usize {
        self.inner.bytes()
    }

    fn has_lifetime_classes(&self) -> bool {
        self.inner.has_lifetime_classes()
    }

    fn by_model(&self) -> bool {
        self.inner.by_model()
    }

    fn opinions(&self) -> Opinions {
        self.inner.opinions()
    }
}
