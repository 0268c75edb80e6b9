//! Nodes survive a round trip, damage is refused, and the coding is as dense as the write amplification needs.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::format::key::{Key, Kind};
use crate::format::value::*;
use crate::types::{BlockAddr, Ino, WriteClock};

const STAMP: NodeStamp = NodeStamp { node: NodeId(7), lsn: Lsn(99), fs_id: 0x1234_5678_9abc_def0 };

fn encoded(node: &Node) -> Box<[u8; BLOCK_SIZE]> {
    let mut block = Box::new([0; BLOCK_SIZE]);
    node.encode(STAMP, &mut block);
    block
}

/// Makes the checksum right again, so that the decoder has to find the damage.
fn reseal(block: &mut [u8; BLOCK_SIZE]) {
    let crc = crc_of(block);
    block[CRC_AT..CRC_AT + 4].copy_from_slice(&crc.to_le_bytes());
}

/// Integers of all lengths, small ones as often as large ones.
fn any_size() -> impl Strategy<Value = u64> {
    (any::<u64>(), 0u32..64).prop_map(|(v, shift)| v >> shift)
}

fn any_u32() -> impl Strategy<Value = u32> {
    (any::<u32>(), 0u32..32).prop_map(|(v, shift)| v >> shift)
}

fn time() -> impl Strategy<Value = Time> {
    let secs = prop_oneof![1_700_000_000i64..1_700_000_003, any::<i64>()];
    (secs, prop_oneof![Just(0), 0..1_000_000_000u32]).prop_map(|(secs, nanos)| Time { secs, nanos })
}

fn inode() -> impl Strategy<Value = Value> {
    let numbers = (vec(any_u32(), 8), any_size(), any_size(), any_size());
    (numbers, vec(time(), 1..=4)).prop_map(|((n, size, blocks, parent), times)| {
        let [mode, nlink, uid, gid, rdev, generation, flags, xattrs] = n[..].try_into().unwrap();
        let time = |i: usize| times[i % times.len()];
        Value::Inode(Box::new(Inode {
            mode,
            nlink,
            uid,
            gid,
            rdev,
            generation,
            flags,
            size,
            blocks,
            parent: Ino(parent),
            xattrs,
            atime: time(3),
            mtime: time(0),
            ctime: time(1),
            btime: time(2),
        }))
    })
}

fn extent() -> impl Strategy<Value = Value> {
    let place = (any_size().prop_map(|a| a >> 1), any_size(), any::<u8>());
    let crcs = prop_oneof![vec(any::<u32>(), 1), vec(any::<u32>(), 1..=EXTENT_BLOCKS_MAX as usize)];
    prop_oneof![
        4 => (place, crcs).prop_map(|((addr, birth, interval), crcs)| Extent {
            kind: ExtentKind::Data,
            blocks: crcs.len() as u32,
            addr: BlockAddr(addr),
            birth: WriteClock(birth),
            interval,
            crcs: crcs.into(),
        }),
        1 => (any::<bool>(), any_u32(), any::<u8>()).prop_map(|(lost, blocks, interval)| Extent {
            kind: if lost { ExtentKind::Lost } else { ExtentKind::Unwritten },
            blocks: blocks.max(1),
            addr: BlockAddr::NONE,
            birth: WriteClock(0),
            interval,
            crcs: Default::default(),
        }),
    ]
    .prop_map(Value::Extent)
}

fn item() -> impl Strategy<Value = (Key, Value)> {
    let bytes = |max: usize| vec(any::<u8>(), 0..=max).prop_map(Vec::into_boxed_slice);
    let value = prop_oneof![
        inode(),
        bytes(PART_MAX).prop_map(Value::Symlink),
        (bytes(NAME_MAX), any::<u32>(), bytes(PART_MAX))
            .prop_map(|(name, value_len, bytes)| Value::Xattr(Box::new(Xattr { name, value_len, bytes }))),
        (bytes(NAME_MAX), any_size(), any::<u8>()).prop_map(|(name, ino, dtype)| Value::Dirent(Dirent {
            name,
            ino: Ino(ino),
            dtype
        })),
        extent(),
        extent(),
        Just(Value::Orphan),
    ];
    let snapshot = prop_oneof![3 => Just(0), 1 => any_u32()];
    (prop_oneof![0u64..4, any_size()], any_size(), snapshot, value).prop_map(|(ino, offset, snapshot, value)| {
        (Key { ino: Ino(ino), kind: kind_of(&value), offset, snapshot }, value)
    })
}

fn kind_of(value: &Value) -> Kind {
    (1..=6).filter_map(Kind::from_u8).find(|kind| value.is_of(*kind)).unwrap()
}

/// A leaf of as many of the items as fit.
fn leaf() -> impl Strategy<Value = Node> {
    vec(item(), 0..60).prop_map(|items| {
        let mut node = Node::new(0);
        for (key, value) in items {
            let mut larger = node.clone();
            match larger.keys().binary_search(&key) {
                Ok(at) => larger.update_value(at, |v| *v = value),
                Err(at) => larger.insert_value(at, key, value),
            }
            if !larger.overflows() {
                node = larger;
            }
        }
        node
    })
}

fn inner() -> impl Strategy<Value = Node> {
    vec((0u64..3, any_size(), any_size()), 1..200).prop_map(|children| {
        let mut node = Node::new(3);
        for (ino, offset, child) in children {
            let key = Key::extent(Ino(ino), offset);
            if let Err(at) = node.keys().binary_search(&key) {
                node.insert_child(at, key, NodeId(child.max(2)));
            }
        }
        node
    })
}

proptest! {
    #[test]
    fn a_node_survives_a_round_trip(node in prop_oneof![leaf(), inner()]) {
        prop_assert_eq!(node.used(), node.recount());
        let back = Node::decode(&encoded(&node), STAMP).unwrap();
        prop_assert_eq!(back.used(), back.recount());
        prop_assert_eq!(back, node);
    }

    #[test]
    fn one_wrong_byte_is_noticed(node in prop_oneof![leaf(), inner()], at in 0..BLOCK_SIZE, flip in 1u8..) {
        let mut block = encoded(&node);
        block[at] ^= flip;
        prop_assert!(Node::decode_any(&block).is_err());
    }

    #[test]
    fn sealed_damage_is_refused_or_means_a_sound_node(
        node in prop_oneof![leaf(), inner()],
        damage in vec((8..BLOCK_SIZE, any::<u8>()), 1..6),
        near in any::<bool>(),
    ) {
        let mut block = encoded(&node);
        let end = HEADER_LEN + node.used();
        for (at, byte) in damage {
            block[if near { 8 + at % (end - 8) } else { at }] = byte;
        }
        reseal(&mut block);
        if let Ok((stamp, node)) = Node::decode_any(&block) {
            prop_assert!(node.keys().is_sorted_by(|a, b| a < b));
            let mut again = [0; BLOCK_SIZE];
            node.encode(stamp, &mut again);
            prop_assert_eq!(Node::decode(&again, stamp).unwrap(), node);
        }
    }

    #[test]
    fn random_items_never_panic(level in 0u8..3, items in any::<u16>(), body in vec(any::<u8>(), 0..BODY_LEN)) {
        let mut block = encoded(&Node::new(0));
        block[10] = level;
        block[12..14].copy_from_slice(&(items % 700).to_le_bytes());
        block[14..16].copy_from_slice(&(body.len() as u16).to_le_bytes());
        block[HEADER_LEN..HEADER_LEN + body.len()].copy_from_slice(&body);
        reseal(&mut block);
        if let Ok((_, node)) = Node::decode_any(&block) {
            prop_assert!(!node.overflows());
        }
    }

    #[test]
    fn splitting_and_joining_keeps_items_and_sizes(node in prop_oneof![leaf(), inner()], at in any::<prop::sample::Index>()) {
        prop_assume!(node.len() > 1);
        let mut left = node.clone();
        let right = left.split_off(1 + at.index(node.len() - 1));
        prop_assert_eq!((left.used(), right.used()), (left.recount(), right.recount()));
        left.append(right);
        prop_assert_eq!(left, node);
    }
}

/// Data extents of one block each: `(first, addr, birth)`, until the node is full.
fn fill(extents: impl Iterator<Item = (u64, u64, u64)>) -> Node {
    let mut node = Node::new(0);
    for (first, addr, birth) in extents {
        let extent = Extent {
            kind: ExtentKind::Data,
            blocks: 1,
            addr: BlockAddr(addr),
            birth: WriteClock(birth),
            interval: (birth % 32) as u8,
            crcs: [addr as u32].as_slice().into(),
        };
        node.push_value(Key::extent(Ino(123_456), first), Value::Extent(extent));
        if node.overflows() {
            node.remove_value(node.len() - 1);
            break;
        }
    }
    node
}

fn random(seed: u64) -> u64 {
    let mut z = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z ^ z >> 27
}

#[test]
fn a_leaf_holds_250_randomly_written_blocks() {
    // A file on 4 PiB of device, 16 TiB written.
    let large = fill((0..).map(|i| (i, random(i) >> 24, random(i + 7_000) >> 32)));
    assert!(large.len() >= 250, "{} extents with 40-bit addresses", large.len());
    // One on 1 TiB, 64 TiB written.
    let usual = fill((0..).map(|i| (i, random(i) >> 36, random(i + 7_000) >> 30)));
    assert!(usual.len() >= 270, "{} extents with 28-bit addresses", usual.len());
    // Not every block of the file.
    let sparse = fill((0..).map(|i| (i * 3, random(i) >> 36, random(i + 7_000) >> 32)));
    assert!(sparse.len() >= 250, "{} sparse extents with 28-bit addresses", sparse.len());
}

#[test]
fn an_inode_of_a_plain_file_takes_at_most_40_bytes() {
    let time = Time { secs: 1_771_000_000, nanos: 123_456_789 };
    let inode = Inode {
        mode: 0o100_644,
        nlink: 1,
        uid: 1000,
        gid: 1000,
        generation: u32::MAX,
        size: 10_000_000,
        blocks: 2442,
        atime: Time { secs: time.secs - 5, nanos: 1 },
        mtime: time,
        ctime: time,
        btime: Time { secs: time.secs - 5, nanos: 1 },
        ..Inode::default()
    };
    let mut bytes = Vec::new();
    Value::Inode(Box::new(inode)).encode(&mut bytes);
    assert!(bytes.len() <= 40, "{} bytes", bytes.len());
}

#[test]
fn another_copy_of_a_node_is_refused() {
    let block = encoded(&fill((0..3).map(|i| (i, i + 1, i))));
    assert!(Node::decode(&block, STAMP).is_ok());
    let others =
        [NodeStamp { node: NodeId(8), ..STAMP }, NodeStamp { lsn: Lsn(98), ..STAMP }, NodeStamp { fs_id: 1, ..STAMP }];
    for other in others {
        assert!(matches!(Node::decode(&block, other), Err(DecodeError::BadValue { .. })));
    }
}

#[test]
fn header_damage_is_named() {
    let good = encoded(&Node::new(0));
    let with = |at: usize, byte: u8| {
        let mut block = good.clone();
        block[at] = byte;
        reseal(&mut block);
        Node::decode_any(&block).unwrap_err()
    };
    assert!(matches!(with(0, 0), DecodeError::BadMagic { .. }));
    assert!(matches!(with(8, 9), DecodeError::BadVersion { found: 9, .. }));
    assert_eq!(with(10, 16), DecodeError::BadValue { what: "metadata node's level", value: 16 });
    assert_eq!(with(10, 1), DecodeError::BadValue { what: "metadata node's item count", value: 0 });
    assert_eq!(with(13, 3), DecodeError::BadValue { what: "metadata node's item count", value: 768 });
    assert_eq!(with(15, 255), DecodeError::BadValue { what: "metadata node's length", value: 0xff00 });
    assert_eq!(with(47, 1), DecodeError::BadValue { what: "metadata node's reserved bytes", value: 1 << 56 });
}
