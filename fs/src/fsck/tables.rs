//! The two radix tables and the copy of every node that the node table names, straight from the medium.

use std::collections::HashMap;

use crate::device::Device;
use crate::device::aligned::AlignedBuf;
use crate::format::chunk::{PageId, TableId};
use crate::format::node::Node;
use crate::format::superblock::{BlockRef, Checkpoint};
use crate::format::table::{NODE_LEVELS, Page, REFS_PER_PAGE, SEGMENT_LEVELS, SEGMENTS_PER_PAGE};
use crate::format::table::{StoredSegment, StoredState};
use crate::types::{BLOCK_SIZE, NodeId, SegNo};

use super::Progress;
use super::blocks::{Bits, LiveBlocks, LogSpace};
use super::finding::{Finding, Owner};
use super::report::Report;

/// What the tables hold.
#[derive(Default)]
pub struct Tables {
    pub pages: u64,
    pub nodes: u64,
    /// Ids of nodes that have an entry.
    pub node_ids: Bits,
    /// Those whose copy is not usable; told already.
    pub bad_nodes: Bits,
    /// A page could not be read: what lies below it is unknown.
    pub incomplete: bool,
}

/// Walks both tables.
pub(super) struct TableWalk<'a, 'p> {
    pub device: &'a dyn Device,
    pub fsid: u64,
    pub space: LogSpace,
    pub checkpoint: &'a Checkpoint,
    pub report: &'a mut Report,
    pub live: &'a mut LiveBlocks,
    pub progress: &'a mut Progress<'p>,
    /// Entries of these segments are kept.
    pub wanted: &'a mut HashMap<SegNo, StoredSegment>,
    pub found: Tables,
}

impl TableWalk<'_, '_> {
    pub fn run(mut self) -> Tables {
        self.walk(TableId::Nodes, NODE_LEVELS, self.checkpoint.node_table);
        self.walk(TableId::Segments, SEGMENT_LEVELS, self.checkpoint.segment_table);
        self.found
    }

    fn walk(&mut self, table: TableId, levels: u8, root: BlockRef) {
        let mut stack = vec![(PageId { table, level: levels - 1, index: 0 }, root)];
        while let Some((page, at)) = stack.pop() {
            if at.is_absent() {
                continue;
            }
            match self.read_page(page, at) {
                None => self.found.incomplete = true,
                Some(Page::Segments(entries)) => self.segments(page.index, &entries),
                Some(Page::Refs(refs)) => {
                    let first = page.index * REFS_PER_PAGE as u64;
                    for (n, at) in (first..).zip(refs).filter(|(_, at)| !at.is_absent()) {
                        if page.level > 0 {
                            stack.push((PageId { level: page.level - 1, index: n, ..page }, at));
                        } else {
                            self.node(NodeId(n), at);
                        }
                    }
                }
            }
        }
    }

    /// Reads a block that the state reaches, and counts it as live.
    fn read(&mut self, owner: Owner, at: BlockRef) -> Option<AlignedBuf> {
        let addr = at.addr;
        let Some((segment, offset)) = self.space.place(addr, 1) else {
            self.report.add(Finding::BadAddress { owner, addr });
            return None;
        };
        if self.live.mark(segment, offset, 1).is_some() {
            self.report.add(Finding::OwnedTwice { addr, blocks: 1, owner });
        }
        let mut block = AlignedBuf::new(1);
        self.progress.advance(BLOCK_SIZE as u64);
        match self.device.read(addr, &mut block) {
            Ok(()) => Some(block),
            Err(e) => {
                self.report.add(Finding::Unreadable { owner, addr, why: e.to_string() });
                None
            }
        }
    }

    fn read_page(&mut self, page: PageId, at: BlockRef) -> Option<Page> {
        self.found.pages += 1;
        let block = self.read(page.into(), at)?;
        match Page::decode(&block, page, self.fsid, at.crc) {
            Ok(page) => Some(page),
            Err(e) => {
                self.report.add(Finding::Damaged { owner: page.into(), addr: at.addr, why: e.to_string() });
                None
            }
        }
    }

    fn node(&mut self, id: NodeId, at: BlockRef) {
        self.found.nodes += 1;
        self.found.node_ids.insert(id.0);
        if id.0 >= self.checkpoint.next_node {
            let next = self.checkpoint.next_node;
            self.report.add(Finding::NextNumber { what: "metadata node", used: id.0, next });
        }
        let owner = Owner::Node { node: id };
        let Some(block) = self.read(owner, at) else {
            self.found.bad_nodes.insert(id.0);
            return;
        };
        if let Err(why) = self.verify_node(&block, id, at) {
            self.found.bad_nodes.insert(id.0);
            self.report.add(Finding::Damaged { owner, addr: at.addr, why });
        }
    }

    fn verify_node(&self, block: &[u8], id: NodeId, at: BlockRef) -> Result<(), String> {
        let block: &[u8; BLOCK_SIZE] = block.try_into().map_err(|_| "not one block".to_string())?;
        let (stamp, _) = Node::decode_any(block).map_err(|e| e.to_string())?;
        let stored = u32::from_le_bytes([block[4], block[5], block[6], block[7]]);
        let conditions = [
            (stamp.fs_id == self.fsid, "of another filesystem"),
            (stamp.node == id, "another node"),
            (stored == at.crc, "another copy than the node table names"),
            (stamp.lsn <= self.checkpoint.lsn, "newer than the checkpoint"),
        ];
        match conditions.into_iter().find(|(good, _)| !good) {
            Some((_, why)) => Err(format!("it is {why}")),
            None => Ok(()),
        }
    }

    fn segments(&mut self, page: u64, entries: &[StoredSegment]) {
        for (n, entry) in (page * SEGMENTS_PER_PAGE as u64..).zip(entries) {
            let segment = SegNo(n.min(u64::from(u32::MAX)) as u32);
            let outside = segment < self.space.first_segment || segment >= self.checkpoint.frontier;
            let clock = self.checkpoint.write_clock;
            let conditions = [
                (outside && *entry != StoredSegment::default(), "it is no segment in use, or was never used"),
                (entry.state == StoredState::Free && entry.live != 0, "free with live blocks"),
                (entry.live >= self.space.capacity && entry.live > 0, "more live blocks than it can hold"),
                (entry.opened.max(entry.sealed).max(entry.invalidated) > clock, "its clocks are in the future"),
            ];
            for (_, why) in conditions.into_iter().filter(|(bad, _)| *bad) {
                self.report.add(Finding::SegmentEntry { segment, why });
            }
            if let Some(wanted) = self.wanted.get_mut(&segment) {
                *wanted = *entry;
            }
        }
    }
}
