//! Arithmetic of zones and addresses that every kind of device shares.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::io::Errno;

use super::{DeviceError, Geometry, Result, Zone, ZoneCondition, ZoneKind};
use crate::types::{BLOCK_SIZE, BlockAddr};

impl Geometry {
    /// Shape of a conventional device of `total_blocks`, cut into zones of `zone_blocks`; the last may be shorter.
    pub fn conventional(total_blocks: u64, zone_blocks: u32) -> Self {
        let zones = total_blocks.div_ceil(u64::from(zone_blocks));
        Self {
            zones: u32::try_from(zones).unwrap_or(u32::MAX),
            zone_blocks,
            total_blocks,
            zoned: false,
            open_max: None,
            active_max: None,
        }
    }

    /// First block of zone `zone`.
    pub fn zone_start(&self, zone: u32) -> BlockAddr {
        BlockAddr(u64::from(zone) * u64::from(self.zone_blocks))
    }

    /// The zone in which `addr` lies; past the last for an address past the end.
    pub fn zone_of(&self, addr: BlockAddr) -> u32 {
        u32::try_from(addr.0 / u64::from(self.zone_blocks)).unwrap_or(u32::MAX)
    }

    /// Length of the address space in blocks: on a zoned device more than the usable blocks.
    pub fn address_blocks(&self) -> u64 {
        if self.zoned { u64::from(self.zones) * u64::from(self.zone_blocks) } else { self.total_blocks }
    }

    /// What a conventional device says of zone `zone`; `None` past the last.
    pub(super) fn conventional_zone(&self, zone: u32) -> Option<Zone> {
        if zone >= self.zones {
            return None;
        }
        let start = self.zone_start(zone);
        let size_blocks = u64::from(self.zone_blocks).min(self.total_blocks - start.0) as u32;
        Some(Zone {
            start,
            size_blocks,
            capacity_blocks: size_blocks,
            write_pointer: None,
            kind: ZoneKind::Conventional,
            condition: ZoneCondition::Open,
        })
    }

    /// The same as a result of operation `op`.
    pub(super) fn conventional_zone_for(&self, op: &'static str, zone: u32) -> Result<Zone> {
        self.conventional_zone(zone)
            .ok_or_else(|| DeviceError::new(op, self.zone_start(zone), 0, out_of_range(zone, self.zones)))
    }

    /// Blocks of a transfer of `bytes` at `addr`: whole blocks, at least one, inside the device.
    pub(super) fn check_transfer(&self, op: &'static str, addr: BlockAddr, bytes: usize) -> Result<u64> {
        let blocks = bytes.div_ceil(BLOCK_SIZE) as u64;
        if bytes == 0 || !bytes.is_multiple_of(BLOCK_SIZE) {
            return Err(DeviceError::new(op, addr, blocks, Errno::INVAL.into()));
        }
        match addr.0.checked_add(blocks) {
            Some(end) if end <= self.address_blocks() => Ok(blocks),
            _ => {
                let why = format!("past the end of the device at block {}", self.address_blocks());
                Err(DeviceError::new(op, addr, blocks, io::Error::new(io::ErrorKind::InvalidInput, why)))
            }
        }
    }
}

/// Shape of a conventional device that may become longer while it is in use.
#[derive(Debug)]
pub(super) struct Growing {
    total_blocks: AtomicU64,
    zone_blocks: u32,
}

impl Growing {
    pub(super) fn new(total_blocks: u64, zone_blocks: u32) -> Self {
        Self { total_blocks: AtomicU64::new(total_blocks), zone_blocks }
    }

    /// The same length cut into zones of `zone_blocks`.
    pub(super) fn cut(&mut self, zone_blocks: u32) {
        self.zone_blocks = zone_blocks;
    }

    pub(super) fn now(&self) -> Geometry {
        Geometry::conventional(self.total_blocks.load(Ordering::Acquire), self.zone_blocks)
    }

    /// The backing store turns out to have `total_blocks`; a length that is shorter than before changes nothing.
    pub(super) fn found(&self, total_blocks: u64) -> Geometry {
        self.total_blocks.fetch_max(total_blocks, Ordering::AcqRel);
        self.now()
    }
}

fn out_of_range(zone: u32, zones: u32) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, format!("there is no zone {zone}, the device has {zones}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_zone_of_a_conventional_device_may_be_shorter() {
        let geometry = Geometry::conventional(1000, 256);
        assert_eq!(geometry.zones, 4);
        let last = geometry.conventional_zone(3).unwrap();
        assert_eq!((last.start, last.size_blocks, last.capacity_blocks), (BlockAddr(768), 232, 232));
        assert_eq!(geometry.conventional_zone(0).unwrap().size_blocks, 256);
        assert!(geometry.conventional_zone(4).is_none());
        assert_eq!((geometry.zone_of(BlockAddr(767)), geometry.zone_of(BlockAddr(768))), (2, 3));
    }

    #[test]
    fn transfers_are_whole_blocks_inside_the_device() {
        let geometry = Geometry::conventional(10, 4);
        assert_eq!(geometry.check_transfer("read", BlockAddr(8), 2 * BLOCK_SIZE).unwrap(), 2);
        assert!(geometry.check_transfer("read", BlockAddr(9), 2 * BLOCK_SIZE).is_err());
        assert!(geometry.check_transfer("read", BlockAddr(u64::MAX), BLOCK_SIZE).is_err());
        assert!(geometry.check_transfer("read", BlockAddr(0), 100).is_err());
        assert!(geometry.check_transfer("read", BlockAddr(0), 0).is_err());
    }
}
