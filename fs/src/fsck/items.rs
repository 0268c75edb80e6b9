//! The items of each inode, in the order of their keys: each by itself, and all of them against what the inode says.

use crate::format::key::{Key, Kind};
use crate::format::value::{Dirent, Extent, ExtentKind, Inode, PART_MAX, Value, Xattr};
use crate::types::{BLOCK_SIZE, Ino, WriteClock};

use super::finding::Finding;
use super::links::{LinkTable, dtype_of, is_dir};
use super::names::{self, PROBE_BITS};
use super::report::Report;

/// Set in the offset of a file that is listed to be trimmed.
pub(crate) const TRIM: u64 = 1 << 63;
/// Largest size of a file in bytes: what an `off_t` can say.
pub(crate) const SIZE_MAX: u64 = i64::MAX as u64;
const TYPES: [(u8, &str); 7] = [
    (1, "FIFO"),
    (2, "character device"),
    (4, "directory"),
    (6, "block device"),
    (8, "file"),
    (10, "symbolic link"),
    (12, "socket"),
];
pub(crate) const DT_DIR: u8 = 4;
pub(crate) const DT_REG: u8 = 8;
pub(crate) const DT_LNK: u8 = 10;

/// The parts of one extended attribute seen so far.
struct XattrParts {
    slot: u64,
    name: Box<[u8]>,
    value_len: u32,
    parts: u64,
    bytes: u64,
    last_full: bool,
}

/// The inode whose items are being seen.
struct Current {
    ino: Ino,
    inode: Option<Inode>,
    /// An item without an inode is told once.
    told: bool,
    link_parts: u64,
    link_bytes: u64,
    xattr: Option<XattrParts>,
    xattrs: u32,
    entries: u64,
    /// Names with the present hash.
    hash: u64,
    same_hash: Vec<Box<[u8]>>,
    extents_end: u64,
    mapped: u64,
    beyond_told: bool,
}

/// Blocks of file data counted.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counted {
    pub data: u64,
    pub promised: u64,
    pub ino_max: u64,
}

/// Checks the stream of items.
pub struct ItemCheck {
    hash_key: [u8; 16],
    clock: WriteClock,
    current: Option<Current>,
    pub links: LinkTable,
    pub counted: Counted,
}

impl ItemCheck {
    pub fn new(hash_key: [u8; 16], clock: WriteClock) -> Self {
        Self { hash_key, clock, current: None, links: LinkTable::default(), counted: Counted::default() }
    }

    /// The next item.
    pub fn item(&mut self, report: &mut Report, key: &Key, value: &Value) {
        if self.current.as_ref().is_none_or(|c| c.ino != key.ino) {
            self.finish(report);
            self.current = Some(Current::new(key.ino));
        }
        let Some(mut current) = self.current.take() else { return };
        self.counted.ino_max = self.counted.ino_max.max(key.ino.0);
        if key.snapshot != 0 {
            let value = u64::from(key.snapshot);
            report.add(Finding::InodeField { ino: key.ino, what: "snapshot of an item", value });
        }
        if key.ino == Ino::ORPHANS {
            self.work(report, key);
        } else {
            self.of_inode(report, &mut current, key, value);
        }
        self.current = Some(current);
    }

    /// No more items follow.
    pub fn finish(&mut self, report: &mut Report) {
        if let Some(current) = self.current.take() {
            current.finish(report, &self.hash_key);
        }
    }

    fn work(&mut self, report: &mut Report, key: &Key) {
        if key.kind != Kind::Orphan {
            report.add(Finding::NoInode { ino: key.ino, what: "items other than pending work" });
        } else if key.offset & TRIM != 0 {
            self.links.to_trim.insert(Ino(key.offset & !TRIM));
        } else {
            self.links.to_free.insert(Ino(key.offset));
        }
    }

    fn of_inode(&mut self, report: &mut Report, current: &mut Current, key: &Key, value: &Value) {
        match value {
            Value::Inode(inode) => {
                self.links.inode(key.ino, inode);
                check_inode(key, inode, report);
                match dtype_of(inode.mode) {
                    DT_DIR => report.directories += 1,
                    _ => report.files += 1,
                }
                current.inode = Some((**inode).clone());
            }
            Value::Symlink(part) => {
                current.demand(report, DT_LNK, "a link target");
                current.link_part(report, key.offset, part);
            }
            Value::Xattr(part) => {
                current.demand_inode(report, "extended attributes");
                current.xattr_part(report, key.offset, part, &self.hash_key);
            }
            Value::Dirent(entry) => {
                current.demand(report, DT_DIR, "directory entries");
                self.links.entry(key.ino, entry);
                current.entry(report, key.offset, entry, &self.hash_key);
            }
            Value::Extent(extent) => {
                current.demand(report, DT_REG, "extents");
                match extent.kind {
                    ExtentKind::Data => self.counted.data += u64::from(extent.blocks),
                    ExtentKind::Unwritten => self.counted.promised += u64::from(extent.blocks),
                    ExtentKind::Lost => {}
                }
                let trimmed = self.links.to_trim.contains(&key.ino);
                current.extent(report, key.offset, extent, self.clock, trimmed);
            }
            Value::Orphan => report.add(Finding::NoInode { ino: key.ino, what: "pending work of its own" }),
        }
    }
}

fn check_inode(key: &Key, inode: &Inode, report: &mut Report) {
    let ino = key.ino;
    let directory = is_dir(inode.mode);
    let known = TYPES.iter().any(|(dtype, _)| *dtype == dtype_of(inode.mode)) && inode.mode <= 0o177777;
    let conditions = [
        ("offset of its item", key.offset, key.offset == 0),
        ("mode", u64::from(inode.mode), known),
        ("size", inode.size, inode.size <= SIZE_MAX),
        ("parent", inode.parent.0, directory == (inode.parent.0 != 0)),
        ("number of mapped blocks", inode.blocks, inode.blocks <= SIZE_MAX),
    ];
    for (what, value, good) in conditions {
        if !good {
            report.add(Finding::InodeField { ino, what, value });
        }
    }
}

fn type_name(mode: u32) -> &'static str {
    TYPES.iter().find(|(dtype, _)| *dtype == dtype_of(mode)).map_or("thing of no known type", |(_, name)| *name)
}

impl Current {
    fn new(ino: Ino) -> Self {
        Self {
            ino,
            inode: None,
            told: false,
            link_parts: 0,
            link_bytes: 0,
            xattr: None,
            xattrs: 0,
            entries: 0,
            hash: 0,
            same_hash: Vec::new(),
            extents_end: 0,
            mapped: 0,
            beyond_told: false,
        }
    }

    /// Items that only some type of inode may have.
    fn demand(&mut self, report: &mut Report, dtype: u8, what: &'static str) {
        self.demand_inode(report, what);
        if let Some(inode) = self.inode.as_ref().filter(|inode| dtype_of(inode.mode) != dtype)
            && !self.told
        {
            self.told = true;
            report.add(Finding::ForeignItem { ino: self.ino, is: type_name(inode.mode), what });
        }
    }

    fn demand_inode(&mut self, report: &mut Report, what: &'static str) {
        if self.inode.is_none() && !self.told {
            self.told = true;
            report.add(Finding::NoInode { ino: self.ino, what });
        }
    }

    /// Whether the inode has links: one that is being freed loses its items bit by bit.
    fn is_alive(&self) -> bool {
        self.inode.as_ref().is_some_and(|inode| inode.nlink > 0)
    }

    fn link_part(&mut self, report: &mut Report, part: u64, bytes: &[u8]) {
        if part != self.link_parts && self.is_alive() {
            report.add(Finding::BadSymlink { ino: self.ino, why: "a part of its target is missing" });
        }
        self.link_parts = part.saturating_add(1);
        self.link_bytes += bytes.len() as u64;
    }

    fn xattr_part(&mut self, report: &mut Report, offset: u64, part: &Xattr, hash_key: &[u8; 16]) {
        let (slot, number) = (offset >> PROBE_BITS, offset & ((1 << PROBE_BITS) - 1));
        if self.xattr.as_ref().is_none_or(|seen| seen.slot != slot) {
            self.end_xattr(report, hash_key);
            self.xattr = Some(XattrParts {
                slot,
                name: part.name.clone(),
                value_len: part.value_len,
                parts: 0,
                bytes: 0,
                last_full: true,
            });
        }
        let (alive, ino) = (self.is_alive(), self.ino);
        let Some(seen) = &mut self.xattr else { return };
        let conditions = [
            (seen.parts == number && seen.last_full, "a part is missing or too short"),
            (seen.name == part.name && seen.value_len == part.value_len, "its parts disagree"),
        ];
        for (_, why) in conditions.into_iter().filter(|(good, _)| !good && alive) {
            report.add(Finding::BadXattr { ino, slot, why });
        }
        seen.parts = number + 1;
        seen.bytes += part.bytes.len() as u64;
        seen.last_full = part.bytes.len() == PART_MAX;
    }

    fn end_xattr(&mut self, report: &mut Report, hash_key: &[u8; 16]) {
        let Some(seen) = self.xattr.take() else { return };
        self.xattrs += 1;
        let conditions = [
            (seen.bytes == u64::from(seen.value_len), "its parts do not make up its value"),
            (!seen.name.is_empty() && !seen.name.contains(&0), "its name is none"),
            (names::xattr_slot_fits(hash_key, &seen.name, seen.slot), "its name does not belong there"),
        ];
        let alive = self.is_alive();
        for (_, why) in conditions.into_iter().filter(|(good, _)| !good && alive) {
            report.add(Finding::BadXattr { ino: self.ino, slot: seen.slot, why });
        }
    }

    fn entry(&mut self, report: &mut Report, offset: u64, entry: &Dirent, hash_key: &[u8; 16]) {
        self.entries += 1;
        let hash = offset >> PROBE_BITS;
        if hash != self.hash {
            self.hash = hash;
            self.same_hash.clear();
        }
        let conditions = [
            (names::is_name(&entry.name), "it is no name"),
            (names::hash(hash_key, &entry.name) == hash, "it does not stand where its hash says"),
            (!self.same_hash.contains(&entry.name), "there is another one of that name"),
        ];
        for (_, why) in conditions.into_iter().filter(|(good, _)| !good) {
            report.add(Finding::BadEntry { dir: self.ino, name: names::shown(&entry.name), why });
        }
        self.same_hash.push(entry.name.clone());
    }

    fn extent(&mut self, report: &mut Report, first: u64, extent: &Extent, clock: WriteClock, trimmed: bool) {
        let ino = self.ino;
        let end = first.saturating_add(u64::from(extent.blocks));
        if first < self.extents_end {
            report.add(Finding::ExtentsOverlap { ino, file_block: first });
        }
        self.extents_end = self.extents_end.max(end);
        self.mapped = self.mapped.saturating_add(u64::from(extent.blocks));
        let conditions = [
            (end <= SIZE_MAX.div_ceil(BLOCK_SIZE as u64), "it is beyond the largest size of a file"),
            (extent.birth <= clock, "it was written in the future"),
        ];
        for (_, why) in conditions.into_iter().filter(|(good, _)| !good) {
            report.add(Finding::BadExtent { ino, file_block: first, why });
        }
        if extent.kind == ExtentKind::Lost {
            report.add(Finding::LostBlocks { ino, file_block: first, blocks: extent.blocks });
        }
        let regular = self.inode.as_ref().filter(|inode| dtype_of(inode.mode) == DT_REG);
        let size_blocks = regular.map_or(u64::MAX, |inode| inode.size.div_ceil(BLOCK_SIZE as u64));
        let exposed = extent.kind == ExtentKind::Data && end > size_blocks && !trimmed && self.is_alive();
        if exposed && !self.beyond_told {
            self.beyond_told = true;
            report.add(Finding::DataBeyondEnd { ino, file_block: first.max(size_blocks) });
        }
    }

    fn finish(mut self, report: &mut Report, hash_key: &[u8; 16]) {
        self.end_xattr(report, hash_key);
        let ino = self.ino;
        let Some(inode) = &self.inode else { return };
        if inode.blocks != self.mapped {
            report.add(Finding::MappedBlocks { ino, stored: inode.blocks, counted: self.mapped });
        }
        if inode.nlink == 0 {
            return;
        }
        if inode.xattrs != self.xattrs {
            report.add(Finding::XattrCount { ino, stored: inode.xattrs, counted: self.xattrs });
        }
        match dtype_of(inode.mode) {
            DT_DIR if inode.size != self.entries => {
                report.add(Finding::EntryCount { ino, stored: inode.size, counted: self.entries });
            }
            DT_LNK if inode.size != self.link_bytes || self.link_bytes == 0 => {
                report.add(Finding::BadSymlink { ino, why: "its parts do not make up its target" });
            }
            _ => {}
        }
    }
}
