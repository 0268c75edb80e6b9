//! Both tables of a checkpoint, read as far as they can be. What a lost page named is looked for on the medium.

use std::collections::HashMap;
use std::ops::Range;

use crate::format::chunk::{PageId, TableId};
use crate::format::superblock::{BlockRef, Checkpoint};
use crate::format::table::{NODE_LEVELS, Page, REFS_PER_PAGE, SEGMENT_LEVELS, SEGMENTS_PER_PAGE, StoredSegment};
use crate::fsck::blocks::{LiveBlocks, LogSpace};
use crate::log::Log;
use crate::meta::load::read_page;
use crate::types::{NodeId, SegNo};

/// What the tables of a checkpoint say.
#[derive(Default)]
pub struct FoundTables {
    pub nodes: Vec<(NodeId, BlockRef)>,
    pub segments: HashMap<SegNo, StoredSegment>,
    /// Ids of nodes whose entries stood on pages that are lost.
    pub lost_nodes: Vec<Range<u64>>,
    pub lost_pages: u64,
}

/// Reads the tables that `checkpoint` names, and marks in `wanted` where their pages stand.
pub fn read(log: &Log, space: LogSpace, checkpoint: &Checkpoint, wanted: &mut LiveBlocks) -> FoundTables {
    let mut walk = Walk { log, space, wanted, found: FoundTables::default() };
    walk.table(TableId::Nodes, NODE_LEVELS, checkpoint.node_table);
    walk.table(TableId::Segments, SEGMENT_LEVELS, checkpoint.segment_table);
    walk.found
}

struct Walk<'a> {
    log: &'a Log,
    space: LogSpace,
    wanted: &'a mut LiveBlocks,
    found: FoundTables,
}

impl Walk<'_> {
    fn table(&mut self, table: TableId, levels: u8, root: BlockRef) {
        let mut stack = vec![(PageId { table, level: levels - 1, index: 0 }, root)];
        while let Some((page, at)) = stack.pop() {
            if at.is_absent() {
                continue;
            }
            match self.page(page, at) {
                None => self.lose(page),
                Some(Page::Segments(entries)) => self.segments(page.index, &entries),
                Some(Page::Refs(refs)) => {
                    let first = page.index * REFS_PER_PAGE as u64;
                    for (n, at) in (first..).zip(refs).filter(|(_, at)| !at.is_absent()) {
                        match page.level.checked_sub(1) {
                            Some(level) => stack.push((PageId { level, index: n, ..page }, at)),
                            None => self.node(NodeId(n), at),
                        }
                    }
                }
            }
        }
    }

    fn page(&mut self, page: PageId, at: BlockRef) -> Option<Page> {
        let (segment, offset) = self.space.place(at.addr, 1)?;
        self.wanted.mark(segment, offset, 1);
        read_page(self.log, page, at).ok()
    }

    fn lose(&mut self, page: PageId) {
        self.found.lost_pages += 1;
        if page.table == TableId::Nodes {
            let ids = (REFS_PER_PAGE as u64).pow(u32::from(page.level) + 1);
            self.found.lost_nodes.push(page.index * ids..(page.index + 1) * ids);
        }
    }

    fn node(&mut self, id: NodeId, at: BlockRef) {
        // An address that is none leaves the node without a copy, which the walk over the tree meets.
        if let Some((segment, offset)) = self.space.place(at.addr, 1) {
            self.wanted.mark(segment, offset, 1);
            self.found.nodes.push((id, at));
        }
    }

    fn segments(&mut self, page: u64, entries: &[StoredSegment]) {
        for (n, entry) in (page * SEGMENTS_PER_PAGE as u64..).zip(entries) {
            let inside = u64::from(self.space.first_segment.0)..u64::from(self.space.segments);
            if inside.contains(&n) && *entry != StoredSegment::default() {
                self.found.segments.insert(SegNo(n as u32), *entry);
            }
        }
    }
}
