//! Damage of nodes and of the node table that has good checksums: what a bug would write.

use std::sync::Arc;

use gleanfs::device::MemoryDevice;
use gleanfs::format::chunk::{PageId, TableId};
use gleanfs::format::key::Key;
use gleanfs::format::node::Node;
use gleanfs::format::superblock::BlockRef;
use gleanfs::format::table::Page;
use gleanfs::format::value::{Inode, Value};
use gleanfs::fsck::Finding;
use gleanfs::types::{BLOCK_SIZE, BlockAddr, Ino, NodeId, WriteClock};

use crate::image::{
    A_DIR, A_FILE, FILE, Image, directory, entry, findings, inode, newest_slot, node_at, overwrite, put, read,
    rewrite_superblock,
};

/// Changes the first leaf of the node table, with good checksums all the way up.
fn rewrite_table(device: &MemoryDevice, change: &mut dyn FnMut(&mut Vec<BlockRef>)) {
    rewrite_superblock(device, |superblock| {
        let at = superblock.checkpoint.node_table;
        superblock.checkpoint.node_table.crc = rewrite_page(device, at, 3, superblock.identity.fsid, change);
    });
}

fn rewrite_page(
    device: &MemoryDevice,
    at: BlockRef,
    level: u8,
    fsid: u64,
    change: &mut dyn FnMut(&mut Vec<BlockRef>),
) -> u32 {
    let id = PageId { table: TableId::Nodes, level, index: 0 };
    let block = read(device, at.addr);
    let lsn = gleanfs::types::Lsn(u64::from_le_bytes(block[32..40].try_into().unwrap()));
    let mut page = Page::decode(&block, id, fsid, at.crc).unwrap();
    let Page::Refs(refs) = &mut page else { unreachable!() };
    match level {
        0 => change(refs),
        _ => refs[0].crc = rewrite_page(device, refs[0], level - 1, fsid, change),
    }
    let mut block = vec![0; BLOCK_SIZE];
    let crc = page.encode(id, fsid, lsn, &mut block);
    overwrite(device, at.addr, &block);
    crc
}

fn node(device: &MemoryDevice, id: u64) -> Node {
    let block = read(device, node_at(device, id).addr);
    Node::decode_any(block[..].try_into().unwrap()).unwrap().1
}

/// Changes a node in its place.
fn rewrite_node(device: &MemoryDevice, id: u64, change: impl FnOnce(&mut Node)) {
    let addr = node_at(device, id).addr;
    let (stamp, mut node) = Node::decode_any(read(device, addr)[..].try_into().unwrap()).unwrap();
    change(&mut node);
    let mut block = Box::new([0; BLOCK_SIZE]);
    let crc = node.encode(stamp, &mut block);
    overwrite(device, addr, &block[..]);
    rewrite_table(device, &mut |refs| refs[id as usize].crc = crc);
}

/// Enough names for a root with several leaves.
fn with_leaves() -> Arc<MemoryDevice> {
    let image = Image::filled();
    for n in 0..100 {
        let name = format!("a file with a rather long name, so that few fit a leaf of the tree, number {n}");
        image.commit(vec![
            put(Ino(100 + n), inode(FILE)),
            entry(A_DIR, &name, Ino(100 + n), 8),
            put(A_DIR, directory(Ino::ROOT, 1, 2 + n)),
        ]);
    }
    image.unmount()
}

#[test]
pub fn missing() {
    let device = with_leaves();
    let child = node(&device, 1).children()[1];
    rewrite_table(&device, &mut |refs| refs[child.0 as usize] = BlockRef::ABSENT);
    rewrite_superblock(&device, |s| s.checkpoint.node_blocks -= 1);
    let found = findings(&device);
    assert_eq!(found[0], Finding::NodeMissing { node: child, parent: NodeId::ROOT });
}

#[test]
pub fn misplaced() {
    let device = with_leaves();
    rewrite_node(&device, 1, |root| {
        // The second child's lower bound moves beyond its first keys.
        let (child, key) = (root.children()[1], root.keys()[1]);
        root.remove_child(1);
        root.insert_child(1, Key { offset: key.offset + 1, ..key }, child);
    });
    let child = node(&device, 1).children()[1];
    let found = findings(&device);
    assert!(found.iter().any(|f| matches!(f, Finding::NodeMisplaced { node, .. } if *node == child)), "{found:?}");
}

#[test]
pub fn reached_twice() {
    let device = with_leaves();
    let children = node(&device, 1).children().to_vec();
    rewrite_node(&device, 1, |root| {
        let key = root.keys()[2];
        root.remove_child(2);
        root.insert_child(2, key, children[1]);
    });
    let found = findings(&device);
    assert!(found.contains(&Finding::NodeReachedTwice { node: children[1], parent: NodeId::ROOT }), "{found:?}");
}

#[test]
pub fn leaked() {
    let device = with_leaves();
    let (fsid, lsn) = {
        let superblock = newest_slot(&device).1;
        (superblock.identity.fsid, superblock.checkpoint.lsn)
    };
    // Data of one file gives its place.
    let addr = BlockAddr(node_at(&device, 1).addr.0);
    let free = (1..6400).rev().map(BlockAddr).find(|at| read(&device, *at).iter().all(|b| *b == 0) && at.0 % 64 == 9);
    let addr = free.unwrap_or(addr);
    let mut block = Box::new([0; BLOCK_SIZE]);
    let stamp = gleanfs::format::node::NodeStamp { node: NodeId(200), lsn, fs_id: fsid };
    let crc = Node::new(0).encode(stamp, &mut block);
    overwrite(&device, addr, &block[..]);
    rewrite_table(&device, &mut |refs| refs[200] = BlockRef { addr, crc });
    rewrite_superblock(&device, |s| {
        s.checkpoint.node_blocks += 1;
        s.checkpoint.next_node = s.checkpoint.next_node.max(201);
    });
    let found = findings(&device);
    assert_eq!(found[0], Finding::NodeLeaked { node: NodeId(200) });
}

/// Changes the extents of the file in a small image, whose root is its only leaf.
fn with_extents(change: impl Fn(&mut gleanfs::format::value::Extent)) -> Arc<MemoryDevice> {
    let image = Image::filled();
    image.commit(vec![put(A_FILE, Inode { size: 8 * BLOCK_SIZE as u64, xattrs: 1, ..inode(FILE) })]);
    image.write(A_FILE, 4, 2);
    let device = image.unmount();
    rewrite_node(&device, 1, |leaf| {
        let at = leaf.keys().binary_search(&Key::extent(A_FILE, 0)).unwrap();
        leaf.update_value(at, |value| match value {
            Value::Extent(extent) => change(extent),
            other => panic!("{other:?}"),
        });
    });
    device
}

#[test]
pub fn extents() {
    let future = with_extents(|extent| extent.birth = WriteClock(1 << 40));
    let why = "it was written in the future";
    assert_eq!(findings(&future), [Finding::BadExtent { ino: A_FILE, file_block: 0, why }]);
    let overlapping = with_extents(|extent| {
        extent.kind = gleanfs::format::value::ExtentKind::Unwritten;
        (extent.blocks, extent.addr) = (5, BlockAddr(0));
        extent.crcs.clear();
    });
    let found = findings(&overlapping);
    assert_eq!(found[0], Finding::ExtentsOverlap { ino: A_FILE, file_block: 4 });
}

#[test]
pub fn heads() {
    let device = Image::filled().unmount();
    let mut planted = None;
    rewrite_superblock(&device, |s| {
        let next_generation = s.checkpoint.next_generation;
        let head = s.checkpoint.heads.iter_mut().find(|p| p.head == 0).unwrap();
        head.generation = next_generation;
        planted = Some(*head);
    });
    let at = planted.unwrap();
    let why = "in a life that has not begun";
    let found = findings(&device);
    assert_eq!(found[0], Finding::HeadPosition { head: 0, segment: at.segment, next: at.next, why });
    // The chunks that are there are of another life, so the head's segment has nothing of what is said to be in it.
    assert!(matches!(found[1], Finding::Unclaimed { .. }), "{found:?}");
    assert_eq!(found[2..], [Finding::LogGap { head: 0, segment: at.segment, end: 0, next: at.next }]);
}
