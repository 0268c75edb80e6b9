//! Edits: what one logged operation does to the key tree.
//!
//! A record of the log is a list of edits under one LSN. The running filesystem and roll-forward apply the same
//! edits with the same code, so the state after a crash is the state that was. Edits say what the result is, not
//! how the operation came to it; applying them needs no judgement and cannot fail.

use smallvec::SmallVec;

use super::DecodeError;
use super::bytes::{Encode, Reader};
use super::key::{Key, Kind};
use super::superblock::COUNTER_MAX;
use super::value::{EXTENT_BLOCKS_MAX, Extent, ExtentKind, Time, Value};
use crate::types::{BlockAddr, Ino};

/// One change of the key tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Edit {
    /// Sets an item. For an inode that exists, `blocks` of the value is ignored and the tree's is kept.
    Put { key: Key, value: Value },
    /// Removes an item; nothing happens if there is none. Never used for extents.
    Delete { key: Key },
    /// Maps file blocks from `first` on to `extent`, in place of whatever was there, and counts `blocks` of the inode.
    /// A longer run of data is several such edits (`EXTENT_BLOCKS_MAX`).
    Map { ino: Ino, first: u64, extent: Extent },
    /// Makes `blocks` file blocks from `first` on a hole.
    Unmap { ino: Ino, first: u64, blocks: u64 },
    /// Moves blocks that the cleaner copied: file block `first + i` from `old + i` to `new + i`, for each `i` whose
    /// mapping still names `old + i` (I4). One checksum per block, so that a torn copy is found.
    Move { ino: Ino, first: u64, old: BlockAddr, new: BlockAddr, crcs: SmallVec<[u32; 4]> },
    /// The cleaner could not read these blocks: wherever `first + i` still names `old + i`, it becomes a lost block (I4).
    Lose { ino: Ino, first: u64, blocks: u32, old: BlockAddr },
    /// What a data write changes in its inode, far smaller than the inode: `size` if the file grew, and both times.
    Written { ino: Ino, size: Option<u64>, time: Time },
}

impl Edit {
    /// The file blocks whose mapping the edit changes: whose, the first, and the one behind the last.
    pub fn range(&self) -> Option<(Ino, u64, u64)> {
        Some(match self {
            Self::Put { .. } | Self::Delete { .. } | Self::Written { .. } => return None,
            Self::Map { ino, first, extent } => (*ino, *first, first.saturating_add(u64::from(extent.blocks))),
            Self::Unmap { ino, first, blocks } => (*ino, *first, first.saturating_add(*blocks)),
            Self::Move { ino, first, crcs, .. } => (*ino, *first, first.saturating_add(crcs.len() as u64)),
            Self::Lose { ino, first, blocks, .. } => (*ino, *first, first.saturating_add(u64::from(*blocks))),
        })
    }

    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Put { key, value } => {
                out.put_u8(1);
                key.encode(out);
                value.encode(out);
            }
            Self::Delete { key } => {
                out.put_u8(2);
                key.encode(out);
            }
            Self::Map { ino, first, extent } => {
                out.put_u8(3);
                out.put_varint(ino.0);
                out.put_varint(*first);
                extent.encode(out);
            }
            Self::Unmap { ino, first, blocks } => {
                out.put_u8(4);
                out.put_varint(ino.0);
                out.put_varint(*first);
                out.put_varint(*blocks);
            }
            Self::Move { ino, first, old, new, crcs } => {
                out.put_u8(5);
                out.put_varint(ino.0);
                out.put_varint(*first);
                out.put_varint(old.0);
                out.put_varint(new.0);
                out.put_varint(crcs.len() as u64);
                for crc in crcs {
                    out.put_u32(*crc);
                }
            }
            Self::Lose { ino, first, blocks, old } => {
                out.put_u8(6);
                out.put_varint(ino.0);
                out.put_varint(*first);
                out.put_varint(u64::from(*blocks));
                out.put_varint(old.0);
            }
            Self::Written { ino, size, time } => {
                out.put_u8(7);
                out.put_varint(ino.0);
                out.put_varint(size.map_or(0, |s| s + 1));
                time.encode(out);
            }
        }
    }

    pub fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(match r.u8()? {
            1 => {
                let key = Key::decode(r)?;
                if key.kind == Kind::Inode && key.ino.0 > COUNTER_MAX {
                    return Err(r.bad(key.ino.0));
                }
                if key.kind == Kind::Extent {
                    return Err(r.bad(key.kind as u64));
                }
                Self::Put { key, value: Value::decode(key.kind, r)? }
            }
            2 => Self::Delete { key: Key::decode(r)? },
            3 => {
                let (ino, first, extent) = (Ino(r.varint()?), r.varint()?, Extent::decode(r)?);
                end(r, first, u64::from(extent.blocks))?;
                Self::Map { ino, first, extent }
            }
            4 => Self::Unmap { ino: Ino(r.varint()?), first: r.varint()?, blocks: r.varint()? },
            5 => {
                let (ino, first) = (Ino(r.varint()?), r.varint()?);
                let (old, new) = (BlockAddr(r.varint()?), BlockAddr(r.varint()?));
                let blocks = r.varint_u32()?;
                if blocks > EXTENT_BLOCKS_MAX {
                    return Err(r.bad(u64::from(blocks)));
                }
                for start in [first, old.0, new.0] {
                    end(r, start, u64::from(blocks))?;
                }
                let crcs = (0..blocks).map(|_| r.u32()).collect::<Result<_, _>>()?;
                Self::Move { ino, first, old, new, crcs }
            }
            6 => {
                let (ino, first, blocks) = (Ino(r.varint()?), r.varint()?, r.varint_u32()?);
                let old = BlockAddr(r.varint()?);
                for start in [first, old.0] {
                    end(r, start, u64::from(blocks))?;
                }
                Self::Lose { ino, first, blocks, old }
            }
            7 => {
                let (ino, size) = (Ino(r.varint()?), r.varint()?.checked_sub(1));
                match size {
                    Some(size) if size > COUNTER_MAX => return Err(r.bad(size)),
                    _ => Self::Written { ino, size, time: Time::decode(r)? },
                }
            }
            tag => return Err(r.bad(u64::from(tag))),
        })
    }

    /// Reads past an edit without making it: inode, file block, address and number of the data blocks that it maps, if it maps some.
    pub fn skim(r: &mut Reader<'_>) -> Result<Option<(Ino, u64, BlockAddr, u32)>, DecodeError> {
        let mut ahead = r.clone();
        let mapped = match ahead.u8()? {
            1 => {
                let key = Key::decode(&mut ahead)?;
                Value::skip(key.kind, &mut ahead)?;
                None
            }
            3 => {
                let (ino, first) = (Ino(ahead.varint()?), ahead.varint()?);
                let extent = Extent::skim(&mut ahead)?;
                (extent.kind == ExtentKind::Data).then_some((ino, first, extent.addr, extent.blocks))
            }
            5 => {
                let (ino, first) = (Ino(ahead.varint()?), ahead.varint()?);
                let (_, new) = (ahead.varint()?, BlockAddr(ahead.varint()?));
                let blocks = ahead.varint_u32()?;
                if blocks > EXTENT_BLOCKS_MAX {
                    return Err(ahead.bad(u64::from(blocks)));
                }
                ahead.take(4 * blocks as usize)?;
                (blocks > 0).then_some((ino, first, new, blocks))
            }
            _ => return Self::decode(r).map(|_| None),
        };
        *r = ahead;
        Ok(mapped)
    }

    /// Addresses of the data blocks that this edit maps, each with its checksum.
    pub fn blocks_written(&self) -> impl Iterator<Item = (BlockAddr, u32)> + '_ {
        let (start, crcs): (BlockAddr, &[u32]) = match self {
            Self::Map { extent, .. } if extent.kind == ExtentKind::Data => (extent.addr, &extent.crcs),
            Self::Move { new, crcs, .. } => (*new, crcs),
            _ => (BlockAddr::NONE, &[]),
        };
        crcs.iter().enumerate().map(move |(i, crc)| (start.offset(i as u64), *crc))
    }

    /// The file blocks that a data block of this edit belongs to: inode and file block of the block at `addr`.
    pub fn owner_of(&self, addr: BlockAddr) -> Option<(Ino, u64)> {
        let (ino, first, start, blocks) = match self {
            Self::Map { ino, first, extent } if extent.kind == ExtentKind::Data => {
                (*ino, *first, extent.addr, u64::from(extent.blocks))
            }
            Self::Move { ino, first, new, crcs, .. } => (*ino, *first, *new, crcs.len() as u64),
            _ => return None,
        };
        let skip = addr.0.checked_sub(start.0).filter(|skip| *skip < blocks)?;
        Some((ino, first + skip))
    }
}

/// Refuses a run that ends beyond all numbers.
fn end(r: &Reader<'_>, start: u64, blocks: u64) -> Result<u64, DecodeError> {
    start.checked_add(blocks).ok_or_else(|| r.bad(start))
}
