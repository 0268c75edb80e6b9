//! A byte per block in a table of constant size, for what an extent has no room for.
//!
//! Files are hashed into it, without tags, a file's blocks beside each other: exact for a file of up to 2 GiB, which has as many blocks as the table has bytes. Blocks of
//! different files, or of a larger one, may share a byte, and the table says what the last of them wrote to it. A wrong byte costs a good choice of class, nothing else.

/// Bytes of a table.
pub(crate) const BYTES: usize = 1 << 19;

/// The table; all 0 at first.
#[derive(Debug)]
pub(crate) struct BlockTable {
    bytes: Box<[u8]>,
}

impl Default for BlockTable {
    fn default() -> Self {
        Self { bytes: vec![0; BYTES].into() }
    }
}

impl BlockTable {
    /// Heap bytes held.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.len()
    }

    pub(crate) fn get(&self, ino: u64, block: u64) -> u8 {
        self.bytes[slot(ino, block)]
    }

    pub(crate) fn set(&mut self, ino: u64, block: u64, byte: u8) {
        self.bytes[slot(ino, block)] = byte;
    }

    /// Sets the bytes of a run of blocks; 0 counts as one.
    pub(crate) fn set_run(&mut self, ino: u64, block: u64, blocks: u32, byte: u8) {
        for n in 0..u64::from(blocks.clamp(1, BYTES as u32)) {
            self.set(ino, block.wrapping_add(n), byte);
        }
    }
}

/// Neighbours in a file lie beside each other: a run touches few cache lines, and no two blocks of a small file share a byte.
fn slot(ino: u64, block: u64) -> usize {
    let start = ino.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    start.wrapping_add(block) as usize % BYTES
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_of_a_file_are_told_apart_and_runs_are_written_whole() {
        let mut table = BlockTable::default();
        for block in 0..BYTES as u64 {
            table.set(77, block, block as u8);
        }
        assert!((0..BYTES as u64).all(|block| table.get(77, block) == block as u8));
        table.set_run(77, 1000, 3, 255);
        table.set_run(77, 2000, 0, 255);
        assert_eq!([999, 1000, 1002, 1003, 2000, 2001].map(|b| table.get(77, b)), [231, 255, 255, 235, 255, 209]);
        assert_eq!(table.bytes(), 512 << 10);
    }
}
