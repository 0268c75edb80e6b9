//! Changing a file's size, atomically however much there is to free.
//!
//! One record sets the size, writes the new last block with zeros past the end, and unmaps the first slice of what lies beyond.
//! If more lies beyond, the same record puts the file on the list of truncated files (see [`super::orphans`]), so that
//! readers see the new size at once and the rest goes in the background.

use crate::device::aligned::AlignedBuf;
use crate::error::Result;
use crate::format::edit::Edit;
use crate::format::value::{Extent, ExtentKind, Value};
use crate::meta::view::View;
use crate::meta::volume::Plan;
use crate::types::{BLOCK_SIZE, Ino};

use super::api::AttrChange;
use super::data;
use super::draft::{Draft, Op};
use super::extents::{block_after, block_of, kind_at};
use super::members::Member;
use super::{Filesystem, attr, items, orphans};

/// Whether blocks were left to be unmapped later.
pub type LeftOver = bool;

/// setattr with a new size; `tail` is the new last block as data, if it had to be written.
pub fn plan_truncate(
    op: &Op,
    view: &dyn View,
    ino: Ino,
    member: &Member,
    change: &AttrChange,
    tail: Option<&Extent>,
) -> Result<Plan<LeftOver>> {
    let old = items::regular(view, ino)?.size;
    let size = change.size.unwrap_or(old);
    let mut draft = Draft::new(op, view);
    attr::apply(&mut draft, ino, member, change)?;
    if let Some(extent) = tail {
        draft.push(Edit::Map { ino, first: block_of(size), extent: extent.clone() });
    }
    let mut all = true;
    if size <= old {
        let (unmap, complete) = orphans::unmap_slice(view, ino, block_after(size)..u64::MAX)?;
        all = complete;
        if let Some(unmap) = unmap {
            draft.push(unmap);
        }
    }
    if !all {
        draft.put(orphans::trim_key(ino), Value::Orphan);
    }
    Ok(draft.finish(!all))
}

impl Filesystem {
    /// setattr with a new size. Not with a mode: a record with data has no room for the ACL that would follow.
    pub(super) fn truncate(&self, ino: Ino, size: u64, member: &Member, change: &AttrChange) -> Result<()> {
        data::end_of(size, 0)?;
        let _exclusive = self.locks.exclusive(ino);
        let old = self.size_for_mapping(ino, size)?;
        let op = self.op();
        let left_over = match self.cut_block(ino, size, old)? {
            None => self.mutate(|view| plan_truncate(&op, view, ino, member, change, None))?,
            Some(block) => self.rewrite_block(ino, block_of(size), &block, old, |view, tail| {
                plan_truncate(&op, view, ino, member, change, Some(tail))
            })?,
        };
        if left_over {
            self.reaper.truncated(ino);
        }
        Ok(())
    }

    /// The block that the new end cuts, with zeros past the end; `None` if it needs no writing.
    fn cut_block(&self, ino: Ino, size: u64, old: u64) -> Result<Option<AlignedBuf>> {
        let keep = (size % BLOCK_SIZE as u64) as usize;
        let cuts_data = || self.volume.view(|view| Ok(kind_at(view, ino, block_of(size))? == Some(ExtentKind::Data)));
        if size >= old || keep == 0 || !cuts_data()? {
            return Ok(None);
        }
        let mut block = self.read_block(ino, block_of(size))?;
        block[keep..].fill(0);
        Ok(Some(block))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;
    use crate::namespace::api::{Caller, SetTime};
    use crate::namespace::extents::SLICE_EXTENTS;
    use crate::namespace::testing::{Tree, USER, data_extent, op_at};
    use crate::namespace::{flags, orphans};

    fn truncate(tree: &mut Tree, ino: Ino, change: AttrChange, tail: Option<&Extent>) -> Result<LeftOver> {
        let member = Member::of(&Caller { pid: 0, ..USER }, &change);
        tree.commit(|view| plan_truncate(&op_at(700), view, ino, &member, &change, tail))
    }

    fn to(size: u64) -> AttrChange {
        AttrChange { size: Some(size), ..AttrChange::default() }
    }

    #[test]
    fn shrinking_unmaps_what_lies_beyond_and_writes_the_cut_block() {
        let mut tree = Tree::with_root();
        let file = tree.file(Ino::ROOT, b"f");
        tree.map_data(file, 0, 100);
        tree.edit_inode(file, |inode| (inode.size, inode.mode) = (100 * 4096, inode.mode | libc::S_ISUID));
        let tail = data_extent(1);
        assert!(!truncate(&mut tree, file, to(50 * 4096 + 1), Some(&tail)).unwrap());
        let inode = tree.inode(file);
        assert_eq!((inode.size, inode.blocks, inode.mode & libc::S_ISUID), (50 * 4096 + 1, 51, 0));
        assert_eq!((inode.mtime, inode.ctime), (op_at(700).now, op_at(700).now));
        assert_eq!((tree.addr(file, 50), tree.addr(file, 51)), (Some(tail.addr), None));
        assert!(!truncate(&mut tree, file, to(0), None).unwrap());
        assert_eq!((tree.inode(file).size, tree.inode(file).blocks), (0, 0));
    }

    #[test]
    fn growing_maps_nothing() {
        let mut tree = Tree::with_root();
        let file = tree.file(Ino::ROOT, b"f");
        let at = AttrChange { mtime: Some(SetTime::At(op_at(9).now)), ..to(1 << 50) };
        assert!(!truncate(&mut tree, file, at, None).unwrap());
        let inode = tree.inode(file);
        assert_eq!((inode.size, inode.blocks, inode.mtime), (1 << 50, 0, op_at(9).now));
    }

    #[test]
    fn a_fragmented_file_is_shrunk_at_once_and_listed_for_the_rest() {
        let mut tree = Tree::with_root();
        let file = tree.file(Ino::ROOT, b"f");
        for i in 0..SLICE_EXTENTS as u64 * 2 {
            tree.map_data(file, i * 2, 1);
        }
        tree.edit_inode(file, |inode| inode.size = 4096 * 4096);
        assert!(truncate(&mut tree, file, to(4096), None).unwrap());
        assert_eq!(tree.inode(file).size, 4096);
        assert!(orphans::trim_is_due(&tree, file).unwrap());
        let survey = data::survey(&tree, file).unwrap();
        assert!(survey.trim_is_due && survey.size == 4096);
    }

    #[test]
    fn flags_and_types_stand_in_the_way() {
        let mut tree = Tree::with_root();
        let file = tree.file(Ino::ROOT, b"f");
        for flag in [flags::APPEND, flags::IMMUTABLE] {
            tree.edit_inode(file, |inode| inode.flags = flag);
            assert!(matches!(truncate(&mut tree, file, to(0), None), Err(Error::NotPermitted)));
        }
        assert!(matches!(truncate(&mut tree, Ino::ROOT, to(0), None), Err(Error::IsADirectory)));
    }
}
