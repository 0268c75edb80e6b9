//! A forest of treaps through one slab: per bucket (of utilization, or a class), segments ordered by `(seal clock, segment)`.
//!
//! A treap (Aragon and Seidel 1989) is a search tree that is also a heap by random priorities, hence balanced in
//! expectation. Priorities are a hash of the segment number, so nothing but two links a segment is stored. The recursion's depth is
//! that of the tree, about 2 ln n.

use super::NONE;
use crate::segment::SegmentFacts;

/// Ordered sets of segments, one per bucket.
#[derive(Debug)]
pub(super) struct Forest {
    /// Left and right child of each segment.
    children: Vec<[u32; 2]>,
    roots: Box<[u32]>,
}

type Key = (u64, u32);

fn key(seg: u32, facts: &[SegmentFacts]) -> Key {
    (facts[seg as usize].seal_clock, seg)
}

/// A fixed pseudo-random priority (the finalizer of MurmurHash3).
fn priority(seg: u32) -> u32 {
    let mut h = seg.wrapping_add(0x9e37_79b9);
    h = (h ^ (h >> 16)).wrapping_mul(0x85eb_ca6b);
    h = (h ^ (h >> 13)).wrapping_mul(0xc2b2_ae35);
    h ^ (h >> 16)
}

impl Forest {
    /// For buckets `0..buckets`.
    pub(super) fn new(buckets: usize) -> Self {
        Self { children: Vec::new(), roots: vec![NONE; buckets].into() }
    }

    pub(super) fn grow(&mut self, segments: usize) {
        self.children.resize(segments, [NONE; 2]);
    }

    pub(super) fn bytes(&self) -> usize {
        self.children.len() * size_of::<[u32; 2]>()
    }

    pub(super) fn insert(&mut self, bucket: u8, seg: u32, facts: &[SegmentFacts]) {
        let key = key(seg, facts);
        let place = self.descend(bucket, key, facts, |node| priority(node) < priority(seg));
        self.children[seg as usize] = self.split(self.at(bucket, place), key, facts);
        self.put(bucket, place, seg);
    }

    pub(super) fn remove(&mut self, bucket: u8, seg: u32, facts: &[SegmentFacts]) {
        let place = self.descend(bucket, key(seg, facts), facts, |node| node == seg);
        debug_assert_eq!(self.at(bucket, place), seg, "segment is in the bucket that the index names");
        let [left, right] = std::mem::replace(&mut self.children[seg as usize], [NONE; 2]);
        let joined = self.merge(left, right);
        self.put(bucket, place, joined);
    }

    /// Segments of a bucket, the oldest first; each step costs a descent.
    pub(super) fn oldest<'a>(&'a self, bucket: u8, facts: &'a [SegmentFacts]) -> impl Iterator<Item = u32> + 'a {
        let first = self.after(bucket, None, facts);
        std::iter::successors(first, move |&seg| self.after(bucket, Some(key(seg, facts)), facts))
    }

    /// The youngest segment of a bucket.
    pub(super) fn youngest(&self, bucket: u8) -> Option<u32> {
        let mut node = self.roots[bucket as usize];
        while node != NONE && self.children[node as usize][1] != NONE {
            node = self.children[node as usize][1];
        }
        (node != NONE).then_some(node)
    }

    /// The first segment after `key`, or the first of all.
    fn after(&self, bucket: u8, after: Option<Key>, facts: &[SegmentFacts]) -> Option<u32> {
        let (mut node, mut found) = (self.roots[bucket as usize], None);
        while node != NONE {
            if after.is_none_or(|k| key(node, facts) > k) {
                found = Some(node);
                node = self.children[node as usize][0];
            } else {
                node = self.children[node as usize][1];
            }
        }
        found
    }

    /// Walks down towards `key` until `stop` or a leaf; answers the link that was followed last, `None` for the root's.
    fn descend(&self, bucket: u8, to: Key, facts: &[SegmentFacts], stop: impl Fn(u32) -> bool) -> Option<(u32, usize)> {
        let (mut place, mut node) = (None, self.roots[bucket as usize]);
        while node != NONE && !stop(node) {
            let side = usize::from(key(node, facts) < to);
            place = Some((node, side));
            node = self.children[node as usize][side];
        }
        place
    }

    fn at(&self, bucket: u8, place: Option<(u32, usize)>) -> u32 {
        place.map_or(self.roots[bucket as usize], |(node, side)| self.children[node as usize][side])
    }

    fn put(&mut self, bucket: u8, place: Option<(u32, usize)>, seg: u32) {
        match place {
            None => self.roots[bucket as usize] = seg,
            Some((node, side)) => self.children[node as usize][side] = seg,
        }
    }

    /// Parts a tree into what is before `at` and what is after.
    fn split(&mut self, node: u32, at: Key, facts: &[SegmentFacts]) -> [u32; 2] {
        if node == NONE {
            return [NONE; 2];
        }
        let side = usize::from(key(node, facts) < at);
        let mut parts = self.split(self.children[node as usize][side], at, facts);
        self.children[node as usize][side] = parts[1 - side];
        parts[1 - side] = node;
        parts
    }

    /// Joins two trees, all of `left` before all of `right`.
    fn merge(&mut self, left: u32, right: u32) -> u32 {
        if left == NONE || right == NONE {
            return if left == NONE { right } else { left };
        }
        if priority(left) > priority(right) {
            self.children[left as usize][1] = self.merge(self.children[left as usize][1], right);
            left
        } else {
            self.children[right as usize][0] = self.merge(left, self.children[right as usize][0]);
            right
        }
    }
}
