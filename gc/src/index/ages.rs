//! Segments by age, within a utilization bucket and within a class.

use super::treap::Forest;
use super::{BUCKETS, FULL};
use crate::segment::SegmentFacts;

/// Classes that are told apart; higher ones count as the last.
pub const CLASSES: usize = 16;

/// Two orders of the same segments. Facts are handed in, not kept; a segment's seal clock and class must not change while it is here.
#[derive(Debug)]
pub(super) struct Ages {
    buckets: Forest,
    classes: Forest,
    class_len: [u32; CLASSES],
}

impl Ages {
    pub(super) fn new() -> Self {
        Self { buckets: Forest::new(BUCKETS), classes: Forest::new(CLASSES), class_len: [0; CLASSES] }
    }

    pub(super) fn grow(&mut self, segments: usize) {
        self.buckets.grow(segments);
        self.classes.grow(segments);
    }

    pub(super) fn bytes(&self) -> usize {
        self.buckets.bytes() + self.classes.bytes()
    }

    pub(super) fn insert(&mut self, bucket: u8, seg: u32, facts: &[SegmentFacts]) {
        let class = clamped(facts[seg as usize].class);
        self.buckets.insert(bucket, seg, facts);
        self.classes.insert(class, seg, facts);
        self.class_len[usize::from(class)] += 1;
    }

    pub(super) fn remove(&mut self, bucket: u8, seg: u32, facts: &[SegmentFacts]) {
        let class = clamped(facts[seg as usize].class);
        self.buckets.remove(bucket, seg, facts);
        self.classes.remove(class, seg, facts);
        self.class_len[usize::from(class)] -= 1;
    }

    /// A segment's bucket has become another.
    pub(super) fn rebucket(&mut self, from: u8, to: u8, seg: u32, facts: &[SegmentFacts]) {
        self.buckets.remove(from, seg, facts);
        self.buckets.insert(to, seg, facts);
    }

    /// The `k` oldest of every bucket but that of full segments.
    pub(super) fn candidates<'a>(&'a self, k: usize, facts: &'a [SegmentFacts]) -> impl Iterator<Item = u32> + 'a {
        (0..FULL).flat_map(move |bucket| self.buckets.oldest(bucket, facts).take(k))
    }

    /// The youngest of every bucket that is not empty.
    pub(super) fn youngest(&self) -> impl Iterator<Item = u32> + '_ {
        (0..=FULL).filter_map(|bucket| self.buckets.youngest(bucket))
    }

    pub(super) fn class_len(&self, class: u8) -> u32 {
        self.class_len[usize::from(clamped(class))]
    }

    /// Segments of a class, the oldest first.
    pub(super) fn of_class<'a>(&'a self, class: u8, facts: &'a [SegmentFacts]) -> impl Iterator<Item = u32> + 'a {
        self.classes.oldest(clamped(class), facts)
    }
}

fn clamped(class: u8) -> u8 {
    class.min(CLASSES as u8 - 1)
}
