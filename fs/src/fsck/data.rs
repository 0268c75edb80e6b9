//! File data: every block that an extent names is in the log, belongs to nothing else, and has its checksum.

use crate::device::Device;
use crate::device::aligned::AlignedBuf;
use crate::format::value::{EXTENT_BLOCKS_MAX, Extent, ExtentKind};
use crate::types::{BLOCK_SIZE, BlockAddr, Ino};

use super::Progress;
use super::blocks::{LiveBlocks, LogSpace};
use super::finding::{Finding, Owner};
use super::report::Report;

/// Reads and verifies data, extent by extent.
pub(super) struct DataCheck<'a, 'p> {
    pub device: &'a dyn Device,
    pub space: LogSpace,
    pub live: &'a mut LiveBlocks,
    pub progress: &'a mut Progress<'p>,
    /// Whether the data is read, or only its place checked.
    pub read: bool,
    pub buf: AlignedBuf,
}

impl<'a, 'p> DataCheck<'a, 'p> {
    pub fn new(
        device: &'a dyn Device,
        space: LogSpace,
        live: &'a mut LiveBlocks,
        progress: &'a mut Progress<'p>,
        read: bool,
    ) -> Self {
        let blocks = if read { EXTENT_BLOCKS_MAX as usize } else { 1 };
        Self { device, space, live, progress, read, buf: AlignedBuf::new(blocks) }
    }

    pub fn extent(&mut self, report: &mut Report, ino: Ino, first: u64, extent: &Extent) {
        if extent.kind != ExtentKind::Data {
            return;
        }
        let (addr, blocks) = (extent.addr, extent.blocks);
        let owner = Owner::Data { ino, file_block: first };
        let Some((segment, offset)) = self.space.place(addr, blocks) else {
            report.add(Finding::BadAddress { owner, addr });
            return;
        };
        if let Some((at, times)) = self.live.mark(segment, offset, blocks) {
            let file_block = first.saturating_add(u64::from(at - offset));
            let addr = self.space.address(segment, at);
            report.add(Finding::OwnedTwice { addr, blocks: times, owner: Owner::Data { ino, file_block } });
        }
        if self.read {
            self.verify(report, ino, first, extent);
        }
        self.progress.advance(u64::from(blocks) * BLOCK_SIZE as u64);
    }

    fn verify(&mut self, report: &mut Report, ino: Ino, first: u64, extent: &Extent) {
        let len = (extent.blocks as usize * BLOCK_SIZE).min(self.buf.len());
        report.checked_bytes += len as u64;
        let whole = self.device.read(extent.addr, &mut self.buf[..len]).is_ok();
        for (n, stored) in (0u64..).zip(&extent.crcs) {
            let at = n as usize * BLOCK_SIZE;
            let Some(block) = self.buf.get_mut(at..at + BLOCK_SIZE) else { return };
            let addr = BlockAddr(extent.addr.0 + n);
            let owner = Owner::Data { ino, file_block: first.saturating_add(n) };
            // One bad block fails the read of all: then each is read for itself.
            if !whole && let Err(e) = self.device.read(addr, block) {
                report.add(Finding::Unreadable { owner, addr, why: e.to_string() });
                continue;
            }
            let computed = crc32fast::hash(block);
            if computed != *stored {
                let why = format!("checksum {stored:#010x}, computed {computed:#010x}");
                report.add(Finding::Damaged { owner, addr, why });
            }
        }
    }
}
