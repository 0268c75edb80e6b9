//! Check, mend what was found, check again, until nothing is found.
//!
//! What inodes are and which names there are comes first; numbers that count them come when that stands.

use std::collections::BTreeSet;

use crate::error::{Error, Result};
use crate::format::edit::Edit;
use crate::format::superblock::BlockRef;
use crate::fsck::blocks::LiveBlocks;
use crate::fsck::{CheckOptions, Counted, Finding, Owner, ProgressFn, Severity, check_tree};
use crate::types::{BlockAddr, Ino, NodeId};

use super::change::Repair;
use super::workshop::Workshop;

/// Rounds until a repair is given up: each must change something, and few ever need more than four.
const ROUNDS_MAX: usize = 64;

/// The state when nothing is found in it any more.
pub struct Settled {
    /// Nodes on the medium and data.
    pub live: LiveBlocks,
    pub counted: Counted,
}

/// Mends the tree of `shop` until a check of it finds nothing.
pub fn run(shop: &mut Workshop, options: &CheckOptions, progress: ProgressFn<'_>) -> Result<Settled> {
    for round in 0..ROUNDS_MAX {
        let options = CheckOptions { read_data: options.read_data && round == 0, ..*options };
        let ids = shop.node_ids();
        let mut live = LiveBlocks::default();
        for id in ids.iter() {
            if let Some((segment, offset)) = shop.space.place(shop.node_ref(NodeId(id)).addr, 1) {
                live.mark(segment, offset, 1);
            }
        }
        let (report, seen) = check_tree(&shop.volume, &options, ids, &mut live, progress)?;
        if round == 0 {
            shop.wanted.join(&live);
        }
        let errors: Vec<Finding> =
            report.findings.into_iter().filter(|found| found.severity() == Severity::Error).collect();
        if errors.is_empty() && !seen.incomplete {
            return Ok(Settled { live, counted: seen.counted });
        }
        let before = shop.repairs.len();
        mend(shop, &errors)?;
        if shop.repairs.len() == before {
            let what = errors.first().map_or("a part of the tree".into(), ToString::to_string);
            return Err(Error::Refused(format!("cannot be repaired: {what}")));
        }
    }
    Err(Error::Refused("cannot be repaired: every repair leaves something to be repaired".into()))
}

/// One round over what was found.
fn mend(shop: &mut Workshop, errors: &[Finding]) -> Result<()> {
    let before = shop.repairs.len();
    lose_data(shop, errors)?;
    for found in errors {
        mend_item(shop, found)?;
    }
    mend_names(shop, errors)?;
    if shop.repairs.len() == before {
        for found in errors {
            count(shop, found)?;
        }
    }
    Ok(())
}

/// Blocks that cannot be read, are not what was written, or are another file's, become lost blocks.
fn lose_data(shop: &mut Workshop, errors: &[Finding]) -> Result<()> {
    let mut lost: Vec<((Ino, u64), BlockAddr)> = Vec::new();
    let mut twice = BTreeSet::new();
    for found in errors {
        match found {
            Finding::Unreadable { owner: Owner::Data { ino, file_block }, addr, .. }
            | Finding::Damaged { owner: Owner::Data { ino, file_block }, addr, .. } => {
                lost.push(((*ino, *file_block), *addr));
            }
            Finding::BadAddress { owner: Owner::Data { ino, file_block }, .. } => {
                lose_extent(shop, *ino, *file_block)?;
            }
            Finding::OwnedTwice { addr, blocks, .. } => twice.extend(addr.0..addr.0 + u64::from(*blocks)),
            _ => {}
        }
    }
    if !twice.is_empty() {
        lost.extend(shop.losers(&twice)?);
    }
    lost.sort_unstable();
    lost.dedup();
    for run in lost.chunk_by(|a, b| a.0.0 == b.0.0 && a.0.1 + 1 == b.0.1 && a.1.0 + 1 == b.1.0) {
        let ((ino, first), old) = run[0];
        shop.apply(&[Edit::Lose { ino, first, blocks: run.len() as u32, old }])?;
        shop.note(Repair::LoseBlocks { ino, file_block: first, blocks: run.len() as u64 });
    }
    Ok(())
}

fn lose_extent(shop: &mut Workshop, ino: Ino, file_block: u64) -> Result<()> {
    use crate::format::key::Key;
    use crate::format::value::{Extent, ExtentKind, Value};
    let key = Key::extent(ino, file_block);
    let Some(Value::Extent(extent)) = shop.get(&key)? else { return Ok(()) };
    let lost = Extent { kind: ExtentKind::Lost, addr: BlockAddr::NONE, crcs: Default::default(), ..extent };
    shop.note(Repair::LoseBlocks { ino, file_block, blocks: lost.blocks.into() });
    shop.put(key, Value::Extent(lost))
}

/// Whatever is wrong with one inode or node by itself.
fn mend_item(shop: &mut Workshop, found: &Finding) -> Result<()> {
    match *found {
        Finding::NoRoot => shop.make_root(),
        Finding::InodeField { ino, what, .. } => shop.mend_field(ino, what),
        Finding::NoInode { ino, what } => shop.mend_no_inode(ino, what),
        Finding::ForeignItem { ino, what, .. } => shop.mend_foreign(ino, what),
        Finding::BadXattr { ino, slot, why } => shop.mend_xattr(ino, slot, why),
        Finding::BadSymlink { ino, .. } => shop.mend_symlink(ino),
        Finding::ExtentsOverlap { ino, .. } => shop.mend_overlaps(ino),
        Finding::BadExtent { ino, file_block, why } => shop.mend_extent(ino, file_block, why),
        Finding::DataBeyondEnd { ino, .. } => shop.trim(ino),
        Finding::StaleWork { ino, what, .. } => shop.remove_work(ino, what),
        Finding::NodeLeaked { node } => {
            shop.note(Repair::FreeNode { node });
            shop.set_node_ref(node, BlockRef::ABSENT);
            shop.volume.state.write().tree.drop_node(node);
            Ok(())
        }
        _ => Ok(()),
    }
}

fn mend_names(shop: &mut Workshop, errors: &[Finding]) -> Result<()> {
    let (mut dirs, mut linked, mut cut) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for found in errors {
        match found {
            Finding::BadEntry { dir, .. } | Finding::DanglingEntry { dir, .. } | Finding::EntryType { dir, .. } => {
                dirs.insert(*dir);
            }
            Finding::DirectoryLinked { ino, .. } => drop(linked.insert(*ino)),
            Finding::DirectoryLoop { ino } => drop(cut.insert(*ino)),
            _ => {}
        }
    }
    for dir in dirs {
        shop.mend_directory(dir)?;
    }
    if !(linked.is_empty() && cut.is_empty()) {
        shop.keep_one_name(&linked, &cut)?;
    }
    for found in errors {
        match *found {
            Finding::Unreachable { ino } | Finding::NotListed { ino } => shop.reconnect(ino)?,
            Finding::WrongParent { ino, actual, .. } if !linked.contains(&ino) && !cut.contains(&ino) => {
                shop.set_field(ino, "parent", actual.0, |inode| inode.parent = actual)?;
            }
            _ => {}
        }
    }
    Ok(())
}

/// Numbers that count what the rest says.
fn count(shop: &mut Workshop, found: &Finding) -> Result<()> {
    match *found {
        Finding::MappedBlocks { ino, counted, .. } => {
            shop.set_field(ino, "mapped blocks", counted, |inode| inode.blocks = counted)
        }
        Finding::LinkCount { ino, counted, .. } => {
            shop.set_field(ino, "links", counted, |inode| inode.nlink = counted as u32)
        }
        Finding::EntryCount { ino, counted, .. } => {
            shop.set_field(ino, "entries", counted, |inode| inode.size = counted)
        }
        Finding::XattrCount { ino, counted, .. } => {
            shop.set_field(ino, "extended attributes", counted.into(), |inode| inode.xattrs = counted)
        }
        _ => Ok(()),
    }
}
