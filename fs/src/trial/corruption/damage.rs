//! Kinds of damage, and what they make of blocks.

use std::collections::BTreeSet;
use std::fmt;

use super::super::random::Random;
use super::image::{Block, Image};
use super::uses::{Use, read_block};
use crate::device::MemoryDevice;
use crate::types::{BLOCK_SIZE, BlockAddr};

/// How a block is damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One bit among the first bytes, where headers are.
    FlipHead,
    /// One bit anywhere.
    Flip,
    Zero,
    /// Filled with anything.
    Random,
    /// Changes places with another block that is used for the same.
    SwapSame,
    /// Changes places with a block that is used for something else.
    SwapOther,
    /// Becomes what it was this many versions after its first.
    Older(usize),
}

impl Kind {
    /// Those that every block can suffer.
    pub fn of_one() -> [Self; 6] {
        [Self::FlipHead, Self::Flip, Self::Zero, Self::Random, Self::SwapSame, Self::SwapOther]
    }

    /// For the books.
    pub fn name(self) -> &'static str {
        match self {
            Self::FlipHead | Self::Flip => "flipped",
            Self::Zero => "zeroed",
            Self::Random => "random",
            Self::SwapSame | Self::SwapOther => "swapped",
            Self::Older(_) => "older version",
        }
    }
}

/// New contents of blocks.
pub struct Damage {
    pub kinds: Vec<(u64, Kind)>,
    changes: Vec<(u64, Box<Block>)>,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = self.kinds.iter().map(|(addr, kind)| format!("block {addr} {kind:?}"));
        f.write_str(&all.collect::<Vec<_>>().join(", "))
    }
}

impl Damage {
    /// Draws what the kinds leave open.
    pub fn draw(image: &Image, kinds: &[(u64, Kind)], random: &mut Random) -> Self {
        let mut damage = Self { kinds: kinds.to_vec(), changes: Vec::new() };
        for (addr, kind) in kinds {
            damage.add(image, *addr, *kind, random);
        }
        damage
    }

    fn add(&mut self, image: &Image, addr: u64, kind: Kind, random: &mut Random) {
        let mut block: Box<Block> = Box::new([0; BLOCK_SIZE]);
        block.copy_from_slice(&read_block(&image.device, addr));
        let mut flip = |below: u64| block[random.within(0..below) as usize] ^= 1 << random.within(0..8);
        match kind {
            Kind::FlipHead => flip(96),
            Kind::Flip => flip(BLOCK_SIZE as u64),
            Kind::Zero => block.fill(0),
            Kind::Random => random.fill(&mut block[..]),
            Kind::Older(version) => block.copy_from_slice(&image.versions[&addr][version][..]),
            Kind::SwapSame | Kind::SwapOther => {
                let name = image.uses.of_block(addr).name();
                let fits = |other: &&u64| {
                    **other != addr && (image.uses.of_block(**other).name() == name) == (kind == Kind::SwapSame)
                };
                let others: Vec<u64> = image.versions.keys().filter(fits).copied().collect();
                if others.is_empty() {
                    return;
                }
                let other = *random.pick(&others);
                self.changes.push((other, block.clone()));
                block.copy_from_slice(&read_block(&image.device, other));
            }
        }
        self.changes.push((addr, block));
    }

    pub fn apply(&self, device: &MemoryDevice) {
        for (addr, contents) in &self.changes {
            device.tamper(BlockAddr(*addr), |block| block.copy_from_slice(&contents[..]));
        }
    }

    /// Blocks that are not what they were.
    pub fn blocks(&self, image: &Image) -> BTreeSet<u64> {
        let changed = self.changes.iter().filter(|(addr, block)| read_block(&image.device, *addr)[..] != block[..]);
        changed.map(|(addr, _)| *addr).collect()
    }

    /// Whether a slot is still one, though not the one that was: nobody can tell.
    pub fn forges_slot(&self, image: &Image) -> bool {
        let slot = |addr: &u64| image.uses.of_block(*addr) == Use::Slot;
        let forged = |block: &Block| crate::format::superblock::Superblock::decode(block).is_ok();
        self.changes.iter().any(|(addr, block)| slot(addr) && forged(block))
    }
}
