//! Traffic counters: what a device was really given, shared by all implementations; the place where a debug build looks at the locks held over I/O.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::Traffic;
use crate::lock_order::assert_fit_for_io;

/// Counts of a device since it was opened. Bytes are counted as the kernel takes them, so a transfer that fails half-way
/// counts by half.
#[derive(Debug, Default)]
pub struct Counters {
    read_bytes: AtomicU64,
    written_bytes: AtomicU64,
    writes: AtomicU64,
    flushes: AtomicU64,
    resets: AtomicU64,
}

impl Counters {
    /// One read call moved `bytes`.
    pub fn count_read(&self, bytes: usize) {
        assert_fit_for_io();
        self.read_bytes.fetch_add(bytes as u64, Relaxed);
    }

    /// One write call moved `bytes`.
    pub fn count_write(&self, bytes: usize) {
        assert_fit_for_io();
        self.written_bytes.fetch_add(bytes as u64, Relaxed);
        self.writes.fetch_add(1, Relaxed);
    }

    /// One flush of the device succeeded.
    pub fn count_flush(&self) {
        assert_fit_for_io();
        self.flushes.fetch_add(1, Relaxed);
    }

    /// One zone was reset.
    pub fn count_reset(&self) {
        assert_fit_for_io();
        self.resets.fetch_add(1, Relaxed);
    }

    /// The counts now.
    pub fn traffic(&self) -> Traffic {
        Traffic {
            read_bytes: self.read_bytes.load(Relaxed),
            written_bytes: self.written_bytes.load(Relaxed),
            writes: self.writes.load(Relaxed),
            flushes: self.flushes.load(Relaxed),
            resets: self.resets.load(Relaxed),
        }
    }
}
