//! One line of text for each kind of thing.

use gleanfs_gc::placement::interval_log2;

use crate::format::chunk::{PageId, Record, TableId};
use crate::format::edit::Edit;
use crate::format::key::{Key, Kind};
use crate::format::superblock::{BlockRef, HeadPosition};
use crate::format::value::{Extent, ExtentKind, Inode, Time, Value};

pub fn time(time: Time) -> String {
    format!("{}.{:09}", time.secs, time.nanos)
}

pub fn block_ref(at: BlockRef) -> String {
    if at.is_absent() { "absent".into() } else { format!("block {} crc {:#010x}", at.addr, at.crc) }
}

pub fn position(p: &HeadPosition) -> String {
    format!("head {} segment {} next {} generation {}", p.head, p.segment, p.next, p.generation)
}

pub fn page(page: PageId) -> String {
    let table = match page.table {
        TableId::Nodes => "node",
        TableId::Segments => "segment",
    };
    format!("{table} table page {} level {}", page.index, page.level)
}

pub fn key(key: &Key) -> String {
    let kind = match key.kind {
        Kind::Inode => "inode",
        Kind::Symlink => "symlink",
        Kind::Xattr => "xattr",
        Kind::Dirent => "dirent",
        Kind::Extent => "extent",
        Kind::Orphan => "work",
    };
    let hashed = matches!(key.kind, Kind::Xattr | Kind::Dirent | Kind::Orphan);
    let offset = if hashed { format!("{:#x}", key.offset) } else { key.offset.to_string() };
    format!("{} {kind} {offset}", key.ino)
}

pub fn inode(i: &Inode) -> String {
    format!(
        "mode {:o} nlink {} uid {} gid {} rdev {:#x} generation {} flags {:#x} size {} blocks {} parent {} xattrs {} \
         atime {} mtime {} ctime {} btime {}",
        i.mode,
        i.nlink,
        i.uid,
        i.gid,
        i.rdev,
        i.generation,
        i.flags,
        i.size,
        i.blocks,
        i.parent,
        i.xattrs,
        time(i.atime),
        time(i.mtime),
        time(i.ctime),
        time(i.btime),
    )
}

pub fn extent(e: &Extent) -> String {
    match e.kind {
        ExtentKind::Data => {
            let crcs: Vec<String> = e.crcs.iter().map(|crc| format!("{crc:08x}")).collect();
            let (blocks, addr, birth) = (e.blocks, e.addr, e.birth);
            format!(
                "data {blocks} blocks at {addr} birth {birth} interval {} crc {}",
                interval_log2(e.interval).map_or("none".into(), |log2| format!("2^{log2}")),
                crcs.join(" ")
            )
        }
        ExtentKind::Unwritten => format!("unwritten {} blocks", e.blocks),
        ExtentKind::Lost => format!("lost {} blocks", e.blocks),
    }
}

pub fn value(value: &Value) -> String {
    match value {
        Value::Inode(i) => inode(i),
        Value::Symlink(part) => format!("\"{}\"", part.escape_ascii()),
        Value::Xattr(x) => {
            let (name, bytes) = (x.name.escape_ascii(), x.bytes.escape_ascii());
            format!("\"{name}\" {} bytes, this part \"{bytes}\"", x.value_len)
        }
        Value::Dirent(d) => format!("\"{}\" inode {} type {}", d.name.escape_ascii(), d.ino, d.dtype),
        Value::Extent(e) => extent(e),
        Value::Orphan => "to be done".into(),
    }
}

pub fn edit(edit: &Edit) -> String {
    match edit {
        Edit::Put { key: k, value: v } => format!("put {}: {}", key(k), value(v)),
        Edit::Delete { key: k } => format!("delete {}", key(k)),
        Edit::Map { ino, first, extent: e } => format!("map inode {ino} block {first}: {}", extent(e)),
        Edit::Unmap { ino, first, blocks } => format!("unmap inode {ino} block {first}, {blocks} blocks"),
        Edit::Move { ino, first, old, new, crcs } => {
            format!("move inode {ino} block {first}, {} blocks from {old} to {new}", crcs.len())
        }
        Edit::Lose { ino, first, blocks, old } => format!("lose inode {ino} block {first}, {blocks} blocks at {old}"),
        Edit::Written { ino, size, time: t } => {
            let size = size.map_or("kept".to_owned(), |s| s.to_string());
            format!("written inode {ino} size {size} time {}", time(*t))
        }
    }
}

/// A record, the edits of an operation on lines of their own.
pub fn record(record: &Record) -> String {
    match record {
        Record::Operation { lsn, edits } => {
            let edits: String = edits.iter().map(|e| format!("\n      {}", edit(e))).collect();
            format!("operation {lsn}{edits}")
        }
        Record::Node { index, node } => format!("payload {index}: node {node}"),
        Record::Page { index, page: id } => format!("payload {index}: {}", page(*id)),
    }
}
