//! Items of lost key ranges: from older copies of the lost nodes, brought forward by what the log still holds.
//!
//! What comes back may be older than what was lost. It is never taken on trust: the rounds that follow check every item, and the
//! data behind every extent by its checksum.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::error::Result;
use crate::format::chunk::Record;
use crate::format::edit::Edit;
use crate::format::key::{Key, Kind};
use crate::fsck::ProgressFn;
use crate::types::{Ino, Lsn, NodeId};

use super::change::Repair;
use super::copies::{self, read_copy};
use super::index::Losses;
use super::medium;
use super::workshop::Workshop;

/// Keys from `lower` on, below `upper`, whose items are lost.
#[derive(Clone, Copy, Debug)]
pub struct LostRange {
    pub lower: Key,
    pub upper: Option<Key>,
    /// The state that was put back is that of this operation.
    pub since: Lsn,
}

impl LostRange {
    fn contains(&self, key: &Key) -> bool {
        *key >= self.lower && self.upper.is_none_or(|upper| *key < upper)
    }

    /// File blocks of `ino` whose extents would be in the range.
    fn file_blocks(&self, ino: Ino) -> Option<(u64, u64)> {
        let at = |key: Key| match key.ino.cmp(&ino).then(key.kind.cmp(&Kind::Extent)) {
            std::cmp::Ordering::Less => 0,
            std::cmp::Ordering::Equal => key.offset,
            std::cmp::Ordering::Greater => u64::MAX,
        };
        let (from, to) = (at(self.lower), self.upper.map_or(u64::MAX, at));
        (from < to).then_some((from, to))
    }

    /// Which of `ranges`, in order and apart, have something between two keys.
    fn met(ranges: &[Self], first: &Key, last: &Key) -> Range<usize> {
        let from = ranges.partition_point(|range| range.upper.is_some_and(|upper| upper <= *first));
        from..ranges.partition_point(|range| range.lower <= *last)
    }

    /// The part of an edit that concerns the range.
    fn clip(&self, edit: &Edit) -> Option<Edit> {
        let inside = |first: u64, blocks: u64, ino: Ino| {
            let (from, to) = self.file_blocks(ino)?;
            let (start, end) = (first.max(from), first.saturating_add(blocks).min(to));
            (start < end).then(|| (start, end - start, (start - first) as usize))
        };
        Some(match edit {
            Edit::Put { key, .. } | Edit::Delete { key } => self.contains(key).then(|| edit.clone())?,
            Edit::Written { ino, .. } => self.contains(&Key::inode(*ino)).then(|| edit.clone())?,
            Edit::Map { ino, first, extent } => {
                let (start, blocks, skip) = inside(*first, extent.blocks.into(), *ino)?;
                Edit::Map { ino: *ino, first: start, extent: extent.slice(skip as u32, blocks as u32) }
            }
            Edit::Unmap { ino, first, blocks } => {
                let (first, blocks, _) = inside(*first, *blocks, *ino)?;
                Edit::Unmap { ino: *ino, first, blocks }
            }
            Edit::Move { ino, first, old, new, crcs } => {
                let (start, blocks, skip) = inside(*first, crcs.len() as u64, *ino)?;
                Edit::Move {
                    ino: *ino,
                    first: start,
                    old: old.offset(skip as u64),
                    new: new.offset(skip as u64),
                    crcs: crcs[skip..skip + blocks as usize].into(),
                }
            }
            Edit::Lose { ino, first, blocks, old } => {
                let (start, blocks, skip) = inside(*first, (*blocks).into(), *ino)?;
                Edit::Lose { ino: *ino, first: start, blocks: blocks as u32, old: old.offset(skip as u64) }
            }
        })
    }
}

/// Puts back what can be had of `losses`, as of the checkpoint of operation `newest`.
pub fn run(shop: &mut Workshop, mut losses: Losses, newest: Lsn, progress: ProgressFn<'_>) -> Result<()> {
    if losses.ranges.is_empty() {
        return Ok(());
    }
    losses.ranges.sort_by_key(|range| range.lower);
    let items = put_copies(shop, &mut losses, newest, progress)?;
    let operations = replay(shop, &losses.ranges, newest, progress)?;
    shop.note(Repair::Salvage { items, operations });
    Ok(())
}

/// Items of older copies that lie in lost ranges; of two copies the newer one has the say.
fn put_copies(shop: &mut Workshop, losses: &mut Losses, newest: Lsn, progress: ProgressFn<'_>) -> Result<u64> {
    let fsid = shop.volume.log.shape.fsid;
    let ids: Vec<_> = losses.nodes.iter().map(|id| id.0..id.0 + 1).collect();
    let device = std::sync::Arc::clone(shop.volume.device());
    let found = copies::find(&*device, fsid, shop.space, &ids, newest, progress)?;
    let mut found: Vec<(NodeId, copies::Copy)> = found.into_iter().collect();
    found.sort_by_key(|(id, copy)| std::cmp::Reverse((copy.lsn, *id)));
    let mut items = 0;
    for (id, copy) in found {
        let Some((_, _, node)) = read_copy(&*device, fsid, id, copy.at.addr) else { continue };
        for (key, value) in node.keys().iter().zip(node.values()) {
            let met = LostRange::met(&losses.ranges, key, key);
            let Some(range) = losses.ranges[met].first_mut() else { continue };
            range.since = range.since.max(copy.lsn);
            if shop.get(key)?.is_none() {
                shop.put(*key, value.clone())?;
                items += 1;
            }
        }
    }
    Ok(items)
}

/// The parts of an edit of operation `lsn` that concern lost ranges.
fn clip<'a>(ranges: &'a [LostRange], lsn: Lsn, edit: &'a Edit) -> impl Iterator<Item = Edit> + 'a {
    let (first, last) = match edit {
        Edit::Put { key, .. } | Edit::Delete { key } => (*key, *key),
        Edit::Written { ino, .. } => (Key::inode(*ino), Key::inode(*ino)),
        _ => {
            let (ino, first, end) = edit.range().expect("the others have a range");
            (Key::extent(ino, first), Key::extent(ino, end.saturating_sub(1).max(first)))
        }
    };
    let met = &ranges[LostRange::met(ranges, &first, &last)];
    met.iter().filter(move |range| lsn > range.since).filter_map(|range| range.clip(edit))
}

/// Operations that the log still holds, clipped to the lost ranges.
fn replay(shop: &mut Workshop, ranges: &[LostRange], newest: Lsn, progress: ProgressFn<'_>) -> Result<u64> {
    let mut operations: BTreeMap<Lsn, Vec<Edit>> = BTreeMap::new();
    let device = std::sync::Arc::clone(shop.volume.device());
    medium::chunks(&*device, shop.volume.log.shape.fsid, shop.space, progress, &mut |_, chunk| {
        for record in chunk.records {
            let Record::Operation { lsn, edits } = record else { continue };
            if lsn > newest {
                continue;
            }
            let clipped: Vec<Edit> = edits.iter().flat_map(|edit| clip(ranges, lsn, edit)).collect();
            if !clipped.is_empty() {
                operations.insert(lsn, clipped);
            }
        }
        Ok(())
    })?;
    let count = operations.len() as u64;
    for edits in operations.into_values() {
        shop.apply(&edits)?;
    }
    Ok(count)
}
