//! Copies of metadata nodes that the medium still has, the newest and older ones.

use std::collections::HashMap;
use std::ops::Range;

use crate::device::Device;
use crate::device::aligned::AlignedBuf;
use crate::error::Result;
use crate::format::chunk::Record;
use crate::format::node::Node;
use crate::format::superblock::BlockRef;
use crate::fsck::blocks::LogSpace;
use crate::types::{BLOCK_SIZE, Lsn, NodeId};

use super::medium;

/// A node as it stood at some checkpoint.
#[derive(Clone, Copy, Debug)]
pub struct Copy {
    /// The checkpoint that wrote it.
    pub lsn: Lsn,
    pub at: BlockRef,
}

/// The node at `at`, with the checkpoint that wrote it, if it is node `id` of this filesystem; and its checksum.
pub fn read_copy(device: &dyn Device, fsid: u64, id: NodeId, at: crate::types::BlockAddr) -> Option<(Lsn, u32, Node)> {
    let mut block = AlignedBuf::new(1);
    device.read(at, &mut block).ok()?;
    let block: &[u8; BLOCK_SIZE] = block[..].try_into().ok()?;
    let (stamp, node) = Node::decode_any(block).ok()?;
    let crc = u32::from_le_bytes([block[4], block[5], block[6], block[7]]);
    (stamp.node == id && stamp.fs_id == fsid).then_some((stamp.lsn, crc, node))
}

/// The newest whole copy of every node whose id is in `wanted` and that no checkpoint after `newest` wrote.
pub fn find(
    device: &dyn Device,
    fsid: u64,
    space: LogSpace,
    wanted: &[Range<u64>],
    newest: Lsn,
) -> Result<HashMap<NodeId, Copy>> {
    let mut found: HashMap<NodeId, (u64, Copy)> = HashMap::new();
    medium::chunks(device, fsid, space, &mut |_, chunk| {
        let generation = chunk.header.generation;
        for record in &chunk.records {
            let Record::Node { index, node } = *record else { continue };
            if !wanted.iter().any(|ids| ids.contains(&node.0)) {
                continue;
            }
            let addr = chunk.header.payload(index);
            let Some((lsn, crc, _)) = read_copy(device, fsid, node, addr).filter(|(lsn, ..)| *lsn <= newest) else {
                continue;
            };
            let copy = Copy { lsn, at: BlockRef { addr, crc } };
            let newer = |(other, c): &(u64, Copy)| (c.lsn, *other) < (lsn, generation);
            if found.get(&node).is_none_or(newer) {
                found.insert(node, (generation, copy));
            }
        }
        Ok(())
    })?;
    Ok(found.into_iter().map(|(id, (_, copy))| (id, copy)).collect())
}
