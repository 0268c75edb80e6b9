//! Putting items in, changing them, and splitting what outgrows its block.

use crate::format::key::Key;
use crate::format::node::{BODY_LEN, Node};
use crate::format::value::Value;
use crate::types::NodeId;

use super::{Path, Step, Tree};

/// What made a node overflow: where to split depends on it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cause {
    /// Index of the item that was put in; `None` if one grew.
    pub(super) inserted: Option<usize>,
    /// Whether no node of this level lies behind.
    pub(super) rightmost: bool,
}

impl Tree {
    /// Sets the item of `key`, which is prepared; the one that was there.
    ///
    /// # Panics
    /// If a node on the way is not cached, that is, if `prepare(key)` would fail.
    pub fn insert(&mut self, key: Key, value: Value) -> Option<Value> {
        debug_assert!(value.is_of(key.kind), "{key:?} cannot hold {value:?}");
        let path = self.path(&key);
        let (old, inserted) = self.cache.modify(path.leaf, |leaf| match leaf.keys().binary_search(&key) {
            Ok(at) => (Some(leaf.update_value(at, |v| std::mem::replace(v, value))), None),
            Err(at) => {
                leaf.insert_value(at, key, value);
                (None, Some(at))
            }
        });
        self.split_overflow(&path, inserted);
        old
    }

    /// Changes the item of `key`, which is prepared; its kind must stay. False if there is none.
    ///
    /// # Panics
    /// As [`Tree::insert`].
    pub fn update(&mut self, key: &Key, change: impl FnOnce(&mut Value)) -> bool {
        let path = self.path(key);
        let Ok(at) = self.prepared(path.leaf).keys().binary_search(key) else { return false };
        self.cache.modify(path.leaf, |leaf| leaf.update_value(at, change));
        self.split_overflow(&path, None);
        true
    }

    /// The way to the leaf where `key` belongs.
    pub(super) fn path(&self, key: &Key) -> Path {
        let mut path = Path { steps: Default::default(), leaf: NodeId::ROOT, rightmost: true };
        let mut node = self.prepared(NodeId::ROOT);
        while !node.is_leaf() {
            let child = node.child_index(key);
            path.steps.push(Step { node: path.leaf, child });
            path.rightmost &= child + 1 == node.len();
            path.leaf = node.children()[child];
            node = self.prepared(path.leaf);
        }
        path
    }

    /// A node that a prepared change needs.
    pub(super) fn prepared(&self, id: NodeId) -> &Node {
        self.cache.get(id).unwrap_or_else(|| panic!("metadata node {id} is not in memory: the change was not prepared"))
    }

    fn split_overflow(&mut self, path: &Path, inserted: Option<usize>) {
        if self.prepared(path.leaf).overflows() {
            self.split(&path.steps, path.leaf, Cause { inserted, rightmost: path.rightmost });
        }
    }

    /// Splits the node `id` at the end of `steps`, and above it what overflows by that.
    pub(super) fn split(&mut self, steps: &[Step], id: NodeId, cause: Cause) {
        let at = split_index(self.prepared(id), cause);
        let right = self.cache.modify(id, |node| node.split_off(at));
        let lower = right.keys()[0];
        let right = self.create_node(right);
        let Some((parent, above)) = steps.split_last() else {
            self.raise_root(lower, right);
            return;
        };
        self.cache.modify(parent.node, |node| node.insert_child(parent.child + 1, lower, right));
        if self.prepared(parent.node).overflows() {
            self.split(above, parent.node, Cause { inserted: Some(parent.child + 1), ..cause });
        }
    }

    /// The root was split: its contents become a node of their own, and the root one that names both parts.
    fn raise_root(&mut self, lower: Key, right: NodeId) {
        let left = self.cache.modify(NodeId::ROOT, |root| {
            let above = Node::new(root.level() + 1);
            std::mem::replace(root, above)
        });
        let left = self.create_node(left);
        self.cache.modify(NodeId::ROOT, |root| {
            root.insert_child(0, Key::MIN, left);
            root.insert_child(1, lower, right);
        });
    }
}

/// Index of the first item of the right part.
///
/// Ascending insertion, at the end of a node or of one file's extents inside it, leaves full nodes behind; the last
/// node of the tree, where new inodes appear in nearly ascending order, splits at five sixths; others halve.
fn split_index(node: &Node, cause: Cause) -> usize {
    let last = node.len() - 1;
    if let Some(at) = cause.inserted {
        if at == last && node.splits_at(at) {
            return at;
        }
        if ends_a_run(node, at) {
            // The new item stays left, so that its successors find room behind it.
            if let Some(split) = [at + 1, at].into_iter().find(|split| node.splits_at(*split)) {
                return split;
            }
        }
    }
    let target = if cause.rightmost { BODY_LEN / 6 * 5 } else { node.used() / 2 };
    node.split_near(target)
}

/// Whether the item at `at` follows one of the same inode and kind, and none of them follows it.
fn ends_a_run(node: &Node, at: usize) -> bool {
    let keys = node.keys();
    let owner = |at: usize| (keys[at].ino, keys[at].kind);
    node.is_leaf() && at > 0 && at + 1 < node.len() && owner(at - 1) == owner(at) && owner(at + 1) != owner(at)
}
