//! Pages of the two radix tables. Layout: `fs/FORMAT.md`, "Table page".
//!
//! An index page and a leaf of the node table hold [`REFS_PER_PAGE`] block references; a leaf of the segment table
//! holds [`SEGMENTS_PER_PAGE`] entries. An absent page stands for entries that are all absent or free.

use super::DecodeError;
use super::bytes::{Encode, Reader};
use super::chunk::{PageId, TableId};
use super::superblock::BlockRef;
use crate::types::{BLOCK_SIZE, BlockAddr, Lsn, WriteClock};

/// "GLTB"
pub const MAGIC: u32 = 0x4254_4c47;
pub const VERSION: u16 = 1;
const HEADER_LEN: usize = 64;
const CRC_AT: usize = 8;
const REF_LEN: usize = 16;
const SEGMENT_LEN: usize = 32;
/// Block references on a page.
pub const REFS_PER_PAGE: usize = (BLOCK_SIZE - HEADER_LEN) / REF_LEN;
/// Segment entries on a page.
pub const SEGMENTS_PER_PAGE: usize = (BLOCK_SIZE - HEADER_LEN) / SEGMENT_LEN;
/// Levels of the node table: 252^4 nodes.
pub const NODE_LEVELS: u8 = 4;
/// Node ids that the table has room for.
pub const NODES_MAX: u64 = (REFS_PER_PAGE as u64).pow(NODE_LEVELS as u32);
/// Levels of the segment table: 126 * 252^2 segments.
pub const SEGMENT_LEVELS: u8 = 3;

const WHAT: &str = "table page";

/// State of a segment as the medium knows it. A prefree segment is free in the checkpoint that it waits for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum StoredState {
    #[default]
    Free = 0,
    /// Written, perhaps still being written: heads say which.
    Used = 1,
    /// The device refused to write or reset it; never used again.
    Bad = 2,
}

/// A segment table entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoredSegment {
    pub state: StoredState,
    /// Log head that wrote it.
    pub head: u8,
    /// Live blocks.
    pub live: u32,
    /// Write clock when it was opened.
    pub opened: WriteClock,
    /// Write clock when it was sealed, or last written.
    pub sealed: WriteClock,
    /// Write clock when a block of it last died.
    pub invalidated: WriteClock,
}

/// Contents of a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Page {
    Refs(Vec<BlockRef>),
    Segments(Vec<StoredSegment>),
}

impl Page {
    /// Encodes into `block` and returns the checksum that its parent must carry.
    pub fn encode(&self, id: PageId, fsid: u64, lsn: Lsn, block: &mut [u8]) -> u32 {
        let mut out = Vec::with_capacity(BLOCK_SIZE);
        out.put_u32(MAGIC);
        out.put_u16(VERSION);
        out.put_u8(id.table as u8);
        out.put_u8(id.level);
        out.put_u32(0);
        out.put_u32(0);
        out.put_u64(fsid);
        out.put_u64(id.index);
        out.put_u64(lsn.0);
        out.resize(HEADER_LEN, 0);
        match self {
            Self::Refs(refs) => {
                for r in refs {
                    r.encode(&mut out);
                    out.put_u32(0);
                }
            }
            Self::Segments(segments) => {
                for s in segments {
                    s.encode(&mut out);
                }
            }
        }
        out.resize(BLOCK_SIZE, 0);
        let crc = crc32fast::hash(&out);
        out[CRC_AT..CRC_AT + 4].copy_from_slice(&crc.to_le_bytes());
        block.copy_from_slice(&out);
        crc
    }

    /// Decodes a page that should be `id` with checksum `crc`.
    pub fn decode(block: &[u8], id: PageId, fsid: u64, crc: u32) -> Result<Self, DecodeError> {
        let mut r = Reader::new(block, WHAT);
        let magic = r.u32()?;
        if magic != MAGIC {
            return Err(DecodeError::BadMagic { what: WHAT, found: magic });
        }
        let version = r.u16()?;
        if version != VERSION {
            return Err(DecodeError::BadVersion { what: WHAT, found: u32::from(version) });
        }
        let (table, level) = (r.u8()?, r.u8()?);
        let stored = r.u32()?;
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&block[..CRC_AT]);
        hasher.update(&[0; 4]);
        hasher.update(&block[CRC_AT + 4..]);
        let computed = hasher.finalize();
        if stored != computed || computed != crc {
            return Err(DecodeError::BadChecksum { what: WHAT, stored: crc, computed });
        }
        r.u32()?;
        let (found_fsid, index) = (r.u64()?, r.u64()?);
        for (value, good) in [
            (u64::from(table), table == id.table as u8),
            (u64::from(level), level == id.level),
            (found_fsid, found_fsid == fsid),
            (index, index == id.index),
        ] {
            if !good {
                return Err(DecodeError::BadValue { what: WHAT, value });
            }
        }
        let mut r = Reader::new(&block[HEADER_LEN..], WHAT);
        if id.table == TableId::Segments && id.level == 0 {
            let entries = (0..SEGMENTS_PER_PAGE).map(|_| StoredSegment::decode(&mut r)).collect::<Result<_, _>>()?;
            return Ok(Self::Segments(entries));
        }
        let mut refs = Vec::with_capacity(REFS_PER_PAGE);
        for _ in 0..REFS_PER_PAGE {
            refs.push(BlockRef { addr: BlockAddr(r.u64()?), crc: r.u32()? });
            r.u32()?;
        }
        Ok(Self::Refs(refs))
    }
}

impl StoredSegment {
    fn encode(&self, out: &mut Vec<u8>) {
        out.put_u8(self.state as u8);
        out.put_u8(self.head);
        out.put_u16(0);
        out.put_u32(self.live);
        out.put_u64(self.opened.0);
        out.put_u64(self.sealed.0);
        out.put_u64(self.invalidated.0);
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let state = match r.u8()? {
            0 => StoredState::Free,
            1 => StoredState::Used,
            2 => StoredState::Bad,
            other => return Err(r.bad(u64::from(other))),
        };
        let head = r.u8()?;
        r.u16()?;
        Ok(Self {
            state,
            head,
            live: r.u32()?,
            opened: WriteClock(r.u64()?),
            sealed: WriteClock(r.u64()?),
            invalidated: WriteClock(r.u64()?),
        })
    }
}

const _: () = assert!(REFS_PER_PAGE == 252 && SEGMENTS_PER_PAGE == 126);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_survive_a_round_trip_and_are_told_apart() {
        let id = PageId { table: TableId::Segments, level: 0, index: 4 };
        let page = Page::Segments(
            (0..SEGMENTS_PER_PAGE as u32)
                .map(|live| StoredSegment { live, state: StoredState::Used, ..StoredSegment::default() })
                .collect(),
        );
        let mut block = vec![0; BLOCK_SIZE];
        let crc = page.encode(id, 1, Lsn(2), &mut block);
        assert_eq!(Page::decode(&block, id, 1, crc), Ok(page));
        assert!(Page::decode(&block, PageId { index: 5, ..id }, 1, crc).is_err());
        assert!(Page::decode(&block, id, 2, crc).is_err());
        assert!(Page::decode(&block, id, 1, crc ^ 1).is_err());
    }
}
