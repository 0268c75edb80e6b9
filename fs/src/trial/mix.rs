//! What a trial is made of: kinds of operations with their weights, and the size of the universe.

use super::generate::Generator;
use super::ops::Operation;

/// Kinds of operations, to give weights to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Create,
    Link,
    Unlink,
    Rmdir,
    Rename,
    Open,
    Close,
    Write,
    Read,
    Truncate,
    Attributes,
    Flags,
    Fallocate,
    Seek,
    Copy,
    Fsync,
    Sync,
    SetXattr,
    GetXattr,
    ListXattr,
    RemoveXattr,
    Readdir,
    Readlink,
    Stat,
    TouchAtime,
    Remount,
}

/// What is generated: the kinds with their weights, and the size of the universe.
#[derive(Clone, Debug)]
pub struct Mix {
    pub weights: Vec<(Kind, u32)>,
    /// Names that there are.
    pub names: u16,
    /// Directories below each other.
    pub depth: usize,
    /// Most operations go below this offset, in blocks.
    pub file_blocks: u64,
    /// Most blocks that one write, copy or fallocate touches.
    pub blocks_max: u64,
    /// Once in so many times an offset lies a terabyte further on; 0: never.
    pub far_one_in: u64,
    /// Directories change while they are read: two operations in one, so not for crash trials.
    pub disturb: bool,
    /// Copies go from anywhere in a block to the same place in another, so that each block of the target changes at once.
    pub align_copies: bool,
}

impl Mix {
    /// Everything, in a universe so small that operations collide.
    pub fn everything() -> Self {
        use Kind::*;
        let weights = vec![
            (Create, 14),
            (Link, 5),
            (Unlink, 6),
            (Rmdir, 3),
            (Rename, 10),
            (Open, 4),
            (Close, 3),
            (Write, 16),
            (Read, 8),
            (Truncate, 6),
            (Attributes, 6),
            (Flags, 1),
            (Fallocate, 6),
            (Seek, 5),
            (Copy, 4),
            (Fsync, 1),
            (Sync, 1),
            (SetXattr, 5),
            (GetXattr, 2),
            (ListXattr, 1),
            (RemoveXattr, 2),
            (Readdir, 4),
            (Readlink, 2),
            (Stat, 3),
            (TouchAtime, 2),
            (Remount, 1),
        ];
        Self {
            weights,
            names: 7,
            depth: 3,
            file_blocks: 40,
            blocks_max: 20,
            far_one_in: 50,
            disturb: true,
            align_copies: false,
        }
    }

    /// What changes something, with a sync now and then.
    pub fn crash() -> Self {
        use Kind::*;
        let reads = [Read, Seek, GetXattr, ListXattr, Readdir, Readlink, Stat, Remount];
        let mut mix = Self::everything();
        mix.weights.retain(|(kind, _)| !reads.contains(kind));
        mix.set(Fsync, 4);
        mix.set(Sync, 3);
        Self { blocks_max: 8, far_one_in: 200, disturb: false, align_copies: true, ..mix }
    }

    /// Names above all, in directories of many entries.
    pub fn names(names: u16) -> Self {
        let mut mix = Self::everything();
        for kind in [Kind::Create, Kind::Unlink, Kind::Rename, Kind::Link] {
            mix.set(kind, 40);
        }
        Self { names, depth: 2, ..mix }
    }

    /// Contents above all, in few files.
    pub fn contents() -> Self {
        let mut mix = Self::everything();
        for (kind, weight) in [(Kind::Write, 80), (Kind::Read, 30), (Kind::Truncate, 20), (Kind::Fallocate, 30)] {
            mix.set(kind, weight);
        }
        mix.set(Kind::Copy, 20);
        mix.set(Kind::Seek, 20);
        Self { names: 3, depth: 1, file_blocks: 300, blocks_max: 150, ..mix }
    }

    /// Gives a kind another weight.
    pub fn set(&mut self, kind: Kind, weight: u32) {
        self.weights.retain(|(k, _)| *k != kind);
        self.weights.push((kind, weight));
    }

    /// `count` operations; the same for the same seed.
    pub fn generate(&self, seed: u64, count: usize) -> Vec<Operation> {
        let mut generator = Generator::new(self, seed);
        (0..count).map(|_| generator.next()).collect()
    }
}
