//! A node in memory: its items, with their coded size kept exact under every change.

use crate::format::bytes::Encode;
use crate::format::key::Key;
use crate::format::value::{Inode, Value, Xattr};
use crate::types::{BLOCK_SIZE, NodeId};

use super::item::{self, ByteCount};

/// Bytes that items may take in a node.
pub const BODY_LEN: usize = BLOCK_SIZE - super::HEADER_LEN;
/// Most items in a node, however small they are: bounds what decoding one block can allocate.
pub const ITEMS_MAX: usize = 512;

/// What the allocator adds to a small allocation, about.
const HEAP_OVERHEAD: usize = 16;

/// A node of the key tree. Keys ascend strictly; there is one value or one child per key.
///
/// An inner node's key is the lower bound of everything below the child beside it.
/// Between a change and the split that follows a node may be larger than a block holds ([`Self::overflows`]).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    level: u8,
    keys: Vec<Key>,
    pub(super) body: Body,
    /// Coded size of all items.
    used: usize,
    /// Heap bytes behind the values, about.
    heap: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Body {
    Leaf(Vec<Value>),
    Inner(Vec<NodeId>),
}

impl Node {
    /// An empty node; level 0 is a leaf.
    pub fn new(level: u8) -> Self {
        Self::with_capacity(level, 0)
    }

    pub(super) fn with_capacity(level: u8, items: usize) -> Self {
        let body =
            if level == 0 { Body::Leaf(Vec::with_capacity(items)) } else { Body::Inner(Vec::with_capacity(items)) };
        Self { level, keys: Vec::with_capacity(items), body, used: 0, heap: 0 }
    }

    pub fn level(&self) -> u8 {
        self.level
    }

    pub fn is_leaf(&self) -> bool {
        self.level == 0
    }

    pub fn len(&self) -> usize {
        self.keys.len()
    }

    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    pub fn keys(&self) -> &[Key] {
        &self.keys
    }

    /// A leaf's values, in the order of the keys; none for an inner node.
    pub fn values(&self) -> &[Value] {
        match &self.body {
            Body::Leaf(values) => values,
            Body::Inner(_) => &[],
        }
    }

    /// An inner node's children, in the order of the keys; none for a leaf.
    pub fn children(&self) -> &[NodeId] {
        match &self.body {
            Body::Leaf(_) => &[],
            Body::Inner(children) => children,
        }
    }

    /// Coded size of all items, in bytes.
    pub fn used(&self) -> usize {
        self.used
    }

    /// Whether a block cannot hold it.
    pub fn overflows(&self) -> bool {
        self.used > BODY_LEN || self.len() > ITEMS_MAX
    }

    /// Memory that the node takes, about.
    pub fn memory_bytes(&self) -> usize {
        let per_item = match &self.body {
            Body::Leaf(values) => values.capacity() * size_of::<Value>(),
            Body::Inner(children) => children.capacity() * size_of::<NodeId>(),
        };
        size_of::<Self>() + self.keys.capacity() * size_of::<Key>() + per_item + self.heap + 3 * HEAP_OVERHEAD
    }

    /// Index of the child that covers `key`. The node must be an inner one.
    pub fn child_index(&self, key: &Key) -> usize {
        self.child_index_by(|k| k <= key)
    }

    /// Index of the last child whose lower bound is `within`, a condition that holds for all keys up to some point.
    pub fn child_index_by(&self, within: impl Fn(&Key) -> bool) -> usize {
        self.keys.partition_point(within).saturating_sub(1)
    }

    /// Puts an item into a leaf at index `at`, where its key belongs.
    pub fn insert_value(&mut self, at: usize, key: Key, value: Value) {
        debug_assert!(value.is_of(key.kind));
        let before = self.run_len(at, 1);
        self.heap += heap_of(&value);
        self.keys.insert(at, key);
        self.values_mut().insert(at, value);
        self.used = self.used - before + self.run_len(at, 2);
    }

    /// Takes the item at index `at` out of a leaf.
    pub fn remove_value(&mut self, at: usize) -> Value {
        let before = self.run_len(at, 2);
        self.keys.remove(at);
        let value = self.values_mut().remove(at);
        self.heap -= heap_of(&value);
        self.used = self.used - before + self.run_len(at, 1);
        value
    }

    /// Changes the value at index `at` of a leaf; its kind must stay.
    pub fn update_value<T>(&mut self, at: usize, change: impl FnOnce(&mut Value) -> T) -> T {
        let (before, kind) = (self.run_len(at, 2), self.keys[at].kind);
        let value = &mut self.values_mut()[at];
        let heap_before = heap_of(value);
        let answer = change(value);
        debug_assert!(value.is_of(kind));
        let heap_after = heap_of(value);
        self.heap = self.heap - heap_before + heap_after;
        self.used = self.used - before + self.run_len(at, 2);
        answer
    }

    /// Puts a child into an inner node at index `at`, where its key belongs.
    pub fn insert_child(&mut self, at: usize, key: Key, child: NodeId) {
        let before = self.run_len(at, 1);
        self.keys.insert(at, key);
        self.children_mut().insert(at, child);
        self.used = self.used - before + self.run_len(at, 2);
    }

    /// Takes the child at index `at` out of an inner node; not the first one, which carries the node's lower bound.
    pub fn remove_child(&mut self, at: usize) {
        debug_assert!(at > 0);
        let before = self.run_len(at, 2);
        self.keys.remove(at);
        self.children_mut().remove(at);
        self.used = self.used - before + self.run_len(at, 1);
    }

    /// Moves the items from index `at` on into a new node of the same level.
    pub fn split_off(&mut self, at: usize) -> Self {
        let body = match &mut self.body {
            Body::Leaf(values) => {
                let right = values.split_off(at);
                values.shrink_to_fit();
                Body::Leaf(right)
            }
            Body::Inner(children) => {
                let right = children.split_off(at);
                children.shrink_to_fit();
                Body::Inner(right)
            }
        };
        let mut right = Self { level: self.level, keys: self.keys.split_off(at), body, used: 0, heap: 0 };
        self.keys.shrink_to_fit();
        right.used = right.recount();
        right.heap = right.values().iter().map(heap_of).sum();
        self.used = self.recount();
        self.heap -= right.heap;
        right
    }

    /// Takes over all items of `right`, whose keys are larger and whose level is the same.
    pub fn append(&mut self, right: Self) {
        let join = self.len();
        self.used += right.used - right.run_len(0, 1);
        self.heap += right.heap;
        self.keys.extend(right.keys);
        match (&mut self.body, right.body) {
            (Body::Leaf(values), Body::Leaf(more)) => values.extend(more),
            (Body::Inner(children), Body::Inner(more)) => children.extend(more),
            _ => unreachable!("nodes of two levels cannot be joined"),
        }
        self.used += self.run_len(join, 1);
    }

    /// Where to split so that the left part comes nearest to `left_target` bytes and both parts fit; the first index
    /// of the right part. Always found in a node that one item made overflow, because an item is far smaller than
    /// what a node holds.
    pub fn split_near(&self, left_target: usize) -> usize {
        let mut best = (usize::MAX, self.len() / 2);
        let mut left = 0;
        for at in 1..self.len() {
            left += self.run_len(at - 1, 1);
            if self.parts_fit(at, left) {
                best = best.min((left.abs_diff(left_target), at));
            }
        }
        debug_assert!(best.0 != usize::MAX, "no split of {} bytes in {} items fits", self.used, self.len());
        best.1
    }

    /// Whether both parts fit if the right one begins at index `at`.
    pub fn splits_at(&self, at: usize) -> bool {
        0 < at && at < self.len() && self.parts_fit(at, self.run_len(0, at))
    }

    fn parts_fit(&self, at: usize, left: usize) -> bool {
        let right = self.used - left - self.run_len(at, 1) + self.item_len(at, None);
        left <= BODY_LEN && right <= BODY_LEN && at <= ITEMS_MAX && self.len() - at <= ITEMS_MAX
    }

    pub(super) fn push_value(&mut self, key: Key, value: Value) {
        self.insert_value(self.len(), key, value);
    }

    pub(super) fn push_child(&mut self, key: Key, child: NodeId) {
        self.insert_child(self.len(), key, child);
    }

    pub(super) fn put_items<E: Encode>(&self, out: &mut E) {
        for at in 0..self.len() {
            self.put_item(out, at, at.checked_sub(1));
        }
    }

    /// Coded size of all items, computed anew.
    pub fn recount(&self) -> usize {
        self.run_len(0, self.len())
    }

    /// Coded size of the items `from..from + count`, as far as they exist.
    fn run_len(&self, from: usize, count: usize) -> usize {
        (from..(from + count).min(self.len())).map(|at| self.item_len(at, at.checked_sub(1))).sum()
    }

    fn item_len(&self, at: usize, prev: Option<usize>) -> usize {
        let mut count = ByteCount(0);
        self.put_item(&mut count, at, prev);
        count.0
    }

    fn put_item<E: Encode>(&self, out: &mut E, at: usize, prev: Option<usize>) {
        let (keys, key) = (&self.keys, &self.keys[at]);
        match &self.body {
            Body::Leaf(values) => item::put_leaf(out, prev.map(|p| (&keys[p], &values[p])), key, &values[at]),
            Body::Inner(children) => item::put_inner(out, prev.map(|p| (&keys[p], children[p])), key, children[at]),
        }
    }

    fn values_mut(&mut self) -> &mut Vec<Value> {
        match &mut self.body {
            Body::Leaf(values) => values,
            Body::Inner(_) => unreachable!("an inner node has no values"),
        }
    }

    fn children_mut(&mut self) -> &mut Vec<NodeId> {
        match &mut self.body {
            Body::Leaf(_) => unreachable!("a leaf has no children"),
            Body::Inner(children) => children,
        }
    }
}

/// Heap bytes behind a value. Depends on its contents alone, so that what was added is what is taken off again.
fn heap_of(value: &Value) -> usize {
    match value {
        Value::Inode(_) => size_of::<Inode>() + HEAP_OVERHEAD,
        Value::Symlink(part) => part.len() + HEAP_OVERHEAD,
        Value::Xattr(x) => size_of::<Xattr>() + x.name.len() + x.bytes.len() + 3 * HEAP_OVERHEAD,
        Value::Dirent(d) => d.name.len() + HEAP_OVERHEAD,
        Value::Extent(e) if e.crcs.len() > e.crcs.inline_size() => size_of_val(&e.crcs[..]) + HEAP_OVERHEAD,
        Value::Extent(_) | Value::Orphan => 0,
    }
}
