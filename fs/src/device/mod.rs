//! The backing store, seen as zones that are written front to back.
//!
//! The lowest layer: knows bytes, zones and durability, nothing of segments' contents. All users go
//! through [`Device`]; a conventional device reports sequential zones of the segment size that do not
//! mind being rewritten. [`open`] tells the kinds of backing store apart; [`memory`] is the one for tests.

pub mod blkzoned;
pub mod block;
pub mod counters;
pub mod file;
pub mod geometry;
pub mod lock;
pub mod memory;
pub mod open;
pub mod rules;
pub mod zoned;

mod direct;
mod ioctl;

pub mod aligned;

use std::io;

use crate::types::BlockAddr;

pub use aligned::AlignedBuf;
pub use memory::MemoryDevice;
pub use open::{DeviceKind, OpenMode, OpenedDevice};
pub use rules::{ZoneFault, ZonedSpec};

/// What the device says of one zone (Linux: `struct blk_zone`, `include/uapi/linux/blkzoned.h`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Zone {
    /// First block.
    pub start: BlockAddr,
    /// Length in blocks, as addressed.
    pub size_blocks: u32,
    /// Blocks that can be written, `<= size_blocks`.
    pub capacity_blocks: u32,
    /// Write pointer relative to `start`, in blocks. `None` where the zone has none (conventional
    /// zones, and every zone of a conventional device).
    pub write_pointer: Option<u32>,
    pub kind: ZoneKind,
    /// Always `Open` for a conventional zone, unless it is read-only or offline; such a zone takes no slot.
    pub condition: ZoneCondition,
}

/// Whether a zone takes random writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ZoneKind {
    Conventional,
    Sequential,
}

/// A zone's condition as far as it concerns us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ZoneCondition {
    Empty,
    Open,
    Closed,
    Full,
    ReadOnly,
    Offline,
}

impl ZoneCondition {
    /// The device takes no writes to it and will not empty it any more.
    pub fn has_failed(self) -> bool {
        matches!(self, Self::ReadOnly | Self::Offline)
    }
}

/// Shape and limits of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// Zones on the device; the last may be shorter.
    pub zones: u32,
    /// Blocks per zone (the address step from zone to zone).
    pub zone_blocks: u32,
    /// Usable blocks on the device, all zones together.
    pub total_blocks: u64,
    /// True if zones must be written at their write pointer and reset before reuse.
    pub zoned: bool,
    /// Most zones open (being written) at once; `None`: no limit.
    pub open_max: Option<u32>,
    /// Most zones active (open or closed with a pointer inside); `None`: no limit.
    pub active_max: Option<u32>,
}

/// What a device has done since it was opened; the source of write amplification figures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    pub read_bytes: u64,
    pub written_bytes: u64,
    pub writes: u64,
    pub flushes: u64,
    pub resets: u64,
}

/// A failed operation, with the place.
#[derive(Debug, thiserror::Error)]
#[error("{op} of {blocks} blocks at block {addr}: {source}")]
pub struct DeviceError {
    pub op: &'static str,
    pub addr: BlockAddr,
    pub blocks: u64,
    #[source]
    pub source: std::io::Error,
}

impl DeviceError {
    /// The error of `op` on `blocks` blocks from `addr` on.
    pub fn new(op: &'static str, addr: BlockAddr, blocks: u64, source: std::io::Error) -> Self {
        Self { op, addr, blocks, source }
    }
}

/// Result of a device operation.
pub type Result<T> = std::result::Result<T, DeviceError>;

/// A backing store. Buffers are multiples of a block and aligned to [`crate::types::BLOCK_SIZE`] in memory
/// ([`AlignedBuf`]), so that every implementation may use `O_DIRECT`.
///
/// Nothing written is durable before [`Device::flush`] returns; between flushes writes may reach the medium in
/// any order, in part, or not at all. After a failed flush nothing may be assumed of what came before it.
pub trait Device: Send + Sync {
    fn geometry(&self) -> Geometry;

    /// State of zone `zone`, as the device sees it now.
    fn zone(&self, zone: u32) -> Result<Zone>;

    /// Fills `buf` from `addr` on. Reading what was never written yields zeros.
    fn read(&self, addr: BlockAddr, buf: &mut [u8]) -> Result<()>;

    /// Writes `buf` at `addr`; on a sequential zone this must be its write pointer and must end within its capacity.
    fn write(&self, addr: BlockAddr, buf: &[u8]) -> Result<()>;

    /// Makes everything written so far durable (one cache flush).
    fn flush(&self) -> Result<()>;

    /// Reserves the medium's room for a zone about to be written, so that a full host is an early ENOSPC (I7).
    fn reserve(&self, zone: u32) -> Result<()>;

    /// Marks a zone full; gives its open and active slot back. No effect on a conventional device.
    fn finish(&self, zone: u32) -> Result<()>;

    /// Empties a zone: pointer to its start, contents discarded (punched out of an image file). Like a write it is durable
    /// only after a flush; a conventional block device may still show old contents afterwards.
    fn reset(&self, zone: u32) -> Result<()>;

    fn traffic(&self) -> Traffic;

    /// Looks at the backing store again, which may have become larger, after making it `blocks` of address space long where that is
    /// asked for and can be done. Never makes it shorter. What was there stays as it is, what is new reads as zeros or as anything
    /// (a block device); the length is durable when this returns.
    fn grow(&self, blocks: Option<u64>) -> Result<Geometry> {
        let why = io::Error::new(io::ErrorKind::Unsupported, "this kind of device does not grow");
        Err(DeviceError::new("grow", BlockAddr::NONE, blocks.unwrap_or(0), why))
    }
}
