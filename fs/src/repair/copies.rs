//! Copies of metadata nodes that the medium still has, the newest and older ones.
//!
//! An older copy of a node is not the node: an inner one leads to where the leaves were at its time, and to none of those that have come since. So
//! it is told whether a later record of the node is there whose block cannot be read any more.

use std::collections::HashMap;
use std::ops::Range;

use crate::device::Device;
use crate::device::aligned::AlignedBuf;
use crate::error::Result;
use crate::format::chunk::Record;
use crate::format::node::Node;
use crate::format::superblock::BlockRef;
use crate::fsck::ProgressFn;
use crate::fsck::blocks::LogSpace;
use crate::types::{BLOCK_SIZE, BlockAddr, Lsn, NodeId};

use super::medium;

/// A node as it stood at some checkpoint.
#[derive(Clone, Copy, Debug)]
pub struct Copy {
    /// The checkpoint that wrote it.
    pub lsn: Lsn,
    pub at: BlockRef,
    /// No later one is known to have been.
    pub is_newest: bool,
}

/// The node at `at`, with the checkpoint that wrote it, if it is node `id` of this filesystem; and its checksum.
pub fn read_copy(device: &dyn Device, fsid: u64, id: NodeId, at: BlockAddr) -> Option<(Lsn, u32, Node)> {
    let mut block = AlignedBuf::new(1);
    device.read(at, &mut block).ok()?;
    let block: &[u8; BLOCK_SIZE] = block[..].try_into().ok()?;
    let (stamp, node) = Node::decode_any(block).ok()?;
    let crc = u32::from_le_bytes([block[4], block[5], block[6], block[7]]);
    (stamp.node == id && stamp.fs_id == fsid).then_some((stamp.lsn, crc, node))
}

/// When a node was written: the life of the segment of the only head that writes nodes, and the place in it.
type When = (u64, BlockAddr);

/// What is known of a node.
#[derive(Clone, Copy, Default)]
struct Known {
    copy: Option<(When, Copy)>,
    /// The last record of it whose block cannot be read.
    damaged: Option<When>,
}

/// The newest whole copy of every node whose id is in `wanted` and that no checkpoint after `newest` wrote.
pub fn find(
    device: &dyn Device,
    fsid: u64,
    space: LogSpace,
    wanted: &[Range<u64>],
    newest: Lsn,
    progress: ProgressFn<'_>,
) -> Result<HashMap<NodeId, Copy>> {
    let mut found: HashMap<NodeId, Known> = HashMap::new();
    medium::chunks(device, fsid, space, progress, &mut |_, chunk| {
        for record in &chunk.records {
            let Record::Node { index, node } = *record else { continue };
            if !wanted.iter().any(|ids| ids.contains(&node.0)) {
                continue;
            }
            let addr = chunk.header.payload(index);
            let when = (chunk.header.generation, addr);
            let known = found.entry(node).or_default();
            match read_copy(device, fsid, node, addr) {
                None => known.damaged = known.damaged.max(Some(when)),
                Some((lsn, crc, _)) if lsn <= newest && known.copy.is_none_or(|(before, _)| before < when) => {
                    known.copy = Some((when, Copy { lsn, at: BlockRef { addr, crc }, is_newest: true }));
                }
                Some(_) => {}
            }
        }
        Ok(())
    })?;
    let newest_of = |(id, Known { copy, damaged }): (NodeId, Known)| {
        let (when, copy) = copy?;
        Some((id, Copy { is_newest: damaged.is_none_or(|later| later < when), ..copy }))
    };
    Ok(found.into_iter().filter_map(newest_of).collect())
}
