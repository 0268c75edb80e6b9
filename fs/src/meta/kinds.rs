//! What the names of files say of them, for placement: a bounded table by inode number, filled by whoever meets a name.
//!
//! Below the namespace. No locks, and no allocation after it was made: 256 KiB, whatever the size of the filesystem. Direct-mapped: a newcomer takes the place of what was
//! there. What is lost, or mixed up by two who write the same entry at once, costs a feature of a prediction, nothing else.

use std::sync::atomic::{AtomicU64, Ordering};

use gleanfs_gc::features::FileKind;

use crate::types::Ino;

const ENTRIES_LOG2: u32 = 14;

#[derive(Default)]
struct Entry {
    ino: AtomicU64,
    kind: AtomicU64,
}

/// The table.
pub(crate) struct Kinds(Box<[Entry]>);

impl Default for Kinds {
    fn default() -> Self {
        Self((0..1 << ENTRIES_LOG2).map(|_| Entry::default()).collect())
    }
}

impl Kinds {
    /// A file was met under this name in this directory.
    pub fn note(&self, ino: Ino, dir: Ino, name: &[u8]) {
        let FileKind { suffix, dir } = FileKind::of(dir.0, name);
        let entry = self.entry(ino);
        entry.kind.store(u64::from(suffix) << 32 | u64::from(dir), Ordering::Relaxed);
        entry.ino.store(ino.0, Ordering::Release);
    }

    /// What is known of a file.
    pub fn of(&self, ino: Ino) -> FileKind {
        let entry = self.entry(ino);
        if entry.ino.load(Ordering::Acquire) != ino.0 {
            return FileKind::default();
        }
        let kind = entry.kind.load(Ordering::Relaxed);
        FileKind { suffix: (kind >> 32) as u32, dir: kind as u32 }
    }

    /// Inode numbers are given out in a row, so their low bits spread them best.
    fn entry(&self, ino: Ino) -> &Entry {
        &self.0[ino.0 as usize & (self.0.len() - 1)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_name_counts_and_a_newcomer_takes_its_place() {
        let kinds = Kinds::default();
        assert_eq!(kinds.of(Ino(7)), FileKind::default());
        kinds.note(Ino(7), Ino(1), b"a.tmp");
        kinds.note(Ino(7), Ino(1), b"a.log");
        assert_eq!(kinds.of(Ino(7)), FileKind::of(1, b"b.log"));
        kinds.note(Ino(7 + (1 << ENTRIES_LOG2)), Ino(1), b"c");
        assert_eq!(kinds.of(Ino(7)), FileKind::default());
    }
}
