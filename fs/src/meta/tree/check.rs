//! Verification of the tree's invariants over what is cached.

use std::collections::HashSet;

use crate::format::key::Key;
use crate::format::node::Node;
use crate::types::NodeId;

use super::Tree;

/// Where a node stands: its keys must be in `lower..upper`.
struct Place {
    lower: Key,
    upper: Option<Key>,
    level: Option<u8>,
}

impl Tree {
    /// Verifies every cached node that the root leads to, and the counters; the first violation. Slow.
    pub fn check(&self) -> Result<(), String> {
        self.cache.check()?;
        let mut seen = HashSet::new();
        self.check_subtree(NodeId::ROOT, &Place { lower: Key::MIN, upper: None, level: None }, &mut seen)
    }

    fn check_subtree(&self, id: NodeId, place: &Place, seen: &mut HashSet<NodeId>) -> Result<(), String> {
        if !seen.insert(id) {
            return Err(format!("node {id} has two parents"));
        }
        if id >= self.next_node {
            return Err(format!("node {id} was never given out: the next one is {}", self.next_node));
        }
        let Some(node) = self.cache.peek(id) else { return Ok(()) };
        check_node(node, place).map_err(|what| format!("node {id}: {what}"))?;
        for (at, child) in node.children().iter().enumerate() {
            let upper = node.keys().get(at + 1).copied().or(place.upper);
            let below = Place { lower: node.keys()[at], upper, level: Some(node.level() - 1) };
            self.check_subtree(*child, &below, seen)?;
        }
        Ok(())
    }
}

fn check_node(node: &Node, place: &Place) -> Result<(), String> {
    let keys = node.keys();
    let conditions = [
        (place.level.is_none_or(|level| level == node.level()), "level"),
        (!node.is_empty() || node.is_leaf(), "no children"),
        (node.len() == node.values().len() + node.children().len(), "number of items"),
        (node.used() == node.recount(), "counted size"),
        (!node.overflows(), "size"),
        (keys.is_sorted_by(|a, b| a < b), "order of keys"),
        (keys.first().is_none_or(|k| *k >= place.lower), "key below the lower bound"),
        (node.is_leaf() || keys[0] == place.lower, "first key of an inner node is not its lower bound"),
        (keys.last().zip(place.upper).is_none_or(|(k, upper)| *k < upper), "key above the upper bound"),
        (keys.iter().zip(node.values()).all(|(k, v)| v.is_of(k.kind)), "value of another kind"),
    ];
    match conditions.into_iter().find(|(good, _)| !good) {
        Some((_, what)) => Err(what.to_string()),
        None => Ok(()),
    }
}
