//! A zoned block device: the kernel's zones, reported, reset and finished by its ioctls.
//!
//! The device itself keeps the write pointers and enforces the rules; nothing of them is cached here, so a pointer that moved by
//! a failed write is seen at the next report.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use super::block::{discard, open_node};
use super::counters::Counters;
use super::direct::{DirectFile, PastEnd};
use super::ioctl::{self, RawZone, SECTOR};
use super::open::OpenMode;
use super::{Device, DeviceError, Geometry, Result, Traffic, Zone, ZoneCondition, ZoneKind};
use crate::types::{BLOCK_SIZE, BlockAddr};

const SECTORS_PER_BLOCK: u64 = BLOCK_SIZE as u64 / SECTOR;

/// A host-managed (or host-aware) zoned block device.
#[derive(Debug)]
pub struct ZonedBlockDevice {
    backing: DirectFile,
    geometry: Geometry,
    /// Zones may be shorter at the end, so the address space is not always a multiple.
    end: BlockAddr,
    mode: OpenMode,
    counters: Counters,
}

/// Folder of the request queue's attributes of the block device with number `rdev`.
fn queue_dir(rdev: u64) -> PathBuf {
    let node = format!("/sys/dev/block/{}:{}", rustix::fs::major(rdev), rustix::fs::minor(rdev));
    let own = Path::new(&node).join("queue");
    // A partition has no queue of its own; the disk's lies one level up, behind the symbolic link.
    if own.is_dir() { own } else { Path::new(&node).join("../queue") }
}

/// Whether the block device with number `rdev` has zones.
pub(super) fn is_zoned(rdev: u64) -> bool {
    std::fs::read_to_string(queue_dir(rdev).join("zoned")).is_ok_and(|model| model.trim() != "none")
}

/// A limit of the queue; 0 and "missing" both mean that there is none.
fn limit(rdev: u64, name: &str) -> Option<u32> {
    let text = std::fs::read_to_string(queue_dir(rdev).join(name)).ok()?;
    text.trim().parse().ok().filter(|n| *n > 0)
}

impl ZonedBlockDevice {
    /// Opens the zoned block device `path`, whose device number is `rdev`.
    pub fn open(path: &Path, mode: OpenMode, rdev: u64) -> io::Result<Self> {
        let backing = open_node(path, mode)?;
        if !backing.is_direct() {
            return Err(io::Error::new(io::ErrorKind::Unsupported, "a zoned block device must take O_DIRECT"));
        }
        let zones = report_all(&backing)?;
        let (Some(first), Some(last)) = (zones.first(), zones.last()) else {
            return Err(io::Error::other("the device reports no zones"));
        };
        let geometry = Geometry {
            zones: u32::try_from(zones.len()).map_err(io::Error::other)?,
            zone_blocks: first.size_blocks,
            total_blocks: zones.iter().map(|z| u64::from(z.capacity_blocks)).sum(),
            zoned: true,
            open_max: limit(rdev, "max_open_zones"),
            active_max: limit(rdev, "max_active_zones"),
        };
        let end = last.start.offset(u64::from(last.size_blocks));
        Ok(Self { backing, geometry, end, mode, counters: Counters::default() })
    }

    /// The open node, for locking.
    pub fn file(&self) -> &File {
        self.backing.file()
    }

    fn check(&self, op: &'static str, addr: BlockAddr, bytes: usize) -> Result<u64> {
        let blocks = self.geometry.check_transfer(op, addr, bytes)?;
        if addr.0 + blocks > self.end.0 {
            return Err(DeviceError::new(op, addr, blocks, io::ErrorKind::InvalidInput.into()));
        }
        Ok(blocks)
    }

    /// Runs a zone operation on sequential zones, `other` on the rest.
    fn change(
        &self,
        op: &'static str,
        zone: u32,
        sequential: impl FnOnce(u64, u64) -> io::Result<()>,
        other: impl FnOnce(&Zone) -> io::Result<()>,
    ) -> Result<()> {
        let z = self.zone(zone)?;
        let run = || {
            self.mode.check_writable()?;
            match z.kind {
                ZoneKind::Sequential => {
                    sequential(z.start.0 * SECTORS_PER_BLOCK, u64::from(z.size_blocks) * SECTORS_PER_BLOCK)
                }
                ZoneKind::Conventional => other(&z),
            }
        };
        run().map_err(|e| DeviceError::new(op, z.start, u64::from(z.size_blocks), e))
    }
}

fn report_all(backing: &DirectFile) -> io::Result<Vec<Zone>> {
    let sectors = ioctl::size_bytes(backing)? / SECTOR;
    let mut zones = Vec::new();
    let mut next = 0;
    while next < sectors {
        let part = ioctl::report_zones(backing, next, ioctl::REPORT_ZONES)?;
        let Some(last) = part.last() else { break };
        next = last.start + last.len;
        for raw in &part {
            zones.push(decode(raw)?);
        }
    }
    Ok(zones)
}

/// A zone as the kernel reports it, in blocks. An error if it is not made of whole blocks.
fn decode(raw: &RawZone) -> io::Result<Zone> {
    let blocks = |sectors: u64| {
        let whole = sectors.is_multiple_of(SECTORS_PER_BLOCK).then_some(sectors / SECTORS_PER_BLOCK);
        whole.ok_or_else(|| io::Error::other(format!("zone at sector {} is not made of whole blocks", raw.start)))
    };
    let small = |n: u64| u32::try_from(n).map_err(|_| io::Error::other("a zone is larger than 16 TiB"));
    // Numbers of the kernel's enum blk_zone_type and enum blk_zone_cond.
    let kind = if raw.kind == 1 { ZoneKind::Conventional } else { ZoneKind::Sequential };
    let condition = match raw.cond {
        0x0 | 0x2 | 0x3 => ZoneCondition::Open,
        0x1 => ZoneCondition::Empty,
        0x4 => ZoneCondition::Closed,
        0xd => ZoneCondition::ReadOnly,
        0xe => ZoneCondition::Full,
        0xf => ZoneCondition::Offline,
        other => return Err(io::Error::other(format!("zone condition {other:#x} is unknown"))),
    };
    let size_blocks = small(blocks(raw.len)?)?;
    // Capacity may end inside a block; what is left of it cannot be used.
    let capacity_blocks = small(raw.capacity / SECTORS_PER_BLOCK)?.min(size_blocks);
    let write_pointer = match (kind, condition) {
        (ZoneKind::Conventional, _) => None,
        (_, ZoneCondition::Empty) => Some(0),
        (_, ZoneCondition::Full | ZoneCondition::Offline) => Some(capacity_blocks),
        // In a read-only zone the pointer means nothing.
        (_, ZoneCondition::ReadOnly) => {
            Some(small(raw.wp.saturating_sub(raw.start) / SECTORS_PER_BLOCK)?.min(capacity_blocks))
        }
        (_, ZoneCondition::Open | ZoneCondition::Closed) => Some(small(blocks(raw.wp.saturating_sub(raw.start))?)?),
    };
    Ok(Zone { start: BlockAddr(blocks(raw.start)?), size_blocks, capacity_blocks, write_pointer, kind, condition })
}

impl Device for ZonedBlockDevice {
    fn geometry(&self) -> Geometry {
        self.geometry
    }

    fn zone(&self, zone: u32) -> Result<Zone> {
        let start = self.geometry.zone_start(zone);
        let report = || {
            let raw = ioctl::report_zones(&self.backing, start.0 * SECTORS_PER_BLOCK, 1)?;
            raw.first().map(decode).unwrap_or_else(|| Err(io::Error::other(format!("there is no zone {zone}"))))
        };
        report().map_err(|e| DeviceError::new("report", start, 0, e))
    }

    fn read(&self, addr: BlockAddr, buf: &mut [u8]) -> Result<()> {
        let blocks = self.check("read", addr, buf.len())?;
        self.backing
            .read_at(addr.byte(), buf, PastEnd::Missing, &self.counters)
            .map_err(|e| DeviceError::new("read", addr, blocks, e))
    }

    fn write(&self, addr: BlockAddr, buf: &[u8]) -> Result<()> {
        let blocks = self.check("write", addr, buf.len())?;
        self.mode
            .check_writable()
            .and_then(|()| self.backing.write_at(addr.byte(), buf, &self.counters))
            .map_err(|e| DeviceError::new("write", addr, blocks, e))
    }

    fn flush(&self) -> Result<()> {
        if self.mode == OpenMode::ReadWrite {
            self.backing.sync().map_err(|e| DeviceError::new("flush", BlockAddr::NONE, 0, e))?;
            self.counters.count_flush();
        }
        Ok(())
    }

    fn reserve(&self, zone: u32) -> Result<()> {
        self.zone(zone).map(drop)
    }

    fn finish(&self, zone: u32) -> Result<()> {
        self.change("finish", zone, |from, n| ioctl::finish_zones(&self.backing, from, n), |_| Ok(()))
    }

    fn reset(&self, zone: u32) -> Result<()> {
        self.change(
            "reset",
            zone,
            |from, n| ioctl::reset_zones(&self.backing, from, n),
            |z| discard(&self.backing, z.start, z.size_blocks),
        )?;
        self.counters.count_reset();
        Ok(())
    }

    fn traffic(&self) -> Traffic {
        self.counters.traffic()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(kind: u8, cond: u8, wp: u64) -> RawZone {
        RawZone { start: 1 << 19, len: 1 << 19, wp, kind, cond, capacity: 400_000, ..RawZone::default() }
    }

    #[test]
    fn zone_reports_are_read_as_the_kernel_means_them() {
        let open = decode(&raw(2, 2, (1 << 19) + 64)).unwrap();
        assert_eq!((open.start, open.size_blocks, open.capacity_blocks), (BlockAddr(1 << 16), 1 << 16, 50_000));
        assert_eq!((open.write_pointer, open.condition), (Some(8), ZoneCondition::Open));
        let full = decode(&raw(2, 0xe, u64::MAX)).unwrap();
        assert_eq!((full.write_pointer, full.condition), (Some(50_000), ZoneCondition::Full));
        let conventional = decode(&raw(1, 0, u64::MAX)).unwrap();
        assert_eq!((conventional.kind, conventional.write_pointer), (ZoneKind::Conventional, None));
        assert_eq!(decode(&raw(2, 0xf, 0)).unwrap().condition, ZoneCondition::Offline);
        assert_eq!(decode(&raw(2, 1, 1 << 19)).unwrap().write_pointer, Some(0));
    }

    #[test]
    fn a_report_that_makes_no_sense_is_an_error() {
        assert!(decode(&raw(2, 9, 0)).is_err());
        assert!(decode(&raw(2, 2, (1 << 19) + 3)).is_err());
        assert!(decode(&RawZone { len: 7, ..raw(2, 1, 0) }).is_err());
    }

    #[test]
    fn a_loop_device_is_not_zoned() {
        let Some(attached) = super::super::block::tests::Loop::attach(64) else { return };
        let rdev = rustix::fs::stat(&attached.node).unwrap().st_rdev;
        assert!(!is_zoned(rdev));
    }
}
