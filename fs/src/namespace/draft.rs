//! A plan in the making: reads through the view, collects edits, and holds each changed inode once, so that
//! an operation in which two roles fall on one inode (a rename within a directory) still puts it once.

use smallvec::SmallVec;

use crate::error::{Error, Result};
use crate::format::edit::Edit;
use crate::format::key::Key;
use crate::format::value::{Inode, Time, Value};
use crate::meta::view::View;
use crate::meta::volume::Plan;
use crate::types::Ino;

use super::items;
use super::names::NameHash;

/// What all plans of one operation share: taken once, before the first run of the plan.
#[derive(Clone, Copy, Debug)]
pub struct Op {
    pub now: Time,
    pub names: NameHash,
}

/// Edits under construction over a view.
pub struct Draft<'v> {
    pub view: &'v dyn View,
    pub op: Op,
    inodes: SmallVec<[(Ino, Inode); 4]>,
    edits: Vec<Edit>,
}

impl<'v> Draft<'v> {
    pub fn new(op: &Op, view: &'v dyn View) -> Self {
        Self { view, op: *op, inodes: SmallVec::new(), edits: Vec::new() }
    }

    /// The inode as this draft has it; `Stale` if there is none.
    pub fn inode(&self, ino: Ino) -> Result<Inode> {
        match self.inodes.iter().find(|(at, _)| *at == ino) {
            Some((_, inode)) => Ok(inode.clone()),
            None => items::get(self.view, ino),
        }
    }

    /// The inode to be changed; it is put when the draft is finished.
    pub fn change(&mut self, ino: Ino) -> Result<&mut Inode> {
        let at = match self.inodes.iter().position(|(at, _)| *at == ino) {
            Some(at) => at,
            None => {
                self.inodes.push((ino, items::get(self.view, ino)?));
                self.inodes.len() - 1
            }
        };
        Ok(&mut self.inodes[at].1)
    }

    /// A new inode.
    pub fn add(&mut self, ino: Ino, inode: Inode) {
        debug_assert!(self.inodes.iter().all(|(at, _)| *at != ino));
        self.inodes.push((ino, inode));
    }

    /// Counts `entries` more (or fewer) entries and `subdirs` more (or fewer) subdirectories in a directory, with its times.
    pub fn change_directory(&mut self, dir: Ino, entries: i64, subdirs: i64) -> Result<()> {
        let now = self.op.now;
        let inode = self.change(dir)?;
        inode.size = inode.size.checked_add_signed(entries).ok_or_else(|| items::misfit("directory size", dir))?;
        let nlink = i64::from(inode.nlink) + subdirs;
        inode.nlink = u32::try_from(nlink).map_err(|_| Error::TooManyLinks)?;
        inode.mtime = now;
        inode.ctime = now;
        Ok(())
    }

    /// Takes one name from an inode (the last from a directory); true if it has none left and became an orphan.
    pub fn drop_link(&mut self, ino: Ino) -> Result<bool> {
        let now = self.op.now;
        let inode = self.change(ino)?;
        inode.nlink = if items::is_dir(inode.mode) { 0 } else { inode.nlink.saturating_sub(1) };
        inode.ctime = now;
        let orphaned = inode.nlink == 0;
        if orphaned {
            self.put(Key::orphan(ino), Value::Orphan);
        }
        Ok(orphaned)
    }

    pub fn put(&mut self, key: Key, value: Value) {
        debug_assert!(value.is_of(key.kind));
        self.edits.push(Edit::Put { key, value });
    }

    pub fn delete(&mut self, key: Key) {
        self.edits.push(Edit::Delete { key });
    }

    pub fn push(&mut self, edit: Edit) {
        self.edits.push(edit);
    }

    /// Whether the draft already puts an item at `key`.
    pub fn puts(&self, key: &Key) -> bool {
        self.edits.iter().any(|edit| matches!(edit, Edit::Put { key: at, .. } if at == key))
    }

    /// Puts the changed inodes and closes the plan.
    pub fn finish<T>(mut self, value: T) -> Plan<T> {
        for (ino, inode) in self.inodes {
            self.edits.push(Edit::Put { key: Key::inode(ino), value: Value::Inode(Box::new(inode)) });
        }
        Plan { edits: self.edits, value }
    }
}
