//! File data: extents in the order of their keys, read in runs and verified against the checksums of the mapping.

use std::ops::ControlFlow;

use crate::device::AlignedBuf;
use crate::error::{Error, Result};
use crate::format::key::{Key, Kind};
use crate::format::value::{EXTENT_BLOCKS_MAX, ExtentKind, Value};
use crate::fsck::walk::fetch;
use crate::fsck::{Finding, Owner};
use crate::meta::apply::{Mapped, overlapping};
use crate::meta::volume::Volume;
use crate::types::{BLOCK_SIZE, BlockAddr, Ino, NodeId};

use super::tally::Tally;

/// Blocks and items that one piece looks at.
const PIECE_BLOCKS: u32 = 256;
const PIECE_ITEMS: usize = 512;
/// Times that a block is looked up again while it is never the same twice.
const LOOKS_MAX: u32 = 64;

/// A piece of the walk over extents.
#[derive(Default)]
struct Piece {
    runs: Vec<(Ino, Mapped)>,
    /// The first key that was not looked at.
    next: Option<Key>,
}

/// Verifies the data of the extents from `from` on, as much as is a piece. Where the next piece begins, if there is one.
pub(super) fn verify(volume: &Volume, from: Key, tally: &mut Tally) -> Result<Option<Key>> {
    let (piece, next) = match gather(volume, from, Key::MAX) {
        Ok(piece) => {
            let next = piece.next;
            (piece, next)
        }
        // A node on the way is damaged, and was told when nodes were read. What stands before it can be read all the same.
        Err(Error::Damaged { .. } | Error::Device(_)) => {
            let obstacle = obstacle(volume, from);
            let piece = match obstacle.before {
                Some(last) => gather(volume, from, last).unwrap_or_default(),
                None => Piece::default(),
            };
            let next = piece.next.or(obstacle.behind);
            (piece, next)
        }
        Err(e) => return Err(e),
    };
    let mut buf = AlignedBuf::new(EXTENT_BLOCKS_MAX as usize);
    for (ino, mapped) in &piece.runs {
        match mapped.extent.kind {
            ExtentKind::Data => verify_run(volume, *ino, mapped, &mut buf, tally)?,
            ExtentKind::Lost => {
                let (file_block, blocks) = (mapped.first, mapped.extent.blocks);
                tally.summary.lost_blocks += u64::from(blocks);
                tally.add(Finding::LostBlocks { ino: *ino, file_block, blocks });
            }
            ExtentKind::Unwritten => {}
        }
    }
    Ok(next)
}

/// The extents of one piece, of one consistent state.
fn gather(volume: &Volume, from: Key, to: Key) -> Result<Piece> {
    volume.view(|view| {
        let mut piece = Piece::default();
        let (mut items, mut blocks) = (0, 0);
        view.scan(&from, &to, &mut |key, value| {
            if items == PIECE_ITEMS || blocks >= PIECE_BLOCKS {
                piece.next = Some(*key);
                return ControlFlow::Break(());
            }
            items += 1;
            if let Value::Extent(extent) = value {
                blocks += if extent.kind == ExtentKind::Data { extent.blocks } else { 0 };
                piece.runs.push((key.ino, Mapped { first: key.offset, extent: extent.clone() }));
            }
            ControlFlow::Continue(())
        })?;
        Ok(piece)
    })
}

/// A node that cannot be read, or one behind it, stands in the way.
struct Obstacle {
    /// The last key of the leaf at hand, if that can be read.
    before: Option<Key>,
    /// The first key behind the node at hand.
    behind: Option<Key>,
}

/// Follows `key` down the tree, to its leaf or to the node that cannot be read.
fn obstacle(volume: &Volume, key: Key) -> Obstacle {
    let mut id = NodeId::ROOT;
    let mut behind = None;
    loop {
        let Ok(Some(node)) = fetch(volume, id) else { return Obstacle { before: None, behind } };
        if node.is_leaf() {
            return Obstacle { before: Some(behind.map_or(Key::MAX, before)), behind };
        }
        let at = node.keys().partition_point(|k| *k <= key).saturating_sub(1);
        behind = node.keys().get(at + 1).copied().or(behind);
        id = node.children()[at];
    }
}

/// The largest key that is smaller.
fn before(key: Key) -> Key {
    let last = Key { offset: u64::MAX, snapshot: u32::MAX, ..key };
    if let Some(snapshot) = key.snapshot.checked_sub(1) {
        Key { snapshot, ..key }
    } else if let Some(offset) = key.offset.checked_sub(1) {
        Key { offset, ..last }
    } else if let Some(kind) = Kind::from_u8(key.kind as u8 - 1) {
        Key { kind, ..last }
    } else {
        Key { ino: Ino(key.ino.0.saturating_sub(1)), kind: Kind::Orphan, ..last }
    }
}

fn verify_run(volume: &Volume, ino: Ino, mapped: &Mapped, buf: &mut AlignedBuf, tally: &mut Tally) -> Result<()> {
    let extent = &mapped.extent;
    let owner = |n: u64| Owner::Data { ino, file_block: mapped.first + n };
    for n in 0..u64::from(extent.blocks) {
        tally.visited(owner(n), extent.addr.offset(n));
    }
    let buf = &mut buf[..extent.blocks as usize * BLOCK_SIZE];
    tally.summary.read_bytes += buf.len() as u64;
    tally.summary.data_blocks += u64::from(extent.blocks);
    if volume.read_at(extent.addr, &extent.crcs, buf).is_ok_and(|whole| whole) {
        return Ok(());
    }
    for n in 0..u64::from(extent.blocks) {
        verify_block(volume, ino, mapped.first + n, extent.addr.offset(n), tally)?;
    }
    Ok(())
}

/// Where a block stands now, with its checksum.
fn place(volume: &Volume, ino: Ino, file_block: u64) -> Result<Option<(BlockAddr, u32)>> {
    let found = volume.view(|view| overlapping(view, ino, file_block, file_block + 1))?;
    let data = found.first().filter(|mapped| mapped.extent.kind == ExtentKind::Data);
    Ok(data.and_then(|mapped| {
        let skip = file_block - mapped.first;
        Some((mapped.extent.addr.offset(skip), *mapped.extent.crcs.get(skip as usize)?))
    }))
}

/// Reads a block for itself. It is damaged only if it stands in the same place before and after a read that went wrong: what moves is read where
/// it is now, and what is gone needs no reading.
fn verify_block(volume: &Volume, ino: Ino, file_block: u64, first_seen: BlockAddr, tally: &mut Tally) -> Result<()> {
    let owner = Owner::Data { ino, file_block };
    let mut block = AlignedBuf::new(1);
    let mut at = settled(place(volume, ino, file_block))?;
    for _ in 0..LOOKS_MAX {
        let Some((addr, stored)) = at else { break };
        tally.summary.read_bytes += BLOCK_SIZE as u64;
        let outcome = volume.read_at(addr, &[stored], &mut block);
        if let Ok(true) = outcome {
            tally.summary.moved_blocks += u64::from(addr != first_seen);
            return Ok(());
        }
        let now = settled(place(volume, ino, file_block))?;
        if now == at {
            let computed = crc32fast::hash(&block);
            tally.add(match outcome {
                Err(e) => Finding::Unreadable { owner, addr, why: e.to_string() },
                Ok(_) => {
                    let why = format!("checksum {stored:#010x}, computed {computed:#010x}");
                    Finding::Damaged { owner, addr, why }
                }
            });
            return Ok(());
        }
        at = now;
    }
    tally.summary.moved_blocks += 1;
    Ok(())
}

/// A mapping that cannot be read any more is the matter of the node that holds it.
fn settled(place: Result<Option<(BlockAddr, u32)>>) -> Result<Option<(BlockAddr, u32)>> {
    match place {
        Err(Error::Damaged { .. } | Error::Device(_)) => Ok(None),
        place => place,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_have_one_before() {
        let key = Key::extent(Ino(20), 7);
        assert_eq!(before(key), Key { offset: 6, snapshot: u32::MAX, ..key });
        assert_eq!(before(Key::extent(Ino(20), 0)).kind, Kind::Dirent);
        assert_eq!((before(Key::inode(Ino(20))).ino, before(Key::inode(Ino(20))).kind), (Ino(19), Kind::Orphan));
        assert_eq!(before(Key { snapshot: 1, ..key }), key);
    }
}
