//! The key tree: a copy-on-write B+tree of typed keys in nodes of one block.
//!
//! Purely in memory: the tree knows nodes by [`NodeId`] and never reads or writes one. A caller that meets
//! [`Error::NodeMiss`](crate::error::Error::NodeMiss) loads the node, [`Tree::install`]s it and tries again. Changes are infallible once
//! [`Tree::prepare`] has found every node that they touch, so a logged operation can always be applied.
//!
//! Invariants, verified by [`Tree::check`]:
//! - The root is [`NodeId::ROOT`] for ever; when it splits, its contents move into two new nodes.
//! - An inner node's key is the lower bound of all keys below the child beside it, the first one its own lower bound.
//! - Every node fits its block; an inner node has a child; the level falls by one from node to child.
//! - A leaf may be empty: it goes only when a neighbour that inherits its keys is cached, so that what was prepared
//!   stays prepared while other changes are made.
//! - A node that a checkpoint took is not changed in place: changing it copies it (`Arc::make_mut`).
//! - The id of a freed node is not used again before [`Tree::reusable`] says so.

mod cache;
mod check;
mod insert;
mod mend;
mod read;
mod remove;

use std::ops::ControlFlow;
use std::sync::Arc;

use smallvec::SmallVec;

use crate::error::{Error, Result};
use crate::format::key::Key;
use crate::format::node::Node;
use crate::format::value::Value;
use crate::meta::view::View;
use crate::types::NodeId;
use cache::Cache;

/// The tree and the cache of its nodes.
#[derive(Debug)]
pub struct Tree {
    cache: Cache,
    /// The smallest id that was never used.
    next_node: NodeId,
    /// Ids that may be used again.
    free_ids: Vec<NodeId>,
    /// Ids freed since the last [`Tree::take_freed`].
    freed: Vec<NodeId>,
}

/// An inner node on the way to a leaf, and the index of the child that was taken.
#[derive(Clone, Copy, Debug)]
struct Step {
    node: NodeId,
    child: usize,
}

/// The way from the root to a leaf.
#[derive(Debug)]
struct Path {
    steps: SmallVec<[Step; 8]>,
    leaf: NodeId,
    /// Whether no leaf lies behind this one.
    rightmost: bool,
}

impl Tree {
    /// A new empty tree: a root without items, dirty. `next_node` is the smallest id to give to other nodes.
    pub fn create(next_node: NodeId) -> Self {
        let mut tree = Self::open(next_node);
        tree.cache.create(NodeId::ROOT, Node::new(0));
        tree
    }

    /// A tree that lies on the medium; nothing of it is cached.
    pub fn open(next_node: NodeId) -> Self {
        let next_node = next_node.max(NodeId(NodeId::ROOT.0 + 1));
        Self { cache: Cache::default(), next_node, free_ids: Vec::new(), freed: Vec::new() }
    }

    /// The smallest id that was never used.
    pub fn next_node(&self) -> NodeId {
        self.next_node
    }

    /// Caches a clean node. The caller makes sure that it is the newest copy: that the node table still names what it
    /// was read from, seen under the same lock. Without effect if the node is cached.
    pub fn install(&mut self, id: NodeId, node: Arc<Node>) {
        self.cache.install(id, node);
    }

    /// Whether the node is cached.
    pub fn contains(&self, id: NodeId) -> bool {
        self.cache.peek(id).is_some()
    }

    /// A cached node.
    pub fn node(&self, id: NodeId) -> Option<&Arc<Node>> {
        self.cache.peek(id)
    }

    /// The children of a node, none for a leaf.
    pub fn children(&self, id: NodeId) -> Result<&[NodeId]> {
        self.cache.peek(id).map(|node| node.children()).ok_or(Error::NodeMiss(id))
    }

    /// Nodes that the next checkpoint has to write.
    pub fn dirty_count(&self) -> usize {
        self.cache.dirty_count()
    }

    /// Hands all dirty nodes to a checkpoint, as they are now. They stay cached until [`Tree::written`] tells that they
    /// can be read from the medium; a change from now on makes the node dirty again.
    pub fn take_dirty(&mut self) -> Vec<(NodeId, Arc<Node>)> {
        self.cache.take_dirty()
    }

    /// Tells that nodes of [`Tree::take_dirty`] are on the medium and named by the node table.
    pub fn written(&mut self, ids: impl IntoIterator<Item = NodeId>) {
        ids.into_iter().for_each(|id| self.cache.written(id));
    }

    /// Ids of nodes freed since the last call; their entries in the node table are to be cleared.
    pub fn take_freed(&mut self) -> Vec<NodeId> {
        std::mem::take(&mut self.freed)
    }

    /// Ids that [`Tree::take_freed`] would hand out: they are in the node table still.
    pub(crate) fn freed(&self) -> &[NodeId] {
        &self.freed
    }

    /// Tells that these ids may name new nodes: the checkpoint without them is durable.
    pub fn reusable(&mut self, ids: impl IntoIterator<Item = NodeId>) {
        self.free_ids.extend(ids);
    }

    /// Makes a node dirty, so that the next checkpoint writes it elsewhere. False if it is not cached.
    pub fn mark_dirty(&mut self, id: NodeId) -> bool {
        self.cache.mark_dirty(id)
    }

    /// Evicts clean nodes, those first that were not used lately, until at most `bytes` are cached or no node can go.
    pub fn evict_to(&mut self, bytes: usize) {
        self.cache.evict_to(bytes, 2);
    }

    /// The same, but keeps whatever was used since it was last asked, even if that is more than `bytes`: a plan that runs again once a
    /// node is loaded finds the others still there, however small the cache is beside what is dirty.
    pub fn evict_unused_to(&mut self, bytes: usize) {
        self.cache.evict_to(bytes, 1);
    }

    /// Memory that dirty nodes take.
    pub fn dirty_bytes(&self) -> usize {
        self.cache.dirty_bytes()
    }

    /// Memory that cached nodes take. Copies that a checkpoint in flight still holds are not counted.
    pub fn memory_bytes(&self) -> usize {
        self.cache.bytes()
    }

    fn create_node(&mut self, node: Node) -> NodeId {
        let id = self.free_ids.pop().unwrap_or_else(|| {
            let id = self.next_node;
            self.next_node = NodeId(id.0 + 1);
            id
        });
        self.cache.create(id, node);
        id
    }

    fn free_node(&mut self, id: NodeId) -> Node {
        self.freed.push(id);
        self.cache.remove(id)
    }
}

impl View for Tree {
    fn get(&self, key: &Key) -> Result<Option<Value>> {
        Ok(Self::get(self, key)?.cloned())
    }

    fn floor(&self, key: &Key) -> Result<Option<(Key, Value)>> {
        Ok(Self::floor(self, key)?.map(|(key, value)| (key, value.clone())))
    }

    fn scan(&self, from: &Key, to: &Key, visit: &mut dyn FnMut(&Key, &Value) -> ControlFlow<()>) -> Result<()> {
        Self::scan(self, from, to, visit)
    }
}

#[cfg(test)]
mod tests;
