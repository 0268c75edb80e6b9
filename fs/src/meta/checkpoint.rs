//! Checkpoints: writing a consistent state in the background of running operations.
//!
//! 1. Under the state lock, for as long as it takes to walk the dirty nodes: take them (shared, copied on the next change), assign an
//!    address to each, to each changed table page and, to a fixed point, to each page of the segment table that these assignments
//!    change. Addresses come before contents, so counts are exact (I3).
//! 2. Without it: write out the log up to the state, encode and write nodes and pages bottom up, flush.
//! 3. Write the superblock slot and flush: **the commit point**. 4. Give back the segments that were prefree in the state (I2).
//!
//! What the device refuses before step 3 costs the checkpoint and not the mount: it is given up ([`give_up`]) and another one is taken, whose nodes go to other
//! segments.

use std::collections::HashSet;
use std::sync::Arc;

use crate::device::aligned::AlignedBuf;
use crate::error::{Error, Result};
use crate::format::chunk::{CHUNK_BLOCKS_MAX, ChunkHeader, PageId, TableId, encode_node, encode_page};
use crate::format::node::{Node, NodeStamp};
use crate::format::superblock::{ALLOCATION_MAX, BlockRef, Checkpoint, SCAN_MAX};
use crate::format::table::{Page, SEGMENTS_PER_PAGE, StoredSegment};
use crate::lock_order::RwLock;
use crate::log::{Inner, Log, NODE_HEAD, PlannedChunk, Planner};
use crate::types::{BLOCK_SIZE, BlockAddr, Lsn, NodeId, SegNo};

use super::radix::{Looked, Radix};
use super::state::State;

/// What stands behind one planned address.
enum Block {
    Node(NodeId, Arc<Node>),
    /// A page of references, encoded when the checksums below it are known.
    Refs(PageId),
    Segments(PageId, Vec<StoredSegment>),
}

/// A state taken for a checkpoint.
pub struct Taken {
    /// Without the tables' roots, which are final once all pages are encoded.
    pub checkpoint: Checkpoint,
    blocks: Vec<Block>,
    chunks: Vec<PlannedChunk>,
    /// Segments that the node head opened and left while planning.
    opened: Vec<SegNo>,
    left: Vec<SegNo>,
    freed_ids: Vec<NodeId>,
    /// Free once the checkpoint is durable; those in front join the allocation list.
    prefree: Vec<SegNo>,
    listed_prefree: usize,
    /// Never used segments that join the allocation list.
    fresh: Vec<SegNo>,
    /// Chunks that had been taken elsewhere when the state was taken: one more, and the state names addresses of before.
    pub detours: u64,
}

/// What a checkpoint that was given up leaves to the next one.
#[derive(Default)]
pub struct Leftovers {
    freed_ids: Vec<NodeId>,
    fresh: Vec<SegNo>,
}

/// Planning under both locks.
struct Plan<'a> {
    state: &'a mut State,
    inner: &'a mut Inner,
    log: &'a Log,
    planner: Planner<'a>,
    blocks: Vec<Block>,
}

/// Takes the state for a checkpoint. The caller holds the state lock and is the only one who takes checkpoints.
pub fn take(
    state: &mut State,
    log: &Log,
    last: &Checkpoint,
    epoch: u64,
    clean: bool,
    before: Leftovers,
) -> Result<Taken> {
    let mut inner = log.lock();
    inner.check()?;
    let lsn = inner.last_lsn();
    let mut plan = Plan { state, inner: &mut inner, log, planner: Planner::new(log), blocks: Vec::new() };
    let mut freed_ids = plan.clear_freed()?;
    freed_ids.extend(before.freed_ids);
    plan.assign_nodes()?;
    plan.assign_tables()?;
    let Plan { planner, mut blocks, .. } = plan;
    let Planner { chunks, left, opened, .. } = planner;
    if let Some(why) = inner.segments.broken() {
        return Err(contradiction(last.segment_table, why));
    }
    for block in &mut blocks {
        if let Block::Segments(page, entries) = block {
            *entries = inner.segments.stored_page(page.index);
        }
    }
    let prefree = inner.segments.prefree();
    let remaining: Vec<SegNo> = inner.heads.listed().collect();
    let mut fresh = before.fresh;
    let room = ALLOCATION_MAX.saturating_sub(remaining.len() + fresh.len());
    let listed_prefree = prefree.len().min(room);
    fresh.extend(inner.segments.take_free(room - listed_prefree));
    let allocation = remaining.iter().chain(&prefree[..listed_prefree]).chain(&fresh).copied().collect();
    let scan = inner.heads.scan_points(|addr| log.place(addr));
    assert!(scan.len() <= SCAN_MAX, "more chunks are being filled than a checkpoint can list");
    let checkpoint = Checkpoint {
        sequence: last.sequence + 1,
        epoch,
        lsn,
        clean,
        write_clock: inner.clock(),
        next_node: state.tree.next_node().0,
        next_ino: state.next_ino,
        next_generation: inner.heads.next_generation,
        node_table: state.nodes.root(),
        segment_table: state.segments.root(),
        frontier: inner.segments.frontier(),
        data_blocks: state.totals.data_blocks,
        promised_blocks: state.totals.promised_blocks,
        node_blocks: state.totals.node_blocks,
        table_blocks: state.totals.table_blocks,
        user_bytes: 0,
        device_bytes: 0,
        heads: inner.heads.positions(),
        scan,
        allocation,
        extended: None,
    };
    inner.checkpoint_taken(&checkpoint.scan);
    let detours = inner.detours();
    Ok(Taken { checkpoint, blocks, chunks, opened, left, freed_ids, prefree, listed_prefree, fresh, detours })
}

impl Plan<'_> {
    /// Nodes freed since the last checkpoint lose their table entries and their blocks.
    fn clear_freed(&mut self) -> Result<Vec<NodeId>> {
        let freed = self.state.tree.take_freed();
        for id in &freed {
            let old = self.state.nodes.set(0, id.0, BlockRef::ABSENT);
            if self.dies(old) {
                let nodes = &mut self.state.totals.node_blocks;
                *nodes = nodes.checked_sub(1).ok_or_else(|| {
                    contradiction(self.state.segments.root(), "there are fewer nodes than were freed")
                })?;
            }
        }
        Ok(freed)
    }

    fn assign_nodes(&mut self) -> Result<()> {
        for (id, node) in self.state.tree.take_dirty() {
            let at = self.assign(Block::Node(id, node))?;
            let old = self.state.nodes.set(0, id.0, at);
            if !self.dies(old) {
                self.state.totals.node_blocks += 1;
            }
        }
        Ok(())
    }

    /// Assigns pages until none is left that the assignments have changed.
    fn assign_tables(&mut self) -> Result<()> {
        let mut done: HashSet<PageId> = HashSet::new();
        loop {
            let page = if let Some(page) = self.state.nodes.take_dirty() {
                page
            } else if let Some(index) = self.inner.segments.take_dirty_page() {
                PageId { table: TableId::Segments, level: 0, index }
            } else if let Some(page) = self.state.segments.take_dirty() {
                page
            } else {
                return Ok(());
            };
            // A page whose address is assigned may change again: its contents are taken at the end.
            if done.insert(page) {
                self.assign_page(page)?;
            }
        }
    }

    fn assign_page(&mut self, page: PageId) -> Result<()> {
        let leaf = page.table == TableId::Segments && page.level == 0;
        let at = self.assign(if leaf { Block::Segments(page, Vec::new()) } else { Block::Refs(page) })?;
        let old = self.table(page.table).set_page(page.level, page.index, at);
        if !self.dies(old) {
            self.state.totals.table_blocks += 1;
        }
        Ok(())
    }

    fn table(&mut self, table: TableId) -> &mut Radix {
        match table {
            TableId::Nodes => &mut self.state.nodes,
            TableId::Segments => &mut self.state.segments,
        }
    }

    fn assign(&mut self, block: Block) -> Result<BlockRef> {
        let addr = self.planner.next(self.inner)?;
        self.inner.segments.born(self.log.place(addr).0, 1);
        self.blocks.push(block);
        Ok(BlockRef { addr, crc: 0 })
    }

    /// The block at `old` is not needed by this state any more. False if there was none.
    fn dies(&mut self, old: BlockRef) -> bool {
        if old.is_absent() {
            return false;
        }
        let clock = self.inner.clock();
        self.inner.segments.died(self.log.place(old.addr).0, 1, clock);
        true
    }
}

/// Writes everything that `taken` holds; what is left is the flush and the superblock. No lock is held over I/O.
pub fn write(taken: &mut Taken, state: &RwLock<State>, log: &Log) -> Result<()> {
    for seg in &taken.opened {
        if let Err(e) = log.make_ready(*seg) {
            if log.is_beyond_use(*seg) {
                log.condemn(*seg, &e);
            }
            return Err(e);
        }
    }
    let order = write_order(&taken.blocks);
    let mut placed: Vec<BlockAddr> = Vec::with_capacity(taken.blocks.len());
    for chunk in &taken.chunks {
        placed.extend((1..=u64::from(chunk.payload)).map(|n| chunk.start.offset(n)));
    }
    let images = Images::encode(taken, state, log, &order, &placed);
    let mut buf = AlignedBuf::new(CHUNK_BLOCKS_MAX as usize);
    let mut first = 0;
    for chunk in &taken.chunks {
        let blocks = first..first + chunk.payload as usize;
        write_chunk(log, chunk, &taken.blocks[blocks.clone()], &images, first, taken.checkpoint.lsn, &mut buf)?;
        first = blocks.end;
    }
    let state = state.read();
    taken.checkpoint.node_table = state.nodes.root();
    taken.checkpoint.segment_table = state.segments.root();
    Ok(())
}

/// Indices of `blocks` such that whatever a page refers to comes before it.
fn write_order(blocks: &[Block]) -> Vec<usize> {
    let rank = |block: &Block| match block {
        Block::Node(..) => 0,
        Block::Segments(..) => 1,
        Block::Refs(page) => 2 + page.level,
    };
    let mut order: Vec<usize> = (0..blocks.len()).collect();
    order.sort_by_key(|n| rank(&blocks[*n]));
    order
}

/// Encoded pages, which are few. Nodes are encoded twice rather than kept: once for their checksum, once into the
/// chunk's buffer.
struct Images {
    pages: std::collections::HashMap<usize, Box<[u8]>>,
}

impl Images {
    fn encode(taken: &Taken, state: &RwLock<State>, log: &Log, order: &[usize], placed: &[BlockAddr]) -> Self {
        let (fsid, lsn) = (log.shape.fsid, taken.checkpoint.lsn);
        let mut pages = std::collections::HashMap::new();
        let mut block = Box::new([0; BLOCK_SIZE]);
        for n in order.iter().copied() {
            let addr = placed[n];
            match &taken.blocks[n] {
                Block::Node(id, node) => {
                    let crc = node.encode(NodeStamp { node: *id, lsn, fs_id: fsid }, &mut block);
                    state.write().nodes.set_crc(0, id.0, addr, crc);
                }
                Block::Segments(page, entries) => {
                    let crc = Page::Segments(entries.clone()).encode(*page, fsid, lsn, &mut block[..]);
                    state.write().segments.set_page_crc(0, page.index, addr, crc);
                    pages.insert(n, Box::from(&block[..]));
                }
                Block::Refs(page) => {
                    let mut state = state.write();
                    let table = match page.table {
                        TableId::Nodes => &mut state.nodes,
                        TableId::Segments => &mut state.segments,
                    };
                    let refs = table.refs(page.level, page.index).expect("a dirty page is in memory").to_vec();
                    let crc = Page::Refs(refs).encode(*page, fsid, lsn, &mut block[..]);
                    table.set_page_crc(page.level, page.index, addr, crc);
                    pages.insert(n, Box::from(&block[..]));
                }
            }
        }
        Self { pages }
    }
}

fn write_chunk(
    log: &Log,
    chunk: &PlannedChunk,
    blocks: &[Block],
    images: &Images,
    first: usize,
    lsn: Lsn,
    buf: &mut AlignedBuf,
) -> Result<()> {
    let mut summary = Vec::new();
    for (index, block) in blocks.iter().enumerate() {
        let at = (1 + index) * BLOCK_SIZE;
        let bytes: &mut [u8; BLOCK_SIZE] = (&mut buf[at..at + BLOCK_SIZE]).try_into().expect("one block");
        match block {
            Block::Node(id, node) => {
                node.encode(NodeStamp { node: *id, lsn, fs_id: log.shape.fsid }, bytes);
                encode_node(index as u32, *id, &mut summary);
            }
            Block::Segments(page, _) | Block::Refs(page) => {
                bytes.copy_from_slice(&images.pages[&(first + index)]);
                encode_page(index as u32, *page, &mut summary);
            }
        }
    }
    let header = ChunkHeader {
        head: NODE_HEAD,
        fsid: log.shape.fsid,
        addr: chunk.start,
        epoch: log.epoch(),
        generation: chunk.generation,
        flushed: log.flushed_lsn(),
        write_clock: log.write_clock(),
        payload_blocks: chunk.payload,
        summary_bytes: summary.len() as u32,
        ..ChunkHeader::default()
    };
    let len = header.blocks() as usize * BLOCK_SIZE;
    debug_assert_eq!(header.blocks(), 1 + chunk.payload, "the planner left no room for an overflow");
    header.seal(&summary, &mut buf[..BLOCK_SIZE], &mut []);
    log.put(chunk.start, &buf[..len]).inspect_err(|e| log.condemn(log.place(chunk.start).0, e))?;
    Ok(())
}

/// Gives up a checkpoint of which no slot was written. What it would have written is dirty again, and the node head leaves the segments that it was laid out in:
/// what was written there is followed by a gap, behind which nobody would look.
pub fn give_up(taken: Taken, state: &RwLock<State>, log: &Log) -> Leftovers {
    let mut state = state.write();
    for block in &taken.blocks {
        match block {
            Block::Node(id, _) => {
                // A node that was freed since is not there; the next checkpoint clears its entry.
                state.tree.mark_dirty(*id);
                state.tree.written([*id]);
            }
            Block::Refs(PageId { table: TableId::Nodes, level, index }) => state.nodes.mark_dirty(*level, *index),
            Block::Refs(PageId { table: TableId::Segments, level, index }) => state.segments.mark_dirty(*level, *index),
            Block::Segments(page, _) => log.lock().segments.mark_page(page.index),
        }
    }
    drop(state);
    let at = log.lock().heads.heads[usize::from(NODE_HEAD)].segment.take();
    for seg in taken.left.iter().copied().chain(at.map(|s| s.seg)) {
        log.leave_segment(seg);
    }
    Leftovers { freed_ids: taken.freed_ids, fresh: taken.fresh }
}

/// The checkpoint is durable: what only older ones needed is given back (I2).
pub fn release(taken: &Taken, state: &RwLock<State>, log: &Log) {
    {
        let mut state = state.write();
        state.tree.reusable(taken.freed_ids.iter().copied());
        state.tree.written(taken.blocks.iter().filter_map(|block| match block {
            Block::Node(id, _) => Some(*id),
            _ => None,
        }));
    }
    for seg in &taken.left {
        log.leave_segment(*seg);
    }
    give_back(log, &taken.prefree, taken.listed_prefree);
    let mut inner = log.lock();
    inner.heads.allocation.extend(&taken.fresh);
    inner.heads.end_loan();
    inner.segments.bring_back();
    drop(inner);
    log.notify();
}

/// A slot is durable by which `prefree` are free (I2): empties them on the medium. It lists the first `listed` of them.
pub(super) fn give_back(log: &Log, prefree: &[SegNo], listed: usize) {
    let emptied: Vec<bool> = prefree
        .iter()
        .map(|seg| {
            let emptied = log.empty(*seg);
            if let Err(e) = &emptied {
                log.condemn(*seg, e);
            }
            emptied.is_ok()
        })
        .collect();
    let mut inner = log.lock();
    for (n, (seg, is_empty)) in prefree.iter().zip(emptied).enumerate() {
        if !is_empty {
            continue;
        }
        inner.segments.release(*seg, n < listed);
        if n < listed {
            inner.heads.allocation.push_back(*seg);
        }
    }
}

/// Counts on the medium that are not those of what is there.
pub(super) fn contradiction(table: BlockRef, why: &str) -> Error {
    Error::Damaged { what: "segment table", addr: table.addr, why: why.into() }
}

/// Loads the whole segment table, leaf by leaf, into `segments`, and its index pages into the state.
pub fn load_segments(state: &RwLock<State>, log: &Log, checkpoint: &Checkpoint) -> Result<()> {
    log.lock().segments.set_frontier(checkpoint.frontier);
    let pages = u64::from(checkpoint.frontier.0).div_ceil(SEGMENTS_PER_PAGE as u64);
    for index in 0..pages {
        let at = find_leaf(state, log, index)?;
        if at.is_absent() {
            continue;
        }
        let page = PageId { table: TableId::Segments, level: 0, index };
        let Page::Segments(entries) = super::load::read_page(log, page, at)? else {
            return Err(Error::Damaged { what: "segment table", addr: at.addr, why: "not a leaf".into() });
        };
        load_page_entries(log, index, &entries, checkpoint);
    }
    log.lock().segments.clear_dirty();
    // A segment opened later gets a page of its own, which must not come in the place of another.
    find_leaf(state, log, pages)?;
    if !state.read().segments.is_empty_from(1, pages) {
        return Err(contradiction(checkpoint.segment_table, "it has entries beyond the frontier"));
    }
    Ok(())
}

/// Where leaf `index` of the segment table stands; loads the pages on the way.
fn find_leaf(state: &RwLock<State>, log: &Log, index: u64) -> Result<BlockRef> {
    loop {
        let looked = state.read().segments.page(0, index);
        match looked {
            Looked::Found(at) => return Ok(at),
            Looked::Missing(page, at) => super::load::load_page(state, log, page, at)?,
        }
    }
}

fn load_page_entries(log: &Log, index: u64, entries: &[StoredSegment], checkpoint: &Checkpoint) {
    let mut inner = log.lock();
    for (n, entry) in entries.iter().enumerate() {
        let seg = SegNo((index as usize * entries.len() + n) as u32);
        if seg >= log.shape.first_segment && seg < checkpoint.frontier {
            inner.segments.load(seg, entry, checkpoint.write_clock);
        }
    }
}
