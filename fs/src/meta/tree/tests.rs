//! The tree against a `BTreeMap`, with a store that nodes are written to, evicted to and loaded from at random.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

use super::*;
use crate::format::key::Kind;
use crate::format::node::{BODY_LEN, NodeStamp};
use crate::format::value::{Dirent, Extent, ExtentKind, Inode, PART_MAX, Time};
use crate::types::{BLOCK_SIZE, BlockAddr, Ino, Lsn, WriteClock};

/// splitmix64: seeded, so that a failing run can be repeated.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    fn within(&mut self, range: Range<u64>) -> u64 {
        range.start + self.below(range.end - range.start)
    }

    fn bytes(&mut self, len_max: u64) -> Box<[u8]> {
        (0..self.below(len_max + 1)).map(|_| self.next() as u8).collect()
    }
}

/// What the medium would be: the newest durable copy of each node.
#[derive(Default)]
struct Store {
    blocks: HashMap<NodeId, (Lsn, Box<[u8; BLOCK_SIZE]>)>,
    lsn: Lsn,
}

impl Store {
    fn stamp(node: NodeId, lsn: Lsn) -> NodeStamp {
        NodeStamp { node, lsn, fs_id: 5 }
    }

    fn write(&mut self, nodes: &[(NodeId, Arc<Node>)], freed: &[NodeId]) {
        self.lsn = self.lsn.next();
        for id in freed {
            self.blocks.remove(id);
        }
        for (id, node) in nodes {
            let mut block = Box::new([0; BLOCK_SIZE]);
            node.encode(Self::stamp(*id, self.lsn), &mut block);
            self.blocks.insert(*id, (self.lsn, block));
        }
    }

    fn checkpoint(&mut self, tree: &mut Tree) {
        let freed = tree.take_freed();
        let nodes = tree.take_dirty();
        assert_eq!(tree.dirty_count(), 0);
        self.write(&nodes, &freed);
        tree.written(nodes.iter().map(|(id, _)| *id));
        tree.reusable(freed);
    }

    fn load(&self, id: NodeId) -> Arc<Node> {
        let (lsn, block) = self.blocks.get(&id).unwrap_or_else(|| panic!("node {id} was never written"));
        Arc::new(Node::decode(block, Self::stamp(id, *lsn)).unwrap())
    }

    /// Repeats `attempt` until no node is missing.
    fn retry<T>(&self, tree: &mut Tree, mut attempt: impl FnMut(&Tree) -> Result<T>) -> T {
        loop {
            match attempt(tree) {
                Ok(value) => return value,
                Err(Error::NodeMiss(id)) => {
                    assert!(!tree.contains(id));
                    tree.install(id, self.load(id));
                }
                Err(other) => panic!("{other}"),
            }
        }
    }
}

fn extent(random: &mut Random, blocks: u32) -> Value {
    Value::Extent(Extent {
        kind: ExtentKind::Data,
        blocks,
        addr: BlockAddr(random.below(1 << 40)),
        birth: WriteClock(random.below(1 << 32)),
        interval: random.below(40) as u8,
        crcs: (0..blocks).map(|_| random.next() as u32).collect(),
    })
}

fn unwritten(blocks: u32) -> Value {
    Value::Extent(Extent {
        kind: ExtentKind::Unwritten,
        blocks,
        addr: BlockAddr::NONE,
        birth: WriteClock(0),
        interval: 0,
        crcs: Default::default(),
    })
}

/// What keys a run uses.
#[derive(Clone, Copy)]
struct Keys {
    inodes: u64,
    offsets: u64,
    /// Of twelve items that many are bulky, so that few items make a deep tree.
    bulky: u64,
}

fn item(random: &mut Random, Keys { inodes, offsets, bulky }: Keys) -> (Key, Value) {
    let ino = Ino(random.below(inodes));
    let offset = random.below(offsets);
    if random.below(12) < bulky {
        let part = vec![random.next() as u8; random.within(700..PART_MAX as u64 + 1) as usize];
        return (Key::new(ino, Kind::Symlink, offset), Value::Symlink(part.into()));
    }
    match random.below(12) {
        0 => {
            let time = Time { secs: random.below(2_000_000_000) as i64, nanos: random.below(1_000_000_000) as u32 };
            let inode = Inode { mode: 0o100_644, size: random.next(), mtime: time, ctime: time, ..Inode::default() };
            (Key::inode(ino), Value::Inode(Box::new(inode)))
        }
        1 => (Key::new(ino, Kind::Symlink, offset % 4), Value::Symlink(random.bytes(PART_MAX as u64))),
        2 | 3 => {
            let dirent = Dirent { name: random.bytes(255), ino: Ino(random.below(1 << 30)), dtype: 8 };
            (Key::new(ino, Kind::Dirent, random.next() >> random.below(60)), Value::Dirent(dirent))
        }
        4 => (Key::orphan(ino), Value::Orphan),
        5 => (Key::extent(ino, offset), unwritten(1 + random.below(1 << 20) as u32)),
        6 => {
            let blocks = random.within(1..129) as u32;
            (Key::extent(ino, offset), extent(random, blocks))
        }
        _ => (Key::extent(ino, offset), extent(random, 1)),
    }
}

struct Flight {
    nodes: Vec<(NodeId, Arc<Node>)>,
    freed: Vec<NodeId>,
}

/// A tree beside the map that it must equal, and the store.
struct Model {
    tree: Tree,
    map: BTreeMap<Key, Value>,
    store: Store,
    random: Random,
    keys: Keys,
    /// A checkpoint that was begun and is not written yet.
    flight: Option<Flight>,
}

impl Model {
    fn new(seed: u64, keys: Keys) -> Self {
        let tree = Tree::create(NodeId(2));
        let random = Random(seed);
        Self { tree, map: BTreeMap::new(), store: Store::default(), random, keys, flight: None }
    }

    fn item(&mut self) -> (Key, Value) {
        item(&mut self.random, self.keys)
    }

    /// Mostly one that is there.
    fn key(&mut self) -> Key {
        let (key, _) = self.item();
        let near = self.map.range(key..).next().map(|(key, _)| *key);
        if self.random.below(4) > 0 { near.unwrap_or(key) } else { key }
    }

    fn step(&mut self, removals: u64) {
        match self.random.below(100) {
            0 => self.begin_checkpoint(),
            1 | 2 => self.finish_checkpoint(),
            3 => {
                let bytes = self.tree.memory_bytes();
                let target = self.random.below(bytes as u64 + 1) as usize;
                self.tree.evict_to(target);
            }
            4..10 => self.read(),
            10..20 => self.update(),
            20 => self.remove_range(),
            21 => self.replace_several(),
            n if n < 22 + removals => {
                let key = self.key();
                self.store.retry(&mut self.tree, |tree| tree.prepare(&key));
                assert_eq!(self.tree.remove(&key), self.map.remove(&key));
            }
            _ => {
                let (key, value) = self.item();
                self.store.retry(&mut self.tree, |tree| tree.prepare(&key));
                assert_eq!(self.tree.insert(key, value.clone()), self.map.insert(key, value));
            }
        }
    }

    fn begin_checkpoint(&mut self) {
        if self.flight.is_none() {
            let freed = self.tree.take_freed();
            let nodes = self.tree.take_dirty();
            assert_eq!(self.tree.dirty_count(), 0);
            self.flight = Some(Flight { nodes, freed });
        }
    }

    fn finish_checkpoint(&mut self) {
        if let Some(Flight { nodes, freed }) = self.flight.take() {
            self.store.write(&nodes, &freed);
            self.tree.written(nodes.iter().map(|(id, _)| *id));
            self.tree.reusable(freed);
        }
    }

    fn read(&mut self) {
        let (key, other) = (self.key(), self.key());
        let got = self.store.retry(&mut self.tree, |tree| Ok(tree.get(&key)?.cloned()));
        assert_eq!(got.as_ref(), self.map.get(&key));
        let floor = self.store.retry(&mut self.tree, |tree| View::floor(tree, &key));
        assert_eq!(floor, self.map.range(..=key).next_back().map(|(k, v)| (*k, v.clone())));
        let (from, to) = (key.min(other), key.max(other));
        let found = self.store.retry(&mut self.tree, |tree| scan_keys(tree, &from, &to));
        assert!(found.iter().eq(self.map.range(from..=to).map(|(k, _)| k)));
    }

    fn update(&mut self) {
        let key = self.key();
        let blocks = self.random.within(1..129) as u32;
        let grown = extent(&mut self.random, blocks);
        let change = |value: &mut Value| match value {
            Value::Extent(_) => *value = grown.clone(),
            Value::Symlink(part) => *part = vec![7; (part.len() + 300) % PART_MAX].into(),
            Value::Inode(inode) => inode.size += 1 << 20,
            _ => {}
        };
        self.store.retry(&mut self.tree, |tree| tree.prepare(&key));
        let known = self.map.get_mut(&key).map(change).is_some();
        assert_eq!(self.tree.update(&key, change), known);
    }

    fn remove_range(&mut self) {
        let (from, count) = (self.key(), 1 + self.random.below(80) as usize);
        let keys: Vec<Key> = self.map.range(from..).take(count).map(|(key, _)| *key).collect();
        let Some(to) = keys.last() else { return };
        self.store.retry(&mut self.tree, |tree| tree.prepare_range(&from, to));
        for key in keys {
            assert_eq!(self.tree.remove(&key), self.map.remove(&key));
        }
    }

    /// What is prepared together can be changed in turn, whatever the changes before did to the nodes.
    fn replace_several(&mut self) {
        let (olds, news): (Vec<Key>, Vec<_>) = (0..20).map(|_| (self.key(), self.item())).unzip();
        self.store.retry(&mut self.tree, |tree| {
            olds.iter().chain(news.iter().map(|(key, _)| key)).try_for_each(|key| tree.prepare(key))
        });
        for key in olds {
            assert_eq!(self.tree.remove(&key), self.map.remove(&key));
        }
        for (key, value) in news {
            assert_eq!(self.tree.insert(key, value.clone()), self.map.insert(key, value));
        }
    }

    fn check_all(&mut self) {
        self.tree.check().unwrap();
        let mut found = Vec::new();
        self.store.retry(&mut self.tree, |tree| {
            found.clear();
            tree.scan(&Key::MIN, &Key::MAX, |key, value| {
                found.push((*key, value.clone()));
                ControlFlow::Continue(())
            })
        });
        assert!(found.iter().map(|(k, v)| (k, v)).eq(self.map.iter()));
        self.tree.check().unwrap();
    }

    /// Everything is written, forgotten and read again.
    fn reopen(&mut self) {
        self.finish_checkpoint();
        self.store.checkpoint(&mut self.tree);
        self.tree = Tree::open(self.tree.next_node());
        self.check_all();
        assert_eq!(reachable(&self.tree), self.store.blocks.len(), "the store holds what the root leads to");
    }
}

fn scan_keys(tree: &Tree, from: &Key, to: &Key) -> Result<Vec<Key>> {
    let mut found = Vec::new();
    tree.scan(from, to, |key, _| {
        found.push(*key);
        ControlFlow::Continue(())
    })?;
    Ok(found)
}

fn reachable(tree: &Tree) -> usize {
    let mut open = vec![NodeId::ROOT];
    let mut count = 0;
    while let Some(id) = open.pop() {
        count += 1;
        open.extend_from_slice(tree.children(id).unwrap());
    }
    count
}

fn leaf_fills(tree: &Tree) -> Vec<usize> {
    let (mut open, mut fills) = (vec![NodeId::ROOT], Vec::new());
    while let Some(id) = open.pop() {
        let node = tree.node(id).unwrap();
        open.extend_from_slice(node.children());
        if node.is_leaf() {
            fills.push(node.used());
        }
    }
    fills
}

fn mean_fill(tree: &Tree) -> f64 {
    let fills = leaf_fills(tree);
    fills.iter().sum::<usize>() as f64 / (fills.len() * BODY_LEN) as f64
}

#[test]
fn the_tree_agrees_with_a_map_through_evictions_and_reopening() {
    let runs = [(4, 20_000, 0), (3000, 30, 0), (1, 3000, 0), (40, 400, 1), (1 << 40, 1 << 50, 10)];
    for (seed, (inodes, offsets, bulky)) in (1..).zip(runs) {
        let mut model = Model::new(seed, Keys { inodes, offsets, bulky });
        let mut level_max = 0;
        for (steps, removals) in [(6000, 10), (6000, 60), (4000, 20), (4000, 70)] {
            for step in 0..steps {
                model.step(removals);
                if step % 500 == 0 {
                    model.tree.check().unwrap_or_else(|what| panic!("seed {seed}, step {step}: {what}"));
                }
            }
            model.check_all();
            model.reopen();
            level_max = level_max.max(model.tree.node(NodeId::ROOT).unwrap().level());
        }
        assert!(level_max >= if bulky > 5 { 2 } else { 1 }, "seed {seed}: the tree was never deep");
    }
}

#[test]
fn removing_everything_leaves_one_empty_root() {
    let mut model = Model::new(11, Keys { inodes: 1 << 40, offsets: 1 << 50, bulky: 8 });
    for _ in 0..8_000 {
        let (key, value) = model.item();
        model.tree.insert(key, value.clone());
        model.map.insert(key, value);
    }
    assert!(model.tree.node(NodeId::ROOT).unwrap().level() >= 2);
    model.check_all();
    let mut keys: Vec<Key> = model.map.keys().copied().collect();
    for last in (1..keys.len()).rev() {
        keys.swap(last, model.random.below(last as u64 + 1) as usize);
    }
    for key in keys {
        assert!(model.tree.remove(&key).is_some());
    }
    model.tree.check().unwrap();
    let root = model.tree.node(NodeId::ROOT).unwrap();
    assert!(root.is_leaf() && root.is_empty());
    assert_eq!(reachable(&model.tree), 1);
    assert_eq!(model.tree.take_freed().len() as u64, model.tree.next_node().0 - 2);
}

#[test]
fn ascending_insertion_fills_leaves() {
    let mut random = Random(5);
    let mut tree = Tree::create(NodeId(2));
    for first in 0..50_000 {
        tree.insert(Key::extent(Ino(100), first), extent(&mut random, 1));
    }
    assert!(mean_fill(&tree) > 0.9, "one growing file: {}", mean_fill(&tree));
    // Ten more files grow side by side in the middle of the key space.
    tree.insert(Key::inode(Ino(90)), Value::Inode(Box::default()));
    for first in 0..5_000 {
        for ino in 20..30 {
            tree.insert(Key::extent(Ino(ino), first), extent(&mut random, 1));
        }
    }
    tree.check().unwrap();
    assert!(mean_fill(&tree) > 0.9, "files growing side by side: {}", mean_fill(&tree));
}

#[test]
fn random_insertion_keeps_leaves_two_thirds_full() {
    let mut random = Random(6);
    let mut tree = Tree::create(NodeId(2));
    for _ in 0..60_000 {
        let first = random.below(1 << 30);
        tree.insert(Key::extent(Ino(100), first), extent(&mut random, 1));
    }
    tree.check().unwrap();
    assert!(mean_fill(&tree) > 0.63, "{}", mean_fill(&tree));
}

/// A tree of several leaves, all written.
fn written_tree(items: u64) -> (Tree, Store) {
    let mut random = Random(8);
    let (mut tree, mut store) = (Tree::create(NodeId(2)), Store::default());
    for first in 0..items {
        tree.insert(Key::extent(Ino(100), first), extent(&mut random, 1));
    }
    store.checkpoint(&mut tree);
    (tree, store)
}

#[test]
fn a_checkpoint_keeps_what_it_took_while_the_tree_changes() {
    let (mut tree, _) = written_tree(1000);
    assert!(tree.mark_dirty(NodeId::ROOT));
    let key = Key::extent(Ino(100), 3);
    tree.update(&key, |value| *value = unwritten(1));
    let taken = tree.take_dirty();
    assert_eq!(taken.len(), 2, "the root, and the leaf that was changed");
    let before: Vec<Node> = taken.iter().map(|(_, node)| Node::clone(node)).collect();
    tree.update(&key, |value| *value = unwritten(9));
    assert_eq!(tree.dirty_count(), 1);
    assert!(taken.iter().zip(&before).all(|((_, node), copy)| **node == *copy));
    assert_eq!(tree.get(&key).unwrap(), Some(&unwritten(9)));
}

#[test]
fn dirty_nodes_and_nodes_in_flight_are_not_evicted() {
    let (mut tree, store) = written_tree(3000);
    let key = Key::extent(Ino(100), 3);
    tree.update(&key, |value| *value = unwritten(1));
    tree.evict_to(0);
    assert!(!tree.contains(NodeId::ROOT));
    store.retry(&mut tree, |tree| tree.prepare(&key));
    assert_eq!(tree.get(&key).unwrap(), Some(&unwritten(1)), "the dirty leaf has stayed");
    let taken = tree.take_dirty();
    let (leaf, _) = taken[0];
    tree.evict_to(0);
    assert!(tree.contains(leaf), "it is in flight");
    tree.written([leaf]);
    tree.evict_to(0);
    assert!(!tree.contains(leaf));
    assert_eq!(tree.memory_bytes(), 0);
}

#[test]
fn what_is_used_outlives_what_is_not() {
    let (mut tree, store) = written_tree(20_000);
    let all = tree.memory_bytes();
    // The first pass takes the mark of use from all and evicts the oldest; then the hot leaf gets it again.
    tree.evict_to(all - 1);
    let key = Key::extent(Ino(100), 9_999);
    store.retry(&mut tree, |tree| tree.prepare(&key));
    for _ in 0..20 {
        tree.get(&key).unwrap();
        let bytes = tree.memory_bytes();
        tree.evict_to(bytes - bytes / 10);
    }
    assert!(tree.memory_bytes() < all / 4);
    assert!(tree.get(&key).unwrap().is_some());
}

#[test]
fn freed_ids_wait_until_they_are_reusable() {
    let (mut tree, mut store) = written_tree(3000);
    let next = tree.next_node();
    for first in 0..3000 {
        tree.remove(&Key::extent(Ino(100), first));
    }
    assert_eq!(tree.next_node(), next);
    let mut random = Random(9);
    for first in 0..600 {
        tree.insert(Key::extent(Ino(100), first), extent(&mut random, 1));
    }
    let after = tree.next_node();
    assert!(after > next, "freed ids are not reused before the checkpoint");
    store.checkpoint(&mut tree);
    for first in 600..1200 {
        tree.insert(Key::extent(Ino(100), first), extent(&mut random, 1));
    }
    assert_eq!(tree.next_node(), after, "freed ids are reused after it");
    tree.check().unwrap();
}

#[test]
fn installing_does_not_replace_a_newer_node() {
    let (mut tree, store) = written_tree(10);
    let key = Key::extent(Ino(100), 3);
    tree.update(&key, |value| *value = unwritten(1));
    tree.install(NodeId::ROOT, store.load(NodeId::ROOT));
    assert_eq!(tree.get(&key).unwrap(), Some(&unwritten(1)));
}

#[test]
fn a_child_of_the_wrong_level_is_an_error() {
    let mut tree = Tree::open(NodeId(10));
    let mut root = Node::new(2);
    root.insert_child(0, Key::MIN, NodeId(2));
    let mut child = Node::new(2);
    child.insert_child(0, Key::MIN, NodeId(2));
    tree.install(NodeId::ROOT, Arc::new(root));
    assert!(matches!(tree.prepare(&Key::MIN), Err(Error::NodeMiss(NodeId(2)))));
    tree.install(NodeId(2), Arc::new(child));
    assert!(matches!(tree.get(&Key::MIN), Err(Error::Decode(_))));
    assert!(matches!(tree.prepare(&Key::MIN), Err(Error::Decode(_))));
}

#[test]
fn a_leaf_emptied_without_its_neighbours_still_takes_what_was_prepared() {
    let (mut tree, store) = written_tree(3000);
    tree.evict_to(0);
    let key = Key::extent(Ino(100), 1500);
    store.retry(&mut tree, |tree| tree.prepare(&key));
    let root = tree.node(NodeId::ROOT).unwrap();
    let leaf = root.children()[root.child_index(&key)];
    let gone: Vec<Key> = tree.node(leaf).unwrap().keys().to_vec();
    for key in &gone {
        tree.remove(key).unwrap();
    }
    assert!(tree.node(leaf).unwrap().is_empty());
    let floor = store.retry(&mut tree, |tree| View::floor(tree, &key)).unwrap();
    assert_eq!(floor.0.offset, gone[0].offset - 1);
    assert_eq!(tree.insert(key, unwritten(1)), None);
    tree.check().unwrap();
    // With a neighbour in memory the leaf goes.
    tree.remove(&key);
    assert!(!tree.contains(leaf));
    assert_eq!(tree.take_freed().len(), 1);
    let left = store.retry(&mut tree, |tree| scan_keys(tree, &Key::MIN, &Key::MAX)).len();
    assert_eq!(left, 3000 - gone.len());
    tree.check().unwrap();
}

#[test]
fn a_break_ends_a_scan() {
    let (tree, _) = written_tree(3000);
    let mut seen = 0;
    let from = Key::extent(Ino(100), 100);
    tree.scan(&from, &Key::MAX, |key, _| {
        assert_eq!(key.offset, 100 + seen);
        seen += 1;
        if seen == 1000 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })
    .unwrap();
    assert_eq!(seen, 1000);
}
