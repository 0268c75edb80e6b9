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
    /// Moving average of log2 of the intervals between user writes, coded by [`gleanfs_gc::placement::interval_code`]; 0: written once.
    pub interval: u8,
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
            interval: self.interval,
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
    pub fn encode(&self, out: &mut impl Encode) {
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

    /// Reads past an item of kind `kind`, which is no extent, without making it.
    pub fn skip(kind: Kind, r: &mut Reader<'_>) -> Result<(), DecodeError> {
        match kind {
            Kind::Inode => {
                Inode::decode(r)?;
            }
            Kind::Symlink => {
                r.bytes(PART_MAX)?;
            }
            Kind::Xattr => {
                r.bytes(NAME_MAX)?;
                r.varint_u32()?;
                r.bytes(PART_MAX)?;
            }
            Kind::Dirent => {
                r.bytes(NAME_MAX)?;
                r.varint()?;
                r.u8()?;
            }
            Kind::Extent => return Err(r.bad(kind as u64)),
            Kind::Orphan => {}
        }
        Ok(())
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
    pub fn encode(self, out: &mut impl Encode) {
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

/// Which of an inode's fields are there; the others are what they mostly are (one link, everything else zero).
mod present {
    pub const NLINK: u8 = 1;
    pub const OWNER: u8 = 2;
    pub const RDEV: u8 = 4;
    pub const GENERATION: u8 = 8;
    pub const FLAGS: u8 = 16;
    pub const XATTRS: u8 = 32;
    pub const PARENT: u8 = 64;
    pub const ALL: u8 = 127;
}

/// Which of an inode's times are there beside mtime; a time that is not there is mtime, or for atime maybe btime.
mod times {
    pub const CTIME: u8 = 1;
    pub const BTIME: u8 = 2;
    pub const ATIME: u8 = 4;
    pub const ATIME_IS_BTIME: u8 = 8;
    pub const ALL: u8 = 15;
}

impl Inode {
    fn encode(&self, out: &mut impl Encode) {
        let fields = [
            (present::NLINK, self.nlink != 1),
            (present::OWNER, self.uid != 0 || self.gid != 0),
            (present::RDEV, self.rdev != 0),
            (present::GENERATION, self.generation != 0),
            (present::FLAGS, self.flags != 0),
            (present::XATTRS, self.xattrs != 0),
            (present::PARENT, self.parent.0 != 0),
        ];
        let mask = fields.iter().filter(|(_, there)| *there).fold(0, |mask, (bit, _)| mask | bit);
        out.put_u8(mask);
        for v in [u64::from(self.mode), self.size, self.blocks] {
            out.put_varint(v);
        }
        let values = [
            (present::NLINK, u64::from(self.nlink)),
            (present::OWNER, u64::from(self.uid)),
            (present::OWNER, u64::from(self.gid)),
            (present::RDEV, u64::from(self.rdev)),
            (present::GENERATION, u64::from(self.generation)),
            (present::FLAGS, u64::from(self.flags)),
            (present::XATTRS, u64::from(self.xattrs)),
            (present::PARENT, self.parent.0),
        ];
        for (_, value) in values.iter().filter(|(bit, _)| mask & bit != 0) {
            out.put_varint(*value);
        }
        self.encode_times(out);
    }

    fn encode_times(&self, out: &mut impl Encode) {
        let atime = match self.atime {
            t if t == self.mtime => 0,
            t if t == self.btime => times::ATIME_IS_BTIME,
            _ => times::ATIME,
        };
        let ctime = if self.ctime == self.mtime { 0 } else { times::CTIME };
        let btime = if self.btime == self.mtime { 0 } else { times::BTIME };
        let mask = atime | ctime | btime;
        out.put_u8(mask);
        self.mtime.encode(out);
        for (bit, time) in [(times::CTIME, self.ctime), (times::BTIME, self.btime), (times::ATIME, self.atime)] {
            if mask & bit != 0 {
                out.put_signed(time.secs.wrapping_sub(self.mtime.secs));
                out.put_u32(time.nanos);
            }
        }
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mask = r.u8()?;
        if mask & !present::ALL != 0 {
            return Err(r.bad(u64::from(mask)));
        }
        let mut inode =
            Self { mode: r.varint_u32()?, size: r.varint()?, blocks: r.varint()?, nlink: 1, ..Self::default() };
        let fields = [
            (present::NLINK, &mut inode.nlink),
            (present::OWNER, &mut inode.uid),
            (present::OWNER, &mut inode.gid),
            (present::RDEV, &mut inode.rdev),
            (present::GENERATION, &mut inode.generation),
            (present::FLAGS, &mut inode.flags),
            (present::XATTRS, &mut inode.xattrs),
        ];
        for (_, field) in fields.into_iter().filter(|(bit, _)| mask & bit != 0) {
            *field = r.varint_u32()?;
        }
        if mask & present::PARENT != 0 {
            inode.parent = Ino(r.varint()?);
        }
        inode.decode_times(r)?;
        Ok(inode)
    }

    fn decode_times(&mut self, r: &mut Reader<'_>) -> Result<(), DecodeError> {
        let mask = r.u8()?;
        let both = times::ATIME | times::ATIME_IS_BTIME;
        if mask & !times::ALL != 0 || mask & both == both {
            return Err(r.bad(u64::from(mask)));
        }
        let mtime = Time::decode(r)?;
        let mut time = |bit: u8| -> Result<Time, DecodeError> {
            if mask & bit == 0 {
                return Ok(mtime);
            }
            let delta = Time::decode(r)?;
            Ok(Time { secs: mtime.secs.wrapping_add(delta.secs), nanos: delta.nanos })
        };
        (self.mtime, self.ctime, self.btime) = (mtime, time(times::CTIME)?, time(times::BTIME)?);
        self.atime = if mask & times::ATIME_IS_BTIME != 0 { self.btime } else { time(times::ATIME)? };
        Ok(())
    }
}

impl Extent {
    pub fn encode(&self, out: &mut impl Encode) {
        out.put_u8(self.kind as u8);
        out.put_varint(u64::from(self.blocks));
        if self.kind == ExtentKind::Data {
            out.put_varint(self.addr.0);
            out.put_varint(self.birth.0);
            out.put_u8(self.interval);
            for crc in &self.crcs {
                out.put_u32(*crc);
            }
        }
    }

    pub fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mut extent = Self::decode_head(r)?;
        if extent.kind == ExtentKind::Data {
            for _ in 0..extent.blocks {
                extent.crcs.push(r.u32()?);
            }
        }
        Ok(extent)
    }

    /// The same without the checksums, which are read past.
    pub fn skim(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let extent = Self::decode_head(r)?;
        if extent.kind == ExtentKind::Data {
            r.take(4 * extent.blocks as usize)?;
        }
        Ok(extent)
    }

    fn decode_head(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
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
            Self { kind, blocks, addr: BlockAddr::NONE, birth: WriteClock(0), interval: 0, crcs: SmallVec::new() };
        if kind == ExtentKind::Data {
            extent.addr = BlockAddr(r.varint()?);
            if extent.addr.0.checked_add(u64::from(blocks)).is_none() {
                return Err(r.bad(extent.addr.0));
            }
            extent.birth = WriteClock(r.varint()?);
            extent.interval = r.u8()?;
        }
        Ok(extent)
    }
}
