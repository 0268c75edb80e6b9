//! A small filesystem in memory, filled by hand-made edits, and ways to damage it.

use std::hash::Hasher;
use std::sync::Arc;

use gleanfs::device::{AlignedBuf, Device, MemoryDevice};
use gleanfs::format::chunk::{PageId, TableId};
use gleanfs::format::edit::Edit;
use gleanfs::format::key::{Key, Kind};
use gleanfs::format::superblock::{BlockRef, SLOTS, Superblock};
use gleanfs::format::table::{Page, StoredSegment};
use gleanfs::format::value::{Dirent, Extent, Inode, Value, Xattr};
use gleanfs::fsck::{CheckOptions, Finding, Report, check};
use gleanfs::meta::mkfs::{FormatOptions, format};
use gleanfs::meta::volume::{Plan, Volume, VolumeOptions, WRITE_BLOCKS_MAX, WriteHint};
use gleanfs::types::{BLOCK_SIZE, BlockAddr, Ino, Lsn};
use siphasher::sip::SipHasher13;

pub const HASH_KEY: [u8; 16] = [4; 16];
pub const SEGMENT_BLOCKS: u32 = 64;
pub const DIR: u32 = 0o040755;
pub const FILE: u32 = 0o100644;
pub const LINK: u32 = 0o120777;

/// The parts that every image below has: `/file` of three blocks, `/dir`, `/dir/inner`, `/link`.
pub const A_FILE: Ino = Ino(16);
pub const A_DIR: Ino = Ino(17);
pub const INNER: Ino = Ino(18);
pub const A_LINK: Ino = Ino(19);

pub fn inode(mode: u32) -> Inode {
    Inode { mode, nlink: 1, ..Inode::default() }
}

pub fn directory(parent: Ino, subdirs: u32, entries: u64) -> Inode {
    Inode { mode: DIR, nlink: 2 + subdirs, parent, size: entries, ..Inode::default() }
}

pub fn put(ino: Ino, inode: Inode) -> Edit {
    Edit::Put { key: Key::inode(ino), value: Value::Inode(Box::new(inode)) }
}

fn hash(name: &[u8]) -> u64 {
    let mut hasher = SipHasher13::new_with_key(&HASH_KEY);
    hasher.write(name);
    hasher.finish() >> 9
}

pub fn entry_key(dir: Ino, name: &str) -> Key {
    Key::new(dir, Kind::Dirent, hash(name.as_bytes()) << 8)
}

pub fn entry(dir: Ino, name: &str, ino: Ino, dtype: u8) -> Edit {
    let dirent = Dirent { name: name.as_bytes().into(), ino, dtype };
    Edit::Put { key: entry_key(dir, name), value: Value::Dirent(dirent) }
}

pub fn xattr(ino: Ino, name: &str, part: u64, value_len: u32, bytes: &[u8]) -> Edit {
    let value = Xattr { name: name.as_bytes().into(), value_len, bytes: bytes.into() };
    let key = Key::new(ino, Kind::Xattr, hash(name.as_bytes()) << 8 | part);
    Edit::Put { key, value: Value::Xattr(Box::new(value)) }
}

fn root() -> Vec<Edit> {
    vec![put(Ino::ROOT, directory(Ino::ROOT, 0, 0))]
}

pub fn format_with(contents: &[Edit]) -> Arc<MemoryDevice> {
    let device = Arc::new(MemoryDevice::new(100 * u64::from(SEGMENT_BLOCKS), SEGMENT_BLOCKS));
    let made: Arc<dyn Device> = device.clone();
    format(made, &FormatOptions::new([3; 16], HASH_KEY, 0), contents).unwrap();
    device
}

/// An image and the volume open on it.
pub struct Image {
    pub device: Arc<MemoryDevice>,
    pub volume: Volume,
}

impl Image {
    /// A freshly made filesystem.
    pub fn empty() -> Self {
        Self::open(format_with(&root()))
    }

    pub fn open(device: Arc<MemoryDevice>) -> Self {
        Self::try_open(device).unwrap()
    }

    pub fn try_open(device: Arc<MemoryDevice>) -> gleanfs::error::Result<Self> {
        let options = VolumeOptions { heads: Some(1), ..VolumeOptions::of_tool(false, 1 << 20) };
        let volume = Volume::open(device.clone(), options)?;
        Ok(Self { device, volume })
    }

    /// With the parts that the constants name.
    pub fn filled() -> Self {
        let image = Self::empty();
        image.commit(vec![
            put(A_FILE, Inode { size: 3 * BLOCK_SIZE as u64, xattrs: 1, ..inode(FILE) }),
            put(A_DIR, directory(Ino::ROOT, 1, 1)),
            put(INNER, directory(A_DIR, 0, 0)),
            put(A_LINK, Inode { size: 6, ..inode(LINK) }),
            Edit::Put { key: Key::new(A_LINK, Kind::Symlink, 0), value: Value::Symlink((*b"target").into()) },
            xattr(A_FILE, "user.a", 0, 5, b"value"),
            entry(Ino::ROOT, "file", A_FILE, 8),
            entry(Ino::ROOT, "dir", A_DIR, 4),
            entry(Ino::ROOT, "link", A_LINK, 10),
            entry(A_DIR, "inner", INNER, 4),
            put(Ino::ROOT, directory(Ino::ROOT, 1, 3)),
        ]);
        image.write(A_FILE, 0, 3);
        image
    }

    /// What whoever relieves a mounted volume does: segments are ready before they are needed.
    fn prepare(&self) {
        assert!(self.volume.log().prepare(4).unwrap());
    }

    pub fn commit(&self, edits: Vec<Edit>) {
        self.prepare();
        self.volume.transact(|_| Ok(Plan { edits: edits.clone(), value: () })).unwrap();
    }

    /// Writes blocks; where they went.
    pub fn write(&self, ino: Ino, first: u64, blocks: u32) -> Vec<Extent> {
        let mut extents: Vec<Extent> = Vec::new();
        let mut next = first;
        while next < first + u64::from(blocks) {
            self.prepare();
            let wanted = ((first + u64::from(blocks) - next) as u32).min(WRITE_BLOCKS_MAX);
            let hint = WriteHint { ino, first: next, blocks: wanted, append: false, file_size: 0 };
            let fill = |buf: &mut [u8]| buf.chunks_mut(BLOCK_SIZE).for_each(|b| b.fill(next as u8 ^ ino.0 as u8));
            let extent = self.volume.write(&hint, fill, |_, extent| {
                let edits = vec![Edit::Map { ino, first: next, extent: extent.clone() }];
                Ok(Plan { edits, value: extent.clone() })
            });
            let extent = extent.unwrap();
            next += u64::from(extent.blocks);
            extents.push(extent);
        }
        extents
    }

    /// Ends with a clean checkpoint.
    pub fn unmount(self) -> Arc<MemoryDevice> {
        self.volume.checkpoint(true).unwrap();
        self.device
    }

    /// Commits damaging edits, unmounts and checks.
    #[track_caller]
    pub fn findings_after(self, edits: Vec<Edit>) -> Vec<Finding> {
        self.commit(edits);
        findings(&self.unmount())
    }
}

pub fn report(device: &Arc<MemoryDevice>) -> Report {
    let device: Arc<dyn Device> = device.clone();
    check(device, &CheckOptions::default(), &mut |_, _| {}).unwrap()
}

/// What a check finds. Whatever it is, a repair of a copy must mend it.
#[track_caller]
pub fn findings(device: &Arc<MemoryDevice>) -> Vec<Finding> {
    crate::mending::mended(device);
    report(device).findings
}

pub fn read(device: &MemoryDevice, addr: BlockAddr) -> AlignedBuf {
    let mut block = AlignedBuf::new(1);
    device.read(addr, &mut block).unwrap();
    block
}

pub fn overwrite(device: &MemoryDevice, addr: BlockAddr, bytes: &[u8]) {
    device.tamper(addr, |block| block.copy_from_slice(bytes));
}

/// Address of the newest slot, and what it holds.
pub fn newest_slot(device: &MemoryDevice) -> (BlockAddr, Superblock) {
    let slots = SLOTS.iter().filter_map(|slot| Some((*slot, Superblock::decode(&read(device, *slot)).ok()?)));
    slots.max_by_key(|(_, superblock)| superblock.checkpoint.sequence).unwrap()
}

/// Changes the newest superblock, with a good checksum.
pub fn rewrite_superblock(device: &MemoryDevice, change: impl FnOnce(&mut Superblock)) {
    let (slot, mut superblock) = newest_slot(device);
    change(&mut superblock);
    overwrite(device, slot, &superblock.encode());
}

/// Changes the first leaf of the segment table, with good checksums all the way up.
pub fn rewrite_segments(device: &MemoryDevice, change: impl FnOnce(&mut Vec<StoredSegment>)) {
    rewrite_superblock(device, |superblock| {
        let fsid = superblock.identity.fsid;
        let lsn = superblock.checkpoint.lsn;
        let mut change = Some(change);
        superblock.checkpoint.segment_table.crc =
            rewrite_page(device, superblock.checkpoint.segment_table, 2, fsid, lsn, &mut |leaf| {
                (change.take().unwrap())(leaf);
            });
    });
}

fn rewrite_page(
    device: &MemoryDevice,
    at: BlockRef,
    level: u8,
    fsid: u64,
    lsn: Lsn,
    change: &mut dyn FnMut(&mut Vec<StoredSegment>),
) -> u32 {
    let id = PageId { table: TableId::Segments, level, index: 0 };
    let mut page = Page::decode(&read(device, at.addr), id, fsid, at.crc).unwrap();
    match &mut page {
        Page::Refs(refs) => refs[0].crc = rewrite_page(device, refs[0], level - 1, fsid, lsn, change),
        Page::Segments(entries) => change(entries),
    }
    let mut block = vec![0; BLOCK_SIZE];
    let crc = page.encode(id, fsid, lsn, &mut block);
    overwrite(device, at.addr, &block);
    crc
}

/// Where node `id` stands, for a node on the first page of the table.
pub fn node_at(device: &MemoryDevice, id: u64) -> BlockRef {
    let (_, superblock) = newest_slot(device);
    let fsid = superblock.identity.fsid;
    let mut at = superblock.checkpoint.node_table;
    for level in (0..4).rev() {
        let page = PageId { table: TableId::Nodes, level, index: 0 };
        let Page::Refs(refs) = Page::decode(&read(device, at.addr), page, fsid, at.crc).unwrap() else {
            unreachable!()
        };
        at = refs[if level == 0 { id as usize } else { 0 }];
    }
    at
}

/// An image after a power cut, and the first of its file's blocks: that was flushed, and a later chunk on another segment tells so.
pub fn flushed_on_two_segments() -> (Arc<MemoryDevice>, BlockAddr) {
    let image = Image::filled();
    image.commit(vec![put(A_FILE, Inode { size: 100 * BLOCK_SIZE as u64, xattrs: 1, ..inode(FILE) })]);
    image.volume.sync().unwrap();
    let first = image.write(A_FILE, 0, 1)[0].addr;
    image.volume.sync().unwrap();
    image.write(A_FILE, 0, 100);
    image.volume.sync().unwrap();
    (Arc::new(image.device.crash(5)), first)
}
