//! Reading: lookups, scans, and the check that a change finds its nodes. No lookup allocates.

use std::ops::ControlFlow;

use crate::error::{Error, Result};
use crate::format::DecodeError;
use crate::format::key::Key;
use crate::format::node::Node;
use crate::format::value::Value;
use crate::types::NodeId;

use super::Tree;

/// A leaf that was found.
struct Found<'a> {
    leaf: &'a Node,
    /// Where its keys begin.
    start: Key,
    /// Where the keys of the next leaf begin; `None` if this is the last.
    end: Option<Key>,
}

impl Tree {
    /// The item of `key`.
    pub fn get(&self, key: &Key) -> Result<Option<&Value>> {
        let leaf = self.find(key)?.leaf;
        Ok(leaf.keys().binary_search(key).ok().map(|at| &leaf.values()[at]))
    }

    /// The item with the largest key `<= key`.
    pub fn floor(&self, key: &Key) -> Result<Option<(Key, &Value)>> {
        let mut found = self.find(key)?;
        loop {
            let Found { leaf, start, .. } = found;
            if let Some(at) = leaf.keys().partition_point(|k| k <= key).checked_sub(1) {
                return Ok(Some((leaf.keys()[at], &leaf.values()[at])));
            }
            if start == Key::MIN {
                return Ok(None);
            }
            found = self.find_by(|k| *k < start)?;
            if found.start >= start {
                return Err(DecodeError::BadValue { what: "order of metadata nodes", value: start.offset }.into());
            }
        }
    }

    /// Visits the items of `from..=to` in order until `visit` breaks. After a miss some items may have been visited.
    pub fn scan(&self, from: &Key, to: &Key, mut visit: impl FnMut(&Key, &Value) -> ControlFlow<()>) -> Result<()> {
        self.leaves(from, to, |leaf| {
            let first = leaf.keys().partition_point(|k| k < from);
            for (key, value) in leaf.keys()[first..].iter().zip(&leaf.values()[first..]) {
                if key > to || visit(key, value).is_break() {
                    return ControlFlow::Break(());
                }
            }
            ControlFlow::Continue(())
        })
    }

    /// Makes sure that `insert`, `update` and `remove` of `key` find every node that they need.
    pub fn prepare(&self, key: &Key) -> Result<()> {
        self.find(key).map(drop)
    }

    /// The same for every key in `from..=to`.
    pub fn prepare_range(&self, from: &Key, to: &Key) -> Result<()> {
        self.leaves(from, to, |_| ControlFlow::Continue(()))
    }

    /// Visits the leaves that may have keys in `from..=to`.
    fn leaves<'a>(&'a self, from: &Key, to: &Key, mut visit: impl FnMut(&'a Node) -> ControlFlow<()>) -> Result<()> {
        let mut next = Some(*from);
        while let Some(key) = next.filter(|key| key <= to) {
            let found = self.find(&key)?;
            if visit(found.leaf).is_break() {
                break;
            }
            // A damaged separator must not make the scan run backwards for ever.
            next = found.end.filter(|end| *end > key);
        }
        Ok(())
    }

    /// The leaf where `key` belongs.
    fn find(&self, key: &Key) -> Result<Found<'_>> {
        self.find_by(|k| k <= key)
    }

    /// The last leaf whose lower bound is `within`, a condition that holds for all keys up to some point.
    fn find_by(&self, within: impl Fn(&Key) -> bool) -> Result<Found<'_>> {
        let mut node = self.cached(NodeId::ROOT)?;
        let (mut start, mut end) = (Key::MIN, None);
        check_bounds(node, &start, None)?;
        while !node.is_leaf() {
            let at = node.child_index_by(&within);
            start = node.keys()[at];
            end = node.keys().get(at + 1).copied().or(end);
            node = self.child(node.children()[at], node.level() - 1)?;
            check_bounds(node, &start, end.as_ref())?;
        }
        Ok(Found { leaf: node, start, end })
    }

    fn cached(&self, id: NodeId) -> Result<&Node> {
        self.cache.get(id).ok_or(Error::NodeMiss(id))
    }

    /// A node that must have `level`: so no walk down ever ends in a circle, whatever the medium says.
    fn child(&self, id: NodeId, level: u8) -> Result<&Node> {
        let node = self.cached(id)?;
        if node.level() != level {
            return Err(
                DecodeError::BadValue { what: "level of a metadata node", value: u64::from(node.level()) }.into()
            );
        }
        Ok(node)
    }
}

/// A node's keys must lie where its parent says. So no node is reached by two ways, unless it is an empty leaf, and what is put in where a walk
/// ended keeps the order of all keys, whatever the medium says.
fn check_bounds(node: &Node, start: &Key, end: Option<&Key>) -> Result<()> {
    let (Some(first), Some(last)) = (node.keys().first(), node.keys().last()) else { return Ok(()) };
    let begins = if node.is_leaf() { first >= start } else { first == start };
    if begins && end.is_none_or(|end| last < end) {
        return Ok(());
    }
    Err(DecodeError::BadValue { what: "keys of a metadata node", value: first.ino.0 }.into())
}
