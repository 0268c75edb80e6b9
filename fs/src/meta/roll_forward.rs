//! Opening a volume: the newest checkpoint, and the log after it.
//!
//! Roll-forward reads every chunk that can have been written since the checkpoint, sorts its operations by LSN and applies the longest
//! gap-free prefix. A gap below what a chunk says was flushed is damage, above it it is the tail that the crash took (I6). A
//! read-write mount then writes a checkpoint under a new epoch, so that what was left out is never taken for part of the log again.
//!
//! What is read need not be durable: the mount before may have ended with a flush that failed, after which a cache may show what no later flush saves. So a
//! read-write mount first writes once more what it starts from, as far as nothing says that it was flushed ([`anchor`]).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::device::aligned::AlignedBuf;
use crate::device::{Device, ZoneCondition};
use crate::error::{Error, Result};
use crate::format::chunk::{ChunkHeader, Record};
use crate::format::edit::Edit;
use crate::format::superblock::{Checkpoint, HEADS_MAX, HeadPosition, Identity, Superblock};
use crate::lock_order::{Place, RwLock};
use crate::log::scan::{FoundChunk, SegmentScan, payload_is_whole};
use crate::log::segments::{SegmentState, SegmentTable};
use crate::log::{Inner, Log, LogShape};
use crate::types::{BlockAddr, Lsn, SegNo};

use super::checkpoint::{contradiction, load_segments};
use super::load::load_node;
use super::slots::Slots;
use super::space::{LogRoom, SEGMENTS_MAX};
use super::state::State;
use super::volume::{Foundation, Volume, VolumeOptions};

/// Chunk buffers of a mount: with their threads' work in flight 20 MiB.
const CHUNK_BUFFERS: usize = 32;

/// What was found of the log after the checkpoint.
#[derive(Default)]
struct Tail {
    operations: BTreeMap<Lsn, Vec<Edit>>,
    /// Largest LSN that was known to be durable.
    flushed: Lsn,
    /// Segments that have chunks, in the order in which they were opened.
    segments: Vec<HeadPosition>,
    next_generation: u64,
    /// Whole chunks of which nothing says that they were flushed.
    unflushed: Vec<ChunkHeader>,
}

impl Tail {
    /// Takes the flushed marks of chunks behind the one at which `scan` ended. They name nothing to be applied, but a torn write is behind all that
    /// was flushed: where a mark behind it reaches further, it is no torn write but damage.
    fn look_beyond(&mut self, mut scan: SegmentScan<'_>, checkpoint: &Checkpoint) -> Result<()> {
        while scan.skip_damage()? {
            while let Some(FoundChunk { header, .. }) = scan.next_chunk()? {
                if header.epoch != checkpoint.epoch {
                    // Leftovers: what this mount wrote here would stand before them.
                    return Ok(());
                }
                self.flushed = self.flushed.max(header.flushed);
            }
        }
        Ok(())
    }
}

impl Volume {
    /// Opens the filesystem on `device`. A read-only volume never writes; of a dirty image it shows the state that a read-write mount
    /// would restore.
    pub fn open(device: Arc<dyn Device>, options: VolumeOptions) -> Result<Self> {
        let mut slots = Slots::new(Arc::clone(&device))?;
        let superblock = slots.read()?;
        Self::open_from(device, slots, superblock, options)
    }

    /// The state that `superblock` names, whether or not a slot holds it: for a check.
    pub(crate) fn open_at(device: Arc<dyn Device>, superblock: Superblock, options: VolumeOptions) -> Result<Self> {
        let slots = Slots::new(Arc::clone(&device))?;
        Self::open_from(device, slots, superblock, options)
    }

    fn open_from(
        device: Arc<dyn Device>,
        mut slots: Slots,
        superblock: Superblock,
        options: VolumeOptions,
    ) -> Result<Self> {
        let Superblock { identity, checkpoint } = superblock;
        check_identity(&identity, &*device, &slots, options.read_only)?;
        let capacity = segment_capacity(&*device, identity.first_segment)?;
        let room = LogRoom { segments: identity.segments - identity.first_segment.0, segment_blocks: capacity };
        let log = new_log(device, &identity, &room, capacity, &options);
        if !options.read_only && !checkpoint.clean {
            log.write_left(checkpoint.epoch);
        }
        let state = RwLock::new(Place::State, State::open(&checkpoint));
        load_segments(&state, &log, &checkpoint)?;
        preload_next_node(&state, &log)?;
        let mut tail = if checkpoint.clean { expect_no_log(&log, &checkpoint)? } else { read_tail(&log, &checkpoint)? };
        if !options.read_only {
            anchor(&mut slots, &log, &identity, &checkpoint, std::mem::take(&mut tail.unflushed))?;
        }
        let last_lsn = Lsn(checkpoint.lsn.0 + tail.operations.len() as u64);
        let left = restore_heads(&log, &checkpoint, &tail, capacity)?;
        log.resume(&checkpoint, last_lsn, checkpoint.epoch + 1);
        let user_blocks = replay(&state, &log, tail.operations)?;
        settle(&log, &checkpoint, &left, options.read_only)?;
        if !options.read_only {
            let table = checkpoint.segment_table;
            // Counts that are wrong would have the log write over what is there (I1, I3).
            log.lock().segments.broken().map_or(Ok(()), |why| Err(contradiction(table, why)))?;
            log.failure()?;
        }
        let mut last = checkpoint;
        last.user_bytes += user_blocks * crate::types::BLOCK_SIZE as u64;
        let base = Foundation { identity, state: state.into_inner(), log, slots, epoch: last.epoch + 1, last, room };
        let read_only = options.read_only;
        let volume = Self::assemble(base, options);
        if !read_only {
            // A host without room is no reason not to mount: files can be removed. If the checkpoint needs some, it says so.
            if let Err(e) = volume.log.prepare(2) {
                tracing::warn!("{e}");
            }
            // The log goes on under the new epoch only once the medium knows it.
            volume.checkpoint(false)?;
            if let Some(kept) = &volume.log.kept {
                kept.forget();
            }
        }
        Ok(volume)
    }
}

/// Blocks that can be written in each segment.
pub(crate) fn segment_capacity(device: &dyn Device, first: SegNo) -> Result<u32> {
    Ok(device.zone(first.0)?.capacity_blocks)
}

pub(crate) fn new_log(
    device: Arc<dyn Device>,
    identity: &Identity,
    room: &LogRoom,
    capacity: u32,
    options: &VolumeOptions,
) -> Arc<Log> {
    let zoned = device.geometry().zoned;
    let shape = LogShape {
        fsid: identity.fsid,
        segment_blocks: identity.segment_blocks,
        first_segment: identity.first_segment,
        segments: identity.segments,
        heads: options.heads.unwrap_or(room.data_heads()),
        buffers: if options.read_only { 1 } else { CHUNK_BUFFERS },
        threads: if options.read_only { 0 } else { options.writer_threads },
        zoned,
    };
    let segments = SegmentTable::new(identity.first_segment, identity.segments, capacity);
    let log = Log::new(device, shape, segments, options.kept.clone().filter(|_| !options.read_only));
    log.lock().heads.reserves = room.reserves();
    log
}

/// Refuses an image that this code must not touch, or that does not fit its device.
pub(crate) fn check_identity(identity: &Identity, device: &dyn Device, slots: &Slots, read_only: bool) -> Result<()> {
    let unknown = |what: &str, bits: u64| {
        Err(Error::Refused(format!("the image uses {what} features {bits:#x} that this version does not know")))
    };
    if identity.features.incompatible != 0 {
        return unknown("incompatible", identity.features.incompatible);
    }
    if identity.features.read_only_compatible != 0 && !read_only {
        return unknown("read-only compatible", identity.features.read_only_compatible);
    }
    if identity.segments > SEGMENTS_MAX {
        return Err(Error::Refused(format!(
            "the image has {} segments, more than the {SEGMENTS_MAX} there can be",
            identity.segments
        )));
    }
    let geometry = device.geometry();
    if geometry.zone_blocks != identity.segment_blocks || identity.first_segment != slots.first_segment() {
        return Err(Error::Refused("the image's segments do not fit the device's zones".into()));
    }
    let needed = u64::from(identity.segments) * u64::from(identity.segment_blocks);
    if geometry.address_blocks() < needed {
        let (have, need) = (geometry.address_blocks() * 4, needed * 4);
        return Err(Error::Refused(format!("the image is cut off: it has {have} KiB of {need} KiB")));
    }
    Ok(())
}

/// Makes the slot and the end of the log durable before anything that builds on them is. The same bytes go to the same places. A zone takes a slot once more, but no
/// other bytes: for the end of the log there it has to do that zones are written past all caches of the host.
fn anchor(
    slots: &mut Slots,
    log: &Log,
    identity: &Identity,
    checkpoint: &Checkpoint,
    unflushed: Vec<ChunkHeader>,
) -> Result<()> {
    slots.write(&Superblock { identity: identity.clone(), checkpoint: checkpoint.clone() })?;
    for header in unflushed.into_iter().filter(|_| !log.shape.zoned) {
        let mut bytes = AlignedBuf::new(header.blocks() as usize);
        log.device.read(header.addr, &mut bytes)?;
        log.put(header.addr, &bytes)?;
    }
    log.flush_once()
}

/// Reads every chunk that may have been written since `checkpoint`.
fn read_tail(log: &Log, checkpoint: &Checkpoint) -> Result<Tail> {
    let mut tail = Tail { next_generation: checkpoint.next_generation, ..Tail::default() };
    let mut chunks = Vec::new();
    for point in &checkpoint.scan {
        let scan = segment_scan(log, point.segment, point.next).of_generation(point.generation);
        if !read_segment(scan, checkpoint, 0, &mut tail, &mut chunks)? {
            tail.look_beyond(segment_scan(log, point.segment, point.next), checkpoint)?;
        }
    }
    // Listed segments are opened in order, but for what a torn write or damage has made of their beginnings.
    let mut unopened = Vec::new();
    for segment in &checkpoint.allocation {
        let scan = segment_scan(log, *segment, 0);
        let is_opened = match read_segment(scan, checkpoint, checkpoint.next_generation, &mut tail, &mut chunks) {
            // A failure that may pass must not make a mount of less than was acknowledged. A zone that is gone stays gone: what of the log was in it is
            // lost, and the gap is damage if it is known to have been flushed.
            Err(e) if is_offline(log, *segment) => {
                tracing::error!("what may have been written to segment {segment} is lost: {e}");
                continue;
            }
            read => read?,
        };
        if is_opened {
            unopened.drain(..).try_for_each(|seg| tail.look_beyond(segment_scan(log, seg, 0), checkpoint))?;
        } else {
            unopened.push(*segment);
        }
    }
    unopened.into_iter().take(HEADS_MAX).try_for_each(|seg| tail.look_beyond(segment_scan(log, seg, 0), checkpoint))?;
    let known = checkpoint.extended.unwrap_or(checkpoint.lsn);
    let marks = chunks.iter().map(|c| c.header.flushed);
    tail.flushed = marks.fold(tail.flushed.max(known), Lsn::max);
    for chunk in chunks {
        // What was flushed is whole; reading it again would only cost time.
        if chunk.header.lsn_last > tail.flushed {
            if !payload_is_whole(&*log.device, &chunk)? {
                continue;
            }
            tail.unflushed.push(chunk.header);
        }
        for record in chunk.records {
            if let Record::Operation { lsn, edits } = record
                && lsn > checkpoint.lsn
            {
                check_places(&chunk.header, &edits)?;
                tail.operations.insert(lsn, edits);
            }
        }
    }
    cut_at_gap(&mut tail, checkpoint.lsn)?;
    Ok(tail)
}

fn is_offline(log: &Log, segment: SegNo) -> bool {
    log.device.zone(segment.0).is_ok_and(|zone| zone.condition == ZoneCondition::Offline)
}

/// The blocks that a record maps stand in the payload of its own chunk.
fn check_places(header: &ChunkHeader, edits: &[Edit]) -> Result<()> {
    let payload = header.payload(0)..header.payload(header.payload_blocks);
    let mut written = edits.iter().flat_map(Edit::blocks_written);
    match written.find(|(addr, _)| !payload.contains(addr)) {
        Some((addr, _)) => {
            let why = format!("a record of the chunk at block {} maps block {addr}, which is not its own", header.addr);
            Err(Error::Damaged { what: "log", addr: header.addr, why })
        }
        None => Ok(()),
    }
}

fn segment_scan(log: &Log, segment: SegNo, from: u32) -> SegmentScan<'_> {
    let capacity = log.lock().segments.capacity(segment);
    SegmentScan::new(&*log.device, log.shape.fsid, segment, log.address(segment, 0), from, capacity)
}

/// A later mount logs operations only once a slot with its epoch is durable. So if there are such, that slot was lost, and this checkpoint is not the
/// newest. (Nodes of a checkpoint that a crash has cut off carry the later epoch, too.)
fn refuse_newer(checkpoint: &Checkpoint, header: &ChunkHeader) -> Result<()> {
    if header.epoch <= checkpoint.epoch || header.lsn_last == Lsn::default() {
        return Ok(());
    }
    let why = format!("chunk at block {} was logged by a later mount, whose checkpoint is not there", header.addr);
    Err(Error::Damaged { what: "superblock", addr: BlockAddr::NONE, why })
}

/// After a clean checkpoint nothing was logged, unless a later one was lost: looks where a mount would have gone on.
fn expect_no_log(log: &Log, checkpoint: &Checkpoint) -> Result<Tail> {
    let heads = checkpoint.heads.iter().map(|p| (p.segment, p.next));
    let listed = checkpoint.allocation.iter().take(HEADS_MAX).map(|segment| (*segment, 0));
    for (segment, from) in heads.chain(listed) {
        // What cannot be read there is needed by nobody.
        if let Ok(Some(chunk)) = segment_scan(log, segment, from).next_chunk() {
            refuse_newer(checkpoint, &chunk.header)?;
        }
    }
    Ok(Tail::default())
}

/// Collects the chunks of one segment that belong to the log after `checkpoint`; those of an earlier mount or of an earlier life
/// of the segment do not. False if there are none.
fn read_segment(
    mut scan: SegmentScan<'_>,
    checkpoint: &Checkpoint,
    first_generation: u64,
    tail: &mut Tail,
    chunks: &mut Vec<FoundChunk>,
) -> Result<bool> {
    let mut position = None;
    while let Some(chunk) = scan.next_chunk()? {
        refuse_newer(checkpoint, &chunk.header)?;
        let ChunkHeader { head, epoch, generation, .. } = chunk.header;
        if epoch != checkpoint.epoch || generation < first_generation || usize::from(head) >= HEADS_MAX {
            break;
        }
        position = Some(HeadPosition { head, segment: scan.segment(), next: scan.position(), generation });
        chunks.push(chunk);
    }
    let Some(position) = position else { return Ok(false) };
    tail.next_generation = tail.next_generation.max(position.generation + 1);
    tail.segments.push(position);
    tail.look_beyond(scan, checkpoint)?;
    Ok(true)
}

/// Keeps the longest prefix without a gap (I6).
fn cut_at_gap(tail: &mut Tail, from: Lsn) -> Result<()> {
    let mut expected = from.next();
    for lsn in tail.operations.keys() {
        if *lsn != expected {
            break;
        }
        expected = expected.next();
    }
    if expected <= tail.flushed {
        return Err(Error::Damaged {
            what: "log",
            addr: BlockAddr::NONE,
            why: format!("operation {expected} is missing, though everything up to {} was flushed", tail.flushed),
        });
    }
    tail.operations.split_off(&expected);
    Ok(())
}

/// Brings the segments and heads to where the log ends: each head goes on in the segment that it opened last. Returns the
/// segments that were written and that no head goes on with.
fn restore_heads(log: &Log, checkpoint: &Checkpoint, tail: &Tail, capacity: u32) -> Result<BTreeSet<SegNo>> {
    let mut last: BTreeMap<u8, HeadPosition> = BTreeMap::new();
    // Later in these lists is later in time.
    for position in checkpoint.heads.iter().chain(&tail.segments) {
        last.insert(position.head, *position);
    }
    let mut left: BTreeSet<SegNo> = checkpoint.heads.iter().chain(&tail.segments).map(|p| p.segment).collect();
    let mut kept = Vec::new();
    for position in last.into_values() {
        if resumable(log, &position, capacity)? {
            left.remove(&position.segment);
            kept.push(position);
        }
    }
    let mut inner = log.lock();
    for position in tail.segments.iter().filter(|p| checkpoint.allocation.contains(&p.segment)) {
        let (seg, head, clock) = (position.segment, position.head, checkpoint.write_clock);
        let entry = inner.segments.get(seg);
        if checkpoint.extended.is_some() {
            inner.segments.open_again(seg, head, clock);
        } else if (entry.state, entry.live) == (SegmentState::Free, 0) {
            inner.segments.open(seg, head, clock);
        } else {
            return Err(damaged_list(format!(
                "segment {seg} was written after the checkpoint, and was {:?} in it",
                entry.state
            )));
        }
    }
    // Those that no head goes on with are sealed only after replay: on the way an operation may take the last live block of one,
    // and a later one bring others.
    for position in checkpoint.heads.iter().chain(&tail.segments).filter(|p| left.contains(&p.segment)) {
        inner.segments.reopen(position.segment, position.head);
    }
    for position in kept {
        inner.segments.reopen(position.segment, position.head);
        inner.heads.resume_head(&position, capacity);
    }
    let opened: BTreeSet<SegNo> = tail.segments.iter().map(|p| p.segment).collect();
    inner.heads.set_allocation(checkpoint.allocation.iter().copied().filter(|seg| !opened.contains(seg)));
    inner.heads.next_generation = tail.next_generation.max(checkpoint.next_generation);
    Ok(left)
}

/// After replay: segments that no head goes on with are sealed, and what is free becomes known.
fn settle(log: &Log, checkpoint: &Checkpoint, left: &BTreeSet<SegNo>, read_only: bool) -> Result<()> {
    if log.shape.zoned && !read_only {
        for seg in left {
            if let Err(e) = log.device.finish(seg.0) {
                log.note_unfinished(*seg, &e);
            }
        }
    }
    let mut inner = log.lock();
    let clock = inner.clock();
    for seg in left {
        inner.segments.seal(*seg, clock);
    }
    inner.segments.settle(&checkpoint.allocation.iter().copied().collect());
    if !read_only {
        give_back_listed(&mut inner, checkpoint)?;
    }
    Ok(())
}

fn damaged_list(why: String) -> Error {
    Error::Damaged { what: "allocation list", addr: BlockAddr::NONE, why }
}

/// What the slot lists and the log has not opened is free. An extension lists segments that the checkpoint knows as used; that they can be
/// written is durable, and whatever was in them has been counted out (I2). Anything else would be overwritten data.
fn give_back_listed(inner: &mut Inner, checkpoint: &Checkpoint) -> Result<()> {
    let listed: Vec<SegNo> = inner.heads.listed().collect();
    let mut seen = BTreeSet::new();
    for seg in listed {
        if !seen.insert(seg) {
            return Err(damaged_list(format!("segment {seg} is to be written twice")));
        }
        match inner.segments.get(seg).state {
            SegmentState::Free => {}
            SegmentState::Prefree if checkpoint.extended.is_some() => inner.segments.release(seg, true),
            state => {
                return Err(damaged_list(format!("segment {seg} is to be written, and is {state:?}")));
            }
        }
    }
    Ok(())
}

/// A conventional segment can be written from `next` on; a zone only where its pointer is.
fn resumable(log: &Log, position: &HeadPosition, capacity: u32) -> Result<bool> {
    if position.next >= capacity {
        return Ok(false);
    }
    let zone = log.device.zone(position.segment.0)?;
    Ok(!zone.condition.has_failed() && zone.write_pointer.is_none_or(|pointer| pointer == position.next))
}

/// Applies the operations; returns the blocks of user data in them.
fn replay(state: &RwLock<State>, log: &Log, operations: BTreeMap<Lsn, Vec<Edit>>) -> Result<u64> {
    let mut user_blocks = 0;
    for (_, edits) in operations {
        loop {
            let mut locked = state.write();
            match locked.prepare(&edits) {
                Ok(()) => {
                    locked.apply(&edits, log);
                    break;
                }
                Err(Error::NodeMiss(id)) => {
                    drop(locked);
                    load_node(state, log, id)?;
                }
                Err(e) => return Err(e),
            }
        }
        let ticks = user_ticks(&edits);
        user_blocks += ticks;
        log.lock().tick(ticks);
    }
    Ok(user_blocks)
}

/// Blocks that users wrote: what was mapped, not what was moved.
pub(crate) fn user_ticks(edits: &[Edit]) -> u64 {
    let mapped = edits.iter().filter(|edit| matches!(edit, Edit::Map { .. }));
    mapped.map(|edit| edit.blocks_written().count() as u64).sum()
}

/// New nodes get their table entries without waiting: the page for the next one is in memory.
fn preload_next_node(state: &RwLock<State>, log: &Log) -> Result<()> {
    loop {
        let next = state.read().tree.next_node();
        let looked = state.read().nodes.slot(0, next.0);
        match looked {
            super::radix::Looked::Found(_) => return check_unused(&state.read()),
            super::radix::Looked::Missing(page, at) => super::load::load_page(state, log, page, at)?,
        }
    }
}

/// The node table must have nothing for numbers that were never given out: a new node would come in its place.
fn check_unused(state: &State) -> Result<()> {
    let next = state.tree.next_node().0;
    if state.nodes.is_empty_from(0, next) {
        return Ok(());
    }
    let why = format!("it has nodes from number {next} on, which was never given out");
    Err(Error::Damaged { what: "node table", addr: state.nodes.root().addr, why })
}
