//! Blocks that say what they are: file, place and version, and bytes that follow from these.
//!
//! Whoever reads such a block knows whether it is whole, whether it stands where it belongs, and how old it is,
//! without having to remember what was written.

use crate::random::Random;

/// Bytes of a block.
pub const BLOCK: usize = 4096;
const MAGIC: u64 = 0x6b63_6f6c_6274_7378;
const HEADER: usize = 32;

/// What a block says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    pub file: u64,
    pub index: u64,
    pub version: u64,
}

/// What a block read back turns out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    Whole(Stamp),
    Zeros,
    /// Not as any stamp would have filled it: torn, mixed or foreign.
    Torn,
}

impl Stamp {
    /// Fills `block` with what this stamp makes of it.
    pub fn fill(self, block: &mut [u8]) {
        assert_eq!(block.len(), BLOCK);
        for (field, value) in [MAGIC, self.file, self.index, self.version].into_iter().enumerate() {
            block[field * 8..field * 8 + 8].copy_from_slice(&value.to_le_bytes());
        }
        let mut random = Random::new(self.file.rotate_left(40) ^ self.index.rotate_left(20) ^ self.version);
        for word in block[HEADER..].chunks_exact_mut(8) {
            word.copy_from_slice(&random.draw().to_le_bytes());
        }
    }

    /// The block that this stamp makes.
    pub fn block(self) -> Vec<u8> {
        let mut block = vec![0; BLOCK];
        self.fill(&mut block);
        block
    }
}

/// Judges a block.
pub fn see(block: &[u8]) -> Seen {
    if block.iter().all(|byte| *byte == 0) {
        return Seen::Zeros;
    }
    let field = |at: usize| u64::from_le_bytes(block[at * 8..at * 8 + 8].try_into().expect("eight bytes"));
    let stamp = Stamp { file: field(1), index: field(2), version: field(3) };
    if block.len() == BLOCK && field(0) == MAGIC && stamp.block() == block { Seen::Whole(stamp) } else { Seen::Torn }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_is_known_again_and_every_torn_byte_shows() {
        let stamp = Stamp { file: 3, index: 9, version: 70_000 };
        let block = stamp.block();
        assert_eq!(see(&block), Seen::Whole(stamp));
        assert_eq!(see(&vec![0; BLOCK]), Seen::Zeros);
        for at in [0, 8, 16, 24, 32, 511, 512, 4095] {
            let mut torn = block.clone();
            torn[at] ^= 1;
            assert_eq!(see(&torn), Seen::Torn, "{at}");
        }
        let mut mixed = block;
        mixed[2048..].copy_from_slice(&Stamp { version: 70_001, ..stamp }.block()[2048..]);
        assert_eq!(see(&mixed), Seen::Torn);
    }
}
