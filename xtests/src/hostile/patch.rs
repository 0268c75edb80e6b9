//! Changing blocks of an image so that the checksums on the way up say nothing.

use gleanfs::device::{AlignedBuf, Device, MemoryDevice};
use gleanfs::format::chunk::{PageId, TableId};
use gleanfs::format::superblock::{BlockRef, SLOTS, Superblock};
use gleanfs::format::table::{NODE_LEVELS, Page, REFS_PER_PAGE, SEGMENT_LEVELS};
use gleanfs::types::{BLOCK_SIZE, BlockAddr};

/// Where each kind of block has its checksum.
pub(super) const SLOT_CRC_AT: usize = 12;
pub(super) const NODE_CRC_AT: usize = 4;
pub(super) const PAGE_CRC_AT: usize = 8;
pub(super) const CHUNK_CRC_AT: usize = 16;

/// Gives `bytes` the checksum that belongs to them, at `at`.
pub(super) fn seal(bytes: &mut [u8], at: usize) -> u32 {
    bytes[at..at + 4].fill(0);
    let crc = crc32fast::hash(bytes);
    bytes[at..at + 4].copy_from_slice(&crc.to_le_bytes());
    crc
}

/// An image under the forger's hands.
pub(super) struct Patch<'a> {
    pub(super) device: &'a MemoryDevice,
    slot: BlockAddr,
    pub(super) superblock: Superblock,
}

impl<'a> Patch<'a> {
    /// `None` if no slot is left.
    pub(super) fn of(device: &'a MemoryDevice) -> Option<Self> {
        let slots = SLOTS.into_iter().filter_map(|slot| Some((slot, Superblock::decode(&read(device, slot)?).ok()?)));
        let (slot, superblock) = slots.max_by_key(|(_, superblock)| superblock.checkpoint.sequence)?;
        Some(Self { device, slot, superblock })
    }

    /// Writes the superblock back as it is now.
    pub(super) fn write_slot(&self) {
        overwrite(self.device, self.slot, &self.superblock.encode());
    }

    /// Changes bytes of the newest slot.
    pub(super) fn change_slot_bytes(&self, change: impl FnOnce(&mut [u8])) {
        let Some(mut block) = read(self.device, self.slot) else { return };
        change(&mut block);
        seal(&mut block, SLOT_CRC_AT);
        overwrite(self.device, self.slot, &block);
    }

    /// Where a page stands, if the way there is whole.
    pub(super) fn page_ref(&self, id: PageId) -> Option<BlockRef> {
        let checkpoint = &self.superblock.checkpoint;
        let (levels, root) = match id.table {
            TableId::Nodes => (NODE_LEVELS, checkpoint.node_table),
            TableId::Segments => (SEGMENT_LEVELS, checkpoint.segment_table),
        };
        if id.level + 1 >= levels {
            return (id.level + 1 == levels && id.index == 0).then_some(root).filter(|at| !at.is_absent());
        }
        let (above, at) = above(id);
        let Page::Refs(refs) = self.page(above)? else { return None };
        Some(refs[at]).filter(|at| !at.is_absent())
    }

    pub(super) fn page(&self, id: PageId) -> Option<Page> {
        let at = self.page_ref(id)?;
        Page::decode(&read(self.device, at.addr)?, id, self.superblock.identity.fsid, at.crc).ok()
    }

    /// Has the way to a page name `to`.
    fn set_page_ref(&mut self, id: PageId, to: BlockRef) {
        let levels = if id.table == TableId::Nodes { NODE_LEVELS } else { SEGMENT_LEVELS };
        if id.level + 1 == levels {
            match id.table {
                TableId::Nodes => self.superblock.checkpoint.node_table = to,
                TableId::Segments => self.superblock.checkpoint.segment_table = to,
            }
            return self.write_slot();
        }
        let (above, at) = above(id);
        let Some(Page::Refs(mut refs)) = self.page(above) else { return };
        refs[at] = to;
        self.set_page(above, &Page::Refs(refs));
    }

    pub(super) fn set_page(&mut self, id: PageId, page: &Page) {
        let Some(at) = self.page_ref(id) else { return };
        let mut block = vec![0; BLOCK_SIZE];
        let Superblock { identity, checkpoint } = &self.superblock;
        let crc = page.encode(id, identity.fsid, checkpoint.lsn, &mut block);
        overwrite(self.device, at.addr, &block);
        self.set_page_ref(id, BlockRef { crc, ..at });
    }

    pub(super) fn change_page_bytes(&mut self, id: PageId, change: impl FnOnce(&mut [u8])) {
        let Some(at) = self.page_ref(id) else { return };
        let Some(mut block) = read(self.device, at.addr) else { return };
        change(&mut block);
        let crc = seal(&mut block, PAGE_CRC_AT);
        overwrite(self.device, at.addr, &block);
        self.set_page_ref(id, BlockRef { crc, ..at });
    }

    fn leaf_of(node: u64) -> (PageId, usize) {
        let index = node / REFS_PER_PAGE as u64;
        (PageId { table: TableId::Nodes, level: 0, index }, (node % REFS_PER_PAGE as u64) as usize)
    }

    pub(super) fn node_ref(&self, node: u64) -> Option<BlockRef> {
        let (leaf, at) = Self::leaf_of(node);
        let Page::Refs(refs) = self.page(leaf)? else { return None };
        Some(refs[at]).filter(|at| !at.is_absent())
    }

    pub(super) fn set_node_ref(&mut self, node: u64, to: BlockRef) {
        let (leaf, at) = Self::leaf_of(node);
        let Some(Page::Refs(mut refs)) = self.page(leaf) else { return };
        refs[at] = to;
        self.set_page(leaf, &Page::Refs(refs));
    }

    pub(super) fn node_block(&self, node: u64) -> Option<AlignedBuf> {
        read(self.device, self.node_ref(node)?.addr)
    }

    /// Puts a node's block in place of the one that is there.
    pub(super) fn set_node_block(&mut self, node: u64, block: &mut [u8]) {
        let Some(at) = self.node_ref(node) else { return };
        let crc = seal(block, NODE_CRC_AT);
        overwrite(self.device, at.addr, block);
        self.set_node_ref(node, BlockRef { crc, ..at });
    }

    /// Nodes that the table names.
    pub(super) fn nodes(&self) -> Vec<u64> {
        let next = self.superblock.checkpoint.next_node.min(2000);
        (1..next).filter(|node| self.node_ref(*node).is_some()).collect()
    }
}

/// The page that names `id`, and at which place.
fn above(id: PageId) -> (PageId, usize) {
    let (index, at) = (id.index / REFS_PER_PAGE as u64, (id.index % REFS_PER_PAGE as u64) as usize);
    (PageId { level: id.level + 1, index, ..id }, at)
}

/// A block, if it is on the device.
pub(super) fn read(device: &MemoryDevice, addr: BlockAddr) -> Option<AlignedBuf> {
    let mut block = AlignedBuf::new(1);
    device.read(addr, &mut block).ok().map(|()| block)
}

/// Puts bytes in place of a block that is on the device.
pub(super) fn overwrite(device: &MemoryDevice, addr: BlockAddr, bytes: &[u8]) {
    if addr.0 < device.geometry().total_blocks {
        device.tamper(addr, |block| block.copy_from_slice(bytes));
    }
}
