//! The structures of the medium, and the other bytes that the daemon decodes by itself.
//!
//! A decoder that accepts bytes must be able to write what it understood, and understand that the same way again: otherwise a checkpoint
//! would put something on the medium that the next mount refuses. Checksums are mended first, since a forger can do so.

use gleanfs::format::bytes::Reader;
use gleanfs::format::chunk::{ChunkHeader, PageId, Record, TableId, decode_summary};
use gleanfs::format::edit::Edit;
use gleanfs::format::key::{Key, Kind};
use gleanfs::format::node::Node;
use gleanfs::format::superblock::Superblock;
use gleanfs::format::table::Page;
use gleanfs::format::value::Value;
use gleanfs::types::{BLOCK_SIZE, BlockAddr, Lsn};
use gleanfs_gc::advisor::{Rules, check_file, declared_kind};

use super::patch::{CHUNK_CRC_AT, NODE_CRC_AT, PAGE_CRC_AT, SLOT_CRC_AT, seal};

fn block_of(input: &[u8]) -> [u8; BLOCK_SIZE] {
    let mut block = [0; BLOCK_SIZE];
    let len = input.len().min(BLOCK_SIZE);
    block[..len].copy_from_slice(&input[..len]);
    block
}

pub(super) fn slot(input: &[u8]) {
    let _ = Superblock::decode(input);
    let mut block = block_of(input);
    seal(&mut block, SLOT_CRC_AT);
    let Ok(superblock) = Superblock::decode(&block) else { return };
    let again = Superblock::decode(&superblock.encode());
    assert_eq!(again.as_ref(), Ok(&superblock), "a slot is not read as it was written");
}

pub(super) fn chunk(input: &[u8]) {
    let mut bytes = input.to_vec();
    bytes.resize(input.len().next_multiple_of(BLOCK_SIZE).max(BLOCK_SIZE), 0);
    let addr = BlockAddr(u64::from_le_bytes(bytes[32..40].try_into().expect("eight bytes")));
    let fsid = u64::from_le_bytes(bytes[8..16].try_into().expect("eight bytes"));
    let Ok(header) = ChunkHeader::decode(&bytes[..BLOCK_SIZE], fsid, addr) else { return };
    let overflow = bytes.len() / BLOCK_SIZE - 1;
    if header.overflow_blocks as usize != overflow {
        let _ = decode_summary(&header, &bytes[..BLOCK_SIZE], &bytes[BLOCK_SIZE..]);
        return;
    }
    seal(&mut bytes, CHUNK_CRC_AT);
    let Ok(records) = decode_summary(&header, &bytes[..BLOCK_SIZE], &bytes[BLOCK_SIZE..]) else { return };
    let mut summary = Vec::new();
    for record in &records {
        match record {
            Record::Operation { lsn, edits } => gleanfs::format::chunk::encode_operation(*lsn, edits, &mut summary),
            Record::Node { index, node } => gleanfs::format::chunk::encode_node(*index, *node, &mut summary),
            Record::Page { index, page } => gleanfs::format::chunk::encode_page(*index, *page, &mut summary),
        }
    }
    assert!(summary.len() <= header.summary_bytes as usize, "a summary grows by being read");
    let header = ChunkHeader { summary_bytes: summary.len() as u32, ..header };
    let (head, overflow) = bytes.split_at_mut(BLOCK_SIZE);
    header.seal(&summary, head, overflow);
    assert_eq!(decode_summary(&header, head, overflow), Ok(records), "a summary is not read as it was written");
}

pub(super) fn edits(input: &[u8]) {
    let mut r = Reader::new(input, "edits");
    while !r.is_empty() {
        let Ok(edit) = Edit::decode(&mut r) else { return };
        let mut bytes = Vec::new();
        edit.encode(&mut bytes);
        let mut again = Reader::new(&bytes, "edits");
        assert_eq!(Edit::decode(&mut again).as_ref(), Ok(&edit), "an edit is not read as it was written");
        assert!(again.is_empty());
        // What replay asks of an edit before it believes it.
        assert!(edit.blocks_written().count() <= 128);
    }
}

pub(super) fn node(input: &[u8]) {
    let mut block = block_of(input);
    let _ = Node::decode_any(&block);
    seal(&mut block, NODE_CRC_AT);
    let Ok((stamp, node)) = Node::decode_any(&block) else { return };
    assert!(!node.overflows() && node.keys().is_sorted_by(|a, b| a < b));
    let mut written = [0; BLOCK_SIZE];
    node.encode(stamp, &mut written);
    assert_eq!(Node::decode_any(&written), Ok((stamp, node)), "a node is not read as it was written");
}

pub(super) fn page(input: &[u8]) {
    let mut block = block_of(input);
    let table = TableId::from_u8(block[6]).unwrap_or(TableId::Nodes);
    let index = u64::from_le_bytes(block[24..32].try_into().expect("eight bytes"));
    let id = PageId { table, level: block[7], index };
    let fsid = u64::from_le_bytes(block[16..24].try_into().expect("eight bytes"));
    let crc = seal(&mut block, PAGE_CRC_AT);
    let Ok(page) = Page::decode(&block, id, fsid, crc) else { return };
    let mut written = [0; BLOCK_SIZE];
    let crc = page.encode(id, fsid, Lsn(1), &mut written);
    assert_eq!(Page::decode(&written, id, fsid, crc), Ok(page), "a page is not read as it was written");
}

pub(super) fn values(input: &[u8]) {
    let Some((kind, rest)) = input.split_first() else { return };
    let mut r = Reader::new(rest, "key");
    let Ok(key) = Key::decode(&mut r) else { return };
    let mut bytes = Vec::new();
    key.encode(&mut bytes);
    assert_eq!(Key::decode(&mut Reader::new(&bytes, "key")), Ok(key));
    let kind = Kind::from_u8(1 + kind % 6).expect("six kinds");
    let Ok(value) = Value::decode(kind, &mut r) else { return };
    assert!(value.is_of(kind));
    let mut bytes = Vec::new();
    value.encode(&mut bytes);
    let mut again = Reader::new(&bytes, "value");
    assert_eq!(Value::decode(kind, &mut again), Ok(value), "a value is not read as it was written");
    assert!(again.is_empty());
}

/// What the daemon itself reads of a model before it gives it to a worker.
pub(super) fn model(input: &[u8]) {
    let _ = declared_kind(input);
    let rules = Rules::new(&["a", "b"], "1", None);
    if let Ok(card) = check_file(input, &rules) {
        assert_eq!(card.columns.len(), card.features.len());
        assert!(card.columns.iter().all(|column| *column < rules.known.len()));
    }
}

/// A worker that writes anything anywhere in the memory that it shares with the daemon.
pub(super) fn worker(input: &[u8]) {
    gleanfs_gc::advisor::lies::endure(input);
}
