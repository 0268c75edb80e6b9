//! Coding of a node's items, each against its immediate predecessor in the node.
//!
//! An item opens with a head byte whose low two bits say how the key is coded; the key follows, then the value.
//! Extents are coded against a preceding data extent: the place right behind it and its birth. Density of extents
//! decides how much metadata a random overwrite costs: one block takes two bytes, its checksum, and the bytes of
//! the two differences. Of several possible codings the writer takes the first that applies, which is never longer
//! than another; the one code path also measures, so measured and written sizes cannot differ.

use smallvec::SmallVec;

use crate::format::DecodeError;
use crate::format::bytes::{Encode, Reader, varint_len};
use crate::format::key::{Key, Kind};
use crate::format::value::{EXTENT_BLOCKS_MAX, Extent, ExtentKind, Value};
use crate::types::{BlockAddr, Ino, NodeId, WriteClock};

/// Inode, kind, offset and snapshot, all in full.
const KEY_FULL: u8 = 0;
/// As before, but the offset is larger by the varint that follows.
const KEY_LATER: u8 = 1;
/// As before, and the offset is where the predecessor ends (an extent's last block, else its offset, plus one).
const KEY_NEXT: u8 = 2;
/// Difference of the inode, kind, offset; snapshot 0.
const KEY_ONWARD: u8 = 3;
const KEY_MASK: u8 = 3;

/// The interval is this or more and stands in a byte of its own.
const INTERVAL_ESCAPE: u8 = 63;

/// Counts the bytes that are written to it.
pub(super) struct ByteCount(pub usize);

impl Encode for ByteCount {
    fn put_u8(&mut self, _: u8) {
        self.0 += 1;
    }
    fn put_u16(&mut self, _: u16) {
        self.0 += 2;
    }
    fn put_u32(&mut self, _: u32) {
        self.0 += 4;
    }
    fn put_u64(&mut self, _: u64) {
        self.0 += 8;
    }
    fn put_varint(&mut self, v: u64) {
        self.0 += varint_len(v);
    }
    fn put_signed(&mut self, v: i64) {
        self.0 += varint_len(((v << 1) ^ (v >> 63)) as u64);
    }
    fn put_bytes(&mut self, v: &[u8]) {
        self.0 += varint_len(v.len() as u64) + v.len();
    }
}

/// Offset right behind an item.
fn end_of(key: &Key, value: Option<&Value>) -> Option<u64> {
    match value {
        Some(Value::Extent(e)) => key.offset.checked_add(u64::from(e.blocks)),
        _ => key.offset.checked_add(1),
    }
}

/// How `key` is coded behind an item with key `prev` that ends at offset `end`.
fn key_mode(key: &Key, prev: Option<(&Key, Option<u64>)>) -> u8 {
    let Some((prev, end)) = prev else { return KEY_FULL };
    if (key.ino, key.kind, key.snapshot) == (prev.ino, prev.kind, prev.snapshot) {
        if Some(key.offset) == end { KEY_NEXT } else { KEY_LATER }
    } else if key.snapshot == 0 {
        KEY_ONWARD
    } else {
        KEY_FULL
    }
}

fn put_key<E: Encode>(out: &mut E, mode: u8, key: &Key, prev: Option<&Key>) {
    let base = prev.copied().unwrap_or(Key::MIN);
    match mode {
        KEY_LATER => out.put_varint(key.offset - base.offset),
        KEY_NEXT => {}
        KEY_ONWARD => {
            out.put_varint(key.ino.0 - base.ino.0);
            out.put_u8(key.kind as u8);
            out.put_varint(key.offset);
        }
        _ => {
            out.put_varint(key.ino.0);
            out.put_u8(key.kind as u8);
            out.put_varint(key.offset);
            out.put_varint(u64::from(key.snapshot));
        }
    }
}

/// Reads a key; it is larger than the one before.
fn read_key(r: &mut Reader<'_>, mode: u8, prev: Option<(&Key, Option<u64>)>) -> Result<Key, DecodeError> {
    let bad = r.bad(u64::from(mode));
    let key = match (mode, prev) {
        (KEY_FULL, _) => Key::decode(r)?,
        (KEY_LATER, Some((p, _))) => {
            Key { offset: p.offset.checked_add(r.varint()?).ok_or_else(|| bad.clone())?, ..*p }
        }
        (KEY_NEXT, Some((p, end))) => Key { offset: end.ok_or_else(|| bad.clone())?, ..*p },
        (KEY_ONWARD, Some((p, _))) => {
            let ino = Ino(p.ino.0.checked_add(r.varint()?).ok_or_else(|| bad.clone())?);
            let kind = r.u8()?;
            let kind = Kind::from_u8(kind).ok_or_else(|| r.bad(u64::from(kind)))?;
            Key::new(ino, kind, r.varint()?)
        }
        _ => return Err(bad),
    };
    match prev {
        Some((p, _)) if *p >= key => Err(DecodeError::BadValue { what: "order of a node's keys", value: key.offset }),
        _ => Ok(key),
    }
}

/// Writes an item of a leaf that follows `prev`.
pub(super) fn put_leaf<E: Encode>(out: &mut E, prev: Option<(&Key, &Value)>, key: &Key, value: &Value) {
    let mode = key_mode(key, prev.map(|(k, v)| (k, end_of(k, Some(v)))));
    if let Value::Extent(extent) = value {
        out.put_u8(mode | extent.interval.min(INTERVAL_ESCAPE) << 2);
        put_key(out, mode, key, prev.map(|(k, _)| k));
        put_extent(out, extent, Base::behind(prev.map(|(_, v)| v)));
    } else {
        out.put_u8(mode);
        put_key(out, mode, key, prev.map(|(k, _)| k));
        value.encode(out);
    }
}

/// Reads an item of a leaf.
pub(super) fn read_leaf(r: &mut Reader<'_>, prev: Option<(&Key, &Value)>) -> Result<(Key, Value), DecodeError> {
    let head = r.u8()?;
    let key = read_key(r, head & KEY_MASK, prev.map(|(k, v)| (k, end_of(k, Some(v)))))?;
    let value = match key.kind {
        Kind::Extent => Value::Extent(read_extent(r, head >> 2, Base::behind(prev.map(|(_, v)| v)))?),
        _ if head & !KEY_MASK != 0 => return Err(r.bad(u64::from(head))),
        kind => Value::decode(kind, r)?,
    };
    Ok((key, value))
}

/// Writes an item of an inner node that follows `prev`.
pub(super) fn put_inner<E: Encode>(out: &mut E, prev: Option<(&Key, NodeId)>, key: &Key, child: NodeId) {
    let mode = key_mode(key, prev.map(|(k, _)| (k, end_of(k, None))));
    out.put_u8(mode);
    put_key(out, mode, key, prev.map(|(k, _)| k));
    let base = prev.map_or(0, |(_, id)| id.0);
    out.put_signed(child.0.wrapping_sub(base) as i64);
}

/// Reads an item of an inner node.
pub(super) fn read_inner(r: &mut Reader<'_>, prev: Option<(&Key, NodeId)>) -> Result<(Key, NodeId), DecodeError> {
    let head = r.u8()?;
    let key = read_key(r, head, prev.map(|(k, _)| (k, end_of(k, None))))?;
    let base = prev.map_or(0, |(_, id)| id.0);
    let child = NodeId(base.wrapping_add(r.signed()? as u64));
    if child.0 <= NodeId::ROOT.0 {
        return Err(DecodeError::BadValue { what: "child of a node", value: child.0 });
    }
    Ok((key, child))
}

/// What an extent's address and birth are coded against.
#[derive(Clone, Copy)]
struct Base {
    addr: u64,
    birth: u64,
}

impl Base {
    fn behind(prev: Option<&Value>) -> Self {
        match prev {
            Some(Value::Extent(e)) if e.kind == ExtentKind::Data => {
                Self { addr: e.addr.0.wrapping_add(u64::from(e.blocks)), birth: e.birth.0 }
            }
            _ => Self { addr: 0, birth: 0 },
        }
    }
}

/// Three bits that say in how many bytes `delta` stands: 0 to 6 of two's complement, or 7 for all eight.
fn delta_code(delta: i64) -> u8 {
    if delta == 0 {
        return 0;
    }
    let bits = 65 - (delta ^ (delta >> 63)).leading_zeros();
    (bits.div_ceil(8) as u8).min(7)
}

fn code_bytes(code: u8) -> usize {
    if code == 7 { 8 } else { usize::from(code) }
}

fn put_delta<E: Encode>(out: &mut E, code: u8, delta: i64) {
    for byte in &delta.to_le_bytes()[..code_bytes(code)] {
        out.put_u8(*byte);
    }
}

fn read_delta(r: &mut Reader<'_>, code: u8) -> Result<i64, DecodeError> {
    let bytes = r.take(code_bytes(code))?;
    let sign = bytes.last().map_or(0, |b| if b & 0x80 != 0 { 0xff } else { 0 });
    let mut all = [sign; 8];
    all[..bytes.len()].copy_from_slice(bytes);
    Ok(i64::from_le_bytes(all))
}

/// What an extent is, in two bits of its shape byte.
const FORM_BLOCK: u8 = 0;
const FORM_RUN: u8 = 1;
const FORM_UNWRITTEN: u8 = 2;
const FORM_LOST: u8 = 3;

fn put_extent<E: Encode>(out: &mut E, extent: &Extent, base: Base) {
    let form = match extent.kind {
        ExtentKind::Data if extent.blocks == 1 => FORM_BLOCK,
        ExtentKind::Data => FORM_RUN,
        ExtentKind::Unwritten => FORM_UNWRITTEN,
        ExtentKind::Lost => FORM_LOST,
    };
    let data = extent.kind == ExtentKind::Data;
    let addr = if data { extent.addr.0.wrapping_sub(base.addr) as i64 } else { 0 };
    let birth = if data { extent.birth.0.wrapping_sub(base.birth) as i64 } else { 0 };
    let (addr_code, birth_code) = (delta_code(addr), delta_code(birth));
    out.put_u8(form | addr_code << 2 | birth_code << 5);
    if extent.interval >= INTERVAL_ESCAPE {
        out.put_u8(extent.interval);
    }
    if form != FORM_BLOCK {
        out.put_varint(u64::from(extent.blocks));
    }
    put_delta(out, addr_code, addr);
    put_delta(out, birth_code, birth);
    for crc in &extent.crcs {
        out.put_u32(*crc);
    }
}

fn read_extent(r: &mut Reader<'_>, interval: u8, base: Base) -> Result<Extent, DecodeError> {
    let shape = r.u8()?;
    let interval = if interval == INTERVAL_ESCAPE { r.u8()? } else { interval };
    let kind = match shape & 3 {
        FORM_BLOCK | FORM_RUN => ExtentKind::Data,
        FORM_UNWRITTEN => ExtentKind::Unwritten,
        _ => ExtentKind::Lost,
    };
    let data = kind == ExtentKind::Data;
    let blocks = if shape & 3 == FORM_BLOCK { 1 } else { r.varint_u32()? };
    if blocks == 0 || (data && blocks > EXTENT_BLOCKS_MAX) || (!data && shape >> 2 != 0) {
        return Err(r.bad(u64::from(blocks)));
    }
    let mut extent =
        Extent { kind, blocks, addr: BlockAddr::NONE, birth: WriteClock(0), interval, crcs: SmallVec::new() };
    if data {
        extent.addr = BlockAddr(base.addr.wrapping_add(read_delta(r, shape >> 2 & 7)? as u64));
        extent.birth = WriteClock(base.birth.wrapping_add(read_delta(r, shape >> 5)? as u64));
        if extent.addr.0.checked_add(u64::from(blocks)).is_none() {
            return Err(r.bad(extent.addr.0));
        }
        let crcs = r.take(4 * blocks as usize)?;
        extent.crcs = crcs.as_chunks::<4>().0.iter().map(|crc| u32::from_le_bytes(*crc)).collect();
    }
    Ok(extent)
}
