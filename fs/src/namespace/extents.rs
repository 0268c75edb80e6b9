//! What is mapped of a file: runs of extents, read in bounded slices.
//!
//! A slice is bounded because a plan runs again from its beginning when a metadata node had to be loaded.

use std::ops::{ControlFlow, Range};

use crate::error::Result;
use crate::format::key::{Key, Kind};
use crate::format::value::{ExtentKind, Value};
use crate::meta::view::View;
use crate::types::{BLOCK_SIZE, Ino};

/// Most extents that one slice, and so one record, touches.
pub const SLICE_EXTENTS: usize = 256;

/// File blocks, by number.
pub type Blocks = Range<u64>;

/// A run of blocks mapped alike, cut to what was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    pub blocks: Blocks,
    pub kind: ExtentKind,
}

/// The extents in the first part of a range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slice {
    pub runs: Vec<Run>,
    /// All blocks before this one have been looked at. The end of the range, unless there are too many extents.
    pub end: u64,
}

/// The block that byte `offset` lies in.
pub fn block_of(offset: u64) -> u64 {
    offset / BLOCK_SIZE as u64
}

/// The first block that begins at or after byte `offset`.
pub fn block_after(offset: u64) -> u64 {
    offset.div_ceil(BLOCK_SIZE as u64)
}

/// Bytes before block `block`.
pub fn byte_of(block: u64) -> u64 {
    block.saturating_mul(BLOCK_SIZE as u64)
}

fn run(key: &Key, value: &Value, within: &Blocks) -> Option<Run> {
    let Value::Extent(extent) = value else { return None };
    let end = key.offset.saturating_add(u64::from(extent.blocks));
    let blocks = key.offset.max(within.start)..end.min(within.end);
    (!blocks.is_empty()).then_some(Run { blocks, kind: extent.kind })
}

/// The first extents of `within`, at most [`SLICE_EXTENTS`].
pub fn slice(view: &dyn View, ino: Ino, within: Blocks) -> Result<Slice> {
    let mut runs = Vec::new();
    if within.is_empty() {
        return Ok(Slice { runs, end: within.end });
    }
    // The extent that begins before the range may reach into it.
    if within.start > 0
        && let Some((key, value)) = view.floor(&Key::extent(ino, within.start - 1))?
        && (key.ino, key.kind) == (ino, Kind::Extent)
    {
        runs.extend(run(&key, &value, &within));
    }
    let (from, to) = (Key::extent(ino, within.start), Key::extent(ino, within.end - 1));
    let mut cut = false;
    view.scan(&from, &to, &mut |key, value| {
        cut = runs.len() == SLICE_EXTENTS;
        if cut {
            return ControlFlow::Break(());
        }
        runs.extend(run(key, value, &within));
        ControlFlow::Continue(())
    })?;
    let end = match runs.last() {
        Some(last) if cut => last.blocks.end,
        _ => within.end,
    };
    Ok(Slice { runs, end })
}

/// What one block is mapped to; `None` for a hole.
pub fn kind_at(view: &dyn View, ino: Ino, block: u64) -> Result<Option<ExtentKind>> {
    Ok(slice(view, ino, block..block + 1)?.runs.first().map(|run| run.kind))
}

impl Slice {
    /// The holes between the runs, from `start` up to the slice's end.
    pub fn gaps(&self, start: u64) -> Vec<Blocks> {
        let mut gaps = Vec::new();
        let mut at = start;
        for run in &self.runs {
            if run.blocks.start > at {
                gaps.push(at..run.blocks.start);
            }
            at = run.blocks.end;
        }
        if at < self.end {
            gaps.push(at..self.end);
        }
        gaps
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::namespace::testing::Tree;

    const F: Ino = Ino(20);

    #[test]
    fn a_slice_is_cut_to_its_range_and_sees_the_extent_that_reaches_in() {
        let mut tree = Tree::with_file(F);
        tree.map_data(F, 10, 10);
        tree.map_unwritten(F, 30, 10);
        let found = slice(&tree, F, 15..35).unwrap();
        let run = |blocks, kind| Run { blocks, kind };
        assert_eq!(found.runs, [run(15..20, ExtentKind::Data), run(30..35, ExtentKind::Unwritten)]);
        assert_eq!((found.end, found.gaps(15)), (35, Vec::from([Blocks { start: 20, end: 30 }])));
        assert_eq!(slice(&tree, F, 20..30).unwrap().runs, []);
        assert_eq!(slice(&tree, F, 0..0).unwrap().end, 0);
        assert_eq!(slice(&tree, F, 5..12).unwrap().gaps(5), [Blocks { start: 5, end: 10 }]);
        assert_eq!((kind_at(&tree, F, 19).unwrap(), kind_at(&tree, F, 20).unwrap()), (Some(ExtentKind::Data), None));
    }

    #[test]
    fn many_extents_are_handed_out_in_slices() {
        let mut tree = Tree::with_file(F);
        for i in 0..SLICE_EXTENTS as u64 + 7 {
            tree.map_data(F, i * 2, 1);
        }
        let first = slice(&tree, F, 0..u64::MAX).unwrap();
        assert_eq!((first.runs.len(), first.end), (SLICE_EXTENTS, SLICE_EXTENTS as u64 * 2 - 1));
        let second = slice(&tree, F, first.end..u64::MAX).unwrap();
        assert_eq!((second.runs.len(), second.end), (7, u64::MAX));
    }
}
