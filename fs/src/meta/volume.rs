//! A mounted image below the namespace: plans become logged, applied operations; blocks are read and verified.
//!
//! Locks, in the order in which they may be taken: checkpoint, state, log (`lock_order`). None is held over I/O, except that checkpoints are taken
//! one at a time.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use gleanfs_gc::placement::{NoSeparation, Placement};
use gleanfs_gc::telemetry::Taps;

use crate::device::Device;
use crate::error::{Error, Result};
use crate::format::chunk::{PageId, TableId};
use crate::format::edit::Edit;
use crate::format::superblock::{Checkpoint, Identity};
use crate::format::table::{NODE_LEVELS, REFS_PER_PAGE, SEGMENT_LEVELS};
use crate::lock_order::{Mutex, Place, RwLock};
use crate::log::{Detours, KeptMemory, Log, Purpose};
use crate::types::{BLOCK_SIZE, BlockAddr, Ino, Lsn, NodeId, WriteClock};

use super::kinds::Kinds;
use super::load;
use super::radix::Looked;
use super::slots::Slots;
use super::space::LogRoom;
use super::state::State;
use super::view::View;
use super::witness::Witness;

/// Most blocks of payload that one [`Volume::write`] takes.
pub const WRITE_BLOCKS_MAX: u32 = crate::format::chunk::PAYLOAD_MAX;

/// Dirty metadata that a cache of any size allows: less would make a checkpoint of every few operations.
const DIRTY_BYTES_LEAST: usize = 4 << 20;

/// What a plan decided: edits that make one record, and what to tell the caller.
#[derive(Debug)]
pub struct Plan<T> {
    pub edits: Vec<Edit>,
    pub value: T,
}

/// What placement may know about a write.
#[derive(Clone, Copy, Debug)]
pub struct WriteHint {
    pub ino: Ino,
    pub first: u64,
    pub blocks: u32,
    /// Starts at or past the old end of the file.
    pub append: bool,
    /// Size of the file before, in bytes.
    pub file_size: u64,
}

/// Bytes that a record of an operation with payload may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RecordRoom {
    pub fixed: usize,
    pub per_block: usize,
}

/// Used blocks and their limits, in blocks of 4 KiB.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Blocks that users may fill, metadata included.
    pub capacity: u64,
    pub used: u64,
}

/// How to run a volume.
pub struct VolumeOptions {
    pub read_only: bool,
    /// Bytes of metadata nodes kept in memory.
    pub cache_bytes: usize,
    /// Threads that write chunks, which the owner starts (`Log::start_writers`); 0: everything happens on the caller's thread, deterministically.
    pub writer_threads: usize,
    /// Data heads; `None`: as many as the log can afford.
    pub heads: Option<u8>,
    /// Which head a block goes to.
    pub placement: Box<dyn Placement>,
    /// Where chunks outlive the process; those that another left there are written first.
    pub kept: Option<Arc<KeptMemory>>,
}

impl VolumeOptions {
    /// For a tool that opens a volume for itself: all on the caller's thread, and blocks are not told apart.
    pub fn of_tool(read_only: bool, cache_bytes: usize) -> Self {
        Self { read_only, cache_bytes, writer_threads: 0, heads: None, placement: Box::new(NoSeparation), kept: None }
    }
}

/// Bytes that tell what the filesystem cost, since mkfs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    pub user_bytes: u64,
    pub device_bytes: u64,
}

/// Blocks since the mount, by who chose the log head that they went to.
#[derive(Debug, Default)]
pub struct Placed {
    pub model: PlacedBlocks,
    pub fallback: PlacedBlocks,
    /// Moved in an emergency, when there is one head for all.
    pub emergency: PlacedBlocks,
}

/// See [`Placed`].
#[derive(Debug, Default)]
pub struct PlacedBlocks {
    pub user: AtomicU64,
    pub moved: AtomicU64,
}

impl Placed {
    /// Of a choice made with or without a model.
    pub(crate) fn by(&self, model: bool) -> &PlacedBlocks {
        if model { &self.model } else { &self.fallback }
    }
}

/// Who makes room when the log has none: the cleaner, which sits above this layer.
pub trait Relief: Send + Sync {
    /// Called with no lock held by an operation that found no room; returns when it is worth trying again, `NoSpace` if
    /// nothing can be done, `MustWait` if that takes time and the thread has none ([`super::patience`]).
    fn relieve(&self, volume: &Volume, purpose: Purpose) -> Result<()>;

    /// Takes a checkpoint because an operation needs what it gives back, and sees to it that it gives back more than it takes.
    fn checkpoint(&self, volume: &Volume) -> Result<()> {
        volume.checkpoint(false)
    }
}

/// Part of a checkpoint that is for cleaning alone when room is short and everything live is a node.
const CLEANING_SHARE: f64 = 0.9;
/// Segments that a checkpoint takes for what emptying one made dirty: a leaf for each block, their parents, pages of both tables.
const EMPTIED_DIRTIES: u32 = 2;
/// Table pages that a checkpoint can write where none were: a path down both tables.
const NEW_PAGES_MAX: u8 = NODE_LEVELS + SEGMENT_LEVELS;

/// What the checkpoint lock guards.
pub(crate) struct Checkpoints {
    pub slots: Slots,
    pub last: Checkpoint,
}

/// What growing changes.
#[derive(Clone, Debug)]
pub(crate) struct Shape {
    pub identity: Arc<Identity>,
    pub room: LogRoom,
}

/// A mounted image.
pub struct Volume {
    pub(crate) state: RwLock<State>,
    pub(crate) log: Arc<Log>,
    shape: RwLock<Shape>,
    pub(crate) checkpoints: Mutex<Checkpoints>,
    pub(crate) placement: Mutex<Box<dyn Placement>>,
    pub placed: Placed,
    pub(crate) kinds: Kinds,
    /// Who is told of writes, moves, discards and victims.
    pub taps: Arc<Taps>,
    pub(crate) heads: u8,
    pub(crate) cache_bytes: usize,
    pub(super) read_only: bool,
    pub(super) epoch: u64,
    pub(super) next_ino: AtomicU64,
    pub(crate) user_bytes: AtomicU64,
    user_bytes_before: u64,
    device_bytes_before: u64,
    /// Weak: the cleaner holds the volume.
    relief: OnceLock<Weak<dyn Relief>>,
    pub(crate) checkpoint_count: AtomicU64,
    pub(super) extension_count: AtomicU64,
    pub(super) last_checkpoint_lsn: AtomicU64,
    /// Where others learn what clients may know of.
    pub witness: OnceLock<Arc<Witness>>,
}

/// What a mount starts from; made by `roll_forward` and `mkfs`.
pub(crate) struct Foundation {
    pub identity: Identity,
    pub state: State,
    pub log: Arc<Log>,
    pub slots: Slots,
    pub last: Checkpoint,
    pub room: LogRoom,
    pub epoch: u64,
}

/// Leaves that the node table has at most.
fn node_table_leaves(state: &State) -> u64 {
    state.tree.next_node().0 / REFS_PER_PAGE as u64 + 1
}

impl Volume {
    pub(crate) fn assemble(base: Foundation, options: VolumeOptions) -> Self {
        let next_ino = base.state.next_ino;
        let written = base.log.device.traffic().written_bytes;
        Self {
            state: RwLock::new(Place::State, base.state),
            log: base.log,
            shape: RwLock::new(Place::Shape, Shape { identity: Arc::new(base.identity), room: base.room }),
            next_ino: AtomicU64::new(next_ino),
            user_bytes: AtomicU64::new(base.last.user_bytes),
            user_bytes_before: base.last.user_bytes,
            device_bytes_before: base.last.device_bytes.wrapping_sub(written),
            checkpoints: Mutex::new(Place::Checkpoint, Checkpoints { slots: base.slots, last: base.last }),
            placement: Mutex::new(Place::Placement, options.placement),
            placed: Placed::default(),
            kinds: Kinds::default(),
            taps: Arc::default(),
            heads: options.heads.unwrap_or(base.room.data_heads()).clamp(1, base.room.data_heads()),
            cache_bytes: options.cache_bytes,
            read_only: options.read_only,
            epoch: base.epoch,
            relief: OnceLock::new(),
            checkpoint_count: AtomicU64::new(0),
            extension_count: AtomicU64::new(0),
            last_checkpoint_lsn: AtomicU64::new(0),
            witness: OnceLock::new(),
        }
    }

    /// Names who makes room. Once, before the first operation.
    pub fn set_relief(&self, relief: Weak<dyn Relief>) {
        assert!(self.relief.set(relief).is_ok(), "relief is named once");
    }

    /// Has the log bring to this volume what its device refused. Before the first operation.
    pub fn attend(self: &Arc<Self>) {
        let detours: Weak<dyn Detours> = Arc::<Self>::downgrade(self);
        self.log.set_detours(detours);
    }

    pub(crate) fn relieve(&self, purpose: Purpose) -> Result<()> {
        self.log.failure()?;
        match self.relief.get().and_then(Weak::upgrade) {
            Some(relief) => relief.relieve(self, purpose),
            None => Err(Error::NoSpace),
        }
    }

    /// A checkpoint on behalf of an operation.
    pub(crate) fn checkpoint_for_room(&self) -> Result<()> {
        match self.relief.get().and_then(Weak::upgrade) {
            Some(relief) => relief.checkpoint(self),
            None => self.checkpoint(false),
        }
    }

    /// Whether an operation of this kind that waited should try again.
    pub(crate) fn has_room(&self, purpose: Purpose) -> bool {
        self.dirty_share() < 1.0 && self.log.has_room(purpose)
    }

    /// Whether an operation of this kind that found no room will find none before a checkpoint.
    pub(crate) fn only_checkpoint_helps(&self, purpose: Purpose) -> bool {
        self.dirty_share() >= 1.0 || !self.log.may_open(purpose)
    }

    /// Dirty nodes, as a share of what they may be.
    pub(crate) fn dirty_share(&self) -> f64 {
        self.dirty_share_of(&self.state.read())
    }

    /// Most dirty nodes of operations. Where room is short and most of what lives are nodes, a checkpoint has to be mostly cleaning, so little of it
    /// may be anything else (I5).
    fn dirty_nodes_max(&self, state: &State) -> usize {
        let room = self.room();
        let most = room.dirty_nodes_max(node_table_leaves(state));
        if self.log.available_segments() >= room.low_segments() {
            return most;
        }
        let nodes = state.node_share();
        (most as f64 * (1.0 - nodes * nodes * CLEANING_SHARE)) as usize
    }

    /// Whether there are as many dirty nodes as a checkpoint's reserve can take, whoever made them dirty.
    pub(crate) fn dirty_is_full(&self) -> bool {
        let state = self.state.read();
        state.tree.dirty_count() >= self.room().dirty_nodes_max(node_table_leaves(&state))
    }

    /// Segments that a checkpoint taken now opens at most.
    pub(crate) fn checkpoint_cost(&self) -> u32 {
        let room = self.room();
        let state = self.state.read();
        let dirty = state.tree.dirty_count() as u64;
        let entries_changed = dirty + state.tree.freed().len() as u64;
        // Pages that are there already, and the few that it can add.
        let leaves = entries_changed.min(node_table_leaves(&state));
        let pages = (leaves + u64::from(room.table_pages())).min(state.totals.table_blocks + u64::from(NEW_PAGES_MAX));
        drop(state);
        let left = self.log.node_head_room();
        (dirty + pages).saturating_sub(u64::from(left)).div_ceil(u64::from(room.payload_blocks())) as u32
    }

    /// Lends the cleaner one segment of the checkpoint's reserve, where what is dirty now and what emptying a segment makes dirty leave more of it than the next
    /// checkpoint can take (I5). For a cleaner that has nothing else left and nothing to come: else the log would stand still for ever beside segments that are
    /// nearly empty.
    pub(crate) fn lend_to_cleaner(&self) -> bool {
        let needed = self.checkpoint_cost() + EMPTIED_DIRTIES;
        self.log.lock().heads.lend_to_cleaner(needed as usize)
    }

    pub(crate) fn live_data_blocks(&self) -> u64 {
        self.state.read().totals.data_blocks
    }

    /// Checkpoints taken since the mount.
    pub fn checkpoints_done(&self) -> u64 {
        self.checkpoint_count.load(Ordering::Relaxed)
    }

    /// Extensions of the log since the mount.
    pub fn extensions_done(&self) -> u64 {
        self.extension_count.load(Ordering::Relaxed)
    }

    /// Whether a checkpoint now would differ from the last.
    pub(crate) fn changed_since_checkpoint(&self) -> bool {
        let dirty = self.state.read().tree.dirty_count() > 0;
        let last = self.last_checkpoint_lsn.load(Ordering::Relaxed);
        let inner = self.log.lock();
        dirty || inner.last_lsn().0 != last || inner.segments.prefree_count() > 0
    }

    /// Runs `read` on a consistent state. May run it several times (node misses).
    pub fn view<T>(&self, mut read: impl FnMut(&dyn View) -> Result<T>) -> Result<T> {
        self.look(|state| read(state))
    }

    /// The same with the state as it is, which hands out items without copying them.
    pub(crate) fn look<T>(&self, mut read: impl FnMut(&State) -> Result<T>) -> Result<T> {
        loop {
            let outcome = read(&self.state.read());
            match outcome {
                Err(Error::NodeMiss(id)) => self.load(id)?,
                outcome => return outcome,
            }
        }
    }

    /// Brings a node into memory, and others out where there are too many.
    pub(crate) fn load(&self, id: NodeId) -> Result<()> {
        load::load_node(&self.state, &self.log, id)?;
        self.trim_cache();
        Ok(())
    }

    /// Evicts nodes if more are cached than the user allows.
    fn trim_cache(&self) {
        let over = self.state.read().tree.memory_bytes() > self.cache_bytes;
        if over {
            self.trim_locked(&mut self.state.write());
        }
    }

    /// Evicts what the checkpoint has made evictable, used lately or not. Plans may have to load a node again, but not so often that they
    /// starve.
    pub(super) fn trim_after_checkpoint(&self) {
        let over = self.state.read().tree.memory_bytes() > self.cache_bytes;
        if over {
            self.state.write().tree.evict_to(self.cache_bytes / 16 * 15);
        }
    }

    /// The same for who has changed the state: what is created is never loaded, so growth has to be met here too.
    pub(crate) fn trim_locked(&self, state: &mut State) {
        if state.tree.memory_bytes() > self.cache_bytes {
            // A little below the limit, so that not every change evicts.
            state.tree.evict_unused_to(self.cache_bytes / 16 * 15);
        }
    }

    /// Dirty nodes can neither be evicted nor be more than the checkpoint's reserve takes (I5): their share of both limits, the larger one.
    pub(crate) fn dirty_share_of(&self, state: &State) -> f64 {
        let count = state.tree.dirty_count() as f64 / self.dirty_nodes_max(state) as f64;
        // Half of the cache, so that the other half holds what an operation needs at once.
        let bytes_max = (self.cache_bytes / 2).max(DIRTY_BYTES_LEAST);
        count.max(state.tree.dirty_bytes() as f64 / bytes_max as f64)
    }

    /// Has the next checkpoint write a table page elsewhere if it stands at `addr`. False if it does not.
    pub(crate) fn mark_page(&self, page: PageId, addr: BlockAddr) -> Result<bool> {
        loop {
            let mut state = self.state.write();
            let table = match page.table {
                TableId::Nodes => &mut state.nodes,
                TableId::Segments => &mut state.segments,
            };
            let (missing, at) = match table.page(page.level, page.index) {
                Looked::Found(at) if at.addr != addr => return Ok(false),
                Looked::Found(at) => (page, at),
                Looked::Missing(above, at) => (above, at),
            };
            if missing == page && page.table == TableId::Segments && page.level == 0 {
                self.log.lock().segments.mark_page(page.index);
                return Ok(true);
            }
            if table.refs(missing.level, missing.index).is_some() {
                table.mark_dirty(page.level, page.index);
                return Ok(true);
            }
            drop(state);
            load::load_page(&self.state, &self.log, missing, at)?;
        }
    }

    /// LSN of the newest committed operation.
    pub fn last_lsn(&self) -> Lsn {
        self.log.last_lsn()
    }

    pub fn write_clock(&self) -> WriteClock {
        self.log.write_clock()
    }

    pub fn usage(&self) -> Usage {
        Usage { capacity: self.capacity_blocks(), used: self.state.read().used_blocks() }
    }

    /// Blocks that users may fill: what the image says, without what the device has taken out of use since (I7).
    pub(super) fn capacity_blocks(&self) -> u64 {
        self.identity().capacity_blocks.saturating_sub(self.log.lock().segments.lost_room())
    }

    pub fn written(&self) -> Written {
        Written {
            user_bytes: self.user_bytes.load(Ordering::Relaxed),
            device_bytes: self.log.device.traffic().written_bytes.wrapping_add(self.device_bytes_before),
        }
    }

    /// Bytes of file data written since the mount.
    pub fn user_bytes_since_mount(&self) -> u64 {
        self.user_bytes.load(Ordering::Relaxed) - self.user_bytes_before
    }

    /// Bytes of metadata nodes in memory.
    pub fn cached_bytes(&self) -> usize {
        self.state.read().tree.memory_bytes()
    }

    /// Bytes of a segment.
    pub fn segment_bytes(&self) -> u64 {
        bytes_of(self.identity().segment_blocks)
    }

    /// Another placement from the next write on.
    pub fn set_placement(&self, placement: Box<dyn Placement>) {
        *self.placement.lock() = placement;
    }

    /// Log heads for data.
    pub fn heads(&self) -> u8 {
        self.heads
    }

    pub fn placement_name(&self) -> &'static str {
        self.placement.lock().name()
    }

    /// A fresh inode number, never given out before (also across crashes).
    pub fn allocate_ino(&self) -> Ino {
        Ino(self.next_ino.fetch_add(1, Ordering::Relaxed))
    }

    /// Key of the directory hash, secret to this image.
    pub fn hash_key(&self) -> [u8; 16] {
        self.identity().hash_key
    }

    pub fn identity(&self) -> Arc<Identity> {
        Arc::clone(&self.shape.read().identity)
    }

    pub(crate) fn room(&self) -> LogRoom {
        self.shape.read().room
    }

    pub(super) fn set_shape(&self, shape: Shape) {
        *self.shape.write() = shape;
    }

    pub fn device(&self) -> &Arc<dyn Device> {
        &self.log.device
    }

    pub fn log(&self) -> &Arc<Log> {
        &self.log
    }

    /// `Err(ReadOnly)` on a read-only mount, `Err(Latched)` after a failure that made it so.
    pub fn writable(&self) -> Result<()> {
        if self.read_only {
            return Err(Error::ReadOnly);
        }
        self.log.failure()
    }

    /// Segments that the device has refused, for good.
    pub fn bad_segments(&self) -> u32 {
        self.log.lock().segments.counts().bad
    }

    pub fn is_read_only(&self) -> bool {
        self.read_only
    }

    /// How the image contradicts itself, if it does: a read-only mount shows it all the same, a writable one is refused.
    pub(crate) fn contradiction(&self) -> Option<String> {
        if let Some(why) = self.log.lock().segments.broken() {
            return Some(why.to_owned());
        }
        self.log.failure().err().map(|e| e.to_string())
    }

    /// Stops all writing at once, as if the power were cut: for the shutdown ioctl and for tests.
    pub fn abandon(&self) {
        self.log.fail("the filesystem was shut down".into());
    }
}

/// Bytes in `blocks` blocks.
pub(crate) fn bytes_of(blocks: u32) -> u64 {
    u64::from(blocks) * BLOCK_SIZE as u64
}

impl std::fmt::Debug for Volume {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Volume").field("identity", &self.identity()).finish_non_exhaustive()
    }
}
