//! Shared memory as the model checker loom has it: every interleaving of a few threads is run, and every value that the orders of the accesses let a
//! load see.
//!
//! Words are of two kinds. *Positions* are what both sides look at at any time: atomics of the model. All other words are *contents*, which
//! the positions hand from one side to the other: an access to one that no order puts behind the last access of the other side ends the
//! run, whatever value it would have seen. One order can be taken away, to show that a scene needs it.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{self, Ordering};

use loom::cell::Cell;
use loom::sync::atomic::AtomicU64;
use parking_lot::Mutex;

use super::{Atomic64, SharedWords};

/// A kind of access to the word at an offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    Load(usize),
    Store(usize),
}

/// A word that several threads look at.
pub(crate) struct Position {
    word: AtomicU64,
    offset: usize,
    weak: Option<Access>,
}

impl Position {
    /// Zero. Accesses of kind `weak` have no order.
    pub(crate) fn new(offset: usize, weak: Option<Access>) -> Self {
        Self { word: AtomicU64::new(0), offset, weak }
    }

    fn order(&self, access: Access, order: Ordering) -> Ordering {
        if self.weak == Some(access) { Ordering::Relaxed } else { order }
    }
}

impl Atomic64 for Position {
    fn load(&self, order: Ordering) -> u64 {
        self.word.load(self.order(Access::Load(self.offset), order))
    }

    fn store(&self, value: u64, order: Ordering) {
        self.word.store(value, self.order(Access::Store(self.offset), order));
    }
}

/// See the module's description. Lives within one run of [`explore`].
pub(crate) struct Modelled {
    positions: BTreeMap<usize, Position>,
    contents: Mutex<BTreeMap<usize, Cell<u64>>>,
}

impl Modelled {
    /// Zeros, of which those at `positions` are positions.
    pub(crate) fn new(positions: impl IntoIterator<Item = usize>, weak: Option<Access>) -> Self {
        let positions = positions.into_iter().map(|offset| (offset, Position::new(offset, weak))).collect();
        Self { positions, contents: Mutex::default() }
    }

    fn content<R>(&self, offset: usize, access: impl FnOnce(&Cell<u64>) -> R) -> R {
        access(self.contents.lock().entry(offset).or_insert_with(|| Cell::new(0)))
    }
}

impl SharedWords for Modelled {
    fn load_u32(&self, offset: usize, order: Ordering) -> u32 {
        self.load_u64(offset, order) as u32
    }

    fn store_u32(&self, offset: usize, value: u32, order: Ordering) {
        self.store_u64(offset, value.into(), order);
    }

    fn load_u64(&self, offset: usize, order: Ordering) -> u64 {
        match self.positions.get(&offset) {
            Some(word) => word.load(order),
            None => self.content(offset, Cell::get),
        }
    }

    fn store_u64(&self, offset: usize, value: u64, order: Ordering) {
        match self.positions.get(&offset) {
            Some(word) => word.store(value, order),
            None => self.content(offset, |cell| cell.set(value)),
        }
    }
}

/// Two ends of a ring each own its memory.
impl SharedWords for Arc<Modelled> {
    fn load_u32(&self, offset: usize, order: Ordering) -> u32 {
        (**self).load_u32(offset, order)
    }

    fn store_u32(&self, offset: usize, value: u32, order: Ordering) {
        (**self).store_u32(offset, value, order);
    }

    fn load_u64(&self, offset: usize, order: Ordering) -> u64 {
        (**self).load_u64(offset, order)
    }

    fn store_u64(&self, offset: usize, value: u64, order: Ordering) {
        (**self).store_u64(offset, value, order);
    }
}

/// What goes through a ring while both sides are at it: two, or `GLEANFS_RACES=N` for hours.
pub(crate) fn rounds() -> u64 {
    std::env::var("GLEANFS_RACES").map_or(2, |rounds| rounds.parse().expect("GLEANFS_RACES is a number"))
}

/// Runs `scene` in every way in which its threads may interleave; how many those are. With `LOOM_MAX_PREEMPTIONS=N`, only those in which threads are
/// interrupted at most so often.
pub(crate) fn explore(scene: impl Fn() + Send + Sync + 'static) -> u64 {
    let runs = Arc::new(atomic::AtomicU64::new(0));
    let counted = runs.clone();
    loom::model(move || {
        counted.fetch_add(1, Ordering::Relaxed);
        scene();
    });
    runs.load(Ordering::Relaxed)
}

/// Demands that `scene` holds as it is, and does not if any of `needed` has no order.
pub(crate) fn explore_and_weaken(needed: &[Access], scene: impl Fn(Option<Access>) + Copy + Send + Sync + 'static) {
    let runs = explore(move || scene(None));
    println!("{runs} interleavings");
    assert!(runs > 1, "there is nothing to interleave");
    for &access in needed {
        let found = catch_unwind(AssertUnwindSafe(|| explore(move || scene(Some(access)))));
        assert!(found.is_err(), "{access:?} without an order makes no difference");
    }
}
