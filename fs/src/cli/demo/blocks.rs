//! What the blocks of the large file hold: a pattern made from number and version, so that a block that is lost, stale, torn or in
//! the wrong place is told from the right one.

use gleanfs_gc::sim::rng::Rng;

use crate::types::BLOCK_SIZE;

/// Bytes in front of the pattern: number and version.
const HEAD: usize = 8;

/// Writes block `number` in its `version` into `block`.
pub fn fill(block: &mut [u8], seed: u64, number: u32, version: u32) {
    debug_assert_eq!(block.len(), BLOCK_SIZE);
    block[..4].copy_from_slice(&number.to_le_bytes());
    block[4..HEAD].copy_from_slice(&version.to_le_bytes());
    let mut rng = pattern(seed, number, version);
    for word in block[HEAD..].chunks_exact_mut(8) {
        word.copy_from_slice(&rng.next_u64().to_le_bytes());
    }
}

/// What is wrong with `block`, which should be block `number` in its `version`.
pub fn check(block: &[u8], seed: u64, number: u32, version: u32) -> Result<(), String> {
    let word = |at: usize| u32::from_le_bytes(block[at..at + 4].try_into().expect("four bytes"));
    if (word(0), word(4)) != (number, version) {
        let (found, at) = (word(0), word(4));
        return Err(format!("block {number}: holds block {found} version {at} instead of version {version}"));
    }
    let mut rng = pattern(seed, number, version);
    match block[HEAD..].chunks_exact(8).position(|word| word != rng.next_u64().to_le_bytes()) {
        Some(at) => Err(format!("block {number} version {version}: wrong from byte {} on", HEAD + 8 * at)),
        None => Ok(()),
    }
}

fn pattern(seed: u64, number: u32, version: u32) -> Rng {
    Rng::new(seed ^ (u64::from(number) << 32 | u64::from(version)).wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_other_block_is_told_from_the_right_one() {
        let mut block = vec![0; BLOCK_SIZE];
        fill(&mut block, 1, 7, 3);
        assert_eq!(check(&block, 1, 7, 3), Ok(()));
        assert!(check(&block, 1, 7, 4).unwrap_err().contains("version 3 instead of version 4"));
        assert!(check(&block, 1, 8, 3).unwrap_err().contains("holds block 7"));
        assert!(check(&block, 2, 7, 3).is_err());
        block[4000] ^= 1;
        assert!(check(&block, 1, 7, 3).unwrap_err().contains("from byte 4000"));
        assert!(check(&vec![0; BLOCK_SIZE], 1, 0, 1).is_err());
    }
}
