//! What policies see of a segment: a plain-data snapshot.
//!
//! All clocks are write clocks: user-written blocks since the filesystem was made.

/// A sealed segment as a policy sees it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SegmentFacts {
    /// Segment number.
    pub seg: u32,
    /// Live blocks in it.
    pub live: u32,
    /// Blocks that it can hold (on a zoned device segments may differ).
    pub capacity: u32,
    /// Class of the first block written to it. With fewer heads than classes a segment may hold other classes too.
    pub class: u8,
    /// Write clock when it was sealed. Fixed while the segment is in an index.
    pub seal_clock: u64,
    /// Mean (or last, if the mean is not known) write clock of its blocks: when the user wrote them, not the cleaner.
    pub write_clock: u64,
    /// Write clock when a block of it died last; `seal_clock` if none did.
    pub invalidate_clock: u64,
}

impl SegmentFacts {
    /// Live share of the capacity, 0 to 1.
    pub fn utilization(&self) -> f64 {
        if self.capacity == 0 { 1.0 } else { f64::from(self.live) / f64::from(self.capacity) }
    }

    /// Nothing is gained by cleaning it.
    pub fn is_full(&self) -> bool {
        self.live >= self.capacity
    }

    /// Blocks written by users since it was sealed.
    pub fn age(&self, now: u64) -> u64 {
        now.saturating_sub(self.seal_clock)
    }

    /// Age of its data: blocks written by users since its own were, on average.
    pub fn data_age(&self, now: u64) -> u64 {
        now.saturating_sub(self.write_clock)
    }
}
