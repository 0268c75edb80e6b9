//! An image file: sparse, with room reserved zone by zone (I7) and punched out again when a zone is reset.

use std::fs::File;
use std::io;
use std::path::Path;

use rustix::fs::OFlags;
use rustix::io::Errno;

use super::counters::Counters;
use super::direct::{DirectFile, PastEnd};
use super::geometry::Growing;
use super::open::OpenMode;
use super::{Device, DeviceError, Geometry, Result, Traffic, Zone};
use crate::types::{BLOCK_SIZE, BlockAddr};

/// An image in a regular file.
#[derive(Debug)]
pub struct FileDevice {
    backing: DirectFile,
    geometry: Growing,
    mode: OpenMode,
    counters: Counters,
}

/// Makes a sparse image file of `bytes`; fails if `path` exists.
pub fn create(path: &Path, bytes: u64) -> io::Result<()> {
    let file = File::create_new(path)?;
    file.set_len(bytes).and_then(|()| file.sync_all()).inspect_err(|_| {
        // The half-made file is ours, and the first error is the one worth telling.
        let _ = std::fs::remove_file(path);
    })
}

impl FileDevice {
    /// Opens an image file cut into zones of `zone_blocks`. A last part of a block is left unused.
    pub fn open(path: &Path, mode: OpenMode, zone_blocks: u32) -> io::Result<Self> {
        let backing = DirectFile::open(path, mode, OFlags::empty())?;
        let geometry = Growing::new(backing.file().metadata()?.len() / BLOCK_SIZE as u64, zone_blocks);
        Ok(Self { backing, geometry, mode, counters: Counters::default() })
    }

    /// The same image cut into zones of `zone_blocks`.
    pub fn with_zone_blocks(mut self, zone_blocks: u32) -> Self {
        self.geometry.cut(zone_blocks);
        self
    }

    /// The open file, for locking.
    pub fn file(&self) -> &File {
        self.backing.file()
    }

    /// Runs a change of zone `zone`'s byte range.
    fn change(&self, op: &'static str, zone: u32, run: impl FnOnce(u64, u64) -> io::Result<()>) -> Result<()> {
        let z = self.geometry.now().conventional_zone_for(op, zone)?;
        let bytes = u64::from(z.size_blocks) * BLOCK_SIZE as u64;
        self.mode
            .check_writable()
            .and_then(|()| run(z.start.byte(), bytes))
            .map_err(|e| DeviceError::new(op, z.start, u64::from(z.size_blocks), e))
    }
}

impl Device for FileDevice {
    fn geometry(&self) -> Geometry {
        self.geometry.now()
    }

    fn zone(&self, zone: u32) -> Result<Zone> {
        self.geometry.now().conventional_zone_for("report", zone)
    }

    fn read(&self, addr: BlockAddr, buf: &mut [u8]) -> Result<()> {
        let blocks = self.geometry.now().check_transfer("read", addr, buf.len())?;
        self.backing
            .read_at(addr.byte(), buf, PastEnd::Missing, &self.counters)
            .map_err(|e| DeviceError::new("read", addr, blocks, e))
    }

    fn write(&self, addr: BlockAddr, buf: &[u8]) -> Result<()> {
        let blocks = self.geometry.now().check_transfer("write", addr, buf.len())?;
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
        self.change("reserve", zone, |offset, bytes| self.backing.allocate(offset, bytes))
    }

    fn finish(&self, zone: u32) -> Result<()> {
        self.geometry.now().conventional_zone_for("finish", zone).map(drop)
    }

    fn reset(&self, zone: u32) -> Result<()> {
        self.change("reset", zone, |offset, bytes| self.backing.punch(offset, bytes))?;
        self.counters.count_reset();
        Ok(())
    }

    fn traffic(&self) -> Traffic {
        self.counters.traffic()
    }

    fn grow(&self, blocks: Option<u64>) -> Result<Geometry> {
        let grow = || {
            let file = self.backing.file();
            if let Some(bytes) = blocks.map(|n| n.saturating_mul(BLOCK_SIZE as u64))
                && file.metadata()?.len() < bytes
            {
                self.mode.check_writable()?;
                file.set_len(bytes)?;
                file.sync_all()?;
            }
            Ok(self.geometry.found(file.metadata()?.len() / BLOCK_SIZE as u64))
        };
        grow().map_err(|e| DeviceError::new("grow", BlockAddr::NONE, blocks.unwrap_or(0), e))
    }
}

impl OpenMode {
    /// `EROFS` for a change of a device that was opened for reading.
    pub(super) fn check_writable(self) -> io::Result<()> {
        match self {
            Self::ReadWrite => Ok(()),
            Self::ReadOnly => Err(Errno::ROFS.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;
    use crate::device::AlignedBuf;

    const ZONE: u32 = 64;

    fn scratch(blocks: u64) -> (tempfile::TempDir, FileDevice) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("image");
        create(&path, blocks * BLOCK_SIZE as u64 + 777).unwrap();
        let device = FileDevice::open(&path, OpenMode::ReadWrite, ZONE).unwrap();
        (dir, device)
    }

    #[test]
    fn what_was_written_is_read_back_and_the_rest_is_zero() {
        let (_dir, device) = scratch(200);
        assert_eq!((device.geometry().zones, device.geometry().total_blocks), (4, 200));
        assert_eq!(device.zone(3).unwrap().size_blocks, 8);
        let mut data = AlignedBuf::new(3);
        data.fill(0xa5);
        device.write(BlockAddr(62), &data).unwrap();
        device.flush().unwrap();
        let mut back = AlignedBuf::new(5);
        device.read(BlockAddr(61), &mut back).unwrap();
        assert!(back[..BLOCK_SIZE].iter().all(|b| *b == 0));
        assert!(back[BLOCK_SIZE..4 * BLOCK_SIZE] == data[..]);
        assert!(back[4 * BLOCK_SIZE..].iter().all(|b| *b == 0));
        assert!(device.write(BlockAddr(199), &data).is_err());
        let traffic = device.traffic();
        assert_eq!((traffic.written_bytes, traffic.read_bytes), (3 * 4096, 5 * 4096));
        assert_eq!((traffic.writes, traffic.flushes, traffic.resets), (1, 1, 0));
    }

    #[test]
    fn reserving_takes_the_hosts_room_and_reset_gives_it_back() {
        let (_dir, device) = scratch(256);
        let sectors = || device.file().metadata().unwrap().blocks();
        let size = device.file().metadata().unwrap().len();
        device.reserve(1).unwrap();
        if sectors() == 0 {
            eprintln!("skipped: the host filesystem does not preallocate");
            return;
        }
        assert!(sectors() >= u64::from(ZONE) * 8);
        let mut data = AlignedBuf::new(1);
        data.fill(1);
        device.write(BlockAddr(70), &data).unwrap();
        device.reset(1).unwrap();
        assert_eq!(sectors(), 0);
        device.read(BlockAddr(70), &mut data).unwrap();
        assert!(data.iter().all(|b| *b == 0));
        assert_eq!(device.file().metadata().unwrap().len(), size);
        assert_eq!(device.traffic().resets, 1);
        assert!(device.reset(4).is_err());
    }

    #[test]
    fn a_device_opened_for_reading_refuses_changes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("image");
        create(&path, 64 * 4096).unwrap();
        assert!(create(&path, 64 * 4096).is_err());
        let device = FileDevice::open(&path, OpenMode::ReadOnly, ZONE).unwrap();
        let mut buf = AlignedBuf::new(1);
        device.read(BlockAddr(0), &mut buf).unwrap();
        let error = device.write(BlockAddr(0), &buf).unwrap_err();
        assert_eq!(error.source.kind(), io::ErrorKind::ReadOnlyFilesystem);
        assert!(device.reset(0).is_err() && device.reserve(0).is_err());
        device.flush().unwrap();
        assert_eq!(device.traffic().flushes, 0);
    }
}
