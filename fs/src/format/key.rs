//! Keys of the key tree: `(inode, kind, offset, snapshot)`, ordered in that order.

use super::DecodeError;
use super::bytes::{Encode, Reader};
use crate::types::Ino;

/// What an item is. The order puts an inode's items side by side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Kind {
    /// The inode itself; offset 0.
    Inode = 1,
    /// A part of a symbolic link's target; offset = part number.
    Symlink = 2,
    /// A part of an extended attribute; offset = name hash, probe and part.
    Xattr = 3,
    /// A directory entry; offset = name hash and probe: also the readdir cookie.
    Dirent = 4,
    /// A run of file blocks; offset = its first file block.
    Extent = 5,
    /// An inode without links that is still to be freed; owner [`Ino::ORPHANS`], offset = the inode.
    Orphan = 6,
}

impl Kind {
    pub fn from_u8(v: u8) -> Option<Self> {
        Some(match v {
            1 => Self::Inode,
            2 => Self::Symlink,
            3 => Self::Xattr,
            4 => Self::Dirent,
            5 => Self::Extent,
            6 => Self::Orphan,
            _ => return None,
        })
    }
}

/// A key of the key tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    pub ino: Ino,
    pub kind: Kind,
    pub offset: u64,
    /// Snapshot in which the item came to be; 0 until snapshots exist.
    pub snapshot: u32,
}

impl Key {
    pub fn new(ino: Ino, kind: Kind, offset: u64) -> Self {
        Self { ino, kind, offset, snapshot: 0 }
    }

    /// The smallest key there is.
    pub const MIN: Self = Self { ino: Ino(0), kind: Kind::Inode, offset: 0, snapshot: 0 };
    /// The largest key there is.
    pub const MAX: Self = Self { ino: Ino(u64::MAX), kind: Kind::Orphan, offset: u64::MAX, snapshot: u32::MAX };

    pub fn inode(ino: Ino) -> Self {
        Self::new(ino, Kind::Inode, 0)
    }

    pub fn extent(ino: Ino, first_block: u64) -> Self {
        Self::new(ino, Kind::Extent, first_block)
    }

    pub fn orphan(ino: Ino) -> Self {
        Self::new(Ino::ORPHANS, Kind::Orphan, ino.0)
    }

    pub fn encode(&self, out: &mut Vec<u8>) {
        out.put_varint(self.ino.0);
        out.put_u8(self.kind as u8);
        out.put_varint(self.offset);
        out.put_varint(u64::from(self.snapshot));
    }

    pub fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let ino = Ino(r.varint()?);
        let kind = r.u8()?;
        let kind = Kind::from_u8(kind).ok_or(r.bad(u64::from(kind)))?;
        Ok(Self { ino, kind, offset: r.varint()?, snapshot: r.varint_u32()? })
    }
}
