//! A filesystem in memory, in the simplest way that is right: the oracle of the model-based tests, and a null
//! filesystem to mount.
//!
//! Implements [`Namespace`] beside the real one and shares no code with it below the trait. One lock, ordered maps,
//! nothing cached. Errors come in the order in which Linux checks.

mod acl;
mod attrs;
mod names;
mod node;
mod sparse;
#[cfg(test)]
mod tests;

use std::ops::Bound;
use std::sync::Arc;
use std::time::SystemTime;

use parking_lot::Mutex;

use self::names::Place;
use self::node::{APPEND_ONLY, Body, IMMUTABLE, Table};
use super::api::*;
use crate::error::{Error, Result};
use crate::format::value::Time;
use crate::types::{BLOCK_SIZE, Ino};

/// Largest file, as the kernel has it (`MAX_LFS_FILESIZE`).
const SIZE_MAX: u64 = i64::MAX as u64;
/// What [`Reference`] claims to hold, in blocks.
const SPACE_BLOCKS: u64 = 1 << 30;

/// Where a [`Reference`] gets the time from.
pub type Clock = Arc<dyn Fn() -> Time + Send + Sync>;

/// A filesystem in memory.
pub struct Reference {
    table: Mutex<Table>,
    clock: Clock,
}

impl Default for Reference {
    fn default() -> Self {
        Self::new()
    }
}

impl Reference {
    /// An empty filesystem on the system's clock. The root belongs to root and has mode 755.
    pub fn new() -> Self {
        Self::with_clock(Arc::new(|| {
            let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            Time { secs: since.as_secs() as i64, nanos: since.subsec_nanos() }
        }))
    }

    /// An empty filesystem on a clock of the caller's.
    pub fn with_clock(clock: Clock) -> Self {
        Self { table: Mutex::new(Table::new(clock())), clock }
    }

    /// A second filesystem with the same state, inode numbers and clock; contents are shared until written.
    pub fn fork(&self) -> Self {
        Self { table: Mutex::new(self.table.lock().clone()), clock: self.clock.clone() }
    }

    /// The same filesystem on another clock.
    pub fn on_clock(self, clock: Clock) -> Self {
        Self { table: self.table, clock }
    }

    /// What a crash or an unmount does: nobody refers to inodes without names any more.
    pub fn forget_all(&self) {
        self.table.lock().nodes.retain(|_, node| node.nlink > 0);
    }

    fn now(&self) -> Time {
        (self.clock)()
    }
}

impl Namespace for Reference {
    fn lookup(&self, parent: Ino, name: &[u8]) -> Result<Attr> {
        let table = self.table.lock();
        let ino = table.existing(parent, name)?;
        Ok(table.node(ino)?.attr(ino))
    }

    fn parent(&self, dir: Ino) -> Result<Ino> {
        Ok(self.table.lock().node(dir)?.directory()?.parent)
    }

    fn getattr(&self, ino: Ino) -> Result<Attr> {
        Ok(self.table.lock().node(ino)?.attr(ino))
    }

    fn setattr(&self, who: &Caller, ino: Ino, change: &AttrChange) -> Result<Attr> {
        let mut table = self.table.lock();
        let node = table.node_mut(ino)?;
        node.change(self.now(), who, change)?;
        Ok(node.attr(ino))
    }

    fn readlink(&self, ino: Ino) -> Result<Vec<u8>> {
        match &self.table.lock().node(ino)?.body {
            Body::Symlink(target) => Ok(target.clone()),
            _ => Err(Error::Invalid),
        }
    }

    fn create(&self, who: &Caller, parent: Ino, name: &[u8], new: &NewInode<'_>) -> Result<Attr> {
        let mut table = self.table.lock();
        let ino = table.create(self.now(), who, Place { parent, name }, new)?;
        Ok(table.node(ino)?.attr(ino))
    }

    fn link(&self, ino: Ino, parent: Ino, name: &[u8]) -> Result<Attr> {
        let mut table = self.table.lock();
        table.link(self.now(), ino, Place { parent, name })?;
        Ok(table.node(ino)?.attr(ino))
    }

    fn unlink(&self, parent: Ino, name: &[u8]) -> Result<()> {
        self.table.lock().unlink(self.now(), Place { parent, name })
    }

    fn rmdir(&self, parent: Ino, name: &[u8]) -> Result<()> {
        self.table.lock().rmdir(self.now(), Place { parent, name })
    }

    fn rename(&self, parent: Ino, name: &[u8], new_parent: Ino, new_name: &[u8], mode: RenameMode) -> Result<()> {
        let to = Place { parent: new_parent, name: new_name };
        self.table.lock().rename(self.now(), Place { parent, name }, to, mode)
    }

    fn forget(&self, ino: Ino) {
        let mut table = self.table.lock();
        if table.node(ino).is_ok_and(|node| node.nlink == 0) {
            table.nodes.remove(&ino);
        }
    }

    /// `visit` runs under the lock and must not call back.
    fn readdir(&self, dir: Ino, cookie: u64, plus: bool, visit: &mut dyn FnMut(&DirEntry<'_>) -> bool) -> Result<()> {
        let table = self.table.lock();
        let entries = table.node(dir)?.directory()?;
        let dots: [(&[u8], Ino); 2] = [(b".", dir), (b"..", entries.parent)];
        for (at, (name, ino)) in (1..).zip(dots) {
            let entry = DirEntry { name, ino, dtype: libc::DT_DIR, cookie: at, attr: None };
            if cookie < at && !visit(&entry) {
                return Ok(());
            }
        }
        for (&at, entry) in entries.entries.range((Bound::Excluded(cookie), Bound::Unbounded)) {
            let attr = if plus { Some(table.node(entry.ino)?.attr(entry.ino)) } else { None };
            if !visit(&DirEntry { name: &entry.name, ino: entry.ino, dtype: entry.dtype, cookie: at, attr }) {
                return Ok(());
            }
        }
        Ok(())
    }

    fn read(&self, ino: Ino, offset: u64, buf: &mut [u8]) -> Result<usize> {
        Ok(self.table.lock().node(ino)?.file()?.read(offset, buf))
    }

    fn touch_atime(&self, ino: Ino) -> Result<()> {
        let now = self.now();
        self.table.lock().node_mut(ino)?.accessed(now);
        Ok(())
    }

    /// Takes data for an immutable file as well: the kernel may have accepted it before the flag was set.
    fn write(&self, ino: Ino, offset: u64, data: &[u8], kill_priv: bool) -> Result<()> {
        check_end(offset, data.len() as u64)?;
        if data.is_empty() {
            return Ok(());
        }
        let mut table = self.table.lock();
        let node = table.node_mut(ino)?;
        node.file_mut()?.write(offset, data);
        if kill_priv {
            node.drop_privileges();
        }
        node.modified(self.now());
        Ok(())
    }

    fn fallocate(&self, ino: Ino, offset: u64, len: u64, mode: Fallocate) -> Result<()> {
        if len == 0 {
            return Err(Error::Invalid);
        }
        let end = check_end(offset, len)?;
        let mut table = self.table.lock();
        let node = table.node_mut(ino)?;
        node.file()?;
        let only_adds = matches!(mode, Fallocate::Allocate { .. });
        node.refuse(if only_adds { IMMUTABLE } else { IMMUTABLE | APPEND_ONLY })?;
        let file = node.file_mut()?;
        match mode {
            Fallocate::Allocate { keep_size } => {
                file.promise(offset..end);
                file.grow(if keep_size { 0 } else { end });
            }
            Fallocate::PunchHole => file.punch(offset..end),
            Fallocate::ZeroRange { keep_size } => {
                file.punch(offset..end);
                file.promise(offset..end);
                file.grow(if keep_size { 0 } else { end });
            }
        }
        node.drop_privileges();
        node.modified(self.now());
        Ok(())
    }

    fn seek(&self, ino: Ino, offset: u64, whence: Seek) -> Result<u64> {
        let table = self.table.lock();
        let file = table.node(ino)?.file()?;
        if offset >= file.size() {
            return Err(Error::NoSuchAddress);
        }
        match whence {
            Seek::Data => file.next_data(offset).ok_or(Error::NoSuchAddress),
            Seek::Hole => Ok(file.next_hole(offset)),
        }
    }

    /// Holes of the source, promised space among them, become holes or zeros.
    fn copy_range(&self, from: Ino, from_offset: u64, to: Ino, to_offset: u64, len: u64) -> Result<u64> {
        let mut table = self.table.lock();
        table.node(to)?.file()?;
        table.node(to)?.refuse(IMMUTABLE | APPEND_ONLY)?;
        let source = table.node(from)?.file()?.clone();
        let len = source.size().saturating_sub(from_offset).min(len);
        if from == to && from_offset.abs_diff(to_offset) < len {
            return Err(Error::Invalid);
        }
        check_end(to_offset, len)?;
        if len == 0 {
            return Ok(0);
        }
        let node = table.node_mut(to)?;
        node.file_mut()?.copy(&source, from_offset, to_offset, len);
        node.drop_privileges();
        node.modified(self.now());
        Ok(len)
    }

    fn fsync(&self, ino: Ino, _data_only: bool) -> Result<()> {
        self.table.lock().node(ino)?;
        Ok(())
    }

    fn sync(&self) -> Result<()> {
        Ok(())
    }

    fn set_xattr(&self, ino: Ino, name: &[u8], value: &[u8], mode: XattrMode) -> Result<()> {
        self.table.lock().node_mut(ino)?.set_xattr(self.now(), name, value, mode)
    }

    fn get_xattr(&self, ino: Ino, name: &[u8]) -> Result<Vec<u8>> {
        self.table.lock().node(ino)?.xattrs.get(name).cloned().ok_or(Error::NoAttribute)
    }

    fn list_xattr(&self, ino: Ino) -> Result<Vec<u8>> {
        let table = self.table.lock();
        let names = table.node(ino)?.xattrs.keys();
        Ok(names.flat_map(|name| name.iter().copied().chain([0])).collect())
    }

    fn remove_xattr(&self, ino: Ino, name: &[u8]) -> Result<()> {
        self.table.lock().node_mut(ino)?.remove_xattr(self.now(), name)
    }

    fn space(&self) -> Result<SpaceInfo> {
        let table = self.table.lock();
        let used: u64 = table.nodes.iter().map(|(ino, node)| node.attr(*ino).sectors * 512 / BLOCK_SIZE as u64).sum();
        let free = SPACE_BLOCKS.saturating_sub(used);
        let files = table.nodes.len() as u64;
        Ok(SpaceInfo {
            blocks: SPACE_BLOCKS,
            free,
            available: free,
            files: u64::from(u32::MAX),
            files_free: u64::from(u32::MAX) - files,
        })
    }
}

/// The end of a range of bytes, if a file may reach that far.
fn check_end(offset: u64, len: u64) -> Result<u64> {
    offset.checked_add(len).filter(|end| *end <= SIZE_MAX).ok_or(Error::FileTooBig)
}
