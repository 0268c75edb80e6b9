//! What the front asks of the filesystem beside its namespace.

use std::time::Duration;

use crate::error::Result;

/// How much to save before going down (Linux: `EXT4_GOING_FLAGS_*`, `XFS_FSOP_GOING_FLAGS_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shutdown {
    /// Everything accepted is made durable.
    FullSync,
    /// What is in the log is made durable.
    LogSync,
    /// Nothing: as if the power failed.
    NoSync,
}

/// The mounted filesystem's controls.
pub trait Control: Send + Sync {
    /// `FITRIM`: tells the device of free space in `offset .. offset + len` in runs of at least `min_len` bytes; returns the bytes discarded.
    fn trim(&self, offset: u64, len: u64, min_len: u64) -> Result<u64>;

    /// `GOINGDOWN`: from here on every operation fails and nothing is written any more.
    fn shutdown(&self, how: Shutdown) -> Result<()>;

    /// For how long the answer to a write of `bytes` that was just done is to be held back.
    fn pause_after(&self, _bytes: u64) -> Duration {
        Duration::ZERO
    }
}
