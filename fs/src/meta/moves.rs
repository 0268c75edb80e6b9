//! The edits of one operation of the cleaner, in memory that is kept from one to the next.

use smallvec::SmallVec;

use crate::format::chunk::PAYLOAD_MAX;
use crate::format::edit::Edit;
use crate::types::{BlockAddr, Ino};

/// A list of moves.
pub struct Moves {
    /// The first `len` are in use; each holds room for all checksums that it may need.
    edits: Vec<Edit>,
    len: usize,
    /// Checksums of the blocks that are moved, as they were appended.
    pub crcs: Vec<u32>,
}

impl Default for Moves {
    fn default() -> Self {
        let unused = || Edit::Move {
            ino: Ino(0),
            first: 0,
            old: BlockAddr::NONE,
            new: BlockAddr::NONE,
            crcs: SmallVec::with_capacity(PAYLOAD_MAX as usize),
        };
        let most = PAYLOAD_MAX as usize;
        Self { edits: (0..most).map(|_| unused()).collect(), len: 0, crcs: Vec::with_capacity(most) }
    }
}

impl Moves {
    pub fn clear(&mut self) {
        self.len = 0;
    }

    /// Adds the move of file blocks from `to_first` on, from `from` to `to`: those that are the appended ones from `done` on, `blocks` of them.
    pub fn push(&mut self, to_ino: Ino, to_first: u64, from: BlockAddr, to: BlockAddr, done: u32, blocks: u32) {
        let Edit::Move { ino, first, old, new, crcs } = &mut self.edits[self.len] else {
            unreachable!("a list of moves holds moves")
        };
        (*ino, *first, *old, *new) = (to_ino, to_first, from, to);
        crcs.clear();
        crcs.extend_from_slice(&self.crcs[done as usize..(done + blocks) as usize]);
        self.len += 1;
    }

    pub(super) fn edits_mut(&mut self) -> &mut [Edit] {
        &mut self.edits[..self.len]
    }
}
