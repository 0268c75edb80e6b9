//! Items of the key tree: what a key holds.

use smallvec::SmallVec;

use super::DecodeError;
use super::bytes::{Encode, Reader};
use super::key::Kind;
use crate::types::{BlockAddr, Ino, WriteClock};

/// Longest directory entry or xattr name, in bytes.
pub const NAME_MAX: usize = 255;
/// Most bytes in one part of a symlink target or xattr value: an item always fits a node several times.
pub const PART_MAX: usize = 1024;
/// Most blocks in one data extent: its checksums stay within an eighth of a node.
pub const EXTENT_BLOCKS_MAX: u32 = 128;

/// Seconds and nanoseconds since 1970; nanoseconds count forward also before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time {
    pub secs: i64,
    pub nanos: u32,
}

/// An inode. `blocks` is derived: only mapping and unmapping blocks change it (see `Edit`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inode {
    /// Type and permission bits, as in `st_mode`.
    pub mode: u32,
    pub nlink: u32,
    pub uid: u32,
    pub gid: u32,
    /// Device number of a special file, in the kernel's 32-bit encoding.
    pub rdev: u32,
    /// Differs between two inodes that had the same number (NFS export).
    pub generation: u32,
    /// `FS_*_FL` bits (`chattr`) that the user set.
    pub flags: u32,
    /// Bytes; for a directory the number of its entries.
    pub size: u64,
    /// Mapped or promised 4 KiB blocks.
    pub blocks: u64,
    /// A directory's parent; 0 for other kinds.
    pub parent: Ino,
    /// Number of extended attributes, so that "none" needs no search.
    pub xattrs: u32,
    pub atime: Time,
    pub mtime: Time,
    pub ctime: Time,
    pub btime: Time,
}

/// A directory entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dirent {
    pub name: Box<[u8]>,
    pub ino: Ino,
    /// `DT_*` of `dirent.h`.
    pub dtype: u8,
}

/// One part of an extended attribute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Xattr {
    /// Whole name, with its namespace; in every part, so that a part is never mistaken.
    pub name: Box<[u8]>,
    /// Bytes of the whole value.
    pub value_len: u32,
    /// This part of it.
    pub bytes: Box<[u8]>,
}

/// What stands behind a run of file blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ExtentKind {
    /// Blocks in the log.
    Data = 0,
    /// Space promised by fallocate; reads as zeros.
    Unwritten = 1,
    /// Blocks that could not be read when the cleaner moved them: reading gives EIO (I4).
    Lost = 2,
}

/// A run of file blocks. The first file block is the key's offset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extent {
    pub kind: ExtentKind,
    /// Length in blocks; at most [`EXTENT_BLOCKS_MAX`] for data.
    pub blocks: u32,
    /// First block on the device; [`BlockAddr::NONE`] unless data.
    pub addr: BlockAddr,
    /// Write clock when the user wrote it.
    pub birth: WriteClock,
    /// log2 of the interval between the two last user writes, in write-clock units; 0: written once.
    pub interval_log2: u8,
    /// CRC-32 of each block; empty unless data.
    pub crcs: SmallVec<[u32; 4]>,
}

impl Extent {
    /// The part of `self` that begins `skip` blocks in and is `blocks` long.
    pub fn slice(&self, skip: u32, blocks: u32) -> Self {
        debug_assert!(skip + blocks <= self.blocks);
        let data = self.kind == ExtentKind::Data;
        Self {
            kind: self.kind,
            blocks,
            addr: if data { self.addr.offset(u64::from(skip)) } else { BlockAddr::NONE },
            birth: self.birth,
            interval_log2: self.interval_log2,
            crcs: if data { self.crcs[skip as usize..(skip + blocks) as usize].into() } else { SmallVec::new() },
        }
    }
}

/// An item of the key tree. Its variant must agree with the key's [`Kind`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    Inode(Box<Inode>),
    Symlink(Box<[u8]>),
    Xattr(Box<Xattr>),
    Dirent(Dirent),
    Extent(Extent),
    Orphan,
}

impl Value {
    /// Appends the encoding; the kind is not part of it.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Inode(i) => i.encode(out),
            Self::Symlink(part) => out.put_bytes(part),
            Self::Xattr(x) => {
                out.put_bytes(&x.name);
                out.put_varint(u64::from(x.value_len));
                out.put_bytes(&x.bytes);
            }
            Self::Dirent(d) => {
                out.put_bytes(&d.name);
                out.put_varint(d.ino.0);
                out.put_u8(d.dtype);
            }
            Self::Extent(e) => e.encode(out),
            Self::Orphan => {}
        }
    }

    /// Reads an item of kind `kind`.
    pub fn decode(kind: Kind, r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(match kind {
            Kind::Inode => Self::Inode(Box::new(Inode::decode(r)?)),
            Kind::Symlink => Self::Symlink(r.bytes(PART_MAX)?.into()),
            Kind::Xattr => Self::Xattr(Box::new(Xattr {
                name: r.bytes(NAME_MAX)?.into(),
                value_len: r.varint_u32()?,
                bytes: r.bytes(PART_MAX)?.into(),
            })),
            Kind::Dirent => {
                Self::Dirent(Dirent { name: r.bytes(NAME_MAX)?.into(), ino: Ino(r.varint()?), dtype: r.u8()? })
            }
            Kind::Extent => Self::Extent(Extent::decode(r)?),
            Kind::Orphan => Self::Orphan,
        })
    }

    /// Whether the variant fits a key of kind `kind`.
    pub fn is_of(&self, kind: Kind) -> bool {
        matches!(
            (self, kind),
            (Self::Inode(_), Kind::Inode)
                | (Self::Symlink(_), Kind::Symlink)
                | (Self::Xattr(_), Kind::Xattr)
                | (Self::Dirent(_), Kind::Dirent)
                | (Self::Extent(_), Kind::Extent)
                | (Self::Orphan, Kind::Orphan)
        )
    }
}

impl Time {
    pub fn encode(self, out: &mut Vec<u8>) {
        out.put_signed(self.secs);
        out.put_u32(self.nanos);
    }

    pub fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let secs = r.signed()?;
        let nanos = r.u32()?;
        if nanos >= 1_000_000_000 {
            return Err(r.bad(u64::from(nanos)));
        }
        Ok(Self { secs, nanos })
    }
}

impl Inode {
    fn encode(&self, out: &mut Vec<u8>) {
        for v in [self.mode, self.nlink, self.uid, self.gid, self.rdev, self.generation, self.flags, self.xattrs] {
            out.put_varint(u64::from(v));
        }
        for v in [self.size, self.blocks, self.parent.0] {
            out.put_varint(v);
        }
        for t in [self.atime, self.mtime, self.ctime, self.btime] {
            t.encode(out);
        }
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            mode: r.varint_u32()?,
            nlink: r.varint_u32()?,
            uid: r.varint_u32()?,
            gid: r.varint_u32()?,
            rdev: r.varint_u32()?,
            generation: r.varint_u32()?,
            flags: r.varint_u32()?,
            xattrs: r.varint_u32()?,
            size: r.varint()?,
            blocks: r.varint()?,
            parent: Ino(r.varint()?),
            atime: Time::decode(r)?,
            mtime: Time::decode(r)?,
            ctime: Time::decode(r)?,
            btime: Time::decode(r)?,
        })
    }
}

impl Extent {
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.put_u8(self.kind as u8);
        out.put_varint(u64::from(self.blocks));
        if self.kind == ExtentKind::Data {
            out.put_varint(self.addr.0);
            out.put_varint(self.birth.0);
            out.put_u8(self.interval_log2);
            for crc in &self.crcs {
                out.put_u32(*crc);
            }
        }
    }

    pub fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let kind = match r.u8()? {
            0 => ExtentKind::Data,
            1 => ExtentKind::Unwritten,
            2 => ExtentKind::Lost,
            other => return Err(r.bad(u64::from(other))),
        };
        let blocks = r.varint_u32()?;
        if blocks == 0 || (kind == ExtentKind::Data && blocks > EXTENT_BLOCKS_MAX) {
            return Err(r.bad(u64::from(blocks)));
        }
        let mut extent =
            Self { kind, blocks, addr: BlockAddr::NONE, birth: WriteClock(0), interval_log2: 0, crcs: SmallVec::new() };
        if kind == ExtentKind::Data {
            extent.addr = BlockAddr(r.varint()?);
            extent.birth = WriteClock(r.varint()?);
            extent.interval_log2 = r.u8()?;
            for _ in 0..blocks {
                extent.crcs.push(r.u32()?);
            }
        }
        Ok(extent)
    }
}
