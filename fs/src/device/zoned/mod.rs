//! A zoned image: a directory with one file per zone, and the rules of a zoned device enforced over it.
//!
//! The same directory can be attached to Linux's zloop driver (see [`layout`]). The write pointer is the size of a zone's file, so
//! it is as durable as the data: after a crash of the host a zone ends where its file ends.
//! Locks, in this order: a zone's own, then the rules or the dirty set, both for moments only.

pub mod layout;

mod handles;

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use parking_lot::Mutex;

use super::counters::Counters;
use super::direct::{DirectFile, PastEnd, warn_buffered};
use super::open::{OpenMode, explain};
use super::rules::{Span, ZoneRules, ZonedSpec};
use super::{Device, DeviceError, Geometry, Result, Traffic, Zone, ZoneCondition, ZoneKind};
use crate::error::Error;
use crate::types::{BLOCK_SIZE, BlockAddr};
use handles::Handles;

/// More than there are threads that write.
const ZONE_LOCKS: usize = 64;

/// An open zoned image.
#[derive(Debug)]
pub struct ZonedImage {
    directory: File,
    /// As it was when the image was opened: all but the number of zones stays.
    spec: ZonedSpec,
    zones: AtomicU32,
    mode: OpenMode,
    rules: Mutex<ZoneRules>,
    /// A write and the move of its zone's pointer are one step. Zones share them by number.
    zone_locks: Box<[Mutex<()>; ZONE_LOCKS]>,
    handles: Handles,
    /// Zones changed since the last flush began.
    dirty: Mutex<BTreeSet<u32>>,
    /// A flush must not return before an earlier one that took over its zones.
    flushing: Mutex<()>,
    counters: Counters,
}

impl ZonedImage {
    /// Makes a zoned image in `path`, which must not exist or be an empty directory.
    pub fn create(path: &Path, spec: ZonedSpec) -> crate::error::Result<()> {
        spec.validate().map_err(Error::Refused)?;
        layout::create(path, &spec).map_err(|e| match e.kind() {
            io::ErrorKind::DirectoryNotEmpty => Error::Refused(format!("{} is not empty", path.display())),
            _ => Error::Refused(format!("{}: the zoned image cannot be made: {e}", path.display())),
        })
    }

    /// Opens the zoned image in `path`.
    pub fn open(path: &Path, mode: OpenMode) -> crate::error::Result<Self> {
        let refused = |e: io::Error| Error::Refused(explain(path, mode, &e));
        let directory = File::open(path).map_err(refused)?;
        let spec = layout::read_spec(path).map_err(refused)?.ok_or_else(|| {
            let why = format!("it has no {}", layout::SPEC_NAME);
            Error::Refused(format!("{} is a directory and no zoned image: {why}", path.display()))
        })?;
        let image = Self {
            directory,
            spec,
            mode,
            rules: Mutex::new(ZoneRules::new(spec)),
            zone_locks: Box::new([const { Mutex::new(()) }; ZONE_LOCKS]),
            zones: AtomicU32::new(spec.zones),
            handles: Handles::new(mode),
            dirty: Mutex::default(),
            flushing: Mutex::default(),
            counters: Counters::default(),
        };
        image.load_pointers().map_err(refused)?;
        if !image.file(0).map_err(refused)?.is_direct() {
            warn_buffered(path);
        }
        Ok(image)
    }

    /// The open directory, for locking.
    pub fn directory(&self) -> &File {
        &self.directory
    }

    /// Puts a zone into a condition as a failing device does, for tests of what comes above. Lasts while the image is open.
    pub fn force_condition(&self, zone: u32, condition: ZoneCondition) {
        self.rules.lock().force(zone, condition);
    }

    fn load_pointers(&self) -> io::Result<()> {
        let mut rules = self.rules.lock();
        for zone in 0..self.spec.zones {
            let name = layout::zone_name(self.spec.kind(zone), zone);
            let bytes = rustix::fs::statat(&self.directory, &name, rustix::fs::AtFlags::SYMLINK_NOFOLLOW)
                .map_err(|e| io::Error::other(format!("zone file {name}: {e}")))?
                .st_size as u64;
            let whole = u64::from(self.spec.zone_blocks) * BLOCK_SIZE as u64;
            let conventional = self.spec.kind(zone) == ZoneKind::Conventional;
            if bytes > whole || (conventional && bytes != whole) {
                let why = format!("zone file {name} has {bytes} bytes and the zone {whole}");
                return Err(io::Error::new(io::ErrorKind::InvalidData, why));
            }
            rules.settle(zone, (bytes / BLOCK_SIZE as u64) as u32);
        }
        Ok(())
    }

    fn file(&self, zone: u32) -> io::Result<std::sync::Arc<DirectFile>> {
        self.handles.get(&self.directory, self.spec.kind(zone), zone)
    }

    /// Reads one zone's part of a transfer; what lies past the write pointer is zeros.
    fn read_span(&self, span: Span, buf: &mut [u8]) -> io::Result<()> {
        let readable = self.rules.lock().readable(span.zone)?;
        let blocks = readable.saturating_sub(span.offset).min(span.blocks);
        let (written, rest) = buf.split_at_mut(blocks as usize * BLOCK_SIZE);
        rest.fill(0);
        if written.is_empty() {
            return Ok(());
        }
        let offset = u64::from(span.offset) * BLOCK_SIZE as u64;
        self.file(span.zone)?.read_at(offset, written, PastEnd::Zeros, &self.counters)
    }

    /// Writes at the pointer and moves it. A failed write leaves the pointer where the zone's file ends.
    fn write_span(&self, addr: BlockAddr, blocks: u64, buf: &[u8]) -> io::Result<()> {
        self.mode.check_writable()?;
        let zone = self.geometry().zone_of(addr);
        let _zone_lock = self.zone_locks[zone as usize % ZONE_LOCKS].lock();
        let span = self.rules.lock().admit_write(addr, blocks)?;
        let offset = u64::from(span.offset) * BLOCK_SIZE as u64;
        let written = self.file(zone).and_then(|file| {
            self.trim_to_pointer(&file, span)?;
            file.write_at(offset, buf, &self.counters)
        });
        match &written {
            Ok(()) => self.rules.lock().advance(span),
            Err(_) => self.settle_after_failure(span),
        }
        self.dirty.lock().insert(zone);
        written
    }

    /// A crash of the host may leave a part of a block behind the pointer, and a direct write could not follow it.
    fn trim_to_pointer(&self, file: &DirectFile, span: Span) -> io::Result<()> {
        let offset = u64::from(span.offset) * BLOCK_SIZE as u64;
        if self.spec.kind(span.zone) == ZoneKind::Sequential && file.file().metadata()?.len() > offset {
            file.file().set_len(offset)?;
        }
        Ok(())
    }

    fn settle_after_failure(&self, span: Span) {
        if self.spec.kind(span.zone) == ZoneKind::Conventional {
            return;
        }
        let size = self.file(span.zone).and_then(|file| {
            // Best effort: if the part that was written cannot be cut off, the pointer moves over it, as on hardware.
            let _ = file.file().set_len(u64::from(span.offset) * BLOCK_SIZE as u64);
            Ok(file.file().metadata()?.len())
        });
        let pointer = size.map_or(span.offset, |bytes| (bytes / BLOCK_SIZE as u64) as u32);
        self.rules.lock().settle(span.zone, pointer);
    }

    /// Runs a change of a whole zone that leaves its pointer at `pointer` (a sequential zone's; others have none).
    fn change_zone(
        &self,
        zone: u32,
        run: impl FnOnce(&DirectFile, &Zone) -> io::Result<Option<u32>>,
    ) -> io::Result<()> {
        self.mode.check_writable()?;
        let _zone_lock = self.zone_locks[zone as usize % ZONE_LOCKS].lock();
        let before = self.rules.lock().admit_change(zone)?;
        let result = self.file(zone).and_then(|file| run(&file, &before));
        self.dirty.lock().insert(zone);
        if let Some(pointer) = result? {
            self.rules.lock().settle(zone, pointer);
        }
        Ok(())
    }

    /// Takes zones into use that the directory has by now, after adding those that are missing of `wanted`.
    fn add_zones(&self, wanted: Option<u32>) -> io::Result<()> {
        let described = layout::read_spec_in(&self.directory)?;
        let zones = self.zones.load(Ordering::Acquire).max(described.zones);
        let spec = ZonedSpec { zones: zones.max(wanted.unwrap_or(0)), ..self.spec };
        if (ZonedSpec { zones, ..described }) != (ZonedSpec { zones, ..self.spec }) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the image's description has changed"));
        }
        if spec.zones > described.zones {
            self.mode.check_writable()?;
            layout::extend(&self.directory, described.zones, &spec)?;
        }
        self.rules.lock().grow(spec.zones);
        self.zones.store(spec.zones, Ordering::Release);
        Ok(())
    }

    fn zone_error(&self, op: &'static str, zone: u32, source: io::Error) -> DeviceError {
        DeviceError::new(op, self.geometry().zone_start(zone), u64::from(self.spec.zone_blocks), source)
    }

    fn flush_dirty(&self) -> io::Result<()> {
        let _one_at_a_time = self.flushing.lock();
        let mut zones = std::mem::take(&mut *self.dirty.lock());
        while let Some(zone) = zones.first().copied() {
            if let Err(e) = self.file(zone).and_then(|file| file.sync()) {
                self.dirty.lock().append(&mut zones);
                return Err(e);
            }
            zones.pop_first();
        }
        Ok(())
    }
}

fn bytes_of(blocks: u32) -> u64 {
    u64::from(blocks) * BLOCK_SIZE as u64
}

impl Device for ZonedImage {
    fn geometry(&self) -> Geometry {
        ZonedSpec { zones: self.zones.load(Ordering::Acquire), ..self.spec }.geometry()
    }

    fn zone(&self, zone: u32) -> Result<Zone> {
        self.rules.lock().report(zone).map_err(|fault| self.zone_error("report", zone, fault.into()))
    }

    fn read(&self, addr: BlockAddr, buf: &mut [u8]) -> Result<()> {
        let blocks = self.geometry().check_transfer("read", addr, buf.len())?;
        let mut rest = buf;
        for span in self.spec.spans(addr, blocks) {
            let (part, tail) = rest.split_at_mut(span.blocks as usize * BLOCK_SIZE);
            self.read_span(span, part).map_err(|e| DeviceError::new("read", addr, blocks, e))?;
            rest = tail;
        }
        Ok(())
    }

    fn write(&self, addr: BlockAddr, buf: &[u8]) -> Result<()> {
        let blocks = self.geometry().check_transfer("write", addr, buf.len())?;
        self.write_span(addr, blocks, buf).map_err(|e| DeviceError::new("write", addr, blocks, e))
    }

    fn flush(&self) -> Result<()> {
        if self.mode == OpenMode::ReadWrite {
            self.flush_dirty().map_err(|e| DeviceError::new("flush", BlockAddr::NONE, 0, e))?;
            self.counters.count_flush();
        }
        Ok(())
    }

    fn reserve(&self, zone: u32) -> Result<()> {
        let reserve = || {
            self.mode.check_writable()?;
            let z = self.rules.lock().admit_change(zone)?;
            self.file(zone)?.allocate(0, bytes_of(z.capacity_blocks))
        };
        reserve().map_err(|e| self.zone_error("reserve", zone, e))
    }

    /// zloop's own "finish" sets a file to the zone's size, but when it is attached again it wants full zones at their capacity and refuses
    /// more; so capacity it is, and both are understood when an image is opened.
    fn finish(&self, zone: u32) -> Result<()> {
        let finish = |file: &DirectFile, z: &Zone| {
            let Some(pointer) = z.write_pointer.filter(|_| z.condition != ZoneCondition::Full) else { return Ok(None) };
            file.file().set_len(bytes_of(z.capacity_blocks))?;
            if pointer < z.capacity_blocks {
                file.punch(bytes_of(pointer), bytes_of(z.capacity_blocks - pointer))?;
            }
            Ok(Some(z.capacity_blocks))
        };
        self.change_zone(zone, finish).map_err(|e| self.zone_error("finish", zone, e))
    }

    fn reset(&self, zone: u32) -> Result<()> {
        let reset = |file: &DirectFile, z: &Zone| match z.kind {
            ZoneKind::Sequential => file.file().set_len(0).map(|()| Some(0)),
            ZoneKind::Conventional => file.punch(0, bytes_of(z.capacity_blocks)).map(|()| None),
        };
        self.change_zone(zone, reset).map_err(|e| self.zone_error("reset", zone, e))?;
        self.counters.count_reset();
        Ok(())
    }

    fn traffic(&self) -> Traffic {
        self.counters.traffic()
    }

    /// Whole zones only.
    fn grow(&self, blocks: Option<u64>) -> Result<Geometry> {
        let wanted = blocks.map(|n| u32::try_from(n / u64::from(self.spec.zone_blocks)).unwrap_or(u32::MAX));
        self.add_zones(wanted).map_err(|e| DeviceError::new("grow", BlockAddr::NONE, blocks.unwrap_or(0), e))?;
        Ok(self.geometry())
    }
}

#[cfg(test)]
mod tests;
