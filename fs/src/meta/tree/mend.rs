//! What only a repair does to a tree: nodes are put in and taken out as such.

use crate::format::node::Node;
use crate::types::NodeId;

use super::Tree;

impl Tree {
    /// Puts a node into the place of whatever had its id; it is to be written.
    pub(crate) fn put_node(&mut self, id: NodeId, node: Node) {
        self.drop_node(id);
        self.next_node = self.next_node.max(NodeId(id.0 + 1));
        self.cache.create(id, node);
    }

    /// Puts a node in under an id that was never used.
    pub(crate) fn add_node(&mut self, node: Node) -> NodeId {
        let id = self.next_node;
        self.put_node(id, node);
        id
    }

    /// Forgets a node that nothing leads to any more. Its entry in the node table is the caller's.
    pub(crate) fn drop_node(&mut self, id: NodeId) {
        if self.contains(id) {
            self.cache.remove(id);
        }
    }
}
