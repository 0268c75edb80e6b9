//! What is remembered beyond the extents: recent writes by region and by file, in one bounded table.
//!
//! A region is [`REGION_BLOCKS`] neighbouring blocks of a file. A newcomer takes the place of what was written to longest ago, of the few entries among
//! which it falls: many files that were written once must not keep out one that is written all the time. What is lost costs a
//! feature, nothing else. Size: 32 bytes an entry, 512 KiB for the default of 16384 entries, whatever the size of the filesystem; beside it `lives` with 128 KiB.

use super::lives::Lives;

/// Blocks in a region.
pub const REGION_BLOCKS: u64 = 64;
/// log2 of the entries by default.
pub const ENTRIES_LOG2: u32 = 14;

/// Entries among which a key may lie.
const WAYS: usize = 4;

/// Marks the key of a whole file.
const WHOLE_FILE: u64 = u64::MAX;

/// What is known of a region or a file.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Entry {
    tag: u32,
    /// Blocks written, halved every half-life; as of `last`.
    heat: f32,
    /// Write clock of the last write.
    pub last: u64,
    /// Write clock when it was first seen.
    pub first: u64,
    /// Size of the file, in blocks (saturating), at the last write.
    pub file_blocks: u32,
}

impl Entry {
    /// Blocks written during about the last one and a half half-lives.
    pub fn heat(&self, now: u64, half_life: u64) -> f32 {
        let periods = now.saturating_sub(self.last) as f64 / half_life.max(1) as f64;
        self.heat * (-periods).exp2() as f32
    }
}

/// Recent writes by region and by file.
#[derive(Debug)]
pub struct History {
    entries: Vec<Entry>,
    pub(super) lives: Lives,
}

impl Default for History {
    fn default() -> Self {
        Self::new(ENTRIES_LOG2)
    }
}

impl History {
    /// Takes `32 << entries_log2` bytes and those of the lifetimes, now and for good; at least 4 entries.
    pub fn new(entries_log2: u32) -> Self {
        let entries_log2 = entries_log2.max(WAYS.ilog2());
        Self { entries: vec![Entry::default(); 1 << entries_log2], lives: Lives::default() }
    }

    /// Heap bytes held.
    pub fn bytes(&self) -> usize {
        self.entries.len() * size_of::<Entry>() + self.lives.bytes()
    }

    /// Half-life of heat.
    pub fn half_life(live_blocks: u64) -> u64 {
        (live_blocks / 2).max(1)
    }

    /// What is known of the region that a block lies in.
    pub fn region(&self, ino: u64, block: u64) -> Option<&Entry> {
        self.find(ino, block / REGION_BLOCKS)
    }

    /// What is known of a file.
    pub fn file(&self, ino: u64) -> Option<&Entry> {
        self.find(ino, WHOLE_FILE)
    }

    /// Notes a user's write.
    pub fn note(&mut self, ino: u64, block: u64, blocks: u32, file_blocks: u64, now: u64, live_blocks: u64) {
        let half_life = Self::half_life(live_blocks);
        let file_blocks = u32::try_from(file_blocks).unwrap_or(u32::MAX);
        for part in [block / REGION_BLOCKS, WHOLE_FILE] {
            let (set, tag) = self.place(ino, part);
            let set = &mut self.entries[set..set + WAYS];
            if let Some(e) = set.iter_mut().find(|e| e.tag == tag) {
                *e = Entry { heat: e.heat(now, half_life) + blocks as f32, last: now, file_blocks, ..*e };
            } else if let Some(oldest) = set.iter_mut().min_by_key(|e| (e.tag != 0, e.last)) {
                *oldest = Entry { tag, heat: blocks as f32, last: now, first: now, file_blocks };
            }
        }
    }

    fn find(&self, ino: u64, part: u64) -> Option<&Entry> {
        let (set, tag) = self.place(ino, part);
        self.entries[set..set + WAYS].iter().find(|e| e.tag == tag)
    }

    /// First entry of the set and tag (never 0, which marks an unused slot) of a key.
    fn place(&self, ino: u64, part: u64) -> (usize, u32) {
        let mut h = ino.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ part.wrapping_add(1).wrapping_mul(0xd6e8_feb8_6659_fd93);
        h = (h ^ (h >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
        h ^= h >> 29;
        (h as usize & (self.entries.len() - WAYS), (h >> 32) as u32 | 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heat_halves_and_neighbours_share_it() {
        let mut h = History::new(10);
        h.note(5, 70, 8, 1000, 100, 2000);
        h.note(5, 127, 8, 1000, 1100, 2000);
        let e = h.region(5, 64).copied().unwrap_or_default();
        assert_eq!((e.heat(1100, 1000), e.heat(2100, 1000), e.first, e.last), (12.0, 6.0, 100, 1100));
        assert_eq!(h.file(5).map(|f| f.file_blocks), Some(1000));
        assert!(h.region(5, 63).is_none() && h.file(6).is_none());
    }

    #[test]
    fn what_is_written_stays_known_among_many_files_that_were() {
        let mut h = History::new(10);
        for ino in 0..4000 {
            h.note(ino, 0, 100, 100, ino, 1 << 20);
        }
        let mut found = 0;
        for n in 0..1000 {
            let (block, now) = (n % 100 * 64, 5000 + n);
            found += u64::from(h.region(9999, block).is_some() && h.file(9999).is_some());
            h.note(9999, block, 1, 6400, now, 1 << 20);
        }
        assert!(found > 880, "{found}");
        let lives = Lives::default().bytes();
        assert_eq!((h.bytes() - lives, History::new(0).bytes() - lives), (32 << 10, 128));
    }
}
