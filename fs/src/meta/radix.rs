//! The part of a radix table that consists of block references, in memory.
//!
//! For the node table these are all pages: a leaf's references are nodes. For the segment table these are the index pages; its
//! leaves are made from `log::segments`. Pages are loaded when they are needed and then kept: 16 bytes a node, that is at most
//! 16 MiB per TiB of file data written in single blocks, and far less otherwise.
//!
//! Only checkpoints change references (under the state lock); everybody else looks.

use std::collections::{BTreeSet, HashMap};

use crate::format::chunk::{PageId, TableId};
use crate::format::superblock::BlockRef;
use crate::format::table::{NODE_LEVELS, REFS_PER_PAGE, SEGMENT_LEVELS};
use crate::types::BlockAddr;

/// A radix table's references.
#[derive(Debug)]
pub struct Radix {
    table: TableId,
    levels: u8,
    root: BlockRef,
    pages: HashMap<(u8, u64), Box<[BlockRef]>>,
    /// Pages to be written by the next checkpoint, by level and index.
    dirty: BTreeSet<(u8, u64)>,
}

/// The answer to a look-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Looked {
    Found(BlockRef),
    /// Load this page first.
    Missing(PageId, BlockRef),
}

impl Radix {
    pub fn new(table: TableId, root: BlockRef) -> Self {
        let levels = match table {
            TableId::Nodes => NODE_LEVELS,
            TableId::Segments => SEGMENT_LEVELS,
        };
        Self { table, levels, root, pages: HashMap::new(), dirty: BTreeSet::new() }
    }

    pub fn root(&self) -> BlockRef {
        self.root
    }

    pub fn levels(&self) -> u8 {
        self.levels
    }

    fn page_id(&self, level: u8, index: u64) -> PageId {
        PageId { table: self.table, level, index }
    }

    /// Where page `index` of `level` stands.
    pub fn page(&self, level: u8, index: u64) -> Looked {
        if level + 1 == self.levels {
            return Looked::Found(if index == 0 { self.root } else { BlockRef::ABSENT });
        }
        self.slot(level + 1, index)
    }

    /// The reference number `n` on the pages of `level`: for level 0 of the node table that is node `n`.
    pub fn slot(&self, level: u8, n: u64) -> Looked {
        let (index, at) = split(n);
        if let Some(refs) = self.pages.get(&(level, index)) {
            return Looked::Found(refs[at]);
        }
        match self.page(level, index) {
            Looked::Found(page) if page.is_absent() => Looked::Found(BlockRef::ABSENT),
            Looked::Found(page) => Looked::Missing(self.page_id(level, index), page),
            missing => missing,
        }
    }

    /// Adds a page that was read from the medium; one that is there already stays.
    pub fn install(&mut self, id: PageId, refs: Vec<BlockRef>) {
        debug_assert_eq!(id.table, self.table);
        self.pages.entry((id.level, id.index)).or_insert_with(|| refs.into_boxed_slice());
    }

    /// Sets reference `n` on the pages of `level`, whose page is in memory or absent, and returns the one before.
    pub fn set(&mut self, level: u8, n: u64, to: BlockRef) -> BlockRef {
        let (index, at) = split(n);
        debug_assert!(!matches!(self.slot(level, n), Looked::Missing(..)), "a table page is not in memory");
        self.dirty.insert((level, index));
        let refs = self
            .pages
            .entry((level, index))
            .or_insert_with(|| vec![BlockRef::ABSENT; REFS_PER_PAGE].into_boxed_slice());
        std::mem::replace(&mut refs[at], to)
    }

    /// Sets where page `index` of `level` stands, and returns where it stood.
    pub fn set_page(&mut self, level: u8, index: u64, to: BlockRef) -> BlockRef {
        if level + 1 == self.levels {
            return std::mem::replace(&mut self.root, to);
        }
        self.set(level + 1, index, to)
    }

    /// Fills in the checksum of a block whose address was assigned before its contents were known. Not a change: the page that
    /// holds it is written later in the same checkpoint.
    pub fn set_crc(&mut self, level: u8, n: u64, addr: BlockAddr, crc: u32) {
        let (index, at) = split(n);
        if let Some(slot) = self.pages.get_mut(&(level, index)).map(|refs| &mut refs[at])
            && slot.addr == addr
        {
            slot.crc = crc;
        }
    }

    /// The same for a page.
    pub fn set_page_crc(&mut self, level: u8, index: u64, addr: BlockAddr, crc: u32) {
        if level + 1 < self.levels {
            self.set_crc(level + 1, index, addr, crc);
        } else if self.root.addr == addr {
            self.root.crc = crc;
        }
    }

    /// Takes the lowest page to be written.
    pub fn take_dirty(&mut self) -> Option<PageId> {
        let (level, index) = self.dirty.pop_first()?;
        Some(self.page_id(level, index))
    }

    pub fn mark_dirty(&mut self, level: u8, index: u64) {
        self.dirty.insert((level, index));
    }

    pub fn dirty_count(&self) -> usize {
        self.dirty.len()
    }

    /// References of a page in memory.
    pub fn refs(&self, level: u8, index: u64) -> Option<&[BlockRef]> {
        self.pages.get(&(level, index)).map(|refs| &refs[..])
    }

    /// References of level 0 that are in memory and not absent, in no order.
    pub fn entries(&self) -> impl Iterator<Item = (u64, BlockRef)> + '_ {
        let leaves = self.pages.iter().filter(|((level, _), _)| *level == 0);
        leaves.flat_map(|((_, index), refs)| {
            let first = index * REFS_PER_PAGE as u64;
            (first..).zip(refs.iter().copied()).filter(|(_, at)| !at.is_absent())
        })
    }

    /// Whether all references from number `n` of `level` on are absent, where the pages on the way to `n` are in memory or absent.
    pub fn is_empty_from(&self, level: u8, n: u64) -> bool {
        let (mut index, mut at) = split(n);
        for level in level..self.levels {
            if let Some(refs) = self.refs(level, index)
                && !refs[at..].iter().all(|to| to.is_absent())
            {
                return false;
            }
            // On the way up the page itself may be there, and none after it.
            (index, at) = split(index);
            at += 1;
        }
        true
    }

    /// Memory of the pages.
    pub fn memory_bytes(&self) -> usize {
        self.pages.len() * (REFS_PER_PAGE * size_of::<BlockRef>() + 64)
    }
}

fn split(n: u64) -> (u64, usize) {
    (n / REFS_PER_PAGE as u64, (n % REFS_PER_PAGE as u64) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_dirties_the_way_up() {
        let mut radix = Radix::new(TableId::Nodes, BlockRef::ABSENT);
        assert_eq!(radix.slot(0, 1000), Looked::Found(BlockRef::ABSENT));
        radix.set(0, 1000, BlockRef { addr: BlockAddr(7), crc: 0 });
        radix.set_crc(0, 1000, BlockAddr(7), 9);
        assert_eq!(radix.slot(0, 1000), Looked::Found(BlockRef { addr: BlockAddr(7), crc: 9 }));
        let mut taken = Vec::new();
        while let Some(page) = radix.take_dirty() {
            taken.push((page.level, page.index));
            radix.set_page(page.level, page.index, BlockRef { addr: BlockAddr(100), crc: 0 });
        }
        assert_eq!(taken, [(0, 3), (1, 0), (2, 0), (3, 0)]);
        assert_eq!(radix.root().addr, BlockAddr(100));
    }

    #[test]
    fn an_unloaded_page_is_named_from_the_top() {
        let root = BlockRef { addr: BlockAddr(5), crc: 1 };
        let mut radix = Radix::new(TableId::Segments, root);
        let top = PageId { table: TableId::Segments, level: 2, index: 0 };
        assert_eq!(radix.page(0, 600), Looked::Missing(top, root));
        let mut refs = vec![BlockRef::ABSENT; REFS_PER_PAGE];
        refs[2] = BlockRef { addr: BlockAddr(6), crc: 2 };
        radix.install(top, refs.clone());
        assert_eq!(radix.page(0, 0), Looked::Found(BlockRef::ABSENT));
        let below = PageId { table: TableId::Segments, level: 1, index: 2 };
        assert_eq!(radix.page(0, 600), Looked::Missing(below, refs[2]));
    }
}
