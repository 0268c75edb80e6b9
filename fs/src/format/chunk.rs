//! A chunk: one append to a segment. A header block, the payload blocks, and what of the summary did not fit
//! the header block. Layout: `fs/FORMAT.md`, "Chunk".
//!
//! The summary is a list of records. Operation records are what roll-forward replays; together with the block records
//! they tell whose each payload block is.

use super::DecodeError;
use super::bytes::{Encode, Reader};
use super::edit::Edit;
use super::superblock::COUNTER_MAX;
use crate::types::{BLOCK_SIZE, BlockAddr, Ino, Lsn, NodeId, WriteClock};

/// "GLCK"
pub const MAGIC: u32 = 0x4b43_4c47;
pub const VERSION: u16 = 1;
/// Bytes of the header proper; the summary begins behind it.
pub const HEADER_LEN: usize = 128;
/// Summary bytes that fit the header block.
pub const INLINE_LEN: usize = BLOCK_SIZE - HEADER_LEN;
/// Most payload blocks in a chunk.
pub const PAYLOAD_MAX: u32 = 128;
/// Most blocks for the rest of the summary.
pub const OVERFLOW_MAX: u32 = 15;
/// Most blocks in a chunk.
pub const CHUNK_BLOCKS_MAX: u32 = 1 + PAYLOAD_MAX + OVERFLOW_MAX;
/// Most summary bytes in a chunk.
pub const SUMMARY_MAX: usize = INLINE_LEN + OVERFLOW_MAX as usize * BLOCK_SIZE;
/// Most bytes of one encoded operation record.
pub const RECORD_BYTES_MAX: usize = 32 * 1024;

const WHAT: &str = "chunk";
const CRC_AT: usize = 16;

/// Blocks needed for a summary of `bytes` beyond the header block.
pub fn overflow_blocks(bytes: usize) -> u32 {
    bytes.saturating_sub(INLINE_LEN).div_ceil(BLOCK_SIZE) as u32
}

/// A chunk's header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChunkHeader {
    pub head: u8,
    pub fsid: u64,
    /// Its own place.
    pub addr: BlockAddr,
    /// Read-write mount that wrote it.
    pub epoch: u64,
    /// Which life of its segment it belongs to.
    pub generation: u64,
    /// Smallest and largest LSN of its operation records; both 0 if it has none.
    pub lsn_first: Lsn,
    pub lsn_last: Lsn,
    /// Every operation up to this one was durable when the chunk was closed.
    pub flushed: Lsn,
    pub write_clock: WriteClock,
    pub payload_blocks: u32,
    /// Blocks behind the payload: at least what the summary needs, since the end of a chunk is settled before its last record.
    pub overflow_blocks: u32,
    pub summary_bytes: u32,
}

impl ChunkHeader {
    /// Blocks of the whole chunk.
    pub fn blocks(&self) -> u32 {
        1 + self.payload_blocks + self.overflow_blocks
    }

    /// Address of payload block `index`.
    pub fn payload(&self, index: u32) -> BlockAddr {
        self.addr.offset(1 + u64::from(index))
    }

    /// Writes header and summary into the chunk's first block and the overflow blocks behind its payload.
    pub fn seal(&self, summary: &[u8], head: &mut [u8], overflow: &mut [u8]) {
        debug_assert_eq!(summary.len(), self.summary_bytes as usize);
        debug_assert_eq!(overflow.len(), self.overflow_blocks as usize * BLOCK_SIZE);
        let inline = summary.len().min(INLINE_LEN);
        head.fill(0);
        overflow.fill(0);
        self.write_fields(head);
        head[HEADER_LEN..HEADER_LEN + inline].copy_from_slice(&summary[..inline]);
        overflow[..summary.len() - inline].copy_from_slice(&summary[inline..]);
        let crc = checksum(head, overflow);
        head[CRC_AT..CRC_AT + 4].copy_from_slice(&crc.to_le_bytes());
    }

    fn write_fields(&self, head: &mut [u8]) {
        let mut out = Vec::with_capacity(HEADER_LEN);
        out.put_u32(MAGIC);
        out.put_u16(VERSION);
        out.put_u8(self.head);
        out.put_u8(0);
        out.put_u64(self.fsid);
        out.put_u32(0);
        out.put_u32(self.payload_blocks);
        out.put_u32(self.summary_bytes);
        out.put_u32(self.overflow_blocks);
        for v in [
            self.addr.0,
            self.epoch,
            self.generation,
            self.lsn_first.0,
            self.lsn_last.0,
            self.flushed.0,
            self.write_clock.0,
        ] {
            out.put_u64(v);
        }
        head[..out.len()].copy_from_slice(&out);
    }

    /// Reads the header fields of a block that should hold a chunk of `fsid` at `addr`. The checksum is the caller's next step
    /// ([`decode_summary`]), since it also covers blocks behind the payload.
    pub fn decode(block: &[u8], fsid: u64, addr: BlockAddr) -> Result<Self, DecodeError> {
        let mut r = Reader::new(block, WHAT);
        let magic = r.u32()?;
        if magic != MAGIC {
            return Err(DecodeError::BadMagic { what: WHAT, found: magic });
        }
        let version = r.u16()?;
        if version != VERSION {
            return Err(DecodeError::BadVersion { what: WHAT, found: u32::from(version) });
        }
        let head = r.u8()?;
        r.u8()?;
        let found = r.u64()?;
        r.u32()?;
        let payload_blocks = r.u32()?;
        let summary_bytes = r.u32()?;
        let overflow_blocks = r.u32()?;
        let header = Self {
            head,
            fsid: found,
            addr: BlockAddr(r.u64()?),
            epoch: r.u64()?,
            generation: r.u64()?,
            lsn_first: Lsn(r.u64()?),
            lsn_last: Lsn(r.u64()?),
            flushed: Lsn(r.u64()?),
            write_clock: WriteClock(r.u64()?),
            payload_blocks,
            overflow_blocks,
            summary_bytes,
        };
        for (value, good) in [
            (found, found == fsid),
            (header.addr.0, header.addr == addr),
            (u64::from(payload_blocks), payload_blocks <= PAYLOAD_MAX),
            (u64::from(overflow_blocks), overflow_blocks <= OVERFLOW_MAX),
            (u64::from(summary_bytes), summary_bytes as usize <= INLINE_LEN + overflow_blocks as usize * BLOCK_SIZE),
            (header.epoch, header.epoch <= COUNTER_MAX),
            (header.generation, header.generation <= COUNTER_MAX),
            (header.flushed.0, header.flushed.0 <= COUNTER_MAX),
        ] {
            if !good {
                return Err(DecodeError::BadValue { what: WHAT, value });
            }
        }
        Ok(header)
    }
}

fn checksum(head: &[u8], overflow: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&head[..CRC_AT]);
    hasher.update(&[0; 4]);
    hasher.update(&head[CRC_AT + 4..]);
    hasher.update(overflow);
    hasher.finalize()
}

/// One entry of a chunk's summary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// One operation.
    Operation { lsn: Lsn, edits: Vec<Edit> },
    /// Payload block `index` holds a metadata node.
    Node { index: u32, node: NodeId },
    /// Payload block `index` holds a table page.
    Page { index: u32, page: PageId },
}

/// Which radix table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum TableId {
    Nodes = 1,
    Segments = 2,
}

/// A page of a radix table; level 0 are the leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PageId {
    pub table: TableId,
    pub level: u8,
    pub index: u64,
}

impl TableId {
    pub fn from_u8(v: u8) -> Option<Self> {
        match v {
            1 => Some(Self::Nodes),
            2 => Some(Self::Segments),
            _ => None,
        }
    }
}

/// Appends an operation record.
pub fn encode_operation(lsn: Lsn, edits: &[Edit], out: &mut Vec<u8>) {
    out.put_u8(1);
    out.put_varint(lsn.0);
    out.put_varint(edits.len() as u64);
    for edit in edits {
        edit.encode(out);
    }
}

/// Appends a node record.
pub fn encode_node(index: u32, node: NodeId, out: &mut Vec<u8>) {
    out.put_u8(2);
    out.put_varint(u64::from(index));
    out.put_varint(node.0);
}

/// Appends a table page record.
pub fn encode_page(index: u32, page: PageId, out: &mut Vec<u8>) {
    out.put_u8(3);
    out.put_varint(u64::from(index));
    out.put_u8(page.table as u8);
    out.put_u8(page.level);
    out.put_varint(page.index);
}

/// Checks a chunk's header block and overflow blocks against each other and puts the coded summary into `summary`.
pub fn join_summary(
    header: &ChunkHeader,
    head: &[u8],
    overflow: &[u8],
    summary: &mut Vec<u8>,
) -> Result<(), DecodeError> {
    let stored = u32::from_le_bytes(head[CRC_AT..CRC_AT + 4].try_into().expect("four bytes"));
    let computed = checksum(head, overflow);
    if stored != computed {
        return Err(DecodeError::BadChecksum { what: WHAT, stored, computed });
    }
    let len = header.summary_bytes as usize;
    let inline = len.min(INLINE_LEN);
    summary.clear();
    summary.extend_from_slice(&head[HEADER_LEN..HEADER_LEN + inline]);
    summary.extend_from_slice(overflow.get(..len - inline).ok_or(DecodeError::Truncated { what: WHAT })?);
    Ok(())
}

/// Checks a chunk's header block and overflow blocks against each other and decodes the summary.
pub fn decode_summary(header: &ChunkHeader, head: &[u8], overflow: &[u8]) -> Result<Vec<Record>, DecodeError> {
    let mut bytes = Vec::new();
    join_summary(header, head, overflow, &mut bytes)?;
    let mut r = Reader::new(&bytes, WHAT);
    let mut records = Vec::new();
    while !r.is_empty() {
        records.push(decode_record(&mut r, header)?);
    }
    Ok(records)
}

/// Whose payload blocks a record says they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// Blocks from `addr` on hold the file's blocks from `first` on.
    Data {
        ino: Ino,
        first: u64,
        addr: BlockAddr,
        blocks: u32,
    },
    Node {
        node: NodeId,
        addr: BlockAddr,
    },
    Page {
        page: PageId,
        addr: BlockAddr,
    },
}

/// Visits the claims of a summary in order, as far as it can be read. For the cleaner: it neither builds the records nor allocates.
pub fn visit_claims(header: &ChunkHeader, summary: &[u8], mut visit: impl FnMut(Claim)) -> Result<(), DecodeError> {
    let mut r = Reader::new(summary, WHAT);
    while !r.is_empty() {
        match r.u8()? {
            1 => {
                r.varint()?;
                for _ in 0..r.varint()? {
                    if let Some((ino, first, addr, blocks)) = Edit::skim(&mut r)? {
                        visit(Claim::Data { ino, first, addr, blocks });
                    }
                }
            }
            tag => match decode_placed(tag, &mut r, header)? {
                Record::Node { index, node } => visit(Claim::Node { node, addr: header.payload(index) }),
                Record::Page { index, page } => visit(Claim::Page { page, addr: header.payload(index) }),
                Record::Operation { .. } => unreachable!("an operation has no place"),
            },
        }
    }
    Ok(())
}

fn decode_record(r: &mut Reader<'_>, header: &ChunkHeader) -> Result<Record, DecodeError> {
    Ok(match r.u8()? {
        1 => {
            let lsn = Lsn(r.varint()?);
            let count = r.varint()?;
            let mut edits = Vec::new();
            for _ in 0..count {
                edits.push(Edit::decode(r)?);
            }
            Record::Operation { lsn, edits }
        }
        tag => decode_placed(tag, r, header)?,
    })
}

/// A record that names one block of the payload.
fn decode_placed(tag: u8, r: &mut Reader<'_>, header: &ChunkHeader) -> Result<Record, DecodeError> {
    let index = |r: &mut Reader<'_>| {
        let index = r.varint_u32()?;
        if index < header.payload_blocks { Ok(index) } else { Err(r.bad(u64::from(index))) }
    };
    Ok(match tag {
        2 => Record::Node { index: index(r)?, node: NodeId(r.varint()?) },
        3 => {
            let index = index(r)?;
            let table = r.u8()?;
            let table = TableId::from_u8(table).ok_or(r.bad(u64::from(table)))?;
            Record::Page { index, page: PageId { table, level: r.u8()?, index: r.varint()? } }
        }
        tag => return Err(r.bad(u64::from(tag))),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::key::{Key, Kind};
    use crate::format::value::{Dirent, Extent, ExtentKind, Inode, Time, Value, Xattr};

    /// One of everything that a summary can say.
    fn every_record() -> Vec<Record> {
        let data = |addr: u64, blocks: u32| Extent {
            kind: ExtentKind::Data,
            blocks,
            addr: BlockAddr(addr),
            birth: WriteClock(7),
            interval: 3,
            crcs: (0..blocks).collect(),
        };
        let promise = Extent { kind: ExtentKind::Unwritten, addr: BlockAddr::NONE, ..data(0, 9) };
        let promise = Extent { crcs: Default::default(), ..promise };
        let (ino, name): (Ino, Box<[u8]>) = (Ino(12), (*b"name").into());
        let xattr = Xattr { name: name.clone(), value_len: 3, bytes: (*b"abc").into() };
        let values = [
            (Kind::Inode, Value::Inode(Box::new(Inode { nlink: 2, xattrs: 1, ..Inode::default() }))),
            (Kind::Symlink, Value::Symlink((*b"/target").into())),
            (Kind::Xattr, Value::Xattr(Box::new(xattr))),
            (Kind::Dirent, Value::Dirent(Dirent { name, ino, dtype: 8 })),
            (Kind::Orphan, Value::Orphan),
        ];
        let mut edits: Vec<_> =
            values.into_iter().map(|(kind, value)| Edit::Put { key: Key::new(ino, kind, 5), value }).collect();
        edits.extend([
            Edit::Delete { key: Key::inode(ino) },
            Edit::Map { ino, first: 4, extent: data(641, 9) },
            Edit::Map { ino, first: 40, extent: promise },
            Edit::Unmap { ino, first: 1 << 40, blocks: 3 },
            Edit::Move { ino, first: 5, old: BlockAddr(3), new: BlockAddr(650), crcs: (0..7).collect() },
            Edit::Lose { ino, first: 6, blocks: 1, old: BlockAddr(99) },
            Edit::Written { ino, size: Some(77), time: Time { secs: -1, nanos: 9 } },
        ]);
        let page = PageId { table: TableId::Segments, level: 1, index: 4 };
        vec![
            Record::Operation { lsn: Lsn(3), edits },
            Record::Node { index: 18, node: NodeId(99) },
            Record::Page { index: 19, page },
        ]
    }

    #[test]
    fn claims_are_those_of_the_records() {
        let records = every_record();
        let mut summary = Vec::new();
        let mut expected = Vec::new();
        let header = ChunkHeader { addr: BlockAddr(640), payload_blocks: 20, ..ChunkHeader::default() };
        for record in &records {
            match record {
                Record::Operation { lsn, edits } => {
                    encode_operation(*lsn, edits, &mut summary);
                    for edit in edits {
                        let blocks = edit.blocks_written().count() as u32;
                        if let Some((addr, (ino, first))) =
                            edit.blocks_written().next().and_then(|(addr, _)| Some((addr, edit.owner_of(addr)?)))
                        {
                            expected.push(Claim::Data { ino, first, addr, blocks });
                        }
                    }
                }
                Record::Node { index, node } => {
                    encode_node(*index, *node, &mut summary);
                    expected.push(Claim::Node { node: *node, addr: header.payload(*index) });
                }
                Record::Page { index, page } => {
                    encode_page(*index, *page, &mut summary);
                    expected.push(Claim::Page { page: *page, addr: header.payload(*index) });
                }
            }
        }
        let mut seen = Vec::new();
        visit_claims(&header, &summary, |claim| seen.push(claim)).unwrap();
        assert_eq!((seen.len(), &seen), (4, &expected));
        for len in 0..summary.len() {
            let cut = visit_claims(&header, &summary[..len], |_| ());
            let mut r = Reader::new(&summary[..len], WHAT);
            let mut whole = Ok(());
            while whole.is_ok() && !r.is_empty() {
                whole = decode_record(&mut r, &header).map(drop);
            }
            assert_eq!(cut, whole, "cut after {len} bytes");
        }
    }

    #[test]
    fn a_chunk_with_overflow_survives_a_round_trip() {
        let mut summary = Vec::new();
        let mut expected = Vec::new();
        for lsn in 10..700 {
            let edits = vec![Edit::Unmap { ino: Ino(lsn), first: lsn * 3, blocks: 1 }];
            encode_operation(Lsn(lsn), &edits, &mut summary);
            expected.push(Record::Operation { lsn: Lsn(lsn), edits });
        }
        encode_node(1, NodeId(99), &mut summary);
        expected.push(Record::Node { index: 1, node: NodeId(99) });
        let header = ChunkHeader {
            fsid: 5,
            addr: BlockAddr(640),
            epoch: 1,
            payload_blocks: 2,
            overflow_blocks: overflow_blocks(summary.len()) + 1,
            summary_bytes: summary.len() as u32,
            ..ChunkHeader::default()
        };
        assert!(header.blocks() > 3);
        let mut bytes = vec![0xaa; header.blocks() as usize * BLOCK_SIZE];
        let (front, overflow) = bytes.split_at_mut(3 * BLOCK_SIZE);
        header.seal(&summary, &mut front[..BLOCK_SIZE], overflow);
        assert_eq!(bytes[BLOCK_SIZE], 0xaa, "the payload is left alone");
        let head = &bytes[..BLOCK_SIZE];
        assert_eq!(ChunkHeader::decode(head, 5, BlockAddr(640)), Ok(header));
        assert!(ChunkHeader::decode(head, 6, BlockAddr(640)).is_err());
        assert!(ChunkHeader::decode(head, 5, BlockAddr(641)).is_err());
        assert_eq!(decode_summary(&header, head, &bytes[3 * BLOCK_SIZE..]), Ok(expected));
        bytes[3 * BLOCK_SIZE + 5] ^= 1;
        assert!(decode_summary(&header, &bytes[..BLOCK_SIZE], &bytes[3 * BLOCK_SIZE..]).is_err());
    }
}
