//! The key tree from the root down: every node in order, every item handed on in the order of its key.

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::format::key::Key;
use crate::format::node::Node;
use crate::format::value::Value;
use crate::meta::load::{load_page, read_node};
use crate::meta::radix::Looked;
use crate::meta::volume::Volume;
use crate::types::NodeId;

use super::blocks::Bits;
use super::finding::Finding;
use super::report::Report;

/// Where a node must fit.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub id: NodeId,
    pub parent: NodeId,
    /// `None`: the root, whose level only itself says.
    pub level: Option<u8>,
    pub lower: Key,
    pub upper: Option<Key>,
}

/// A walk over the tree of a volume that nobody changes. Memory: one bit per node, and a level's siblings.
pub(crate) struct TreeWalk<'a> {
    pub volume: &'a Volume,
    pub next_node: NodeId,
    /// Nodes told to be bad already.
    pub bad: &'a Bits,
    pub reached: Bits,
    pub nodes: u64,
    /// Some nodes could not be read: items are missing that may well exist.
    pub incomplete: bool,
    /// Places whose node could not be read or is not the right one.
    pub lost: Vec<Place>,
    /// A node is reached twice, or has keys that belong elsewhere: the index above the leaves is not to be trusted.
    pub crooked: bool,
}

impl<'a> TreeWalk<'a> {
    pub fn new(volume: &'a Volume, bad: &'a Bits) -> Self {
        let next_node = volume.state.read().tree.next_node();
        Self {
            volume,
            next_node,
            bad,
            reached: Bits::default(),
            nodes: 0,
            incomplete: false,
            lost: Vec::new(),
            crooked: false,
        }
    }

    /// Hands every item to `visit`.
    pub fn run(&mut self, report: &mut Report, visit: &mut dyn FnMut(&mut Report, &Key, &Value)) {
        let root = Place { id: NodeId::ROOT, parent: NodeId(0), level: None, lower: Key::MIN, upper: None };
        let mut stack = vec![root];
        while let Some(place) = stack.pop() {
            let Some(node) = self.enter(&place, report) else {
                self.incomplete = true;
                self.lost.push(place);
                continue;
            };
            for (key, value) in node.keys().iter().zip(node.values()) {
                visit(report, key, value);
            }
            // The last is pushed first, so that the first is walked first.
            for (at, child) in node.children().iter().enumerate().rev() {
                stack.push(Place {
                    id: *child,
                    parent: place.id,
                    level: node.level().checked_sub(1),
                    lower: node.keys()[at],
                    upper: node.keys().get(at + 1).copied().or(place.upper),
                });
            }
        }
    }

    /// The node, if it can be read and is fit to go on with.
    fn enter(&mut self, place: &Place, report: &mut Report) -> Option<Arc<Node>> {
        let Place { id, parent, .. } = *place;
        if id >= self.next_node {
            let (used, next) = (id.0, self.next_node.0);
            report.add(Finding::NextNumber { what: "metadata node", used, next });
        }
        if !self.reached.insert(id.0) {
            report.add(Finding::NodeReachedTwice { node: id, parent });
            self.crooked = true;
            return None;
        }
        let node = match fetch(self.volume, id) {
            Ok(Some(node)) => node,
            Ok(None) => {
                report.add(Finding::NodeMissing { node: id, parent });
                return None;
            }
            Err(e) => {
                if !self.bad.contains(id.0) {
                    report.add(Finding::NodeMisplaced { node: id, parent, why: reason(&e) });
                }
                return None;
            }
        };
        self.nodes += 1;
        match misplaced(&node, place) {
            None => Some(node),
            Some((why, usable)) => {
                self.crooked = true;
                report.add(Finding::NodeMisplaced { node: id, parent, why });
                usable.then_some(node)
            }
        }
    }
}

/// Node `id` as the volume sees it: from memory if replay has changed it. `None`: it has no address.
pub(crate) fn fetch(volume: &Volume, id: NodeId) -> Result<Option<Arc<Node>>> {
    loop {
        let looked = {
            let state = volume.state.read();
            if let Some(node) = state.tree.node(id) {
                return Ok(Some(Arc::clone(node)));
            }
            state.nodes.slot(0, id.0)
        };
        match looked {
            Looked::Found(at) if at.is_absent() => return Ok(None),
            Looked::Found(at) => return read_node(&volume.log, id, at).map(|node| Some(Arc::new(node))),
            Looked::Missing(page, at) => load_page(&volume.state, &volume.log, page, at)?,
        }
    }
}

fn reason(error: &Error) -> &'static str {
    match error {
        Error::Device(_) => "it cannot be read",
        _ => "it, or the table page that names it, is damaged",
    }
}

/// Why the node does not fit its place, and whether its items can be walked all the same.
fn misplaced(node: &Node, place: &Place) -> Option<(&'static str, bool)> {
    let keys = node.keys();
    let conditions = [
        (place.level.is_none_or(|level| level == node.level()), "its level", false),
        (keys.is_sorted_by(|a, b| a < b), "the order of its keys", false),
        (keys.first().is_none_or(|key| *key >= place.lower), "a key below its lower bound", true),
        (keys.last().zip(place.upper).is_none_or(|(key, upper)| *key < upper), "a key beyond its upper bound", true),
        (node.is_leaf() || keys.first() == Some(&place.lower), "its first key is not its lower bound", true),
    ];
    conditions.into_iter().find(|(good, ..)| !good).map(|(_, why, usable)| (why, usable))
}
