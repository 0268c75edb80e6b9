//! What the front asks of the filesystem beside its namespace.

use std::time::Duration;

use crate::error::{Error, Result};

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

/// The mounted filesystem's controls; by default it has none.
pub trait Control: Send + Sync {
    /// `FITRIM`: tells the device of free space in `offset .. offset + len` in runs of at least `min_len` bytes; returns the bytes discarded.
    fn trim(&self, _offset: u64, _len: u64, _min_len: u64) -> Result<u64> {
        Err(Error::NotSupported)
    }

    /// `GOINGDOWN`: from here on every operation fails and nothing is written any more.
    fn shutdown(&self, _how: Shutdown) -> Result<()> {
        Err(Error::NotSupported)
    }

    /// For how long the answer to a write of `bytes` that was just done is to be held back.
    fn pause_after(&self, _bytes: u64) -> Duration {
        Duration::ZERO
    }
}
