//! Inodes and their items, each mended by itself from a finding.

use crate::error::Result;
use crate::format::key::{Key, Kind};
use crate::format::value::{ExtentKind, Inode, Value};
use crate::fsck::names::{self, PROBE_BITS};
use crate::fsck::{DT_DIR, DT_LNK, DT_REG, SIZE_MAX, TRIM, dtype_of, is_dir};
use crate::types::{BLOCK_SIZE, Ino};

use super::change::Repair;
use super::workshop::Workshop;

/// Slots in which an extended attribute may stand.
const XATTR_SLOTS: u64 = 4;

impl Workshop {
    /// Changes one number of an inode.
    pub(super) fn set_field(
        &mut self,
        ino: Ino,
        what: &'static str,
        value: u64,
        set: impl Fn(&mut Inode),
    ) -> Result<()> {
        let Some(mut inode) = self.inode(ino)? else { return Ok(()) };
        set(&mut inode);
        self.note(Repair::SetField { ino, what, value });
        self.put_inode(ino, inode)
    }

    /// A new inode of the permissions that only root has.
    pub(super) fn fresh_inode(&self, dtype: u8) -> Inode {
        let directory = dtype == DT_DIR;
        let perm = if directory { 0o700 } else { 0o600 };
        let now = self.now;
        Inode {
            mode: u32::from(dtype) << 12 | perm,
            nlink: if directory { 2 } else { 1 },
            parent: if directory { Ino::ROOT } else { Ino(0) },
            atime: now,
            mtime: now,
            ctime: now,
            btime: now,
            ..Inode::default()
        }
    }

    pub(super) fn make_root(&mut self) -> Result<()> {
        self.note(Repair::MakeRoot);
        let old = self.inode(Ino::ROOT)?;
        let fresh = Inode { mode: u32::from(DT_DIR) << 12 | 0o755, ..self.fresh_inode(DT_DIR) };
        let root = match old {
            Some(old) => Inode { mode: fresh.mode, parent: Ino::ROOT, ..old },
            None => fresh,
        };
        self.put_inode(Ino::ROOT, root)
    }

    pub(super) fn mend_field(&mut self, ino: Ino, what: &'static str) -> Result<()> {
        match what {
            "snapshot of an item" => {
                let (from, to) = (Key::inode(ino), Key { ino, ..Key::MAX });
                self.remove_where(ino, "items of a snapshot", &from, &to, |key| key.snapshot != 0)
            }
            "offset of its item" => {
                let extra = self.items(ino, Kind::Inode)?;
                let missing = self.inode(ino)?.is_none();
                if let Some((_, value)) = extra.last().filter(|_| missing) {
                    self.put(Key::inode(ino), value.clone())?;
                }
                let (from, to) = (Key::inode(ino), Key::new(ino, Kind::Inode, u64::MAX));
                self.remove_where(ino, "an inode item that stands elsewhere", &from, &to, |key| key.offset != 0)
            }
            "mode" => {
                let dtype = self.dtype_by_items(ino)?.unwrap_or(DT_REG);
                let mode = self.fresh_inode(dtype).mode;
                self.set_field(ino, "mode", mode.into(), |inode| inode.mode = mode)
            }
            "size" => {
                let size = self.mapped_end(ino)?;
                self.set_field(ino, "size", size, |inode| inode.size = size)
            }
            "parent" => {
                let directory = self.inode(ino)?.is_some_and(|inode| is_dir(inode.mode));
                let parent = if directory { Ino::ROOT } else { Ino(0) };
                self.set_field(ino, "parent", parent.0, |inode| inode.parent = parent)
            }
            _ => self.set_field(ino, "mapped blocks", 0, |inode| inode.blocks = 0),
        }
    }

    /// What an inode must be to have the items that it has.
    fn dtype_by_items(&self, ino: Ino) -> Result<Option<u8>> {
        let kinds = [(Kind::Dirent, DT_DIR), (Kind::Symlink, DT_LNK), (Kind::Extent, DT_REG)];
        for (kind, dtype) in kinds {
            let items = self.items(ino, kind)?;
            // Nothing can be read of what is lost.
            if items.iter().any(|(_, v)| !matches!(v, Value::Extent(e) if e.kind != ExtentKind::Data)) {
                return Ok(Some(dtype));
            }
        }
        Ok(None)
    }

    /// Where the data of a file ends, in bytes.
    fn mapped_end(&self, ino: Ino) -> Result<u64> {
        let ends = self.items(ino, Kind::Extent)?.into_iter().filter_map(|(key, value)| match value {
            Value::Extent(extent) => Some(key.offset.saturating_add(extent.blocks.into())),
            _ => None,
        });
        Ok(ends.max().unwrap_or(0).saturating_mul(BLOCK_SIZE as u64).min(SIZE_MAX))
    }

    /// Items without an inode: it is made anew if there is something to be read in them.
    pub(super) fn mend_no_inode(&mut self, ino: Ino, what: &'static str) -> Result<()> {
        let (from, to) = (Key::inode(ino), Key { ino, ..Key::MAX });
        if ino == Ino::ORPHANS {
            return self.remove_where(ino, what, &from, &to, |key| key.kind != Kind::Orphan);
        }
        if what == "pending work of its own" {
            return self.remove_where(ino, what, &from, &to, |key| key.kind == Kind::Orphan);
        }
        if self.inode(ino)?.is_some() {
            return Ok(());
        }
        let Some(dtype) = self.dtype_by_items(ino)? else {
            return self.remove_where(ino, what, &from, &to, |_| true);
        };
        let mut inode = self.fresh_inode(dtype);
        inode.size = match dtype {
            DT_REG => self.mapped_end(ino)?,
            DT_LNK => self.link_bytes(ino)?.1,
            _ => 0,
        };
        self.note(Repair::MakeInode { ino, what });
        self.put_inode(ino, inode)
    }

    pub(super) fn mend_foreign(&mut self, ino: Ino, what: &'static str) -> Result<()> {
        let (kind, dtype) = match what {
            "a link target" => (Kind::Symlink, DT_LNK),
            "directory entries" => (Kind::Dirent, DT_DIR),
            _ => (Kind::Extent, DT_REG),
        };
        // A mode that was none has been chosen by what the inode has.
        if self.dtype(ino)? == Some(dtype) {
            return Ok(());
        }
        let (from, to) = (Key::new(ino, kind, 0), Key::new(ino, kind, u64::MAX));
        self.remove_where(ino, what, &from, &to, |_| true)
    }

    fn remove_where(
        &mut self,
        ino: Ino,
        what: &'static str,
        from: &Key,
        to: &Key,
        wrong: impl Fn(&Key) -> bool,
    ) -> Result<()> {
        self.note(Repair::RemoveItems { ino, what });
        for (key, _) in self.between(from, to)?.iter().filter(|(key, _)| wrong(key)) {
            self.remove(key)?;
        }
        Ok(())
    }

    /// Whether the parts of a link's target follow each other, and how many bytes they have.
    fn link_bytes(&self, ino: Ino) -> Result<(bool, u64)> {
        let parts = self.items(ino, Kind::Symlink)?;
        let whole = parts.iter().zip(0..).all(|((key, _), n)| key.offset == n);
        let bytes = parts.iter().map(|(_, value)| match value {
            Value::Symlink(part) => part.len() as u64,
            _ => 0,
        });
        Ok((whole, bytes.sum()))
    }

    /// A target of which everything is there gets its length; a link without one is none.
    pub(super) fn mend_symlink(&mut self, ino: Ino) -> Result<()> {
        match self.link_bytes(ino)? {
            (true, bytes) if bytes > 0 => self.set_field(ino, "size", bytes, |inode| inode.size = bytes),
            _ => {
                self.note(Repair::RemoveInode { ino, why: "a symbolic link without its whole target" });
                for (key, _) in self.between(&Key::inode(ino), &Key { ino, ..Key::MAX })? {
                    self.remove(&key)?;
                }
                Ok(())
            }
        }
    }

    /// An attribute in a wrong place moves to one of its own, one that is not whole goes.
    pub(super) fn mend_xattr(&mut self, ino: Ino, slot: u64, why: &'static str) -> Result<()> {
        let key = |slot: u64, part: u64| Key::new(ino, Kind::Xattr, slot << PROBE_BITS | part);
        let parts = self.between(&key(slot, 0), &key(slot, (1 << PROBE_BITS) - 1))?;
        let Some((_, Value::Xattr(first))) = parts.first().cloned() else { return Ok(()) };
        for (key, _) in &parts {
            self.remove(key)?;
        }
        if why != "its name does not belong there" {
            self.note(Repair::RemoveItems { ino, what: "an extended attribute that is not whole" });
            return Ok(());
        }
        let hash = names::hash(&self.volume.hash_key(), &first.name).min((1 << 55) - XATTR_SLOTS);
        for slot in hash..hash + XATTR_SLOTS {
            if !self.between(&key(slot, 0), &key(slot, (1 << PROBE_BITS) - 1))?.is_empty() {
                continue;
            }
            for (old, value) in &parts {
                self.put(key(slot, old.offset & ((1 << PROBE_BITS) - 1)), value.clone())?;
            }
            self.note(Repair::MoveXattr { ino, name: names::shown(&first.name) });
            return Ok(());
        }
        self.note(Repair::RemoveItems { ino, what: "an extended attribute that has no place" });
        Ok(())
    }

    /// Of two extents that overlap, the one that begins later is the one that reads find.
    pub(super) fn mend_overlaps(&mut self, ino: Ino) -> Result<()> {
        let extents = self.items(ino, Kind::Extent)?;
        for pair in extents.windows(2) {
            let [(key, Value::Extent(extent)), (next, _)] = pair else { continue };
            let room = next.offset - key.offset;
            if u64::from(extent.blocks) > room {
                self.note(Repair::CutExtent { ino, file_block: key.offset, blocks: room });
                self.put(*key, Value::Extent(extent.slice(0, room as u32)))?;
            }
        }
        Ok(())
    }

    pub(super) fn mend_extent(&mut self, ino: Ino, file_block: u64, why: &'static str) -> Result<()> {
        let key = Key::extent(ino, file_block);
        let Some(Value::Extent(mut extent)) = self.get(&key)? else { return Ok(()) };
        if why == "it was written in the future" {
            self.note(Repair::SetBirth { ino, file_block });
            extent.birth = self.volume.write_clock();
            return self.put(key, Value::Extent(extent));
        }
        self.note(Repair::RemoveItems { ino, what: "an extent beyond the largest size" });
        self.remove(&key)
    }

    pub(super) fn trim(&mut self, ino: Ino) -> Result<()> {
        self.note(Repair::Trim { ino });
        self.put(Key { offset: ino.0 | TRIM, ..Key::orphan(ino) }, Value::Orphan)
    }

    pub(super) fn remove_work(&mut self, ino: Ino, what: &'static str) -> Result<()> {
        self.note(Repair::RemoveWork { ino, what });
        let bit = if what == "trimmed" { TRIM } else { 0 };
        self.remove(&Key { offset: ino.0 | bit, ..Key::orphan(ino) })
    }

    pub(super) fn dtype(&self, ino: Ino) -> Result<Option<u8>> {
        Ok(self.inode(ino)?.map(|inode| dtype_of(inode.mode)))
    }
}
