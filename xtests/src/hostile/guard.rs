//! A device that watches what a mount of a forged image does to it.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use gleanfs::device::{Device, DeviceError, Geometry, MemoryDevice, Result, Traffic, Zone};
use gleanfs::format::superblock::SLOTS;
use gleanfs::types::{BLOCK_SIZE, BlockAddr};

/// Operations after which a visit is taken for endless. An honest one takes a few thousand.
const OPERATIONS_MAX: u64 = 200_000;

/// A conventional device in memory, whose first segment belongs to the two slots.
pub(super) struct Guard {
    device: MemoryDevice,
    operations: AtomicU64,
    writable: bool,
}

impl Guard {
    pub(super) fn new(device: MemoryDevice, writable: bool) -> Self {
        Self { device, operations: AtomicU64::new(0), writable }
    }

    pub(super) fn device(&self) -> &MemoryDevice {
        &self.device
    }

    /// Panics if the operations were more than any visit needs.
    pub(super) fn check(&self) {
        let done = self.operations.load(Relaxed);
        assert!(done < OPERATIONS_MAX, "the image keeps the device busy for ever");
    }

    fn count(&self, op: &'static str, addr: BlockAddr) -> Result<()> {
        if self.operations.fetch_add(1, Relaxed) < OPERATIONS_MAX {
            return Ok(());
        }
        Err(DeviceError::new(op, addr, 0, io::Error::other("the visit is over")))
    }

    /// Only slots are written in the first segment, and nothing beyond the last.
    fn may_change(&self, addr: BlockAddr, blocks: u64) {
        let Geometry { zone_blocks, total_blocks, .. } = self.device.geometry();
        assert!(self.writable, "a read-only mount writes at block {addr}");
        let is_slot = blocks == 1 && SLOTS.contains(&addr);
        let end = addr.0.checked_add(blocks).expect("the addresses end");
        assert!(
            is_slot || (addr.0 >= u64::from(zone_blocks) && end <= total_blocks),
            "{blocks} blocks at block {addr} are not the log's"
        );
    }
}

impl Device for Guard {
    fn geometry(&self) -> Geometry {
        self.device.geometry()
    }

    fn zone(&self, zone: u32) -> Result<Zone> {
        self.device.zone(zone)
    }

    fn read(&self, addr: BlockAddr, buf: &mut [u8]) -> Result<()> {
        self.count("read", addr)?;
        self.device.read(addr, buf)
    }

    fn write(&self, addr: BlockAddr, buf: &[u8]) -> Result<()> {
        self.may_change(addr, (buf.len() / BLOCK_SIZE) as u64);
        self.count("write", addr)?;
        self.device.write(addr, buf)
    }

    fn flush(&self) -> Result<()> {
        self.count("flush", BlockAddr::NONE)?;
        self.device.flush()
    }

    fn reserve(&self, zone: u32) -> Result<()> {
        self.count("reserve", BlockAddr::NONE)?;
        self.device.reserve(zone)
    }

    fn finish(&self, zone: u32) -> Result<()> {
        self.device.finish(zone)
    }

    fn reset(&self, zone: u32) -> Result<()> {
        let Geometry { zone_blocks, .. } = self.device.geometry();
        self.may_change(BlockAddr(u64::from(zone) * u64::from(zone_blocks)), u64::from(zone_blocks));
        self.count("reset", BlockAddr::NONE)?;
        self.device.reset(zone)
    }

    fn traffic(&self) -> Traffic {
        self.device.traffic()
    }
}
