//! Reading nodes and table pages from the medium, with no lock held while the device works.

use std::sync::Arc;

use crate::device::aligned::AlignedBuf;
use crate::error::{Error, Result};
use crate::format::DecodeError;
use crate::format::chunk::{PageId, TableId};
use crate::format::node::Node;
use crate::format::superblock::BlockRef;
use crate::format::table::Page;
use crate::lock_order::RwLock;
use crate::log::Log;
use crate::types::{BLOCK_SIZE, BlockAddr, NodeId};

use super::radix::Looked;
use super::state::State;

/// Brings node `id` into memory.
pub fn load_node(state: &RwLock<State>, log: &Log, id: NodeId) -> Result<()> {
    loop {
        let looked = {
            let state = state.read();
            if state.tree.contains(id) {
                return Ok(());
            }
            if id >= state.tree.next_node() {
                let why = format!("node {id} is referred to and was never given out");
                return Err(Error::Damaged { what: "metadata node", addr: BlockAddr::NONE, why });
            }
            state.nodes.slot(0, id.0)
        };
        let at = match looked {
            Looked::Missing(page, at) => {
                load_page(state, log, page, at)?;
                continue;
            }
            Looked::Found(at) => at,
        };
        let node = read_node(log, id, at)?;
        let mut state = state.write();
        // A new node may be given that number before anybody looks for this one.
        if let Some(child) = node.children().iter().find(|child| **child >= state.tree.next_node()) {
            let why = format!("its child {child} was never given out");
            return Err(Error::Damaged { what: "metadata node", addr: at.addr, why });
        }
        // A checkpoint may have moved the node meanwhile; only the newest copy is installed.
        if state.nodes.slot(0, id.0) == looked {
            state.tree.install(id, Arc::new(node));
            return Ok(());
        }
    }
}

/// Brings a table page into memory.
pub fn load_page(state: &RwLock<State>, log: &Log, page: PageId, at: BlockRef) -> Result<()> {
    let Page::Refs(refs) = read_page(log, page, at)? else {
        unreachable!("leaves of the segment table are not loaded as references")
    };
    let mut state = state.write();
    match page.table {
        TableId::Nodes => state.nodes.install(page, refs),
        TableId::Segments => state.segments.install(page, refs),
    }
    Ok(())
}

/// Reads and verifies a table page.
pub fn read_page(log: &Log, page: PageId, at: BlockRef) -> Result<Page> {
    let block = read_block(log, at)?;
    Page::decode(&block, page, log.shape.fsid, at.crc).map_err(|e| damaged("table page", at, &e))
}

/// Reads and verifies a node.
pub fn read_node(log: &Log, id: NodeId, at: BlockRef) -> Result<Node> {
    if at.is_absent() {
        let why = format!("node {id} is referred to and has no address");
        return Err(Error::Damaged { what: "metadata node", addr: at.addr, why });
    }
    let block = read_block(log, at)?;
    let block: &[u8; BLOCK_SIZE] = block[..].try_into().expect("one block");
    let (stamp, node) = Node::decode_any(block).map_err(|e| damaged("metadata node", at, &e))?;
    let stored = u32::from_le_bytes(block[4..8].try_into().expect("four bytes"));
    if stamp.node != id || stamp.fs_id != log.shape.fsid || stored != at.crc {
        let why =
            format!("expected node {id} with checksum {:#010x}, found node {} with {stored:#010x}", at.crc, stamp.node);
        return Err(Error::Damaged { what: "metadata node", addr: at.addr, why });
    }
    Ok(node)
}

fn read_block(log: &Log, at: BlockRef) -> Result<AlignedBuf> {
    let mut block = AlignedBuf::new(1);
    log.device.read(at.addr, &mut block)?;
    Ok(block)
}

fn damaged(what: &'static str, at: BlockRef, why: &DecodeError) -> Error {
    Error::Damaged { what, addr: at.addr, why: why.to_string() }
}
