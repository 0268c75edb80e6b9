//! A mounted image below the namespace: plans become logged, applied operations; blocks are read and verified.

use crate::error::Result;
use crate::format::edit::Edit;
use crate::format::value::Extent;
use crate::types::{Ino, Lsn, WriteClock};

use super::view::View;

/// Most blocks of payload that one [`Volume::write`] takes.
pub const WRITE_BLOCKS_MAX: u32 = 128;

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

/// A mounted image.
#[derive(Debug)]
pub struct Volume {}

/// Used blocks and their limits, in blocks of 4 KiB.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Blocks that users may fill, metadata included.
    pub capacity: u64,
    pub used: u64,
}

impl Volume {
    /// Runs `read` on a consistent state. May run it several times (node misses).
    pub fn view<T>(&self, _read: impl FnMut(&dyn View) -> Result<T>) -> Result<T> {
        unreachable!("the volume is being built")
    }

    /// Plans and commits one operation: `plan` runs on the newest state with all other operations held off, its edits become
    /// one record and take effect. An error of `plan` changes nothing. `NoSpace` if the edits need more room than is left;
    /// edits that only free or replace never fail so. An empty list of edits logs nothing.
    ///
    /// Edits are at most a few KiB when encoded (`RECORD_BYTES_MAX`): long work is cut into several operations.
    pub fn transact<T>(&self, _plan: impl FnMut(&dyn View) -> Result<Plan<T>>) -> Result<T> {
        unreachable!("the volume is being built")
    }

    /// The same with `hint.blocks` blocks of payload (at most [`WRITE_BLOCKS_MAX`]): `fill` writes them into the log's buffer (the
    /// one copy), then `plan` gets them as data extents in order, each to be mapped by an `Edit::Map` at its place
    /// (`birth` and `interval_log2` are filled in by the volume when it commits).
    pub fn write<T>(
        &self,
        _hint: &WriteHint,
        _fill: impl FnOnce(&mut [u8]),
        _plan: impl FnMut(&dyn View, &[Extent]) -> Result<Plan<T>>,
    ) -> Result<T> {
        unreachable!("the volume is being built")
    }

    /// Reads `buf.len()` bytes (whole blocks) of file data from block `first` on, verified; holes and unwritten extents read as zeros.
    /// The caller deals with the file's size. `buf` aligned to a block spares a copy.
    pub fn read(&self, _ino: Ino, _first: u64, _buf: &mut [u8]) -> Result<()> {
        unreachable!("the volume is being built")
    }

    /// Makes every operation committed so far durable; group commit, one flush.
    pub fn sync(&self) -> Result<()> {
        unreachable!("the volume is being built")
    }

    /// LSN of the newest committed operation.
    pub fn last_lsn(&self) -> Lsn {
        unreachable!("the volume is being built")
    }

    pub fn write_clock(&self) -> WriteClock {
        unreachable!("the volume is being built")
    }

    pub fn usage(&self) -> Usage {
        unreachable!("the volume is being built")
    }

    /// A fresh inode number, never given out before (also across crashes).
    pub fn allocate_ino(&self) -> Ino {
        unreachable!("the volume is being built")
    }

    /// Key of the directory hash, secret to this image.
    pub fn hash_key(&self) -> [u8; 16] {
        unreachable!("the volume is being built")
    }

    /// `Err(ReadOnly)` on a read-only mount, `Err(Latched)` after a failure that made it so.
    pub fn writable(&self) -> Result<()> {
        unreachable!("the volume is being built")
    }
}
