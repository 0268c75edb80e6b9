//! The cache of nodes: what is dirty, what a checkpoint has in flight, what may be evicted.
//!
//! Nodes that can be evicted stand in a ring; a node that was used since the hand passed gets a second chance.
//! Dirty nodes and nodes in flight leave the ring when the hand meets them and return once they are written.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::format::node::Node;
use crate::types::NodeId;

/// Fibonacci hashing of one integer: node ids are dense and chosen by us, so nothing stronger is needed.
#[derive(Clone, Copy, Debug, Default)]
struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|b| self.write_u64(u64::from(*b)));
    }
    fn write_u64(&mut self, v: u64) {
        let product = (self.0 ^ v).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = product ^ product >> 32;
    }
}

#[derive(Debug)]
struct Slot {
    node: Arc<Node>,
    /// What `node` counts for in `Cache::bytes`.
    bytes: usize,
    /// Changed since a checkpoint took it last.
    dirty: bool,
    /// Checkpoints that took it and have not told that it is written.
    flights: u32,
    in_ring: bool,
    /// Used since the hand passed.
    referenced: AtomicBool,
}

#[derive(Debug)]
pub(super) struct Cache {
    slots: HashMap<NodeId, Slot, BuildHasherDefault<IdHasher>>,
    /// May name nodes that are gone or no longer evictable.
    ring: VecDeque<NodeId>,
    /// Every dirty node, and maybe ids of freed ones.
    dirty: Vec<NodeId>,
    dirty_count: usize,
    dirty_bytes: usize,
    bytes: usize,
}

/// Dirty nodes for which there is room from the start; far more than are dirty at once but on the largest devices.
const DIRTY_ROOM: usize = 16 << 10;

impl Default for Cache {
    fn default() -> Self {
        Self {
            slots: HashMap::default(),
            ring: VecDeque::new(),
            dirty: Vec::with_capacity(DIRTY_ROOM),
            dirty_count: 0,
            dirty_bytes: 0,
            bytes: 0,
        }
    }
}

impl Cache {
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn dirty_count(&self) -> usize {
        self.dirty_count
    }

    pub(super) fn dirty_bytes(&self) -> usize {
        self.dirty_bytes
    }

    /// The node, which counts as used.
    pub(super) fn get(&self, id: NodeId) -> Option<&Node> {
        let slot = self.slots.get(&id)?;
        // A store for each lookup would make the cache line bounce between readers.
        if !slot.referenced.load(Ordering::Relaxed) {
            slot.referenced.store(true, Ordering::Relaxed);
        }
        Some(&slot.node)
    }

    /// The node, without counting as used.
    pub(super) fn peek(&self, id: NodeId) -> Option<&Arc<Node>> {
        self.slots.get(&id).map(|slot| &slot.node)
    }

    /// Adds a clean node unless it is there.
    pub(super) fn install(&mut self, id: NodeId, node: Arc<Node>) {
        if !self.slots.contains_key(&id) {
            self.add(id, node, false);
        }
    }

    /// Adds a new, dirty node.
    pub(super) fn create(&mut self, id: NodeId, node: Node) {
        // A reader that was slow to load a node may have installed it after it was freed.
        if let Some(stale) = self.slots.remove(&id) {
            debug_assert!(!stale.dirty && stale.flights == 0, "node {id} exists");
            self.bytes -= stale.bytes;
        }
        self.add(id, Arc::new(node), true);
    }

    fn add(&mut self, id: NodeId, node: Arc<Node>, dirty: bool) {
        let bytes = slot_bytes(&node);
        self.bytes += bytes;
        let slot = Slot { node, bytes, dirty, flights: 0, in_ring: false, referenced: AtomicBool::new(true) };
        self.slots.insert(id, slot);
        if dirty {
            self.dirty.push(id);
            self.dirty_count += 1;
            self.dirty_bytes += bytes;
        } else {
            self.enter_ring(id);
        }
    }

    /// Changes a node, which becomes dirty. A copy that others hold stays as it is.
    ///
    /// # Panics
    /// If the node is not cached: the change was not prepared.
    pub(super) fn modify<T>(&mut self, id: NodeId, change: impl FnOnce(&mut Node) -> T) -> T {
        let marked = self.mark_dirty(id);
        let Some(slot) = self.slots.get_mut(&id) else {
            panic!("metadata node {id} is not in memory: the change was not prepared")
        };
        debug_assert!(marked);
        let answer = change(Arc::make_mut(&mut slot.node));
        let bytes = slot_bytes(&slot.node);
        self.bytes = self.bytes - slot.bytes + bytes;
        self.dirty_bytes = self.dirty_bytes - slot.bytes + bytes;
        slot.bytes = bytes;
        answer
    }

    pub(super) fn mark_dirty(&mut self, id: NodeId) -> bool {
        let Some(slot) = self.slots.get_mut(&id) else { return false };
        if !slot.dirty {
            slot.dirty = true;
            self.dirty.push(id);
            self.dirty_count += 1;
            self.dirty_bytes += slot.bytes;
        }
        true
    }

    /// Takes a node out.
    ///
    /// # Panics
    /// If it is not cached.
    pub(super) fn remove(&mut self, id: NodeId) -> Node {
        let slot = self.slots.remove(&id).expect("a node that is freed is in memory");
        self.bytes -= slot.bytes;
        self.dirty_count -= usize::from(slot.dirty);
        self.dirty_bytes -= if slot.dirty { slot.bytes } else { 0 };
        Arc::unwrap_or_clone(slot.node)
    }

    pub(super) fn take_dirty(&mut self) -> Vec<(NodeId, Arc<Node>)> {
        let mut taken = Vec::with_capacity(self.dirty_count);
        // Emptied and not given away: the next node that becomes dirty finds room, also when there is no memory.
        for id in self.dirty.drain(..) {
            if let Some(slot) = self.slots.get_mut(&id).filter(|slot| slot.dirty) {
                slot.dirty = false;
                slot.flights += 1;
                taken.push((id, Arc::clone(&slot.node)));
            }
        }
        debug_assert_eq!(taken.len(), self.dirty_count);
        self.dirty_count = 0;
        self.dirty_bytes = 0;
        taken
    }

    pub(super) fn written(&mut self, id: NodeId) {
        let Some(slot) = self.slots.get_mut(&id) else { return };
        slot.flights = slot.flights.saturating_sub(1);
        if slot.flights == 0 && !slot.dirty && !slot.in_ring {
            self.enter_ring(id);
        }
    }

    fn enter_ring(&mut self, id: NodeId) {
        // Freed nodes leave their ids behind; sweep them out before they outnumber the others.
        if self.ring.len() > 2 * self.slots.len() + 64 {
            self.ring.clear();
            self.ring.extend(self.slots.iter().filter(|(_, slot)| slot.in_ring).map(|(id, _)| *id));
        }
        if let Some(slot) = self.slots.get_mut(&id) {
            slot.in_ring = true;
            self.ring.push_back(id);
        }
    }

    /// Evicts nodes until at most `bytes` are cached. In one round only nodes go that nobody used since the round before; in two
    /// every clean one.
    pub(super) fn evict_to(&mut self, bytes: usize, rounds: usize) {
        let mut chances = rounds * self.ring.len();
        while self.bytes > bytes && chances > 0 {
            chances -= 1;
            let Some(id) = self.ring.pop_front() else { return };
            // Not there: a freed node's id.
            let Some(slot) = self.slots.get_mut(&id).filter(|slot| slot.in_ring) else { continue };
            if slot.dirty || slot.flights > 0 {
                slot.in_ring = false;
            } else if slot.referenced.swap(false, Ordering::Relaxed) {
                self.ring.push_back(id);
            } else {
                self.bytes -= slot.bytes;
                self.slots.remove(&id);
            }
        }
    }

    /// Verifies the counters against the slots.
    pub(super) fn check(&self) -> Result<(), String> {
        let bytes: usize = self.slots.values().map(|slot| slot_bytes(&slot.node)).sum();
        if bytes != self.bytes {
            return Err(format!("cached nodes take {bytes} bytes, counted {}", self.bytes));
        }
        let dirty: Vec<usize> = self.slots.values().filter(|slot| slot.dirty).map(|slot| slot.bytes).collect();
        let (count, bytes) = (dirty.len(), dirty.iter().sum::<usize>());
        if (count, bytes) != (self.dirty_count, self.dirty_bytes) {
            let counted = (self.dirty_count, self.dirty_bytes);
            return Err(format!("{count} nodes of {bytes} bytes are dirty, counted {} of {}", counted.0, counted.1));
        }
        Ok(())
    }
}

/// What a cached node costs: itself, its slot, its place in the ring.
fn slot_bytes(node: &Node) -> usize {
    node.memory_bytes() + size_of::<(NodeId, Slot)>() + 2 * size_of::<NodeId>()
}
