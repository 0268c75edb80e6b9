//! Opening an image: tells image file, block device and zoned image apart, locks it, and says in one line what is wrong.
//!
//! Before the superblock is read nobody knows the segment size of a conventional device. So opening has two steps: [`probe`]
//! opens and locks, and can read; [`Probe::with_segment_blocks`] makes the device of it.

use std::fs::Metadata;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;
use std::sync::Arc;

use rustix::io::Errno;

use super::blkzoned::{self, ZonedBlockDevice};
use super::block::BlockDevice;
use super::file::FileDevice;
use super::lock::{self, ImageLock};
use super::zoned::ZonedImage;
use super::{Device, Geometry};
use crate::error::{Error, Result};
use crate::types::{BLOCK_SIZE, BlockAddr};

/// Blocks of a segment where neither the device nor the user says otherwise: 2 MiB.
pub const SEGMENT_BLOCKS_DEFAULT: u32 = 512;

/// Whether an image may be changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenMode {
    ReadOnly,
    ReadWrite,
}

/// What stands behind an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceKind {
    File,
    Block,
    ZonedBlock,
    ZonedImage,
}

impl std::fmt::Display for DeviceKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::File => "image file",
            Self::Block => "block device",
            Self::ZonedBlock => "zoned block device",
            Self::ZonedImage => "zoned image",
        })
    }
}

/// A device ready for use, with its lock.
pub struct OpenedDevice {
    pub device: Arc<dyn Device>,
    pub kind: DeviceKind,
    pub lock: ImageLock,
}

/// An image that is open and locked, but not yet cut into segments.
#[derive(Debug)]
pub struct Probe {
    backing: Backing,
    name: String,
    lock: ImageLock,
}

#[derive(Debug)]
enum Backing {
    File(FileDevice),
    Block(BlockDevice),
    ZonedBlock(ZonedBlockDevice),
    ZonedImage(ZonedImage),
}

/// Opens `path` as a device with segments of `segment_blocks`: on a zoned device the zone size, which may be left out; on
/// others [`SEGMENT_BLOCKS_DEFAULT`] if left out.
pub fn open(path: &Path, mode: OpenMode, segment_blocks: Option<u32>) -> Result<OpenedDevice> {
    let probe = probe(path, mode)?;
    let blocks = segment_blocks.or(probe.zone_blocks()).unwrap_or(SEGMENT_BLOCKS_DEFAULT);
    probe.with_segment_blocks(blocks)
}

/// Opens and locks `path`. Every error is a sentence for the user.
pub fn probe(path: &Path, mode: OpenMode) -> Result<Probe> {
    let refused = |e: io::Error| Error::Refused(explain(path, mode, &e));
    let meta = std::fs::metadata(path).map_err(refused)?;
    let backing = open_backing(path, mode, &meta)?;
    let lock = ImageLock::take(backing.file(), path, mode)?;
    let probe = Probe { backing, name: path.display().to_string(), lock };
    if probe.geometry().total_blocks == 0 {
        return Err(Error::Refused(format!(
            "{} is too small: it does not hold one block of {BLOCK_SIZE} bytes",
            probe.name
        )));
    }
    Ok(probe)
}

fn open_backing(path: &Path, mode: OpenMode, meta: &Metadata) -> Result<Backing> {
    let refused = |e: io::Error| Error::Refused(explain(path, mode, &e));
    let kind = meta.file_type();
    if kind.is_file() {
        FileDevice::open(path, mode, SEGMENT_BLOCKS_DEFAULT).map(Backing::File).map_err(refused)
    } else if kind.is_dir() {
        ZonedImage::open(path, mode).map(Backing::ZonedImage)
    } else if !kind.is_block_device() {
        Err(Error::Refused(format!("{} is neither a file, a block device nor a zoned image", path.display())))
    } else if blkzoned::is_zoned(meta.rdev()) {
        ZonedBlockDevice::open(path, mode, meta.rdev()).map(Backing::ZonedBlock).map_err(refused)
    } else {
        BlockDevice::open(path, mode, SEGMENT_BLOCKS_DEFAULT).map(Backing::Block).map_err(refused)
    }
}

/// One clear line about an image that cannot be opened.
pub(super) fn explain(path: &Path, mode: OpenMode, error: &io::Error) -> String {
    let name = path.display();
    match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::NOENT) => format!("{name} does not exist"),
        Some(Errno::ACCESS | Errno::PERM) if mode == OpenMode::ReadWrite => {
            format!("no permission to read and write {name}")
        }
        Some(Errno::ACCESS | Errno::PERM) => format!("no permission to read {name}"),
        Some(Errno::ROFS) => format!("{name} is read-only; mount it with -o ro"),
        Some(Errno::BUSY) => lock::in_use(path),
        Some(Errno::NXIO | Errno::NODEV) => format!("{name} is a device node without a device"),
        _ => format!("{name} cannot be opened: {error}"),
    }
}

impl Backing {
    fn device(&self) -> &dyn Device {
        match self {
            Self::File(d) => d,
            Self::Block(d) => d,
            Self::ZonedBlock(d) => d,
            Self::ZonedImage(d) => d,
        }
    }

    fn file(&self) -> &std::fs::File {
        match self {
            Self::File(d) => d.file(),
            Self::Block(d) => d.file(),
            Self::ZonedBlock(d) => d.file(),
            Self::ZonedImage(d) => d.directory(),
        }
    }
}

impl Probe {
    pub fn kind(&self) -> DeviceKind {
        match self.backing {
            Backing::File(_) => DeviceKind::File,
            Backing::Block(_) => DeviceKind::Block,
            Backing::ZonedBlock(_) => DeviceKind::ZonedBlock,
            Backing::ZonedImage(_) => DeviceKind::ZonedImage,
        }
    }

    /// The segment size that a zoned device dictates.
    pub fn zone_blocks(&self) -> Option<u32> {
        let geometry = self.geometry();
        geometry.zoned.then_some(geometry.zone_blocks)
    }

    /// Shape of the device; zones of a conventional one are provisional.
    pub fn geometry(&self) -> Geometry {
        self.backing.device().geometry()
    }

    /// Reads blocks. These reads count as the later device's traffic.
    pub fn read(&self, addr: BlockAddr, buf: &mut [u8]) -> super::Result<()> {
        self.backing.device().read(addr, buf)
    }

    /// The device cut into segments of `blocks`. Refused if a zoned device has another zone size or not one segment fits.
    pub fn with_segment_blocks(self, blocks: u32) -> Result<OpenedDevice> {
        let (kind, geometry) = (self.kind(), self.geometry());
        match self.zone_blocks() {
            Some(zone) if zone != blocks => {
                return Err(Error::Refused(format!(
                    "{} has zones of {zone} blocks, so its segments cannot have {blocks}",
                    self.name
                )));
            }
            None if blocks == 0 || u64::from(blocks) > geometry.total_blocks => {
                return Err(Error::Refused(format!(
                    "{} is too small: it has {} blocks, and one segment has {blocks}",
                    self.name, geometry.total_blocks
                )));
            }
            None if geometry.total_blocks / u64::from(blocks) > u64::from(u32::MAX) - 1 => {
                return Err(Error::Refused(format!("{} has too many segments of {blocks} blocks", self.name)));
            }
            _ => {}
        }
        let device: Arc<dyn Device> = match self.backing {
            Backing::File(d) => Arc::new(d.with_zone_blocks(blocks)),
            Backing::Block(d) => Arc::new(d.with_zone_blocks(blocks)),
            Backing::ZonedBlock(d) => Arc::new(d),
            Backing::ZonedImage(d) => Arc::new(d),
        };
        Ok(OpenedDevice { device, kind, lock: self.lock })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::{AlignedBuf, ZonedSpec, block, file};

    const SPEC: ZonedSpec =
        ZonedSpec { zones: 4, zone_blocks: 16, capacity_blocks: 12, conventional: 0, open_max: None, active_max: None };

    fn refusal(path: &Path) -> String {
        match open(path, OpenMode::ReadWrite, None) {
            Err(Error::Refused(line)) => line,
            Err(other) => panic!("not a refusal: {other}"),
            Ok(_) => panic!("{} was opened", path.display()),
        }
    }

    #[test]
    fn an_image_file_is_probed_before_its_segment_size_is_known() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("image");
        file::create(&path, 1000 * 4096 + 17).unwrap();
        let probe = probe(&path, OpenMode::ReadWrite).unwrap();
        assert_eq!((probe.kind(), probe.zone_blocks()), (DeviceKind::File, None));
        let mut buf = AlignedBuf::new(1);
        probe.read(BlockAddr(0), &mut buf).unwrap();
        let opened = probe.with_segment_blocks(128).unwrap();
        let geometry = opened.device.geometry();
        assert_eq!((geometry.zones, geometry.zone_blocks, geometry.total_blocks), (8, 128, 1000));
        assert_eq!(opened.device.traffic().read_bytes, 4096);
    }

    #[test]
    fn a_second_writer_is_refused_also_after_the_first_is_cut_into_segments() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("image");
        file::create(&path, 1 << 22).unwrap();
        let first = open(&path, OpenMode::ReadWrite, None).unwrap();
        assert!(refusal(&path).contains("is in use"));
        assert!(open(&path, OpenMode::ReadOnly, None).is_err());
        drop(first);
        let readers = [open(&path, OpenMode::ReadOnly, None).unwrap(), open(&path, OpenMode::ReadOnly, None).unwrap()];
        assert!(refusal(&path).contains("is in use"));
        drop(readers);
        open(&path, OpenMode::ReadWrite, None).unwrap();
    }

    #[test]
    fn a_zoned_image_dictates_the_segment_size() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("zones");
        ZonedImage::create(&path, SPEC).unwrap();
        let opened = open(&path, OpenMode::ReadWrite, None).unwrap();
        assert_eq!((opened.kind, opened.device.geometry()), (DeviceKind::ZonedImage, SPEC.geometry()));
        assert!(refusal(&path).contains("is in use"));
        drop(opened);
        assert!(open(&path, OpenMode::ReadWrite, Some(8)).is_err());
    }

    #[test]
    fn what_is_no_image_is_refused_in_one_line() {
        let dir = tempfile::tempdir().unwrap();
        let missing = refusal(&dir.path().join("none"));
        assert!(missing.ends_with("none does not exist"), "{missing}");
        assert!(refusal(dir.path()).contains("no zoned image"));
        assert!(refusal(Path::new("/dev/null")).contains("neither a file"));
        let small = dir.path().join("small");
        file::create(&small, 100).unwrap();
        assert!(refusal(&small).contains("is too small"));
        let short = dir.path().join("short");
        file::create(&short, 3 * 4096).unwrap();
        assert!(refusal(&short).contains("too small"));
        assert!(explain(&short, OpenMode::ReadWrite, &Errno::ACCESS.into()).starts_with("no permission to read and"));
    }

    #[test]
    fn a_loop_device_is_told_from_a_file() {
        let Some(attached) = block::tests::Loop::attach(1024) else { return };
        let opened = open(&attached.node, OpenMode::ReadWrite, Some(64)).unwrap();
        assert_eq!((opened.kind, opened.device.geometry().zones), (DeviceKind::Block, 16));
        assert!(refusal(&attached.node).contains("is in use"));
        drop(opened);
        open(&attached.node, OpenMode::ReadOnly, Some(64)).unwrap();
    }
}
