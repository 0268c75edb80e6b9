//! Blocks that more than one file names. Only one of them can have written it: the one that a record of the block's chunk names.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use crate::error::Result;
use crate::format::chunk::{Claim, visit_claims};
use crate::format::value::{ExtentKind, Value};
use crate::fsck::Report;
use crate::fsck::blocks::Bits;
use crate::fsck::walk::TreeWalk;
use crate::log::scan::{SegmentScan, SummaryBuffers};
use crate::meta::volume::Volume;
use crate::types::{BlockAddr, Ino, SegNo};

use super::workshop::Workshop;

/// A file block.
pub type FileBlock = (Ino, u64);

impl Workshop {
    /// The blocks of files that lose `addresses` to another owner, each with its address.
    pub(super) fn losers(&self, addresses: &BTreeSet<u64>) -> Result<Vec<(FileBlock, BlockAddr)>> {
        let owners = owners_of(&self.volume, addresses);
        let nodes: HashSet<BlockAddr> =
            self.node_ids().iter().map(|id| self.node_ref(crate::types::NodeId(id)).addr).collect();
        let mut claims: BTreeMap<u64, Vec<FileBlock>> = BTreeMap::new();
        let segments: BTreeSet<SegNo> =
            addresses.iter().filter_map(|a| self.space.place(BlockAddr(*a), 1)).map(|p| p.0).collect();
        for segment in segments {
            self.claims(segment, addresses, &mut claims);
        }
        let mut losers = Vec::new();
        for (addr, owners) in owners {
            let claimed = claims.get(&addr).map_or(&[][..], |c| c);
            let keeper = owners.iter().position(|owner| claimed.contains(owner)).unwrap_or(0);
            let node = nodes.contains(&BlockAddr(addr));
            let lose = owners.iter().enumerate().filter(|(n, _)| node || *n != keeper);
            losers.extend(lose.map(|(_, owner)| (*owner, BlockAddr(addr))));
        }
        losers.sort_unstable();
        Ok(losers)
    }

    /// What the records of a segment's chunks say of its blocks.
    fn claims(&self, segment: SegNo, addresses: &BTreeSet<u64>, claims: &mut BTreeMap<u64, Vec<FileBlock>>) {
        let log = &self.volume.log;
        let start = self.space.address(segment, 0);
        let mut scan = SegmentScan::new(&*log.device, log.shape.fsid, segment, start, 0, self.space.capacity);
        let mut buffers = SummaryBuffers::default();
        while let Ok(Some(header)) = scan.next_summary(&mut buffers) {
            let read = visit_claims(&header, &buffers.summary, |claim| {
                let Claim::Data { ino, first, addr: start, blocks } = claim else { return };
                for addr in addresses.range(start.0..start.0.saturating_add(blocks.into())) {
                    claims.entry(*addr).or_default().push((ino, first.saturating_add(addr - start.0)));
                }
            });
            if read.is_err() {
                break;
            }
        }
    }
}

/// Every file block that stands at one of `addresses`.
pub(super) fn owners_of(volume: &Volume, addresses: &BTreeSet<u64>) -> BTreeMap<u64, Vec<FileBlock>> {
    let mut owners: BTreeMap<u64, Vec<FileBlock>> = BTreeMap::new();
    let none = Bits::default();
    TreeWalk::new(volume, &none).run(&mut Report::new(0), &mut |_, key, value| {
        if let Value::Extent(extent) = value
            && extent.kind == ExtentKind::Data
        {
            let (start, end) = (extent.addr.0, extent.addr.0.saturating_add(extent.blocks.into()));
            for addr in addresses.range(start..end) {
                owners.entry(*addr).or_default().push((key.ino, key.offset.saturating_add(addr - start)));
            }
        }
    });
    owners
}
