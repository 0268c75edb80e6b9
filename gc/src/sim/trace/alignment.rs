//! Volumes whose blocks do not begin at a multiple of 4 KiB, as under old partition tables.

use super::{BLOCK_BYTES, SECTOR_BYTES};

const SECTORS: usize = (BLOCK_BYTES / SECTOR_BYTES) as usize;

/// Where within a block the writes of a trace begin.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Alignment {
    /// Writes by the sector within a block at which they begin.
    writes: [u64; SECTORS],
    /// Those that begin within a sector.
    unaligned: u64,
}

impl Alignment {
    pub(super) fn write(&mut self, offset_bytes: u64) {
        if offset_bytes.is_multiple_of(SECTOR_BYTES) {
            self.writes[(offset_bytes / SECTOR_BYTES % SECTORS as u64) as usize] += 1;
        } else {
            self.unaligned += 1;
        }
    }

    /// Sectors by which blocks begin late, if more than half of all writes agree on it; else 0.
    pub(super) fn shift_sectors(&self) -> u8 {
        let all = self.writes.iter().sum::<u64>() + self.unaligned;
        self.writes.iter().position(|&n| n > all - n).unwrap_or(0) as u8
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shift(offsets_bytes: &[u64]) -> u8 {
        let mut alignment = Alignment::default();
        offsets_bytes.iter().for_each(|&offset| alignment.write(offset));
        alignment.shift_sectors()
    }

    #[test]
    fn more_than_half_must_agree() {
        assert_eq!(shift(&[63 * 512, 71 * 512, 0]), 7);
        assert_eq!(shift(&[63 * 512, 0]), 0);
        assert_eq!(shift(&[63 * 512, 0, 512, 100]), 0);
        assert_eq!(shift(&[4096, 0, 512]), 0);
        assert_eq!(shift(&[]), 0);
    }
}
