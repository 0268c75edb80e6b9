//! fallocate(2): promising space, punching holes, zeroing ranges.
//!
//! Long ranges are done in bounded records, each of which leaves a legal file; times and size come last.

use crate::error::{Error, Result};
use crate::format::edit::Edit;
use crate::format::value::{Extent, ExtentKind};
use crate::meta::view::View;
use crate::meta::volume::Plan;
use crate::types::{BLOCK_SIZE, BlockAddr, Ino, WriteClock};

use super::api::Fallocate;
use super::draft::{Draft, Op};
use super::extents::{self, Blocks, block_after, block_of, byte_of};
use super::{Filesystem, attr, data, flags, items, orphans};

/// Most blocks in one extent of promised space.
const UNWRITTEN_BLOCKS_MAX: u64 = 1 << 20;
/// Most extents that one record adds.
const MAPS_PER_RECORD: usize = 64;

/// Promises `blocks` in extents until a record is full; the block where to go on.
fn promise(ino: Ino, blocks: Blocks, edits: &mut Vec<Edit>) -> u64 {
    let mut at = blocks.start;
    while at < blocks.end && edits.len() < MAPS_PER_RECORD {
        let len = (blocks.end - at).min(UNWRITTEN_BLOCKS_MAX);
        let extent = Extent {
            kind: ExtentKind::Unwritten,
            blocks: len as u32,
            addr: BlockAddr::NONE,
            birth: WriteClock(0),
            interval: 0,
            crcs: Default::default(),
        };
        edits.push(Edit::Map { ino, first: at, extent });
        at += len;
    }
    at
}

/// Promises space for the holes at the beginning of a range; the block where to go on.
pub fn plan_allocate(view: &dyn View, ino: Ino, within: Blocks) -> Result<Plan<u64>> {
    let slice = extents::slice(view, ino, within.clone())?;
    let mut edits = Vec::new();
    for gap in slice.gaps(within.start) {
        let end = gap.end;
        let at = promise(ino, gap, &mut edits);
        if at < end {
            return Ok(Plan { edits, value: at });
        }
    }
    Ok(Plan { edits, value: slice.end })
}

/// Turns the beginning of a range into promised space; the block where to go on.
pub fn plan_zero(view: &dyn View, ino: Ino, within: Blocks) -> Result<Plan<u64>> {
    let slice = extents::slice(view, ino, within.clone())?;
    let mut edits = Vec::new();
    let value = promise(ino, within.start..slice.end, &mut edits);
    Ok(Plan { edits, value })
}

/// Unmaps the beginning of a range; the block where to go on.
pub fn plan_punch(view: &dyn View, ino: Ino, within: Blocks) -> Result<Plan<u64>> {
    let slice = extents::slice(view, ino, within.clone())?;
    let (edit, _) = orphans::unmap_slice(view, ino, within.start..slice.end)?;
    Ok(Plan { edits: edit.into_iter().collect(), value: slice.end })
}

/// Ends an operation on contents: size at least `size_min`, times, privileges.
pub fn plan_modified(op: &Op, view: &dyn View, ino: Ino, size_min: u64) -> Result<Plan<()>> {
    let mut draft = Draft::new(op, view);
    attr::drop_privileges(&mut draft, ino)?;
    let inode = draft.change(ino)?;
    inode.size = inode.size.max(size_min);
    inode.mtime = op.now;
    inode.ctime = op.now;
    Ok(draft.finish(()))
}

fn check(view: &dyn View, ino: Ino, mode: Fallocate) -> Result<()> {
    let inode = items::regular(view, ino)?;
    match mode {
        Fallocate::Allocate { .. } => flags::may_touch(&inode),
        _ => flags::may_change(&inode),
    }
}

/// Blocks of a range that are holes.
fn count_holes(view: &dyn View, ino: Ino, within: Blocks) -> Result<(u64, u64)> {
    let slice = extents::slice(view, ino, within.clone())?;
    let holes = slice.gaps(within.start).iter().map(|gap| gap.end - gap.start).sum();
    Ok((holes, slice.end))
}

impl Filesystem {
    pub(super) fn allocate_range(&self, ino: Ino, offset: u64, len: u64, mode: Fallocate) -> Result<()> {
        self.volume.writable()?;
        if len == 0 {
            return Err(Error::Invalid);
        }
        let end = data::end_of(offset, len)?;
        let _exclusive = self.locks.exclusive(ino);
        self.volume.view(|view| check(view, ino, mode))?;
        // Blocks that end past the size count as beyond it, so ask for the end of the last block.
        let size = self.size_for_mapping(ino, byte_of(block_after(end)))?;
        let keep_size = match mode {
            Fallocate::Allocate { keep_size } => {
                self.allocate(ino, block_of(offset)..block_after(end))?;
                keep_size
            }
            Fallocate::PunchHole => {
                self.clear(ino, offset, end, size, false)?;
                true
            }
            Fallocate::ZeroRange { keep_size } => {
                self.clear(ino, offset, end, size, true)?;
                keep_size
            }
        };
        let op = self.op();
        self.mutate(|view| plan_modified(&op, view, ino, if keep_size { 0 } else { end }))
    }

    /// Runs steps until the range is done.
    fn steps(&self, mut range: Blocks, step: impl Fn(&dyn View, Blocks) -> Result<Plan<u64>>) -> Result<()> {
        while !range.is_empty() {
            range.start = self.mutate(|view| step(view, range.clone()))?;
        }
        Ok(())
    }

    /// Promises space for all holes of a range, or says `NoSpace` before it has filled the filesystem with promises.
    fn allocate(&self, ino: Ino, range: Blocks) -> Result<()> {
        let usage = self.volume.usage();
        let free = usage.capacity.saturating_sub(usage.used);
        let (mut at, mut holes) = (range.start, 0);
        while range.end - range.start > free && at < range.end {
            let (found, end) = self.volume.view(|view| count_holes(view, ino, at..range.end))?;
            (at, holes) = (end, holes + found);
            if holes > free {
                return Err(Error::NoSpace);
            }
        }
        self.steps(range, |view, within| plan_allocate(view, ino, within))
    }

    /// Makes `offset..end` zeros: whole blocks become holes, or promised space with `promise`; edges are written.
    pub(super) fn clear(&self, ino: Ino, offset: u64, end: u64, size: u64, promise: bool) -> Result<()> {
        let (first, last) = (block_of(offset), block_of(end));
        let (lead, trail) = ((offset % BLOCK_SIZE as u64) as usize, (end % BLOCK_SIZE as u64) as usize);
        if first == last {
            return self.clear_edge(ino, first, lead, trail, size, promise);
        }
        if lead > 0 {
            self.clear_edge(ino, first, lead, BLOCK_SIZE, size, promise)?;
        }
        if trail > 0 {
            self.clear_edge(ino, last, 0, trail, size, promise)?;
        }
        self.steps(block_after(offset)..last, |view, within| match promise {
            true => plan_zero(view, ino, within),
            false => plan_punch(view, ino, within),
        })
    }

    fn clear_edge(&self, ino: Ino, block: u64, from: usize, to: usize, size: u64, promise: bool) -> Result<()> {
        match self.volume.view(|view| extents::kind_at(view, ino, block))? {
            Some(ExtentKind::Unwritten) => Ok(()),
            Some(_) => self.zero_in_block(ino, block, from, to, size),
            None if promise => self.steps(block..block + 1, |view, within| plan_allocate(view, ino, within)),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::namespace::extents::SLICE_EXTENTS;
    use crate::namespace::testing::{Tree, op_at};

    const F: Ino = Ino(20);

    fn run(tree: &mut Tree, mut range: Blocks, step: impl Fn(&dyn View, Blocks) -> Result<Plan<u64>>) -> usize {
        let mut records = 0;
        while !range.is_empty() {
            let plan = step(tree, range.clone()).unwrap();
            assert!(Tree::encoded_len(&plan.edits) < 8192);
            tree.apply_all(&plan.edits);
            assert!(plan.value > range.start, "every step gets on");
            range.start = plan.value;
            records += 1;
        }
        records
    }

    #[test]
    fn allocation_fills_holes_and_leaves_data_alone() {
        let mut tree = Tree::with_file(F);
        for i in 0..SLICE_EXTENTS as u64 {
            tree.map_data(F, 5 + i * 2, 1);
        }
        let data = tree.addr(F, 5);
        assert!(run(&mut tree, 3..1000, |view, range| plan_allocate(view, F, range)) > 1);
        assert_eq!(tree.inode(F).blocks, 997);
        assert_eq!((tree.addr(F, 5), data.is_some()), (data, true));
        assert_eq!(extents::kind_at(&tree, F, 6).unwrap(), Some(ExtentKind::Unwritten));
        assert_eq!(extents::kind_at(&tree, F, 2).unwrap(), None);
    }

    #[test]
    fn huge_promises_are_cut_into_extents_and_records() {
        let mut tree = Tree::with_file(F);
        let blocks = UNWRITTEN_BLOCKS_MAX * (MAPS_PER_RECORD as u64 + 3);
        assert_eq!(run(&mut tree, 0..blocks, |view, range| plan_allocate(view, F, range)), 2);
        assert_eq!(tree.inode(F).blocks, blocks);
        assert_eq!(run(&mut tree, 1..blocks, |view, range| plan_punch(view, F, range)), 1);
        assert_eq!(tree.inode(F).blocks, 1);
    }

    #[test]
    fn zeroing_promises_all_and_punching_frees_all() {
        let mut tree = Tree::with_file(F);
        for i in 0..SLICE_EXTENTS as u64 + 9 {
            tree.map_data(F, i * 3, 2);
        }
        assert!(run(&mut tree, 1..500, |view, range| plan_zero(view, F, range)) >= 1);
        assert_eq!(extents::slice(&tree, F, 1..500).unwrap().gaps(1), []);
        assert!(tree.addr(F, 0).is_some() && tree.addr(F, 1).is_none());
        assert!(run(&mut tree, 1..2000, |view, range| plan_punch(view, F, range)) >= 1);
        assert_eq!(tree.inode(F).blocks, 1);
    }

    #[test]
    fn the_last_record_sets_size_and_times() {
        let mut tree = Tree::with_root();
        let file = tree.file(Ino::ROOT, b"f");
        tree.edit_inode(file, |inode| (inode.size, inode.mode) = (9, libc::S_IFREG | 0o4755));
        tree.commit(|view| plan_modified(&op_at(300), view, file, 5)).unwrap();
        assert_eq!((tree.inode(file).size, tree.inode(file).mode & 0o7777), (9, 0o755));
        tree.commit(|view| plan_modified(&op_at(301), view, file, 50)).unwrap();
        assert_eq!((tree.inode(file).size, tree.inode(file).ctime), (50, op_at(301).now));
        tree.edit_inode(file, |inode| inode.flags = flags::APPEND);
        assert!(check(&tree, file, Fallocate::Allocate { keep_size: true }).is_ok());
        assert!(matches!(check(&tree, file, Fallocate::PunchHole), Err(Error::NotPermitted)));
    }
}
