//! The state under repair: a volume in memory that nothing of is written before the one commit, and ways to change it item by item.

use std::collections::HashSet;
use std::ops::ControlFlow;

use crate::error::{Error, Result};
use crate::format::edit::Edit;
use crate::format::key::{Key, Kind};
use crate::format::superblock::BlockRef;
use crate::format::value::{Inode, Time, Value};
use crate::fsck::blocks::{Bits, LiveBlocks, LogSpace};
use crate::meta::load::load_node;
use crate::meta::radix::Looked;
use crate::meta::state::State;
use crate::meta::volume::Volume;
use crate::types::{Ino, NodeId};

use super::change::Repair;
use super::copies::read_copy;

/// Counts of the state while it is under repair: far from zero in both directions, and counted anew at the end.
pub const UNCOUNTED: u64 = 1 << 56;

/// A state under repair.
pub struct Workshop {
    pub volume: Volume,
    pub space: LogSpace,
    /// When this happens, for what is made.
    pub now: Time,
    pub repairs: Vec<Repair>,
    /// Blocks that some state that may still be wanted reaches: nothing is written into their segments (I1).
    pub wanted: LiveBlocks,
}

impl Workshop {
    pub fn note(&mut self, repair: Repair) {
        self.repairs.push(repair);
    }

    pub fn get(&self, key: &Key) -> Result<Option<Value>> {
        self.volume.view(|view| view.get(key))
    }

    pub fn inode(&self, ino: Ino) -> Result<Option<Inode>> {
        Ok(match self.get(&Key::inode(ino))? {
            Some(Value::Inode(inode)) => Some(*inode),
            _ => None,
        })
    }

    /// Items of one kind of one inode.
    pub fn items(&self, ino: Ino, kind: Kind) -> Result<Vec<(Key, Value)>> {
        self.between(&Key::new(ino, kind, 0), &Key { snapshot: u32::MAX, ..Key::new(ino, kind, u64::MAX) })
    }

    pub fn between(&self, from: &Key, to: &Key) -> Result<Vec<(Key, Value)>> {
        self.volume.view(|view| {
            let mut items = Vec::new();
            view.scan(from, to, &mut |key, value| {
                items.push((*key, value.clone()));
                ControlFlow::Continue(())
            })?;
            Ok(items)
        })
    }

    pub fn put(&self, key: Key, value: Value) -> Result<()> {
        self.change(&key, |tree| drop(tree.insert(key, value.clone())))
    }

    pub fn put_inode(&self, ino: Ino, inode: Inode) -> Result<()> {
        self.put(Key::inode(ino), Value::Inode(Box::new(inode)))
    }

    pub fn remove(&self, key: &Key) -> Result<()> {
        self.change(key, |tree| drop(tree.remove(key)))
    }

    fn change(&self, key: &Key, change: impl Fn(&mut crate::meta::tree::Tree)) -> Result<()> {
        self.alter(|state| {
            state.tree.prepare(key)?;
            change(&mut state.tree);
            Ok(())
        })
    }

    /// Applies the edits of one operation as roll-forward would, but for the counts.
    pub fn apply(&self, edits: &[Edit]) -> Result<()> {
        self.alter(|state| {
            state.prepare_as_it_is(edits)?;
            state.apply_uncounted(edits);
            Ok(())
        })
    }

    /// Changes the state by a step that misses a node, if it does, before it has changed anything.
    fn alter(&self, step: impl Fn(&mut State) -> Result<()>) -> Result<()> {
        loop {
            let mut state = self.volume.state.write();
            match step(&mut state) {
                Ok(()) => {
                    self.volume.trim_locked(&mut state);
                    return Ok(());
                }
                Err(Error::NodeMiss(id)) => {
                    drop(state);
                    load_node(&self.volume.state, &self.volume.log, id)?;
                }
                Err(e) => return Err(e),
            }
        }
    }

    /// Where the node table says that node `id` stands.
    pub fn node_ref(&self, id: NodeId) -> BlockRef {
        match self.volume.state.read().nodes.slot(0, id.0) {
            Looked::Found(at) => at,
            Looked::Missing(..) => unreachable!("the whole node table is in memory"),
        }
    }

    pub fn set_node_ref(&self, id: NodeId, at: BlockRef) {
        self.volume.state.write().nodes.set(0, id.0, at);
    }

    /// Nodes of which the copy that the table names is there.
    pub fn whole_nodes(&self) -> usize {
        let fsid = self.volume.log.shape.fsid;
        let is_whole = |id: &NodeId| {
            let at = self.node_ref(*id);
            read_copy(&**self.volume.device(), fsid, *id, at.addr).is_some_and(|(_, crc, _)| crc == at.crc)
        };
        self.node_ids().iter().map(NodeId).filter(is_whole).count()
    }

    /// Nodes that the table names, but for those freed since.
    pub fn node_ids(&self) -> Bits {
        let state = self.volume.state.read();
        let freed: HashSet<u64> = state.tree.freed().iter().map(|id| id.0).collect();
        let mut ids = Bits::default();
        for (id, _) in state.nodes.entries().filter(|(id, _)| !freed.contains(id)) {
            ids.insert(id);
        }
        ids
    }
}
