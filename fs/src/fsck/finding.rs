//! What a check can find: every inconsistency is a value with its places, so that a test can demand it.

use serde::Serialize;

use crate::format::chunk::PageId;
use crate::types::{BlockAddr, Ino, NodeId, SegNo};

/// What a finding means for the filesystem.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Worth knowing; the filesystem is consistent all the same.
    Note,
    /// The filesystem is not what its invariants demand.
    Error,
}

/// Whose a block is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Owner {
    Data { ino: Ino, file_block: u64 },
    Node { node: NodeId },
    Page { table: &'static str, level: u8, index: u64 },
}

impl From<PageId> for Owner {
    fn from(page: PageId) -> Self {
        let table = match page.table {
            crate::format::chunk::TableId::Nodes => "node",
            crate::format::chunk::TableId::Segments => "segment",
        };
        Self::Page { table, level: page.level, index: page.index }
    }
}

impl std::fmt::Display for Owner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Data { ino, file_block } => write!(f, "file block {file_block} of inode {ino}"),
            Self::Node { node } => write!(f, "metadata node {node}"),
            Self::Page { table, level, index } => write!(f, "{table} table page {index} of level {level}"),
        }
    }
}

/// One inconsistency. `Display` is one line for people; the JSON has a `kind` and the places. `repair` has something to do about each but
/// for two, which are no errors: `BadSlot`, which the next checkpoint goes over, and `LostBlocks`, which is what is left once data is lost.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Finding {
    // Superblock and checkpoint.
    #[error("superblock slot at block {slot} is not usable: {why}")]
    BadSlot { slot: BlockAddr, why: String },
    #[error("no superblock slot is usable: {why}")]
    NoSuperblock { why: String },
    #[error("the superblock slots disagree about the identity of the filesystem")]
    SlotsDisagree,
    #[error("the log after the checkpoint cannot be restored: {why}")]
    NotMountable { why: String },
    #[error("the allocation list names segment {segment}, {why}")]
    AllocationList { segment: SegNo, why: &'static str },
    #[error("head {head} goes on at block {next} of segment {segment}, {why}")]
    HeadPosition { head: u8, segment: SegNo, next: u32, why: &'static str },
    #[error("the checkpoint counts {stored} {what}, there are {counted}")]
    Total { what: &'static str, stored: u64, counted: u64 },
    #[error("{what} {used} is in use, though the next one to be given out is {next}")]
    NextNumber { what: &'static str, used: u64, next: u64 },

    // Blocks.
    #[error("{owner} at block {addr} cannot be read: {why}")]
    Unreadable { owner: Owner, addr: BlockAddr, why: String },
    #[error("{owner} at block {addr} is damaged: {why}")]
    Damaged { owner: Owner, addr: BlockAddr, why: String },
    #[error("{owner} is said to be at block {addr}, which is no place of the log for it")]
    BadAddress { owner: Owner, addr: BlockAddr },
    #[error("{blocks} blocks from block {addr} on belong to {owner} and to something else")]
    OwnedTwice { addr: BlockAddr, blocks: u32, owner: Owner },
    #[error(
        "{blocks} live blocks from block {addr} on are claimed by no record of their chunk: cleaning cannot move them"
    )]
    Unclaimed { addr: BlockAddr, blocks: u32 },

    // Segments.
    #[error("I3: segment {segment} counts {stored} live blocks, {counted} are reachable")]
    LiveCount { segment: SegNo, stored: u32, counted: u32 },
    #[error("I2: segment {segment} is {state} and has {live} live blocks")]
    LiveInFree { segment: SegNo, state: &'static str, live: u32 },
    #[error("I1: head {head} would write over live block {addr} of segment {segment}")]
    LiveAhead { head: u8, segment: SegNo, addr: BlockAddr },
    #[error("segment {segment}: the chunks end at block {end}, before block {next} where head {head} goes on")]
    LogGap { head: u8, segment: SegNo, end: u32, next: u32 },
    #[error("the entry of segment {segment} is impossible: {why}")]
    SegmentEntry { segment: SegNo, why: &'static str },

    // Nodes.
    #[error("metadata node {node} has no entry in the node table (parent: node {parent})")]
    NodeMissing { node: NodeId, parent: NodeId },
    #[error("metadata node {node} stands wrong in the tree (parent: node {parent}): {why}")]
    NodeMisplaced { node: NodeId, parent: NodeId, why: &'static str },
    #[error("metadata node {node} is reached twice, the second time from node {parent}")]
    NodeReachedTwice { node: NodeId, parent: NodeId },
    #[error("metadata node {node} is in the node table and not in the tree")]
    NodeLeaked { node: NodeId },

    // Inodes and their items.
    #[error("there is no root directory")]
    NoRoot,
    #[error("inode {ino}: {what} {value} is impossible")]
    InodeField { ino: Ino, what: &'static str, value: u64 },
    #[error("inode {ino} does not exist and has {what}")]
    NoInode { ino: Ino, what: &'static str },
    #[error("inode {ino} is a {is} and has {what}")]
    ForeignItem { ino: Ino, is: &'static str, what: &'static str },
    #[error("inode {ino} counts {stored} mapped blocks, {counted} are mapped")]
    MappedBlocks { ino: Ino, stored: u64, counted: u64 },
    #[error("inode {ino} has {stored} links, {counted} names lead to it")]
    LinkCount { ino: Ino, stored: u32, counted: u64 },
    #[error("directory {ino} counts {stored} entries, there are {counted}")]
    EntryCount { ino: Ino, stored: u64, counted: u64 },
    #[error("inode {ino} counts {stored} extended attributes, there are {counted}")]
    XattrCount { ino: Ino, stored: u32, counted: u32 },
    #[error("extended attribute of inode {ino} in slot {slot:#x}: {why}")]
    BadXattr { ino: Ino, slot: u64, why: &'static str },
    #[error("symbolic link {ino}: {why}")]
    BadSymlink { ino: Ino, why: &'static str },
    #[error("extents of inode {ino} overlap at file block {file_block}")]
    ExtentsOverlap { ino: Ino, file_block: u64 },
    #[error("extent of inode {ino} at file block {file_block}: {why}")]
    BadExtent { ino: Ino, file_block: u64, why: &'static str },
    #[error("inode {ino} has data at file block {file_block}, beyond its size, and is not listed to be trimmed")]
    DataBeyondEnd { ino: Ino, file_block: u64 },
    #[error("{blocks} blocks from file block {file_block} of inode {ino} on were lost when they were to be moved")]
    LostBlocks { ino: Ino, file_block: u64, blocks: u32 },

    // Names.
    #[error("entry {name:?} of directory {dir}: {why}")]
    BadEntry { dir: Ino, name: String, why: &'static str },
    #[error("entry {name:?} of directory {dir} leads to inode {ino}, which does not exist")]
    DanglingEntry { dir: Ino, name: String, ino: Ino },
    #[error("entry {name:?} of directory {dir} says type {dtype}, inode {ino} has type {actual}")]
    EntryType { dir: Ino, name: String, ino: Ino, dtype: u8, actual: u8 },
    #[error("directory {ino} names {stored} as its parent, its entry is in {actual}")]
    WrongParent { ino: Ino, stored: Ino, actual: Ino },
    #[error("directory {ino} has {names} names")]
    DirectoryLinked { ino: Ino, names: u32 },
    #[error("inode {ino} has no name and is not on the list of inodes to be freed")]
    Unreachable { ino: Ino },
    #[error("directory {ino} lies below itself")]
    DirectoryLoop { ino: Ino },
    #[error("inode {ino} has no links and is not on the list of inodes to be freed")]
    NotListed { ino: Ino },
    #[error("inode {ino} is listed to be {what} and {why}")]
    StaleWork { ino: Ino, what: &'static str, why: &'static str },
}

impl Finding {
    pub fn severity(&self) -> Severity {
        match self {
            // A torn slot is what a crash leaves behind; the next checkpoint goes over it.
            Self::BadSlot { .. } | Self::LostBlocks { .. } => Severity::Note,
            _ => Severity::Error,
        }
    }

    /// Where it is, in a few words; the message says the same in a sentence.
    pub fn place(&self) -> String {
        const PLACES: [(&str, &str); 8] = [
            ("segment", "segment"),
            ("addr", "block"),
            ("slot", "block"),
            ("node", "node"),
            ("dir", "directory"),
            ("ino", "inode"),
            ("file_block", "file block"),
            ("head", "head"),
        ];
        let json = serde_json::to_value(self).unwrap_or_default();
        let named = PLACES.iter().filter_map(|(field, noun)| Some(format!("{noun} {}", json.get(field)?)));
        let places: Vec<String> = named.collect();
        if places.is_empty() { "filesystem".into() } else { places.join(", ") }
    }

    /// Name of the kind, for programs.
    pub fn kind(&self) -> String {
        let json = serde_json::to_value(self).unwrap_or_default();
        json["kind"].as_str().unwrap_or_default().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn findings_have_a_kind_a_place_and_a_line() {
        let found = Finding::LiveCount { segment: SegNo(7), stored: 8, counted: 9 };
        assert_eq!((found.kind().as_str(), found.place().as_str()), ("live_count", "segment 7"));
        assert_eq!(found.to_string(), "I3: segment 7 counts 8 live blocks, 9 are reachable");
        let owner = Owner::Data { ino: Ino(16), file_block: 2 };
        let found = Finding::Unreadable { owner, addr: BlockAddr(99), why: "EIO".into() };
        assert_eq!(found.to_string(), "file block 2 of inode 16 at block 99 cannot be read: EIO");
        assert_eq!((found.place().as_str(), found.severity()), ("block 99", Severity::Error));
        assert_eq!(Finding::NoRoot.place(), "filesystem");
    }
}
