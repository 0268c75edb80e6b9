//! The one commit of a repair: all counts anew, nodes and tables into segments that nothing needs, a check of what was written, the slot.
//!
//! Until the slot is written the medium holds the state that was there, and nothing that it reaches, or that another attempt at a repair
//! might want, has been touched (I1). A state that would not come out clean is not committed.

use std::collections::HashSet;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::format::chunk::TableId;
use crate::format::superblock::{BlockRef, Checkpoint, Superblock};
use crate::format::table::{SEGMENTS_PER_PAGE, StoredSegment, StoredState};
use crate::fsck::{CheckOptions, Finding, ProgressFn, Report, Severity, check_superblock};
use crate::lock_order::{Place, RwLock};
use crate::log::Log;
use crate::meta::checkpoint::{self, Leftovers};
use crate::meta::radix::Radix;
use crate::meta::roll_forward::new_log;
use crate::meta::state::{State, Totals};
use crate::meta::volume::{Checkpoints, VolumeOptions};
use crate::types::{SegNo, WriteClock};

use super::open::Opened;
use super::rounds::Settled;

/// Writes the repaired state. `both_slots`: the slot that would be the fallback is not usable.
pub fn commit(
    opened: Opened,
    settled: &Settled,
    both_slots: bool,
    options: &CheckOptions,
    progress: ProgressFn<'_>,
) -> Result<()> {
    let plan = Plan::new(&opened, settled)?;
    let identity = opened.shop.volume.identity();
    let device = Arc::clone(opened.shop.volume.device());
    let clock = opened.shop.volume.write_clock();
    let room = opened.shop.volume.room();
    // Above that of all there is: chunks of a mount that this state is older than must not pass for news.
    let epoch = opened.checkpoint.epoch.max(opened.last_epoch) + 1;
    let log = new_log(Arc::clone(&device), &identity, &room, plan.capacity, &VolumeOptions::of_tool(false, 0));
    log.resume(&Checkpoint { write_clock: clock, ..Checkpoint::default() }, opened.tail_lsn().next(), epoch);
    plan.fill(&log, &opened, settled);
    let volume = opened.shop.volume;
    let Checkpoints { mut slots, last } = volume.checkpoints.into_inner();
    let state = RwLock::new(Place::State, counted(volume.state.into_inner(), settled));
    let mut taken = checkpoint::take(&mut state.write(), &log, &last, epoch, true, Leftovers::default())?;
    checkpoint::write(&mut taken, &state, &log)?;
    device.flush()?;
    (taken.checkpoint.user_bytes, taken.checkpoint.device_bytes) = (last.user_bytes, last.device_bytes);
    let mut superblock = Superblock { identity: (*identity).clone(), checkpoint: taken.checkpoint };
    verify(&device, &superblock, options, progress)?;
    slots.write(&superblock)?;
    device.flush()?; // The commit point: from here on the repaired state is the one that a mount starts from.
    if both_slots {
        superblock.checkpoint.sequence += 1;
        slots.write(&superblock)?;
        slots.write_copy(&identity)?;
        device.flush()?;
    }
    Ok(())
}

/// Refuses a state that is not clean, but for blocks that are yet to be written elsewhere.
fn verify(
    device: &Arc<dyn crate::device::Device>,
    superblock: &Superblock,
    options: &CheckOptions,
    progress: ProgressFn<'_>,
) -> Result<()> {
    let options = CheckOptions { read_data: false, ..*options };
    let report = check_superblock(Arc::clone(device), superblock, &options, Report::new(1 << 20), progress)?;
    let wrong = |f: &&Finding| f.severity() == Severity::Error && !matches!(f, Finding::Unclaimed { .. });
    match report.findings.iter().find(wrong) {
        None => Ok(()),
        Some(found) => Err(Error::Refused(format!("nothing was changed: after the repair there would be: {found}"))),
    }
}

/// Only what the table and the tree hold counts; nothing of the old tables does.
fn counted(mut state: State, settled: &Settled) -> State {
    let freed: HashSet<u64> = state.tree.take_freed().into_iter().map(|id| id.0).collect();
    let mut nodes = Radix::new(TableId::Nodes, BlockRef::ABSENT);
    let mut node_blocks = 0;
    for (id, at) in state.nodes.entries().filter(|(id, _)| !freed.contains(id)) {
        nodes.set(0, id, at);
        node_blocks += 1;
    }
    let totals = Totals {
        data_blocks: settled.counted.data,
        promised_blocks: settled.counted.promised,
        node_blocks,
        table_blocks: 0,
    };
    let next_ino = state.next_ino.max(settled.counted.ino_max.saturating_add(1));
    let segments = Radix::new(TableId::Segments, BlockRef::ABSENT);
    State { nodes, segments, totals, next_ino, ..state }
}

impl Opened {
    fn tail_lsn(&self) -> crate::types::Lsn {
        self.tail.last_lsn.max(self.checkpoint.lsn)
    }
}

/// Which segments are what, and which are written.
struct Plan {
    capacity: u32,
    frontier: SegNo,
    /// Segments to be written, in order: those first that were never used.
    allocation: Vec<SegNo>,
}

impl Plan {
    fn new(opened: &Opened, settled: &Settled) -> Result<Self> {
        let space = opened.shop.space;
        let used = settled.live.segments().chain(opened.segments.keys().copied()).max().map_or(0, |seg| seg.0 + 1);
        let before = SegNo(opened.checkpoint.frontier.0.max(used).clamp(space.first_segment.0, space.segments));
        let is_free = |seg: &SegNo| {
            let entry = opened.segments.get(seg).copied().unwrap_or_default();
            settled.live.count(*seg) == 0 && opened.shop.wanted.count(*seg) == 0 && entry.state != StoredState::Bad
        };
        let rank = |seg: &SegNo| match opened.segments.get(seg).map(|entry| entry.state) {
            _ if *seg >= before => 0,
            None | Some(StoredState::Free) => 1,
            Some(_) => 2,
        };
        let mut free: Vec<SegNo> = (space.first_segment.0..space.segments).map(SegNo).filter(is_free).collect();
        free.sort_by_key(|seg| (rank(seg), *seg));
        let needed = blocks_to_write(opened).div_ceil(u64::from(space.capacity - space.capacity.div_ceil(64) - 1)) + 2;
        free.truncate(needed as usize);
        if (free.len() as u64) < needed {
            let why = format!("nothing was changed: {needed} free segments are needed, there are {}", free.len());
            return Err(Error::Refused(why));
        }
        let frontier = free.iter().map(|seg| SegNo(seg.0 + 1)).max().map_or(before, |end| end.max(before));
        Ok(Self { capacity: space.capacity, frontier, allocation: free })
    }

    /// Tells the log what each segment is.
    fn fill(&self, log: &Log, opened: &Opened, settled: &Settled) {
        let mut inner = log.lock();
        let clock = inner.clock();
        inner.segments.set_frontier(self.frontier);
        for seg in (opened.shop.space.first_segment.0..self.frontier.0).map(SegNo) {
            let old = opened.segments.get(&seg).copied().unwrap_or_default();
            inner.segments.load(seg, &entry(old, settled.live.count(seg), clock), clock);
        }
        inner.segments.settle(&self.allocation.iter().copied().collect());
        for page in 0..=u64::from(self.frontier.0) / SEGMENTS_PER_PAGE as u64 {
            inner.segments.mark_page(page);
        }
        inner.heads.set_allocation(self.allocation.iter().copied());
        inner.heads.next_generation = opened.tail.next_generation.max(opened.checkpoint.next_generation);
    }
}

fn entry(old: StoredSegment, live: u32, clock: WriteClock) -> StoredSegment {
    let state = match old.state {
        StoredState::Bad => StoredState::Bad,
        _ if live > 0 => StoredState::Used,
        _ => return StoredSegment::default(),
    };
    let known = old.state == StoredState::Used;
    let time = |old: WriteClock| if known { old.min(clock) } else { clock };
    StoredSegment {
        state,
        live,
        opened: time(old.opened),
        sealed: time(old.sealed),
        invalidated: time(old.invalidated),
        ..old
    }
}

/// Nodes and table pages that the commit writes, at most.
fn blocks_to_write(opened: &Opened) -> u64 {
    let state = opened.shop.volume.state.read();
    let nodes = state.nodes.entries().count() as u64 + state.tree.dirty_count() as u64;
    // Ids may lie far apart: each leaf page may have few.
    let leaves = (nodes / 64 + 8).min(state.tree.next_node().0 / 252 + 8);
    let segments = u64::from(opened.shop.space.segments) / SEGMENTS_PER_PAGE as u64;
    state.tree.dirty_count() as u64 + leaves + leaves / 64 + segments + segments / 64 + 16
}
