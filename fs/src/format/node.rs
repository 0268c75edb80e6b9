//! Metadata nodes: a node of the key tree as one block, and back.
//!
//! Layout of the block: a header of [`HEADER_LEN`] bytes, the coded items (see [`item`]), zeros. A node does not hold
//! its own address: the node table entry (address, LSN, checksum) tells the right copy from an older one.
//! Decoding accepts only what [`Node::encode`] produces, so an accepted node always fits a block again.

mod content;
mod item;

pub use content::{BODY_LEN, ITEMS_MAX, Node};

use super::DecodeError;
use super::bytes::{Encode, Reader};
use crate::types::{BLOCK_SIZE, Lsn, NodeId};
use content::Body;

const WHAT: &str = "metadata node";
/// "GLNO" in the order of the bytes.
const MAGIC: u32 = u32::from_le_bytes(*b"GLNO");
const VERSION: u16 = 1;

/// Bytes before the items.
pub const HEADER_LEN: usize = 48;
/// Where the checksum stands.
const CRC_AT: usize = 4;
/// Highest level of a node; the levels below it would hold more keys than a device has bytes.
pub const LEVEL_MAX: u8 = 15;

// magic, crc, version, level, reserved, items, body bytes, node, lsn, filesystem, reserved
const _: () = assert!(4 + 4 + 2 + 1 + 1 + 2 + 2 + 8 + 8 + 8 + 8 == HEADER_LEN);
const _: () = assert!(HEADER_LEN + BODY_LEN == BLOCK_SIZE);
const _: () = assert!(BODY_LEN <= u16::MAX as usize);
const _: () = assert!(ITEMS_MAX <= u16::MAX as usize);

/// What identifies one written copy of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeStamp {
    pub node: NodeId,
    /// The checkpoint that wrote it.
    pub lsn: Lsn,
    /// Random number of the filesystem, chosen by mkfs.
    pub fs_id: u64,
}

struct Header {
    stamp: NodeStamp,
    level: u8,
    items: usize,
    body_bytes: usize,
}

impl Node {
    /// The block that holds this node, and its CRC-32 (which is stored in the block, too).
    ///
    /// # Panics
    /// If the node does not fit: the tree splits a node before it is written.
    pub fn encode(&self, stamp: NodeStamp, block: &mut [u8; BLOCK_SIZE]) -> u32 {
        assert!(!self.overflows(), "node {} has outgrown its block", stamp.node);
        let mut out = Vec::with_capacity(BLOCK_SIZE);
        out.put_u32(MAGIC);
        out.put_u32(0);
        out.put_u16(VERSION);
        out.put_u8(self.level());
        out.put_u8(0);
        out.put_u16(self.len() as u16);
        out.put_u16(self.used() as u16);
        out.put_u64(stamp.node.0);
        out.put_u64(stamp.lsn.0);
        out.put_u64(stamp.fs_id);
        out.put_u64(0);
        self.put_items(&mut out);
        assert_eq!(out.len(), HEADER_LEN + self.used(), "node {}: size was not kept", stamp.node);
        out.resize(BLOCK_SIZE, 0);
        block.copy_from_slice(&out);
        let crc = crc32fast::hash(block);
        block[CRC_AT..CRC_AT + 4].copy_from_slice(&crc.to_le_bytes());
        crc
    }

    /// Reads a node that must be the copy that `expected` describes.
    pub fn decode(block: &[u8; BLOCK_SIZE], expected: NodeStamp) -> Result<Self, DecodeError> {
        let (stamp, node) = Self::decode_any(block)?;
        let pairs = [
            ("metadata node's filesystem", stamp.fs_id, expected.fs_id),
            ("metadata node's id", stamp.node.0, expected.node.0),
            ("metadata node's LSN", stamp.lsn.0, expected.lsn.0),
        ];
        for (what, value, wanted) in pairs {
            if value != wanted {
                return Err(DecodeError::BadValue { what, value });
            }
        }
        Ok(node)
    }

    /// Reads whatever node the block holds.
    pub fn decode_any(block: &[u8; BLOCK_SIZE]) -> Result<(NodeStamp, Self), DecodeError> {
        let header = Header::decode(block)?;
        let body = &block[HEADER_LEN..HEADER_LEN + header.body_bytes];
        let mut r = Reader::new(body, WHAT);
        let mut node = Node::with_capacity(header.level, header.items);
        for _ in 0..header.items {
            node.read_item(&mut r)?;
        }
        // Every item has one coding, so that a node that was accepted has the size that it will have when written.
        if !r.is_empty() || node.used() != header.body_bytes {
            return Err(DecodeError::BadValue { what: "metadata node's length", value: header.body_bytes as u64 });
        }
        Ok((header.stamp, node))
    }

    fn read_item(&mut self, r: &mut Reader<'_>) -> Result<(), DecodeError> {
        match &self.body {
            Body::Leaf(values) => {
                let prev = self.keys().last().zip(values.last());
                let (key, value) = item::read_leaf(r, prev)?;
                self.push_value(key, value);
            }
            Body::Inner(children) => {
                let prev = self.keys().last().zip(children.last().copied());
                let (key, child) = item::read_inner(r, prev)?;
                self.push_child(key, child);
            }
        }
        Ok(())
    }
}

impl Header {
    fn decode(block: &[u8; BLOCK_SIZE]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(&block[..HEADER_LEN], WHAT);
        let magic = r.u32()?;
        if magic != MAGIC {
            return Err(DecodeError::BadMagic { what: WHAT, found: magic });
        }
        let stored = r.u32()?;
        let computed = crc_of(block);
        if stored != computed {
            return Err(DecodeError::BadChecksum { what: WHAT, stored, computed });
        }
        let version = r.u16()?;
        if version != VERSION {
            return Err(DecodeError::BadVersion { what: WHAT, found: u32::from(version) });
        }
        let (level, reserved) = (r.u8()?, r.u8()?);
        let (items, body_bytes) = (usize::from(r.u16()?), usize::from(r.u16()?));
        let stamp = NodeStamp { node: NodeId(r.u64()?), lsn: Lsn(r.u64()?), fs_id: r.u64()? };
        let limits = [
            ("metadata node's reserved bytes", u64::from(reserved), reserved == 0),
            ("metadata node's level", u64::from(level), level <= LEVEL_MAX),
            ("metadata node's item count", items as u64, items <= ITEMS_MAX && (items > 0 || level == 0)),
            ("metadata node's length", body_bytes as u64, body_bytes <= BODY_LEN),
        ];
        for (what, value, good) in limits {
            if !good {
                return Err(DecodeError::BadValue { what, value });
            }
        }
        match r.u64()? {
            0 => Ok(Self { stamp, level, items, body_bytes }),
            value => Err(DecodeError::BadValue { what: "metadata node's reserved bytes", value }),
        }
    }
}

/// CRC-32 of the block with its checksum field taken as zero.
fn crc_of(block: &[u8; BLOCK_SIZE]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&block[..CRC_AT]);
    hasher.update(&[0; 4]);
    hasher.update(&block[CRC_AT + 4..]);
    hasher.finalize()
}

#[cfg(test)]
mod tests;
