//! Emergency cleaning must not allocate: neither does the index after it was made, nor any choice from it.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use gleanfs_gc::index::UtilizationIndex;
use gleanfs_gc::segment::SegmentFacts;
use gleanfs_gc::victim::{self, VictimPolicy};

thread_local! {
    /// Allocations of this thread: the test harness has threads of its own.
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: every call is handed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller's contract is the same.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, p: *mut u8, layout: Layout) {
        // SAFETY: the caller's contract is the same.
        unsafe { System.dealloc(p, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// Fills the index, kills blocks at random and cleans the emptiest, as an emergency does.
fn churn(index: &mut UtilizationIndex, policies: &mut [Box<dyn VictimPolicy>]) -> u64 {
    let (mut rng, mut moved) = (7u64, 0);
    for now in 0..20_000u64 {
        rng = rng.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let seg = (rng >> 33) as u32 % index.slots();
        match index.get(seg).copied() {
            None => index.insert(SegmentFacts { seg, live: 512, capacity: 512, seal_clock: now, ..Default::default() }),
            Some(f) => index.set_live(seg, f.live - f.live.min(90), now),
        }
        if now % 4 == 0 {
            let policy = (now / 4) as usize % policies.len();
            moved += policies[policy].choose(index, now).map_or(0, |s| u64::from(s.live));
            moved += index.emptiest().and_then(|s| index.remove(s.seg)).map_or(0, |s| u64::from(s.live));
        }
    }
    moved
}

#[test]
fn the_index_and_every_policy_live_without_the_heap() {
    let mut index = UtilizationIndex::new(1000, 512);
    let mut policies: Vec<_> = victim::NAMES.iter().filter_map(|n| victim::by_name(n)).collect();
    let before = ALLOCATIONS.get();
    let moved = churn(&mut index, &mut policies);
    assert_eq!(ALLOCATIONS.get(), before);
    assert!(moved > 0 && before > 0);
}
