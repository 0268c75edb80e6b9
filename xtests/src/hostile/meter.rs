//! An allocator that counts, so that a bound on memory can be demanded.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// No honest caller asks for so much at once; who does gets nothing, and the program ends with its name.
const REQUEST_MAX: usize = 1 << 30;

static LIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

/// The system's allocator with counters; to be a program's `#[global_allocator]`.
pub struct Meter;

// SAFETY: every request is handed on to `System` as it is, or refused with null.
unsafe impl GlobalAlloc for Meter {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if layout.size() > REQUEST_MAX {
            return std::ptr::null_mut();
        }
        let live = LIVE.fetch_add(layout.size(), Relaxed) + layout.size();
        PEAK.fetch_max(live, Relaxed);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, start: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Relaxed);
        // SAFETY: the caller's promises are passed on; `start` came from `System`.
        unsafe { System.dealloc(start, layout) }
    }
}

/// Most bytes that were in use at once while `run` ran, beyond what was in use before. 0 where the program has another allocator.
pub fn peak_of(run: impl FnOnce()) -> usize {
    let before = LIVE.load(Relaxed);
    PEAK.store(before, Relaxed);
    run();
    PEAK.load(Relaxed).saturating_sub(before)
}

/// Whether this program's allocator counts.
pub fn is_installed() -> bool {
    drop(std::hint::black_box(vec![0u8; 100]));
    // Only it raises this, whatever other threads give back meanwhile.
    PEAK.load(Relaxed) > 0
}
