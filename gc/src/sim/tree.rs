//! A tree of small files that is written once, and beside it a large file that is filled and then overwritten: what most volumes with a busy
//! database or disk image look like, and the load of `gleanfs demo`.

use super::load::{BlockWrite, Load, Op, Overwrites, Pattern};
use super::rng::Rng;
use crate::features::FileKind;

/// Largest file of the tree.
const FILE_BLOCKS_MAX: u32 = 5;
const FIRST_INO: u64 = 1000;

/// See the module.
#[derive(Debug)]
pub struct TreeAndFile {
    tree_blocks: u32,
    /// Blocks of the tree that have been written.
    written: u32,
    ino: u64,
    /// Blocks of the file under way, and how many are left.
    file: (u32, u32),
    rng: Rng,
    large: Overwrites,
}

impl TreeAndFile {
    /// A volume of `blocks` blocks of which `tree_share` are the tree's.
    pub fn new(blocks: u32, tree_share: f64, pattern: Pattern, seed: u64) -> Self {
        let tree_blocks = (f64::from(blocks) * tree_share) as u32;
        Self {
            tree_blocks,
            written: 0,
            ino: FIRST_INO,
            file: (0, 0),
            rng: Rng::new(seed),
            large: Overwrites::new(blocks - tree_blocks, pattern, seed),
        }
    }

    fn tree_block(&mut self) -> Op {
        if self.file.1 == 0 {
            let blocks = (1 + self.rng.below(FILE_BLOCKS_MAX)).min(self.tree_blocks - self.written);
            self.file = (blocks, blocks);
            self.ino += 1;
        }
        let (blocks, left) = self.file;
        let at = blocks - left;
        self.file.1 -= 1;
        self.written += 1;
        Op::Write(BlockWrite {
            block: self.written - 1,
            ino: self.ino,
            kind: FileKind::default(),
            file_block: u64::from(at),
            request_blocks: blocks,
            request_at: at,
            append: true,
            file_blocks: 0,
        })
    }
}

impl Load for TreeAndFile {
    fn blocks(&self) -> u32 {
        self.tree_blocks + self.large.blocks()
    }

    fn next_op(&mut self) -> Op {
        if self.written < self.tree_blocks {
            return self.tree_block();
        }
        match self.large.next_op() {
            Op::Write(w) => Op::Write(BlockWrite { block: w.block + self.tree_blocks, ..w }),
            Op::Discard(block) => Op::Discard(block + self.tree_blocks),
        }
    }

    /// The tree's blocks are never written again.
    fn mean_intervals(&self) -> Vec<f64> {
        let large = self.large.mean_intervals();
        if large.is_empty() {
            return large;
        }
        let never = std::iter::repeat_n(f64::INFINITY, self.tree_blocks as usize);
        never.chain(large).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tree_is_written_once_and_the_file_for_ever() {
        let mut load = TreeAndFile::new(1000, 0.3, Pattern::Uniform, 1);
        let mut counts = vec![0; 1000];
        for step in 0..11_000 {
            let Op::Write(w) = load.next_op() else { panic!("nothing is discarded") };
            assert!(step < 300 || w.block >= 300 && w.ino < FIRST_INO);
            assert!(w.request_at < w.request_blocks);
            counts[w.block as usize] += 1;
        }
        assert!(counts[..300].iter().all(|&c| c == 1) && counts[300..].iter().all(|&c| c > 1));
        assert_eq!(load.mean_intervals().len(), 1000);
    }
}
