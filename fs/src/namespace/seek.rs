//! SEEK_DATA and SEEK_HOLE. Promised space counts as a hole: it reads as zeros.

use crate::error::{Error, Result};
use crate::format::value::ExtentKind;
use crate::meta::view::View;
use crate::types::Ino;

use super::api::Seek;
use super::extents::{self, block_after, block_of, byte_of};
use super::{Filesystem, items};

/// How far one slice of extents brings a search.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    Found(u64),
    /// Nothing before this byte.
    NotBefore(u64),
}

/// Searches one slice from byte `offset` on; `NoSuchAddress` past the end, or when there is no more data.
pub fn step(view: &dyn View, ino: Ino, offset: u64, whence: Seek) -> Result<Step> {
    let size = items::regular(view, ino)?.size;
    if offset >= size {
        return Err(Error::NoSuchAddress);
    }
    let within = block_of(offset)..block_after(size);
    let slice = extents::slice(view, ino, within.clone())?;
    let found = match whence {
        Seek::Data => slice.runs.iter().find(|run| run.kind != ExtentKind::Unwritten).map(|run| run.blocks.start),
        Seek::Hole => {
            let mut at = within.start;
            for run in &slice.runs {
                if run.blocks.start > at || run.kind == ExtentKind::Unwritten {
                    break;
                }
                at = run.blocks.end;
            }
            // The end of the file is a hole, the end of a slice is not.
            (at < slice.end || slice.end == within.end).then_some(at)
        }
    };
    match found {
        Some(block) => Ok(Step::Found(byte_of(block).clamp(offset, size))),
        None if slice.end == within.end => Err(Error::NoSuchAddress),
        None => Ok(Step::NotBefore(byte_of(slice.end))),
    }
}

impl Filesystem {
    pub(super) fn seek_from(&self, ino: Ino, mut offset: u64, whence: Seek) -> Result<u64> {
        loop {
            match self.volume.view(|view| step(view, ino, offset, whence))? {
                Step::Found(at) => return Ok(at),
                Step::NotBefore(at) => offset = at,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::namespace::extents::SLICE_EXTENTS;
    use crate::namespace::testing::Tree;

    const F: Ino = Ino(20);

    fn seek(tree: &Tree, mut offset: u64, whence: Seek) -> Option<u64> {
        loop {
            match step(tree, F, offset, whence) {
                Ok(Step::Found(at)) => return Some(at),
                Ok(Step::NotBefore(at)) => offset = at,
                Err(Error::NoSuchAddress) => return None,
                Err(other) => panic!("{other}"),
            }
        }
    }

    #[test]
    fn data_and_holes_are_told_apart() {
        let mut tree = Tree::with_file(F);
        tree.map_data(F, 2, 2);
        tree.map_data(F, 4, 1);
        tree.map_unwritten(F, 5, 2);
        tree.map_data(F, 9, 1);
        tree.edit_inode(F, |inode| inode.size = 9 * 4096 + 10);
        assert_eq!(seek(&tree, 0, Seek::Data), Some(2 * 4096));
        assert_eq!(seek(&tree, 2 * 4096 + 5, Seek::Data), Some(2 * 4096 + 5));
        assert_eq!(seek(&tree, 2 * 4096 + 5, Seek::Hole), Some(5 * 4096));
        assert_eq!(seek(&tree, 5 * 4096, Seek::Data), Some(9 * 4096));
        assert_eq!(seek(&tree, 0, Seek::Hole), Some(0));
        assert_eq!(seek(&tree, 9 * 4096 + 1, Seek::Hole), Some(9 * 4096 + 10), "the end is a hole");
        assert_eq!(seek(&tree, 9 * 4096 + 10, Seek::Hole), None);
        tree.edit_inode(F, |inode| inode.size = 9 * 4096);
        assert_eq!(seek(&tree, 5 * 4096, Seek::Data), None, "data beyond the size does not count");
    }

    #[test]
    fn long_searches_go_on_from_slice_to_slice() {
        let mut tree = Tree::with_file(F);
        let extents = SLICE_EXTENTS as u64 * 2 + 3;
        for i in 0..extents {
            tree.map_unwritten(F, i, 1);
            tree.map_data(F, 10_000 + i, 1);
        }
        tree.edit_inode(F, |inode| inode.size = 20_000 * 4096);
        assert_eq!(seek(&tree, 0, Seek::Data), Some(10_000 * 4096));
        assert_eq!(seek(&tree, 10_000 * 4096, Seek::Hole), Some((10_000 + extents) * 4096));
    }
}
