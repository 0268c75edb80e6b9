//! What a repair does: every change is a value with its places, so that a dry run can list it and a test can demand it.

use serde::Serialize;

use crate::types::{BlockAddr, Ino, Lsn, NodeId};

/// One repair. `Display` is one line for people; the JSON has a `repair` and the places.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(tag = "repair", rename_all = "snake_case")]
pub enum Repair {
    // Superblock, tables and counts: written anew as a whole by every repair.
    #[error("write a new checkpoint: {what}")]
    Checkpoint { what: String },
    #[error("write the superblock slots anew, from {from}")]
    Superblock { from: &'static str },
    #[error("go back to the newest checkpoint that is whole, which is that of operation {lsn}")]
    GoBack { lsn: Lsn },
    #[error("cut the log at operation {at}, which is missing: {operations} operations after it are lost")]
    CutLog { at: Lsn, operations: u64 },
    #[error("take {found} nodes into the node table that a lost page of it named")]
    NodeTable { found: u64 },

    // Nodes.
    #[error("put an empty leaf in the place of node {node}")]
    EmptyLeaf { node: NodeId },
    #[error("build the index above {leaves} leaves anew")]
    Index { leaves: u64 },
    #[error("put back {items} items from older copies of lost nodes, and {operations} operations of the log")]
    Salvage { items: u64, operations: u64 },
    #[error("free node {node}")]
    FreeNode { node: NodeId },

    // Inodes and their items.
    #[error("make a root directory")]
    MakeRoot,
    #[error("make inode {ino} anew for its {what}")]
    MakeInode { ino: Ino, what: &'static str },
    #[error("set {what} of inode {ino} to {value}")]
    SetField { ino: Ino, what: &'static str, value: u64 },
    #[error("remove {what} of inode {ino}")]
    RemoveItems { ino: Ino, what: &'static str },
    #[error("remove inode {ino}: {why}")]
    RemoveInode { ino: Ino, why: &'static str },
    #[error("cut the extent of inode {ino} at file block {file_block} to {blocks} blocks")]
    CutExtent { ino: Ino, file_block: u64, blocks: u64 },
    #[error("set the birth of the extent of inode {ino} at file block {file_block}")]
    SetBirth { ino: Ino, file_block: u64 },
    #[error("list inode {ino} to be trimmed")]
    Trim { ino: Ino },
    #[error("take inode {ino} off the list of those to be {what}")]
    RemoveWork { ino: Ino, what: &'static str },
    #[error("mark {blocks} blocks from file block {file_block} of inode {ino} on as lost: reading them gives EIO")]
    LoseBlocks { ino: Ino, file_block: u64, blocks: u64 },
    #[error("write {blocks} blocks from block {addr} on elsewhere")]
    MoveBlocks { addr: BlockAddr, blocks: u32 },

    // Names.
    #[error("remove entry {name:?} of directory {dir}: {why}")]
    RemoveEntry { dir: Ino, name: String, why: &'static str },
    #[error("put entry {name:?} of directory {dir} where its hash says")]
    MoveEntry { dir: Ino, name: String },
    #[error("set the type of entry {name:?} of directory {dir} to {dtype}")]
    SetEntryType { dir: Ino, name: String, dtype: u8 },
    #[error("put extended attribute {name:?} of inode {ino} where its hash says")]
    MoveXattr { ino: Ino, name: String },
    #[error("connect inode {ino} to /lost+found as {name:?}")]
    Reconnect { ino: Ino, name: String },
}

impl Repair {
    /// Whether nothing is lost by it and no judgement is in it, so that it may be done unasked.
    pub fn is_safe(&self) -> bool {
        match self {
            Self::Checkpoint { .. }
            | Self::FreeNode { .. }
            | Self::SetField { .. }
            | Self::SetBirth { .. }
            | Self::Trim { .. }
            | Self::RemoveWork { .. }
            | Self::MoveBlocks { .. }
            | Self::MoveEntry { .. }
            | Self::SetEntryType { .. }
            | Self::MoveXattr { .. }
            | Self::Reconnect { .. } => true,
            Self::Superblock { .. }
            | Self::GoBack { .. }
            | Self::CutLog { .. }
            | Self::NodeTable { .. }
            | Self::EmptyLeaf { .. }
            | Self::Index { .. }
            | Self::Salvage { .. }
            | Self::MakeRoot
            | Self::MakeInode { .. }
            | Self::RemoveItems { .. }
            | Self::RemoveInode { .. }
            | Self::CutExtent { .. }
            | Self::LoseBlocks { .. }
            | Self::RemoveEntry { .. } => false,
        }
    }

    /// Name of the kind, for programs.
    pub fn kind(&self) -> String {
        let json = serde_json::to_value(self).unwrap_or_default();
        json["repair"].as_str().unwrap_or_default().to_owned()
    }
}
