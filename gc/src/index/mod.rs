//! The index of sealed segments by utilization and age, from which victims are chosen.
//!
//! A decision costs O(buckets), not O(segments). Every segment is in three intrusive structures over one slab that is
//! indexed by segment number:
//!
//! - a **list** per live count (`lists`), first in, first out: the emptiest segment in O(1), for greedy;
//! - a **treap** per utilization bucket (`treap`), ordered by seal clock: the oldest segments of a bucket in O(log n);
//! - a **treap** per class, ordered the same: how many segments a log head has filled, and the oldest of them.
//!
//! All scores in use grow with age at a fixed utilization, so the best segment of a bucket is its oldest one, and
//! comparing the oldest of every bucket finds the best of all, up to the width of a bucket: buckets are equally wide in
//! the logit of utilization, so that within one the gain `(1 - u) / u` differs by at most [`BUCKET_RATIO`]. Scores whose age is that of the
//! data (`write_clock`) follow the seal clock only roughly: give them some of the oldest per bucket.
//!
//! Memory is taken when the index is made or grown ([`UtilizationIndex::bytes`] says how much) and never else: no
//! operation here allocates, as emergency cleaning demands (design, rule 3). A live change that stays within its bucket is
//! O(1), one that leaves it O(log n) expected.

mod ages;
mod lists;
mod treap;

pub use ages::CLASSES;

use crate::segment::SegmentFacts;
use ages::Ages;
use lists::LiveLists;

/// Utilization buckets. The first holds empty segments, the last full ones, which are never offered.
pub const BUCKETS: usize = 128;
/// Largest ratio of the gain `(1 - u) / u` within a bucket between the first two and the last (segments of at most 4096 blocks).
pub const BUCKET_RATIO: f64 = 1.09;

/// Most lists; above this many blocks in a segment, neighbouring live counts share a list.
const LISTS_MAX: u32 = 4096;
const NONE: u32 = u32::MAX;
const FULL: u8 = (BUCKETS - 1) as u8;

/// Sealed segments, bucketed by utilization and ordered by age.
#[derive(Debug)]
pub struct UtilizationIndex {
    facts: Vec<SegmentFacts>,
    /// Bucket of each segment; `None` if it is not in the index.
    bucket: Vec<Option<u8>>,
    lists: LiveLists,
    /// `None`: nobody asks for them.
    ages: Option<Ages>,
    /// Bucket by list number.
    bucket_of: Vec<u8>,
    len: usize,
}

impl UtilizationIndex {
    /// For segments `0..segments` of at most `capacity_max` blocks. All memory is taken here.
    pub fn new(segments: u32, capacity_max: u32) -> Self {
        let top = capacity_max.clamp(1, LISTS_MAX);
        let mut index = Self {
            facts: Vec::new(),
            bucket: Vec::new(),
            lists: LiveLists::new(top as usize + 1),
            ages: Some(Ages::new()),
            bucket_of: (0..=top).map(|list| bucket_of(list, top)).collect(),
            len: 0,
        };
        index.grow(segments);
        index
    }

    /// The same without the orders by age, which take most of the time: what asks for the oldest or the youngest, or for a class, finds nothing.
    pub fn without_ages(segments: u32, capacity_max: u32) -> Self {
        let mut index = Self::new(segments, capacity_max);
        index.ages = None;
        index
    }

    /// Makes room for segments `0..segments`. Allocates.
    pub fn grow(&mut self, segments: u32) {
        let n = (segments as usize).max(self.facts.len());
        self.facts.resize(n, SegmentFacts::default());
        self.bucket.resize(n, None);
        self.lists.grow(n);
        if let Some(ages) = &mut self.ages {
            ages.grow(n);
        }
    }

    /// Segments in the index.
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Heap bytes held.
    pub fn bytes(&self) -> usize {
        self.facts.len() * (size_of::<SegmentFacts>() + size_of::<Option<u8>>())
            + self.lists.bytes()
            + self.ages.as_ref().map_or(0, Ages::bytes)
            + self.bucket_of.len()
    }

    /// Adds a sealed segment, or replaces what is known of it.
    ///
    /// # Panics
    /// If the number is beyond what the index was made for.
    pub fn insert(&mut self, facts: SegmentFacts) {
        self.remove(facts.seg);
        let (slot, list) = (facts.seg as usize, self.list_of(&facts));
        let bucket = self.bucket_of[list];
        self.facts[slot] = facts;
        self.bucket[slot] = Some(bucket);
        self.lists.push(list, facts.seg);
        if let Some(ages) = &mut self.ages {
            ages.insert(bucket, facts.seg, &self.facts);
        }
        self.len += 1;
    }

    /// What is known of a segment in the index.
    pub fn get(&self, seg: u32) -> Option<&SegmentFacts> {
        let slot = seg as usize;
        self.bucket.get(slot).copied().flatten().map(|_| &self.facts[slot])
    }

    /// Sets a segment's live count; a smaller one than before is a death at `now`. A segment that is not in the index is left alone.
    pub fn set_live(&mut self, seg: u32, live: u32, now: u64) {
        let slot = seg as usize;
        let Some(old_bucket) = self.bucket.get(slot).copied().flatten() else { return };
        let old_list = self.list_of(&self.facts[slot]);
        let facts = &mut self.facts[slot];
        if live < facts.live {
            facts.invalidate_clock = now;
        }
        facts.live = live;
        let list = self.list_of(&self.facts[slot]);
        if list == old_list {
            return;
        }
        self.lists.unlink(old_list, seg);
        self.lists.push(list, seg);
        let bucket = self.bucket_of[list];
        if bucket != old_bucket {
            self.bucket[slot] = Some(bucket);
            if let Some(ages) = &mut self.ages {
                ages.rebucket(old_bucket, bucket, seg, &self.facts);
            }
        }
    }

    /// Takes a segment out: it becomes a victim, or leaves by other ways.
    pub fn remove(&mut self, seg: u32) -> Option<SegmentFacts> {
        let slot = seg as usize;
        let bucket = self.bucket.get_mut(slot)?.take()?;
        let facts = self.facts[slot];
        self.lists.unlink(self.list_of(&facts), seg);
        if let Some(ages) = &mut self.ages {
            ages.remove(bucket, seg, &self.facts);
        }
        self.len -= 1;
        Some(facts)
    }

    /// Segments by utilization, the emptiest first, full ones left out. Exact for segments of at most 4096 blocks, above that to
    /// a 4096th of the capacity. To take several victims, remove each and ask again, or walk on.
    pub fn by_live(&self) -> impl Iterator<Item = SegmentFacts> + '_ {
        self.lists.iter().map(|seg| self.facts[seg as usize]).filter(|f| !f.is_full())
    }

    /// The emptiest segment, which is greedy's choice.
    pub fn emptiest(&self) -> Option<SegmentFacts> {
        self.by_live().next()
    }

    /// The `k` oldest segments of every bucket, emptiest bucket first; full segments are left out.
    pub fn candidates(&self, k: usize) -> impl Iterator<Item = SegmentFacts> + '_ {
        let oldest = move |ages| Ages::candidates(ages, k, &self.facts);
        self.ages.iter().flat_map(oldest).map(|seg| self.facts[seg as usize])
    }

    /// The youngest segment of every bucket that is not empty, full ones included.
    pub fn youngest(&self) -> impl Iterator<Item = SegmentFacts> + '_ {
        self.ages.iter().flat_map(Ages::youngest).map(|seg| self.facts[seg as usize])
    }

    /// Segments of a class.
    pub fn class_len(&self, class: u8) -> u32 {
        self.ages.as_ref().map_or(0, |ages| ages.class_len(class))
    }

    /// Segments of a class, the oldest first, full ones included; O(log n) a step.
    pub fn of_class(&self, class: u8) -> impl Iterator<Item = SegmentFacts> + '_ {
        let oldest = move |ages| Ages::of_class(ages, class, &self.facts);
        self.ages.iter().flat_map(oldest).map(|seg| self.facts[seg as usize])
    }

    /// All segments in the index, by number.
    pub fn iter(&self) -> impl Iterator<Item = &SegmentFacts> {
        self.facts.iter().zip(&self.bucket).filter_map(|(f, b)| b.map(|_| f))
    }

    /// Segment numbers that the index was made for.
    pub fn slots(&self) -> u32 {
        self.facts.len() as u32
    }

    /// List of a live count: the count itself, scaled when the capacity is not the largest one.
    fn list_of(&self, f: &SegmentFacts) -> usize {
        let top = self.bucket_of.len() - 1;
        match f.capacity as usize {
            _ if f.is_full() => top,
            capacity if capacity == top => f.live as usize,
            capacity => (u64::from(f.live) * top as u64 / capacity as u64) as usize,
        }
    }
}

/// Bucket of list `list` of `0..=top`: equal steps of the logit of utilization from -4 to 6, which is where victims are found.
fn bucket_of(list: u32, top: u32) -> u8 {
    if list == 0 {
        return 0;
    }
    if list == top {
        return FULL;
    }
    let inner = (BUCKETS - 2) as f64;
    let u = f64::from(list) / f64::from(top);
    let step = ((u / (1.0 - u)).ln() + 4.0) / 10.0 * inner;
    1 + step.clamp(0.0, inner - 1.0) as u8
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn facts(seg: u32, live: u32, seal_clock: u64) -> SegmentFacts {
        SegmentFacts { seg, live, capacity: 512, seal_clock, write_clock: seal_clock, ..Default::default() }
    }

    #[test]
    fn the_emptiest_comes_first_and_full_ones_never() {
        let mut index = UtilizationIndex::new(8, 512);
        for (seg, live) in [(0, 512), (1, 100), (2, 99), (3, 511), (4, 100)] {
            index.insert(facts(seg, live, u64::from(seg)));
        }
        assert_eq!(index.by_live().map(|f| f.seg).collect::<Vec<_>>(), [2, 1, 4, 3]);
        index.set_live(0, 0, 77);
        assert_eq!(index.emptiest().map(|f| (f.seg, f.invalidate_clock)), Some((0, 77)));
        assert!(index.remove(0).is_some() && index.remove(0).is_none());
        assert_eq!(index.len(), 4);
    }

    #[test]
    fn candidates_are_the_oldest_of_their_bucket() {
        let mut index = UtilizationIndex::new(16, 512);
        for (seg, seal) in [(0, 30), (1, 10), (2, 20)] {
            index.insert(facts(seg, 256, seal));
        }
        index.insert(facts(3, 500, 1));
        assert_eq!(index.candidates(1).map(|f| f.seg).collect::<Vec<_>>(), [1, 3]);
        assert_eq!(index.candidates(2).map(|f| f.seg).collect::<Vec<_>>(), [1, 2, 3]);
        assert_eq!(index.youngest().map(|f| f.seg).collect::<Vec<_>>(), [0, 3]);
    }

    #[test]
    fn a_bucket_is_as_narrow_as_promised() {
        for top in [64u32, 512, 4096] {
            let gain = |l: u32| f64::from(top - l) / f64::from(l);
            for l in 2..top {
                let (a, b) = (bucket_of(l - 1, top), bucket_of(l, top));
                assert!(a <= b);
                let first = (1..l).find(|&f| bucket_of(f, top) == b).unwrap_or(l);
                if (2..FULL - 1).contains(&b) {
                    assert!(gain(first) / gain(l) <= BUCKET_RATIO, "{l} of {top}");
                }
            }
        }
    }

    #[derive(Clone, Debug)]
    enum Step {
        Insert(u32, u32, u64, u8),
        Live(u32, u32),
        Remove(u32),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (0..48u32, 0..=64u32, 0..1000u64, 0..20u8).prop_map(|(s, l, c, k)| Step::Insert(s, l, c, k)),
            (0..48u32, 0..=64u32).prop_map(|(s, l)| Step::Live(s, l)),
            (0..48u32).prop_map(Step::Remove),
        ]
    }

    proptest! {
        /// The index agrees with a plain list of facts, whatever is done to it.
        #[test]
        fn it_agrees_with_a_plain_list(steps in prop::collection::vec(step(), 1..200)) {
            let mut index = UtilizationIndex::new(48, 64);
            let mut model: std::collections::BTreeMap<u32, SegmentFacts> = Default::default();
            for (now, step) in steps.into_iter().enumerate() {
                match step {
                    Step::Insert(seg, live, seal_clock, class) => {
                        let f = SegmentFacts { seg, live, capacity: 64, seal_clock, class, ..Default::default() };
                        index.insert(f);
                        model.insert(seg, f);
                    }
                    Step::Live(seg, live) => {
                        index.set_live(seg, live, now as u64);
                        if let Some(f) = model.get_mut(&seg) {
                            if live < f.live { f.invalidate_clock = now as u64; }
                            f.live = live;
                        }
                    }
                    Step::Remove(seg) => prop_assert_eq!(index.remove(seg), model.remove(&seg)),
                }
            }
            prop_assert_eq!(index.iter().copied().collect::<Vec<_>>(), model.values().copied().collect::<Vec<_>>());
            prop_assert_eq!(index.emptiest().map(|f| f.live), model.values().filter(|f| !f.is_full()).map(|f| f.live).min());
            let mut by_bucket: Vec<_> = model.values().filter(|f| !f.is_full())
                .map(|f| (bucket_of(f.live, 64), f.seal_clock, f.seg)).collect();
            by_bucket.sort_unstable();
            let all: Vec<_> = index.candidates(usize::MAX).map(|f| f.seg).collect();
            prop_assert_eq!(all, by_bucket.iter().map(|c| c.2).collect::<Vec<_>>());
            for class in 0..CLASSES as u8 {
                let mut by_age: Vec<_> = model.values().filter(|f| f.class.min(CLASSES as u8 - 1) == class).map(|f| (f.seal_clock, f.seg)).collect();
                by_age.sort_unstable();
                let found: Vec<_> = index.of_class(class).map(|f| f.seg).collect();
                prop_assert_eq!(index.class_len(class) as usize, found.len());
                prop_assert_eq!(found, by_age.iter().map(|c| c.1).collect::<Vec<_>>());
            }
        }
    }
}
