//! Structures of an image as text, for people who want to look inside.
//!
//! Never writes. What the image's state is needed for is shown with the log replayed in memory, as a read-only mount sees it;
//! slots, chunks and the log are shown as they stand on the medium.

mod log;
mod show;
mod slots;
mod tree;

use std::io::Write;
use std::sync::Arc;

use crate::device::Device;
use crate::error::Error;
use crate::meta::slots::Slots;
use crate::meta::volume::{Volume, VolumeOptions};
use crate::types::{Ino, NodeId, SegNo};

/// What to show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// Both slots and the identity.
    Superblock,
    /// The newest checkpoint.
    Checkpoint,
    /// The segment table.
    Segments,
    /// The chunks of one segment.
    Segment(SegNo),
    /// The node table.
    Nodes,
    /// One node of the key tree.
    Node(NodeId),
    /// The whole key tree.
    Tree,
    /// The items of one inode.
    Inode(Ino),
    /// The log after the checkpoint.
    Log,
}

/// Why a dump ended.
#[derive(Debug, thiserror::Error)]
pub enum DumpError {
    #[error(transparent)]
    Image(#[from] Error),
    /// The text could not be written.
    #[error(transparent)]
    Output(#[from] std::io::Error),
}

impl From<crate::device::DeviceError> for DumpError {
    fn from(e: crate::device::DeviceError) -> Self {
        Self::Image(e.into())
    }
}

/// Result of a dump.
pub type Result<T> = std::result::Result<T, DumpError>;

/// Bytes of metadata nodes kept in memory.
const CACHE_BYTES: usize = 64 << 20;

/// Shows `what` of the image on `device`.
pub fn dump(device: &Arc<dyn Device>, what: What, out: &mut impl Write) -> Result<()> {
    let newest = || Slots::new(Arc::clone(device))?.read();
    match what {
        What::Superblock => slots::superblock(device, out),
        What::Checkpoint => slots::checkpoint(&newest()?.checkpoint, out),
        What::Segment(seg) => log::segment(&**device, &newest()?.identity, seg, out),
        What::Log => log::log(&**device, &newest()?, out),
        What::Segments => log::segments(&open(device)?, out),
        What::Nodes => tree::nodes(&open(device)?, out),
        What::Node(id) => tree::node(&open(device)?, id, out),
        What::Tree => tree::tree(&open(device)?, out),
        What::Inode(ino) => tree::inode(&open(device)?, ino, out),
    }
}

fn open(device: &Arc<dyn Device>) -> Result<Volume> {
    let options = VolumeOptions::of_tool(true, CACHE_BYTES);
    Ok(Volume::open(Arc::clone(device), options)?)
}
