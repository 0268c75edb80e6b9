//! Taking items out, and joining what gets small.
//!
//! Only nodes that are cached are joined, so that a removal never needs more than the way to its leaf, and other
//! changes that were prepared with it still find theirs. An empty leaf is a small one: it stays until a neighbour is there.

use crate::format::key::Key;
use crate::format::node::BODY_LEN;
use crate::format::value::Value;
use crate::types::NodeId;

use super::insert::Cause;
use super::{Step, Tree};

/// A node is joined with a neighbour once it is below this ...
const SMALL_BYTES: usize = BODY_LEN / 2;
/// ... if both together stay below this: room is left for growth, so that no split follows at once.
const JOINED_BYTES_MAX: usize = BODY_LEN / 4 * 3;
/// The same for the number of items.
const JOINED_ITEMS_MAX: usize = crate::format::node::ITEMS_MAX / 4 * 3;

impl Tree {
    /// Removes the item of `key`, which is prepared.
    ///
    /// # Panics
    /// As [`Tree::insert`].
    pub fn remove(&mut self, key: &Key) -> Option<Value> {
        let path = self.path(key);
        let at = self.prepared(path.leaf).keys().binary_search(key).ok()?;
        let old = self.cache.modify(path.leaf, |leaf| leaf.remove_value(at));
        self.settle(&path.steps, path.leaf);
        Some(old)
    }

    /// Restores the invariants of the node `id` at the end of `steps`, from which something was taken.
    fn settle(&mut self, steps: &[Step], id: NodeId) {
        let Some((parent, above)) = steps.split_last() else {
            self.settle_root();
            return;
        };
        let node = self.prepared(id);
        if node.overflows() {
            // An item coded against another predecessor may take more bytes than the one that went.
            self.split(steps, id, Cause { inserted: None, rightmost: false });
        } else if node.used() < SMALL_BYTES && self.join(*parent) {
            self.settle(above, parent.node);
        }
    }

    /// Joins the child that `step` names with a neighbour if one fits.
    fn join(&mut self, step: Step) -> bool {
        let children = self.prepared(step.node).children();
        let lefts = [Some(step.child), step.child.checked_sub(1)];
        let fit = lefts.into_iter().flatten().find_map(|left| {
            let pair = (*children.get(left)?, *children.get(left + 1)?);
            self.fit_together(pair.0, pair.1).then_some((left, pair))
        });
        let Some((at, (left, right))) = fit else { return false };
        let right = self.free_node(right);
        let (seam, inner) = (self.prepared(left).len(), !right.is_leaf());
        self.cache.modify(left, |node| node.append(right));
        self.cache.modify(step.node, |node| node.remove_child(at + 1));
        if inner {
            // Children that were the last and the first of their parents are neighbours only now.
            self.join(Step { node: left, child: seam - 1 });
        }
        true
    }

    fn fit_together(&self, left: NodeId, right: NodeId) -> bool {
        let (Some(a), Some(b)) = (self.cache.peek(left), self.cache.peek(right)) else { return false };
        let roomy = a.used() + b.used() <= JOINED_BYTES_MAX && a.len() + b.len() <= JOINED_ITEMS_MAX;
        // A neighbour was perhaps never walked through, so its keys may be anything.
        let ordered = a.keys().last().zip(b.keys().first()).is_none_or(|(last, first)| last < first);
        left != right && a.level() == b.level() && ordered && (roomy || a.is_empty() || b.is_empty())
    }

    /// A root with one child takes its place, if that is cached.
    fn settle_root(&mut self) {
        loop {
            let root = self.prepared(NodeId::ROOT);
            if root.overflows() {
                return self.split(&[], NodeId::ROOT, Cause { inserted: None, rightmost: false });
            }
            if root.is_leaf() {
                return;
            }
            let [only] = *root.children() else { return };
            if !self.contains(only) {
                return;
            }
            let child = self.free_node(only);
            self.cache.modify(NodeId::ROOT, |root| *root = child);
        }
    }
}
