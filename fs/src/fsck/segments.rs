//! Segments against what is live in them: counts and states (I1, I2, I3), and that the records of each chunk name the owner of
//! every live block, since cleaning finds owners in no other way.

use crate::format::chunk::{ChunkHeader, PageId, Record, TableId};
use crate::format::edit::Edit;
use crate::format::superblock::HeadPosition;
use crate::format::table::{NODE_LEVELS, SEGMENT_LEVELS};
use crate::format::value::ExtentKind;
use crate::log::scan::{FoundChunk, SegmentScan};
use crate::log::segments::{Segment, SegmentState};
use crate::meta::apply::overlapping;
use crate::meta::load::load_page;
use crate::meta::radix::Looked;
use crate::meta::volume::Volume;
use crate::types::{BlockAddr, Ino, NodeId, SegNo};

use super::blocks::{Bits, LiveBlocks, LogSpace, runs};
use super::finding::Finding;
use super::report::Report;

/// Checks the segments of a volume whose live blocks are all known.
pub(super) struct SegmentCheck<'a> {
    pub volume: &'a Volume,
    pub space: LogSpace,
    pub live: &'a LiveBlocks,
    pub report: &'a mut Report,
    /// Parts of the metadata could not be read, so blocks may be live that were not counted.
    pub incomplete: bool,
}

impl SegmentCheck<'_> {
    pub fn run(&mut self) {
        let (table, heads) = {
            let inner = self.volume.log.lock();
            let table: Vec<(SegNo, Segment)> = inner.segments.iter().map(|(seg, s)| (seg, *s)).collect();
            (table, inner.heads.positions())
        };
        for (segment, entry) in &table {
            self.count(*segment, entry);
        }
        let frontier = table.last().map_or(self.space.first_segment, |(seg, _)| SegNo(seg.0 + 1));
        let beyond: Vec<SegNo> = self.live.segments().filter(|seg| *seg >= frontier).collect();
        for segment in beyond {
            self.count(segment, &Segment::default());
        }
        let used: Vec<SegNo> = self.live.segments().collect();
        for segment in used {
            let head = heads.iter().find(|p| p.segment == segment);
            self.scan(segment, head);
        }
    }

    /// I3, and for segments that may be written again I1 and I2.
    fn count(&mut self, segment: SegNo, entry: &Segment) {
        let counted = self.live.count(segment);
        let state = match entry.state {
            SegmentState::Free => Some("free"),
            SegmentState::Prefree => Some("prefree"),
            SegmentState::Open | SegmentState::Sealed | SegmentState::Bad => None,
        };
        if let Some(state) = state.filter(|_| counted > 0) {
            self.report.add(Finding::LiveInFree { segment, state, live: counted });
        } else if entry.live != counted && (!self.incomplete || counted > entry.live) {
            self.report.add(Finding::LiveCount { segment, stored: entry.live, counted });
        }
    }

    /// Reads the chunks of a segment and finds the live blocks that none of them claims.
    fn scan(&mut self, segment: SegNo, head: Option<&HeadPosition>) {
        let log = &self.volume.log;
        let start = self.space.address(segment, 0);
        let mut scan = SegmentScan::new(&*log.device, log.shape.fsid, segment, start, 0, self.space.capacity);
        if let Some(p) = head {
            // What a head adds carries its generation, so chunks of another one would hide all that follows.
            scan = scan.of_generation(p.generation);
        }
        let mut claimed = Bits::default();
        // A chunk that cannot be read ends the scan: what it and those behind it hold is unclaimed.
        while let Ok(Some(chunk)) = scan.next_chunk() {
            self.claim(&chunk, &mut claimed);
        }
        for (offset, blocks) in runs(self.live.of(segment).filter(|n| !claimed.contains(u64::from(*n)))) {
            self.report.add(Finding::Unclaimed { addr: self.space.address(segment, offset), blocks });
        }
        let Some(p) = head else { return };
        if let Some(offset) = self.live.of(segment).find(|n| *n >= p.next) {
            let addr = self.space.address(segment, offset);
            self.report.add(Finding::LiveAhead { head: p.head, segment, addr });
        }
        if scan.position() < p.next {
            self.report.add(Finding::LogGap { head: p.head, segment, end: scan.position(), next: p.next });
        }
    }

    /// Marks the payload blocks of a chunk whose records name the one that maps them now.
    fn claim(&self, chunk: &FoundChunk, claimed: &mut Bits) {
        let header = &chunk.header;
        for record in &chunk.records {
            match record {
                Record::Operation { edits, .. } => {
                    for edit in edits {
                        self.claim_edit(header, edit, claimed);
                    }
                }
                Record::Node { index, node } => {
                    let addr = header.payload(*index);
                    if self.node_address(*node) == Some(addr) {
                        self.mark(header, addr, claimed);
                    }
                }
                Record::Page { index, page } => {
                    let addr = header.payload(*index);
                    if self.page_address(*page) == Some(addr) {
                        self.mark(header, addr, claimed);
                    }
                }
            }
        }
    }

    fn claim_edit(&self, header: &ChunkHeader, edit: &Edit, claimed: &mut Bits) {
        let (ino, first, start, blocks) = match edit {
            Edit::Map { ino, first, extent } if extent.kind == ExtentKind::Data => {
                (*ino, *first, extent.addr, u64::from(extent.blocks))
            }
            Edit::Move { ino, first, new, crcs, .. } => (*ino, *first, *new, crcs.len() as u64),
            _ => return,
        };
        for addr in self.mapped_still(ino, first, start, blocks) {
            self.mark(header, addr, claimed);
        }
    }

    /// Addresses in `start..start + blocks` at which file blocks `first..` of `ino` stand now.
    fn mapped_still(&self, ino: Ino, first: u64, start: BlockAddr, blocks: u64) -> Vec<BlockAddr> {
        let end = first.saturating_add(blocks);
        let Ok(found) = self.volume.view(|view| overlapping(view, ino, first, end)) else {
            // Damage on the way to these items was told when the tree was walked; it says nothing about this record.
            return (0..blocks).filter_map(|n| start.0.checked_add(n)).map(BlockAddr).collect();
        };
        let mut still = Vec::new();
        for mapped in found.iter().filter(|m| m.extent.kind == ExtentKind::Data) {
            for block in mapped.first.max(first)..mapped.end().min(end) {
                let addr = mapped.extent.addr.0.checked_add(block - mapped.first);
                if addr.is_some() && addr == start.0.checked_add(block - first) {
                    still.extend(addr.map(BlockAddr));
                }
            }
        }
        still
    }

    /// A record speaks for blocks of its own chunk only.
    fn mark(&self, header: &ChunkHeader, addr: BlockAddr, claimed: &mut Bits) {
        let own = header.payload(0).0..header.payload(header.payload_blocks).0;
        if own.contains(&addr.0) {
            claimed.insert(addr.0 % u64::from(self.space.segment_blocks));
        }
    }

    fn node_address(&self, node: NodeId) -> Option<BlockAddr> {
        self.settle(|volume| volume.state.read().nodes.slot(0, node.0))
    }

    fn page_address(&self, page: PageId) -> Option<BlockAddr> {
        let levels = match page.table {
            TableId::Nodes => NODE_LEVELS,
            TableId::Segments => SEGMENT_LEVELS,
        };
        if page.level >= levels {
            return None;
        }
        self.settle(|volume| {
            let state = volume.state.read();
            match page.table {
                TableId::Nodes => state.nodes.page(page.level, page.index),
                TableId::Segments => state.segments.page(page.level, page.index),
            }
        })
    }

    /// Loads pages until the look-up has an answer.
    fn settle(&self, look: impl Fn(&Volume) -> Looked) -> Option<BlockAddr> {
        loop {
            match look(self.volume) {
                Looked::Found(at) => return (!at.is_absent()).then_some(at.addr),
                Looked::Missing(page, at) => load_page(&self.volume.state, &self.volume.log, page, at).ok()?,
            }
        }
    }
}
