//! Keeps a file that is being written in one log head.
//!
//! Blocks of a file that was written in one go are removed in one go. Predictions for its pieces differ by a little, since they are made piece by piece, and pieces in
//! different heads share their segments with those of other files, so that nothing dies whole. So a new block of a file goes where the one before it went, unless it is
//! expected to live longer or shorter by more than a class. Blocks that are overwritten have a past of their own, and go where that says.
//!
//! A bounded table, direct-mapped, 64 KiB whatever the size of the filesystem. What is lost costs a piece of a file in another head.

use super::WriteFacts;

const ENTRIES_LOG2: u32 = 13;
/// A prediction that differs from the file's class by so much is noise.
const NOISE: u8 = 1;

#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    /// Of the inode number; 0 if the slot is unused.
    tag: u32,
    class: u8,
}

/// See the module.
#[derive(Debug)]
pub struct FileClasses {
    entries: Box<[Entry]>,
}

impl Default for FileClasses {
    fn default() -> Self {
        Self { entries: vec![Entry::default(); 1 << ENTRIES_LOG2].into() }
    }
}

impl FileClasses {
    /// Heap bytes held.
    pub fn bytes(&self) -> usize {
        size_of_val(&*self.entries)
    }

    /// The class that a write gets for which `class` was predicted.
    pub fn class(&mut self, w: &WriteFacts, class: u8) -> u8 {
        if w.previous.is_some() && !w.append {
            return class;
        }
        let hash = w.ino.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let (slot, tag) = ((hash >> (64 - ENTRIES_LOG2)) as usize, hash as u32 | 1);
        let entry = &mut self.entries[slot];
        if entry.tag != tag || entry.class.abs_diff(class) > NOISE {
            *entry = Entry { tag, class };
        }
        entry.class
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_blocks_stay_together_and_overwritten_ones_go_their_way() {
        let mut classes = FileClasses::default();
        let mut class = |ino, previous, class| {
            let w = WriteFacts { ino, previous, ..Default::default() };
            classes.class(&w, class)
        };
        assert_eq!([3, 4, 2, 3].map(|predicted| class(7, None, predicted)), [3, 3, 3, 3]);
        assert_eq!((class(7, Some(1), 4), class(7, None, 4)), (4, 3));
        assert_eq!([5, 4, 6].map(|predicted| class(7, None, predicted)), [5, 5, 5]);
        assert_eq!(class(8, None, 1), 1, "another file");
        assert_eq!(class(7, None, 4), 5);
    }

    #[test]
    fn its_size_is_fixed() {
        let mut classes = FileClasses::default();
        (0..100_000).for_each(|ino| {
            classes.class(&WriteFacts { ino, ..Default::default() }, 2);
        });
        assert_eq!(classes.bytes(), 64 << 10);
    }
}
