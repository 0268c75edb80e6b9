//! The filesystem's state in memory: what the state lock guards.

use std::ops::ControlFlow;

use crate::error::Result;
use crate::format::chunk::{RECORD_BYTES_MAX, TableId};
use crate::format::key::Key;
use crate::format::superblock::{BlockRef, Checkpoint};
use crate::format::value::Value;
use crate::types::{Ino, NodeId};

use super::apply::Deltas;
use super::radix::Radix;
use super::tree::Tree;
use super::view::View;

/// Live blocks by what they hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    pub data_blocks: u64,
    /// Promised by fallocate, not written.
    pub promised_blocks: u64,
    /// Nodes on the medium.
    pub node_blocks: u64,
    /// Table pages on the medium.
    pub table_blocks: u64,
}

/// Key tree, tables and counters.
pub struct State {
    pub tree: Tree,
    pub nodes: Radix,
    /// Index pages of the segment table; its leaves are `log::segments`.
    pub segments: Radix,
    pub totals: Totals,
    /// The smallest inode number that was never logged.
    pub next_ino: u64,
    /// The record being encoded; kept for its memory.
    pub(crate) record: Vec<u8>,
    /// The same for what an operation changes in counts.
    pub(crate) deltas: Deltas,
}

impl State {
    /// The state that `checkpoint` names, with nothing loaded.
    pub fn open(checkpoint: &Checkpoint) -> Self {
        Self {
            tree: Tree::open(NodeId(checkpoint.next_node)),
            nodes: Radix::new(TableId::Nodes, checkpoint.node_table),
            segments: Radix::new(TableId::Segments, checkpoint.segment_table),
            totals: Totals {
                data_blocks: checkpoint.data_blocks,
                promised_blocks: checkpoint.promised_blocks,
                node_blocks: checkpoint.node_blocks,
                table_blocks: checkpoint.table_blocks,
            },
            next_ino: checkpoint.next_ino,
            record: Vec::with_capacity(RECORD_BYTES_MAX),
            deltas: Deltas::default(),
        }
    }

    /// An empty filesystem, without even a root directory.
    pub fn create() -> Self {
        Self {
            tree: Tree::create(NodeId(2)),
            nodes: Radix::new(TableId::Nodes, BlockRef::ABSENT),
            segments: Radix::new(TableId::Segments, BlockRef::ABSENT),
            totals: Totals::default(),
            next_ino: Ino::FIRST_USER.0,
            record: Vec::with_capacity(RECORD_BYTES_MAX),
            deltas: Deltas::default(),
        }
    }

    /// Blocks in use or spoken for. Dirty nodes count twice where an older copy is on the medium: both take room until the
    /// next checkpoint is durable. Half as much again for nodes: cleaning them is writing them again in a checkpoint, so where a filesystem is
    /// full of nothing else, enough of it must be dead for a checkpoint to give back more than it takes (I5).
    pub fn used_blocks(&self) -> u64 {
        let t = &self.totals;
        t.data_blocks
            + t.promised_blocks
            + t.node_blocks
            + t.node_blocks / 2
            + t.table_blocks
            + self.tree.dirty_count() as u64
    }

    /// Share of nodes among all live blocks.
    pub fn node_share(&self) -> f64 {
        let t = &self.totals;
        t.node_blocks as f64 / (t.data_blocks + t.node_blocks).max(1) as f64
    }
}

impl View for State {
    fn get(&self, key: &Key) -> Result<Option<Value>> {
        View::get(&self.tree, key)
    }

    fn floor(&self, key: &Key) -> Result<Option<(Key, Value)>> {
        View::floor(&self.tree, key)
    }

    fn scan(&self, from: &Key, to: &Key, visit: &mut dyn FnMut(&Key, &Value) -> ControlFlow<()>) -> Result<()> {
        View::scan(&self.tree, from, to, visit)
    }
}
