//! Lies about an image, one after the other, from the bytes of an input.
//!
//! A step is a number of what it changes, then where and to what. Numbers choose among what is there, so that nearly every input means something and
//! a change of a byte changes little. [`forge`] never fails: what cannot be done is passed over.

use gleanfs::device::MemoryDevice;
use gleanfs::format::chunk::{ChunkHeader, PageId, Record, TableId, encode_node, encode_operation, encode_page};
use gleanfs::format::edit::Edit;
use gleanfs::format::key::{Key, Kind};
use gleanfs::format::node::Node;
use gleanfs::format::superblock::{BlockRef, HeadPosition, Superblock};
use gleanfs::format::table::{Page, StoredState};
use gleanfs::format::value::Value;
use gleanfs::log::scan::{FoundChunk, read_chunk};
use gleanfs::types::{BLOCK_SIZE, BlockAddr, Ino, Lsn, NodeId, SegNo, WriteClock};

use super::patch::{CHUNK_CRC_AT, Patch, overwrite, read, seal};

/// Steps that are taken of one script.
const STEPS_MAX: usize = 24;

/// The rest of an input; zeros behind its end.
pub(super) struct Script<'a>(pub(super) &'a [u8]);

impl Script<'_> {
    pub(super) fn is_over(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    fn short(&mut self) -> u16 {
        u16::from_le_bytes([self.byte(), self.byte()])
    }

    /// One of `count` things; `None` if there are none.
    fn choice(&mut self, count: usize) -> Option<usize> {
        let chosen = usize::from(self.byte());
        (count > 0).then(|| chosen % count)
    }

    /// What comes instead of `now`: next to it, an extreme, or anything.
    fn number(&mut self, now: u64) -> u64 {
        match self.byte() % 10 {
            0 => now.wrapping_add(1),
            1 => now.wrapping_sub(1),
            2 => 0,
            3 => u64::MAX,
            4 => 1 << (self.byte() % 64),
            5 => (1 << (self.byte() % 64)) - 1,
            6 => u64::from(self.byte()),
            7 => u64::from(self.short()),
            8 => now.wrapping_add(u64::from(self.byte())),
            _ => u64::from_le_bytes(std::array::from_fn(|_| self.byte())),
        }
    }

    fn change(&mut self, of: &mut u64) {
        *of = self.number(*of);
    }

    fn change32(&mut self, of: &mut u32) {
        *of = self.number(u64::from(*of)) as u32;
    }

    /// Changes a byte of a block.
    fn poke(&mut self, block: &mut [u8]) {
        let at = usize::from(self.short()) % block.len();
        block[at] = self.number(u64::from(block[at])) as u8;
    }
}

/// Does to the image what the script says.
pub(super) fn forge(device: &MemoryDevice, script: &mut Script<'_>) {
    for _ in 0..STEPS_MAX {
        if script.is_over() {
            return;
        }
        let Some(mut patch) = Patch::of(device) else { return };
        step(&mut patch, script);
    }
}

fn step(patch: &mut Patch<'_>, script: &mut Script<'_>) {
    match script.byte() % 13 {
        0 => raw(patch, script),
        1 => patch.change_slot_bytes(|block| script.poke(block)),
        2 | 3 => slot(patch, script),
        4 | 5 => drop(node(patch, script)),
        6 => drop(node_bytes(patch, script)),
        7 => drop(entry(patch, script)),
        8 => drop(page_bytes(patch, script)),
        9 => drop(reference(patch, script)),
        10 | 11 => drop(chunk(patch, script)),
        _ => drop(chunk_bytes(patch, script)),
    }
}

/// A byte anywhere, its checksum left as it was.
fn raw(patch: &Patch<'_>, script: &mut Script<'_>) {
    let addr = BlockAddr(u64::from(script.short()) % 6400);
    let Some(mut block) = read(patch.device, addr) else { return };
    script.poke(&mut block);
    overwrite(patch.device, addr, &block);
}

/// A field of the superblock.
fn slot(patch: &mut Patch<'_>, script: &mut Script<'_>) {
    let Superblock { identity, checkpoint: c } = &mut patch.superblock;
    match script.byte() % 32 {
        0 => script.change(&mut c.sequence),
        1 => script.change(&mut c.epoch),
        2 => script.change(&mut c.lsn.0),
        3 => c.clean = !c.clean,
        4 => script.change(&mut c.write_clock.0),
        5 => script.change(&mut c.next_node),
        6 => script.change(&mut c.next_ino),
        7 => script.change(&mut c.next_generation),
        8 => script.change(&mut c.node_table.addr.0),
        9 => script.change(&mut c.segment_table.addr.0),
        10 => script.change32(&mut c.frontier.0),
        11 => script.change(&mut c.data_blocks),
        12 => script.change(&mut c.promised_blocks),
        13 => script.change(&mut c.node_blocks),
        14 => script.change(&mut c.table_blocks),
        15 => script.change(&mut c.user_bytes),
        16 => script.change(&mut c.device_bytes),
        17..=19 => position(&mut c.heads, script),
        20..=22 => position(&mut c.scan, script),
        23 | 24 => list(&mut c.allocation, script),
        25 => c.extended = if c.extended.is_some() { None } else { Some(Lsn(script.number(c.lsn.0))) },
        26 => c.extended = c.extended.map(|lsn| Lsn(script.number(lsn.0))),
        27 => script.change32(&mut identity.segments),
        28 => script.change32(&mut identity.segment_blocks),
        29 => script.change32(&mut identity.first_segment.0),
        30 => script.change(&mut identity.capacity_blocks),
        _ => script.change(&mut identity.fsid),
    }
    patch.write_slot();
}

fn position(positions: &mut Vec<HeadPosition>, script: &mut Script<'_>) {
    let how = script.byte();
    let Some(at) = script.choice(positions.len()) else { return };
    match how % 6 {
        0 => drop(positions.remove(at)),
        1 if positions.len() < 16 => positions.push(positions[at]),
        2 => positions[at].head = script.byte() % 16,
        3 => script.change32(&mut positions[at].segment.0),
        4 => script.change32(&mut positions[at].next),
        _ => script.change(&mut positions[at].generation),
    }
}

fn list(segments: &mut Vec<SegNo>, script: &mut Script<'_>) {
    let how = script.byte();
    let segment = SegNo(u32::from(script.byte()) % 100);
    match (how % 4, script.choice(segments.len())) {
        (0, Some(at)) => drop(segments.remove(at)),
        (1, Some(at)) => segments[at] = segment,
        (2, Some(at)) => segments.truncate(at),
        _ if segments.len() < 480 => segments.insert(0, segment),
        _ => {}
    }
}

/// An item of a node, which then is sorted and coded as it should be.
fn node(patch: &mut Patch<'_>, script: &mut Script<'_>) -> Option<()> {
    let nodes = patch.nodes();
    let id = nodes[script.choice(nodes.len())?];
    let mut block = patch.node_block(id)?;
    let (mut stamp, old) = Node::decode_any((&block[..]).try_into().ok()?).ok()?;
    let mut keys = old.keys().to_vec();
    let mut values = old.values().to_vec();
    let mut children = old.children().to_vec();
    let mut level = old.level();
    let how = script.byte();
    let at = script.choice(keys.len())?;
    match how % 12 {
        0 => script.change(&mut keys[at].ino.0),
        1 => script.change(&mut keys[at].offset),
        2 => script.change32(&mut keys[at].snapshot),
        3 => level = (script.number(u64::from(level)) % 16) as u8,
        4 => script.change(&mut stamp.node.0),
        5 => {
            keys.remove(at);
            if old.is_leaf() {
                values.remove(at);
            } else {
                children.remove(at);
            }
        }
        _ if old.is_leaf() => item(&keys[at], &mut values[at], script),
        6..=8 => script.change(&mut children[at].0),
        _ => children[at] = NodeId(nodes[script.choice(nodes.len())?]),
    }
    let new = if old.is_leaf() { leaf(keys, values) } else { inner(level.max(1), keys, children) };
    if new.overflows() || (new.is_empty() && !new.is_leaf()) {
        return None;
    }
    new.encode(stamp, (&mut block[..]).try_into().ok()?);
    patch.set_node_block(id, &mut block);
    Some(())
}

fn leaf(keys: Vec<Key>, values: Vec<Value>) -> Node {
    let mut new = Node::new(0);
    for (key, value) in keys.into_iter().zip(values) {
        if let Err(at) = new.keys().binary_search(&key) {
            new.insert_value(at, key, value);
        }
    }
    new
}

fn inner(level: u8, keys: Vec<Key>, children: Vec<NodeId>) -> Node {
    let mut new = Node::new(level);
    for (key, child) in keys.into_iter().zip(children) {
        if let Err(at) = new.keys().binary_search(&key)
            && child.0 > 1
        {
            new.insert_child(at, key, child);
        }
    }
    new
}

/// A field of what a key holds.
fn item(key: &Key, value: &mut Value, script: &mut Script<'_>) {
    match value {
        Value::Inode(inode) => match script.byte() % 9 {
            0 => script.change32(&mut inode.mode),
            1 => inode.mode = (inode.mode & 0o7777) | u32::from(script.byte()) << 12,
            2 => script.change32(&mut inode.nlink),
            3 | 4 => script.change(&mut inode.size),
            5 => script.change(&mut inode.blocks),
            6 => script.change(&mut inode.parent.0),
            7 => inode.mtime.secs = script.number(inode.mtime.secs as u64) as i64,
            _ => script.change32(&mut inode.xattrs),
        },
        Value::Symlink(part) => *part = part[..usize::from(script.byte()).min(part.len())].into(),
        Value::Xattr(part) => match script.byte() % 3 {
            0 => script.change32(&mut part.value_len),
            1 => part.bytes = part.bytes[..usize::from(script.byte()).min(part.bytes.len())].into(),
            _ => part.name = part.name[..usize::from(script.byte()).min(part.name.len())].into(),
        },
        Value::Dirent(entry) => match script.byte() % 4 {
            0 => script.change(&mut entry.ino.0),
            1 => entry.ino = key.ino,
            2 => entry.dtype = script.byte(),
            _ => entry.name = entry.name[..usize::from(script.byte()).min(entry.name.len())].into(),
        },
        Value::Extent(extent) => match script.byte() % 5 {
            0 | 1 => script.change(&mut extent.addr.0),
            2 => script.change(&mut extent.birth.0),
            3 if extent.crcs.is_empty() => extent.blocks = (script.number(u64::from(extent.blocks)) as u32).max(1),
            3 => {
                extent.blocks = 1 + u32::from(script.byte() % 128);
                extent.crcs.resize(extent.blocks as usize, 0);
            }
            _ => extent.interval = script.byte(),
        },
        Value::Orphan => {}
    }
}

fn node_bytes(patch: &mut Patch<'_>, script: &mut Script<'_>) -> Option<()> {
    let nodes = patch.nodes();
    let id = nodes[script.choice(nodes.len())?];
    let mut block = patch.node_block(id)?;
    script.poke(&mut block[..]);
    patch.set_node_block(id, &mut block);
    Some(())
}

/// A field of a segment's entry.
fn entry(patch: &mut Patch<'_>, script: &mut Script<'_>) -> Option<()> {
    let id = PageId { table: TableId::Segments, level: 0, index: 0 };
    let Page::Segments(mut entries) = patch.page(id)? else { return None };
    let entry = &mut entries[usize::from(script.byte()) % 100];
    match script.byte() % 7 {
        0 => entry.state = StoredState::Free,
        1 => entry.state = StoredState::Used,
        2 => entry.state = StoredState::Bad,
        3 => script.change32(&mut entry.live),
        4 => entry.head = script.byte(),
        5 => script.change(&mut entry.sealed.0),
        _ => script.change(&mut entry.opened.0),
    }
    patch.set_page(id, &Page::Segments(entries));
    Some(())
}

fn page_bytes(patch: &mut Patch<'_>, script: &mut Script<'_>) -> Option<()> {
    let table = if script.byte().is_multiple_of(2) { TableId::Nodes } else { TableId::Segments };
    let id = PageId { table, level: script.byte() % 4, index: 0 };
    patch.change_page_bytes(id, |block| script.poke(block));
    Some(())
}

/// Where the table says that a node stands.
fn reference(patch: &mut Patch<'_>, script: &mut Script<'_>) -> Option<()> {
    let nodes = patch.nodes();
    let id = nodes[script.choice(nodes.len())?];
    let at = patch.node_ref(id)?;
    match script.byte() % 4 {
        0 => patch.set_node_ref(id, BlockRef { addr: BlockAddr(script.number(at.addr.0)), ..at }),
        1 => patch.set_node_ref(id, BlockRef::ABSENT),
        2 => patch.set_node_ref(u64::from(script.short()), at),
        _ => {
            // A second copy of another node, under this one's name.
            let mut block = patch.node_block(nodes[script.choice(nodes.len())?])?;
            block[16..24].copy_from_slice(&id.to_le_bytes());
            patch.set_node_block(id, &mut block);
        }
    }
    Some(())
}

/// Chunks of the log since the checkpoint.
fn chunks(patch: &Patch<'_>) -> Vec<FoundChunk> {
    let Superblock { identity, checkpoint } = &patch.superblock;
    let start = |segment: SegNo| u64::from(segment.0) * u64::from(identity.segment_blocks);
    let scan = checkpoint.scan.iter().map(|p| start(p.segment) + u64::from(p.next));
    let lists = checkpoint.allocation.iter().map(|segment| start(*segment));
    let mut found = Vec::new();
    for mut addr in scan.chain(lists.take(16)) {
        while let Ok(Some(chunk)) = read_chunk(patch.device, identity.fsid, BlockAddr(addr), 64) {
            addr += u64::from(chunk.header.blocks());
            found.push(chunk);
        }
    }
    found
}

fn blocks_of(patch: &Patch<'_>, header: &ChunkHeader) -> Vec<u8> {
    let overflow = (0..u64::from(header.overflow_blocks)).map(|n| header.payload(header.payload_blocks).offset(n));
    let all = std::iter::once(header.addr).chain(overflow);
    all.filter_map(|addr| read(patch.device, addr)).flat_map(|block| block.to_vec()).collect()
}

fn put_back(patch: &Patch<'_>, header: &ChunkHeader, bytes: &[u8]) {
    let mut addr = header.addr;
    for block in bytes.chunks(BLOCK_SIZE) {
        overwrite(patch.device, addr, block);
        addr = if addr == header.addr { header.payload(header.payload_blocks) } else { addr.offset(1) };
    }
}

/// A field of a chunk's header or of an edit in it.
fn chunk(patch: &mut Patch<'_>, script: &mut Script<'_>) -> Option<()> {
    let mut chunks = chunks(patch);
    let at = script.choice(chunks.len())?;
    let FoundChunk { mut header, mut records } = chunks.swap_remove(at);
    let mut bytes = blocks_of(patch, &header);
    let place = header;
    match script.byte() % 10 {
        0 => script.change(&mut header.generation),
        1 => script.change(&mut header.flushed.0),
        2 => script.change(&mut header.epoch),
        3 => header.head = script.byte() % 17,
        4 => header.lsn_last = Lsn(script.number(header.lsn_last.0)),
        _ => {
            let at = script.choice(records.len())?;
            record(&mut records[at], script)?;
        }
    }
    let mut summary = Vec::new();
    for record in &records {
        match record {
            Record::Operation { lsn, edits } => encode_operation(*lsn, edits, &mut summary),
            Record::Node { index, node } => encode_node(*index, *node, &mut summary),
            Record::Page { index, page } => encode_page(*index, *page, &mut summary),
        }
    }
    header.summary_bytes = summary.len() as u32;
    let (head, overflow) = bytes.split_at_mut_checked(BLOCK_SIZE)?;
    if summary.len() > 3968 + overflow.len() {
        return None;
    }
    header.seal(&summary, head, overflow);
    put_back(patch, &place, &bytes);
    Some(())
}

fn record(record: &mut Record, script: &mut Script<'_>) -> Option<()> {
    let Record::Operation { lsn, edits } = record else { return None };
    let how = script.byte();
    let at = script.choice(edits.len())?;
    match how % 6 {
        0 => lsn.0 = script.number(lsn.0),
        1 => drop(edits.remove(at)),
        2 => edits.push(edits[at].clone()),
        3 => edits[at] = Edit::Unmap { ino: Ino(script.number(16)), first: script.number(0), blocks: script.number(1) },
        _ => edit(&mut edits[at], script),
    }
    Some(())
}

fn edit(edit: &mut Edit, script: &mut Script<'_>) {
    match edit {
        Edit::Put { key, value } => match script.byte() % 3 {
            0 if key.kind != Kind::Inode => script.change(&mut key.offset),
            0 | 1 => script.change(&mut key.ino.0),
            _ => item(&key.clone(), value, script),
        },
        Edit::Delete { key } => {
            key.kind = Kind::from_u8(1 + script.byte() % 6).expect("six kinds");
            script.change(&mut key.ino.0);
        }
        Edit::Map { ino, first, extent } => match script.byte() % 5 {
            0 => script.change(&mut ino.0),
            1 => script.change(first),
            2 => script.change(&mut extent.addr.0),
            3 => extent.birth = WriteClock(script.number(extent.birth.0)),
            _ => {
                extent.blocks = 1 + u32::from(script.byte() % 128);
                extent.crcs.resize(extent.blocks as usize, 0);
            }
        },
        Edit::Unmap { ino, first, blocks } => match script.byte() % 3 {
            0 => script.change(&mut ino.0),
            1 => script.change(first),
            _ => script.change(blocks),
        },
        Edit::Move { ino, first, old, new, crcs } => match script.byte() % 5 {
            0 => script.change(&mut ino.0),
            1 => script.change(first),
            2 => script.change(&mut old.0),
            3 => script.change(&mut new.0),
            _ => crcs.resize(usize::from(script.byte() % 129), 0),
        },
        Edit::Lose { first, blocks, old, .. } => match script.byte() % 3 {
            0 => script.change(first),
            1 => script.change32(blocks),
            _ => script.change(&mut old.0),
        },
        Edit::Written { ino, size, .. } => match script.byte() % 2 {
            0 => script.change(&mut ino.0),
            // The coding holds one number less.
            _ => *size = Some(script.number(size.unwrap_or(0)).min(u64::MAX - 1)),
        },
    }
}

fn chunk_bytes(patch: &mut Patch<'_>, script: &mut Script<'_>) -> Option<()> {
    let chunks = chunks(patch);
    let header = chunks[script.choice(chunks.len())?].header;
    let mut bytes = blocks_of(patch, &header);
    script.poke(&mut bytes);
    seal(&mut bytes, CHUNK_CRC_AT);
    put_back(patch, &header, &bytes);
    Some(())
}
