//! The block layer's ioctls (`linux/fs.h`, `linux/blkzoned.h`): the one place with their unsafe.

use std::io;
use std::os::fd::AsFd;

use rustix::ioctl::{Getter, Opcode, Setter, Updater, ioctl, opcode};

/// Bytes of the sector in which these ioctls count, whatever the device's own is.
pub(super) const SECTOR: u64 = 512;
/// Zones in one report: 64 bytes each, so a report is a page.
pub(super) const REPORT_ZONES: usize = 63;

const BLKDISCARD: Opcode = opcode::none(0x12, 119);
const BLKGETSIZE64: Opcode = opcode::read::<usize>(0x12, 114);
const BLKREPORTZONE: Opcode = opcode::read_write::<ReportHeader>(0x12, 130);
const BLKRESETZONE: Opcode = opcode::write::<ZoneRange>(0x12, 131);
const BLKFINISHZONE: Opcode = opcode::write::<ZoneRange>(0x12, 136);

/// `struct blk_zone`: positions and lengths in sectors.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct RawZone {
    pub start: u64,
    pub len: u64,
    pub wp: u64,
    pub kind: u8,
    pub cond: u8,
    pub non_seq: u8,
    pub reset: u8,
    pub resv: [u8; 4],
    pub capacity: u64,
    pub reserved: [u8; 24],
}

#[repr(C)]
#[derive(Clone, Copy)]
struct ReportHeader {
    sector: u64,
    nr_zones: u32,
    flags: u32,
}

#[repr(C)]
struct Report {
    header: ReportHeader,
    zones: [RawZone; REPORT_ZONES],
}

#[repr(C)]
#[derive(Clone, Copy, Debug)]
struct ZoneRange {
    sector: u64,
    nr_sectors: u64,
}

const _: () = assert!(size_of::<RawZone>() == 64 && size_of::<ReportHeader>() == 16 && size_of::<ZoneRange>() == 16);
/// The flag by which the kernel says that `RawZone::capacity` is filled in.
const REP_CAPACITY: u32 = 1;

/// Bytes of a block device.
pub(super) fn size_bytes(fd: impl AsFd) -> io::Result<u64> {
    // SAFETY: BLKGETSIZE64 stores a u64, whatever size its number was made from.
    let get = unsafe { Getter::<BLKGETSIZE64, u64>::new() };
    // SAFETY: the opcode and its type belong together.
    Ok(unsafe { ioctl(fd, get) }?)
}

/// Tells a block device that nobody needs a range of bytes any more.
pub(super) fn discard(fd: impl AsFd, offset: u64, bytes: u64) -> io::Result<()> {
    // SAFETY: BLKDISCARD reads two u64: start and length in bytes.
    let set = unsafe { Setter::<BLKDISCARD, [u64; 2]>::new([offset, bytes]) };
    // SAFETY: the opcode and its type belong together.
    Ok(unsafe { ioctl(fd, set) }?)
}

/// Up to [`REPORT_ZONES`] zones from the one that holds `sector` on, with capacities filled in.
pub(super) fn report_zones(fd: impl AsFd, sector: u64, zones: usize) -> io::Result<Vec<RawZone>> {
    let nr_zones = zones.min(REPORT_ZONES) as u32;
    let mut report =
        Report { header: ReportHeader { sector, nr_zones, flags: 0 }, zones: [RawZone::default(); REPORT_ZONES] };
    // SAFETY: BLKREPORTZONE takes a header that is followed by room for `nr_zones` zones, and so is this one.
    let update = unsafe { Updater::<BLKREPORTZONE, Report>::new(&mut report) };
    // SAFETY: the opcode and its type belong together.
    unsafe { ioctl(fd, update) }?;
    let capacity_known = report.header.flags & REP_CAPACITY != 0;
    let mut found = report.zones[..report.header.nr_zones.min(nr_zones) as usize].to_vec();
    for zone in found.iter_mut().filter(|_| !capacity_known) {
        zone.capacity = zone.len;
    }
    Ok(found)
}

/// Resets the zones in a range of sectors.
pub(super) fn reset_zones(fd: impl AsFd, sector: u64, nr_sectors: u64) -> io::Result<()> {
    // SAFETY: BLKRESETZONE reads a struct blk_zone_range.
    let set = unsafe { Setter::<BLKRESETZONE, ZoneRange>::new(ZoneRange { sector, nr_sectors }) };
    // SAFETY: the opcode and its type belong together.
    Ok(unsafe { ioctl(fd, set) }?)
}

/// Marks the zones in a range of sectors full.
pub(super) fn finish_zones(fd: impl AsFd, sector: u64, nr_sectors: u64) -> io::Result<()> {
    // SAFETY: BLKFINISHZONE reads a struct blk_zone_range.
    let set = unsafe { Setter::<BLKFINISHZONE, ZoneRange>::new(ZoneRange { sector, nr_sectors }) };
    // SAFETY: the opcode and its type belong together.
    Ok(unsafe { ioctl(fd, set) }?)
}
