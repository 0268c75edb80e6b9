//! A conventional block device: freed zones are discarded, and a device in other use is refused by the kernel (`O_EXCL`).

use std::fs::File;
use std::io;
use std::path::Path;

use rustix::fs::OFlags;
use rustix::io::Errno;

use super::counters::Counters;
use super::direct::{DirectFile, PastEnd};
use super::geometry::Growing;
use super::ioctl;
use super::open::OpenMode;
use super::{Device, DeviceError, Geometry, Result, Traffic, Zone};
use crate::types::{BLOCK_SIZE, BlockAddr};

/// A block device without zones of its own.
#[derive(Debug)]
pub struct BlockDevice {
    backing: DirectFile,
    geometry: Growing,
    mode: OpenMode,
    counters: Counters,
}

/// Opens the node of a block device; for writing only if nothing else has it mounted or exclusively open.
pub(super) fn open_node(path: &Path, mode: OpenMode) -> io::Result<DirectFile> {
    let exclusive = if mode == OpenMode::ReadWrite { OFlags::EXCL } else { OFlags::empty() };
    let backing = DirectFile::open(path, mode, exclusive)?;
    let sector = rustix::fs::ioctl_blksszget(&backing)?;
    if sector as usize > BLOCK_SIZE {
        let why = format!("its sectors of {sector} bytes are larger than a block of {BLOCK_SIZE}");
        return Err(io::Error::new(io::ErrorKind::Unsupported, why));
    }
    Ok(backing)
}

impl BlockDevice {
    /// Opens a block device cut into zones of `zone_blocks`.
    pub fn open(path: &Path, mode: OpenMode, zone_blocks: u32) -> io::Result<Self> {
        let backing = open_node(path, mode)?;
        let blocks = ioctl::size_bytes(&backing)? / BLOCK_SIZE as u64;
        let geometry = Growing::new(blocks, zone_blocks);
        Ok(Self { backing, geometry, mode, counters: Counters::default() })
    }

    /// The same device cut into zones of `zone_blocks`.
    pub fn with_zone_blocks(mut self, zone_blocks: u32) -> Self {
        self.geometry.cut(zone_blocks);
        self
    }

    /// The open node, for locking.
    pub fn file(&self) -> &File {
        self.backing.file()
    }

    fn discard(&self, zone: &Zone) -> io::Result<()> {
        self.mode.check_writable()?;
        discard(&self.backing, zone.start, zone.size_blocks)
    }
}

/// Discards a range of blocks; a device that cannot is not an error.
pub(super) fn discard(backing: &DirectFile, start: BlockAddr, blocks: u32) -> io::Result<()> {
    match ioctl::discard(backing, start.byte(), u64::from(blocks) * BLOCK_SIZE as u64) {
        Err(e) if e.raw_os_error() == Some(Errno::OPNOTSUPP.raw_os_error()) => Ok(()),
        other => other,
    }
}

impl Device for BlockDevice {
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
        self.geometry.now().conventional_zone_for("reserve", zone).map(drop)
    }

    fn finish(&self, zone: u32) -> Result<()> {
        self.geometry.now().conventional_zone_for("finish", zone).map(drop)
    }

    fn reset(&self, zone: u32) -> Result<()> {
        let z = self.geometry.now().conventional_zone_for("reset", zone)?;
        self.discard(&z).map_err(|e| DeviceError::new("reset", z.start, u64::from(z.size_blocks), e))?;
        self.counters.count_reset();
        Ok(())
    }

    fn traffic(&self) -> Traffic {
        self.counters.traffic()
    }

    /// The device is grown by whoever made it; here its length is read again.
    fn grow(&self, blocks: Option<u64>) -> Result<Geometry> {
        let failed = |e| DeviceError::new("grow", BlockAddr::NONE, blocks.unwrap_or(0), e);
        let total = ioctl::size_bytes(&self.backing).map_err(failed)? / BLOCK_SIZE as u64;
        if blocks.is_some_and(|wanted| wanted > total) {
            let why = format!("the device has {total} blocks; make it larger first");
            return Err(failed(io::Error::new(io::ErrorKind::InvalidInput, why)));
        }
        Ok(self.geometry.found(total))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::path::PathBuf;
    use std::process::Command;

    use super::*;
    use crate::device::{AlignedBuf, file};

    /// A loop device over a scratch image, detached when dropped.
    pub(in crate::device) struct Loop {
        pub node: PathBuf,
        _dir: tempfile::TempDir,
    }

    impl Loop {
        /// `None`, with the reason on stderr, where loop devices cannot be made.
        pub(in crate::device) fn attach(blocks: u64) -> Option<Self> {
            let dir = tempfile::tempdir().unwrap();
            let image = dir.path().join("image");
            file::create(&image, blocks * BLOCK_SIZE as u64).unwrap();
            let out = match Command::new("losetup").args(["--find", "--show"]).arg(&image).output() {
                Ok(out) if out.status.success() => out,
                Ok(out) => {
                    eprintln!("skipped: losetup: {}", String::from_utf8_lossy(&out.stderr).trim());
                    return None;
                }
                Err(e) => {
                    eprintln!("skipped: losetup: {e}");
                    return None;
                }
            };
            let node = PathBuf::from(String::from_utf8(out.stdout).unwrap().trim());
            Some(Self { node, _dir: dir })
        }
    }

    impl Drop for Loop {
        fn drop(&mut self) {
            let status = Command::new("losetup").arg("--detach").arg(&self.node).status();
            assert!(status.is_ok_and(|s| s.success()), "{} stays attached", self.node.display());
        }
    }

    #[test]
    fn a_loop_device_is_written_flushed_and_discarded() {
        let Some(attached) = Loop::attach(1000) else { return };
        let device = BlockDevice::open(&attached.node, OpenMode::ReadWrite, 256).unwrap();
        assert_eq!((device.geometry().total_blocks, device.geometry().zones), (1000, 4));
        let mut data = AlignedBuf::new(4);
        data.fill(0x5a);
        device.reserve(1).unwrap();
        device.write(BlockAddr(300), &data).unwrap();
        device.flush().unwrap();
        let mut back = AlignedBuf::new(4);
        device.read(BlockAddr(300), &mut back).unwrap();
        assert!(back[..] == data[..]);
        device.reset(1).unwrap();
        device.finish(1).unwrap();
        assert_eq!(device.traffic().written_bytes, 4 * BLOCK_SIZE as u64);
        assert_eq!(device.traffic().resets, 1);
        assert!(device.read(BlockAddr(998), &mut back).is_err());
    }

    #[test]
    fn a_block_device_in_other_use_is_refused_for_writing_only() {
        let Some(attached) = Loop::attach(64) else { return };
        let held = BlockDevice::open(&attached.node, OpenMode::ReadWrite, 64).unwrap();
        let error = BlockDevice::open(&attached.node, OpenMode::ReadWrite, 64).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ResourceBusy);
        let reader = BlockDevice::open(&attached.node, OpenMode::ReadOnly, 64).unwrap();
        assert!(reader.write(BlockAddr(0), &AlignedBuf::new(1)).is_err());
        assert!(reader.reset(0).is_err());
        drop(held);
    }
}
