//! The key tree made whole: lost leaves become empty ones, and an index that is lost or crooked is built anew above the leaves.
//!
//! Leaves stay where they are. Memory: two keys a leaf, and the index that is built, a hundredth of the leaves.

use std::collections::BTreeMap;

use crate::error::Result;
use crate::format::key::Key;
use crate::format::node::Node;
use crate::format::superblock::BlockRef;
use crate::format::value::Value;
use crate::fsck::Report;
use crate::fsck::blocks::Bits;
use crate::fsck::walk::{Place, TreeWalk, fetch};
use crate::types::{Lsn, NodeId};

use super::change::Repair;
use super::copies::read_copy;
use super::salvage::LostRange;
use super::workshop::Workshop;

/// What making the tree whole leaves to be salvaged.
#[derive(Default)]
pub struct Losses {
    /// Keys whose items are lost.
    pub ranges: Vec<LostRange>,
    /// Nodes whose older copies may have held them.
    pub nodes: Vec<NodeId>,
}

/// Makes every way down the tree end at a leaf. What the tree reaches is marked as wanted.
pub fn make_whole(shop: &mut Workshop) -> Result<Losses> {
    let none = Bits::default();
    let (lost, crooked, reached) = {
        let (space, wanted) = (shop.space, &mut shop.wanted);
        let mut walk = TreeWalk::new(&shop.volume, &none);
        walk.run(&mut Report::new(0), &mut |_, _, value| {
            if let Value::Extent(extent) = value
                && let Some((segment, offset)) = space.place(extent.addr, extent.blocks)
            {
                wanted.mark(segment, offset, extent.blocks);
            }
        });
        (walk.lost, walk.crooked, walk.reached)
    };
    let behind = is_behind(shop, &reached);
    if lost.is_empty() && !crooked && !behind {
        return Ok(Losses::default());
    }
    if !crooked && !behind && lost.iter().all(|place| place.level == Some(0)) {
        return Ok(empty_leaves(shop, &lost));
    }
    build(shop, &lost, behind)
}

/// Whether the index is of an older state than the leaves: a leaf that nothing leads to was written when the node that ought to lead to it had been, or
/// later. A leaf that was freed is older than that node, which lost its child after it was written last.
fn is_behind(shop: &Workshop, reached: &Bits) -> bool {
    let fsid = shop.volume.log.shape.fsid;
    let copy = |id: NodeId| read_copy(&**shop.volume.device(), fsid, id, shop.node_ref(id).addr);
    shop.node_ids().iter().filter(|id| !reached.contains(*id)).map(NodeId).any(|id| {
        let Some((lsn, _, node)) = copy(id).filter(|(_, _, node)| node.is_leaf()) else { return false };
        let Some(key) = node.keys().first() else { return false };
        let above = above(shop, key).and_then(copy);
        above.is_none_or(|(written, ..)| written <= lsn)
    })
}

/// The last node on the way to the leaf of `key`, or the root if that is a leaf. `None`: the way is not there, or does not go down.
fn above(shop: &Workshop, key: &Key) -> Option<NodeId> {
    let mut id = NodeId::ROOT;
    let mut node = fetch(&shop.volume, id).ok()??;
    while node.level() > 1 {
        let at = node.keys().partition_point(|k| k <= key).saturating_sub(1);
        id = *node.children().get(at)?;
        let below = fetch(&shop.volume, id).ok()??;
        (below.level() < node.level()).then_some(())?;
        node = below;
    }
    Some(id)
}

/// The index is good: only leaves are gone, and it says which keys were theirs.
fn empty_leaves(shop: &mut Workshop, lost: &[Place]) -> Losses {
    let mut losses = Losses::default();
    for place in lost {
        shop.note(Repair::EmptyLeaf { node: place.id });
        shop.set_node_ref(place.id, BlockRef::ABSENT);
        shop.volume.state.write().tree.put_node(place.id, Node::new(0));
        losses.ranges.push(LostRange { lower: place.lower, upper: place.upper, since: Lsn(0) });
        losses.nodes.push(place.id);
    }
    losses
}

struct Leaf {
    id: NodeId,
    first: Key,
    last: Key,
    lsn: Lsn,
}

/// What the node table names, sorted out.
#[derive(Default)]
struct Sorted {
    leaves: Vec<Leaf>,
    /// Inner nodes and empty leaves: not wanted any more.
    others: Vec<NodeId>,
    /// Neither.
    lost: Vec<NodeId>,
}

fn sort_nodes(shop: &Workshop) -> Sorted {
    let mut sorted = Sorted::default();
    let fsid = shop.volume.log.shape.fsid;
    for id in shop.node_ids().iter().map(NodeId) {
        let at = shop.node_ref(id);
        match read_copy(&**shop.volume.device(), fsid, id, at.addr) {
            Some((lsn, crc, node)) if crc == at.crc => match (node.level(), node.keys()) {
                (0, [first, .., last]) => sorted.leaves.push(Leaf { id, first: *first, last: *last, lsn }),
                (0, [only]) => sorted.leaves.push(Leaf { id, first: *only, last: *only, lsn }),
                _ => sorted.others.push(id),
            },
            _ => sorted.lost.push(id),
        }
    }
    sorted
}

/// A new index above all leaves. `behind`: as the old one was of an older state, leaves may be gone of which nothing is known.
fn build(shop: &mut Workshop, lost: &[Place], behind: bool) -> Result<Losses> {
    let mut sorted = sort_nodes(shop);
    let mut losses = Losses { nodes: sorted.lost.clone(), ..Losses::default() };
    losses.nodes.extend(lost.iter().map(|place| place.id));
    losses.nodes.sort_unstable();
    losses.nodes.dedup();
    // Of leaves that both claim a key the newer one keeps it.
    sorted.leaves.sort_by_key(|leaf| std::cmp::Reverse((leaf.lsn, leaf.id)));
    let mut kept: BTreeMap<Key, Leaf> = BTreeMap::new();
    let mut displaced = Vec::new();
    for leaf in sorted.leaves {
        let clear = kept.range(..=leaf.last).next_back().is_none_or(|(_, other)| other.last < leaf.first);
        if clear && leaf.id != NodeId::ROOT {
            kept.insert(leaf.first, leaf);
        } else {
            displaced.push(leaf.id);
        }
    }
    if behind || !losses.nodes.is_empty() {
        losses.ranges = gaps(kept.values());
    }
    shop.note(Repair::Index { leaves: kept.len() as u64 });
    let mut items = Vec::new();
    for id in &displaced {
        if let Ok(Some(node)) = fetch(&shop.volume, *id) {
            items.extend(node.keys().iter().copied().zip(node.values().iter().cloned()));
        }
    }
    for id in sorted.others.into_iter().chain(sorted.lost).chain(displaced) {
        shop.set_node_ref(id, BlockRef::ABSENT);
        shop.volume.state.write().tree.drop_node(id);
    }
    raise(shop, kept.into_values().map(|leaf| (leaf.first, leaf.id)).collect());
    for (key, value) in items {
        if shop.get(&key)?.is_none() {
            shop.put(key, value)?;
        }
    }
    Ok(losses)
}

/// What lies between leaves, before the first and behind the last.
fn gaps<'a>(leaves: impl Iterator<Item = &'a Leaf>) -> Vec<LostRange> {
    let mut gaps = Vec::new();
    let mut lower = Key::MIN;
    for leaf in leaves {
        gaps.push(LostRange { lower, upper: Some(leaf.first), since: Lsn(0) });
        lower = after(leaf.last);
    }
    gaps.push(LostRange { lower, upper: None, since: Lsn(0) });
    gaps.retain(|gap| gap.upper.is_none_or(|upper| gap.lower < upper));
    gaps
}

fn after(key: Key) -> Key {
    Key { snapshot: key.snapshot.saturating_add(1), ..key }
}

/// Builds level upon level until one node is enough, which becomes the root.
fn raise(shop: &Workshop, mut children: Vec<(Key, NodeId)>) {
    let mut state = shop.volume.state.write();
    let tree = &mut state.tree;
    if let Some(first) = children.first_mut() {
        first.0 = Key::MIN;
    }
    let mut level = 1;
    loop {
        let mut nodes = pack(level, &children);
        if nodes.len() <= 1 {
            tree.put_node(NodeId::ROOT, nodes.pop().unwrap_or_else(|| Node::new(0)));
            return;
        }
        children = nodes.into_iter().map(|node| (node.keys()[0], tree.add_node(node))).collect();
        level += 1;
    }
}

/// Full nodes of one level, but for the last.
fn pack(level: u8, children: &[(Key, NodeId)]) -> Vec<Node> {
    let mut nodes: Vec<Node> = Vec::new();
    for (key, child) in children {
        if let Some(node) = nodes.last_mut() {
            let at = node.len();
            node.insert_child(at, *key, *child);
            if !node.overflows() {
                continue;
            }
            node.remove_child(at);
        }
        let mut node = Node::new(level);
        node.insert_child(0, *key, *child);
        nodes.push(node);
    }
    nodes
}
