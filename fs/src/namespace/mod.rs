//! Files and directories as POSIX has them, on top of `meta`.
//!
//! Each operation is planned by a pure function over a [`View`]; what is here only chooses between reading, committing and
//! writing, and takes the inode's lock where contents change. A plan may run several times and has no side effects.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::meta::patience::may_wait;
use crate::meta::view::View;
use crate::meta::volume::{Plan, Volume};
use crate::meta::witness::unwitnessed;
use crate::types::Ino;

mod acl;
pub mod api;
mod attr;
mod clock;
mod copy;
mod create;
mod data;
mod draft;
mod extents;
mod flags;
mod items;
mod locks;
mod members;
mod names;
mod orphans;
mod readdir;
mod reaper;
pub mod reference;
mod remove;
mod rename;
mod seek;
mod space_ops;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod truncate;
mod xattr;

use api::{Attr, AttrChange, Caller, DirEntry, Fallocate, Namespace, NewInode, RenameMode, Seek, SpaceInfo, XattrMode};
pub use clock::Clock;
pub use create::root_edits;
pub use data::FILE_SIZE_MAX;
use draft::Op;
use locks::InodeLocks;
use members::Member;
use names::NameHash;
pub use orphans::trim_key;
use reaper::Reaper;
pub use reaper::Reaping;
use rename::Place;

/// Inodes that statfs(2) promises per free block: they are made as needed, so it is only a large number.
const INODES_PER_BLOCK: u64 = 8;
/// Steps of the reaper between two tries of an operation that found no space.
const REAP_STEPS: usize = 64;
/// How long an operation waits for room that somebody else may be about to give back.
const ROOM_PATIENCE: Duration = Duration::from_millis(250);

/// A mounted filesystem.
pub struct Filesystem {
    volume: Arc<Volume>,
    clock: Clock,
    names: NameHash,
    locks: InodeLocks,
    reaper: Reaper,
}

impl Filesystem {
    /// Starts on a volume: queues what an earlier mount left to be freed, and the thread that frees it.
    pub fn new(volume: Arc<Volume>) -> Result<Self> {
        Self::with_clock(volume, Box::new(clock::now), Reaping::Background)
    }

    /// Starts on a volume whose mount another daemon served before: files without names are kept until [`Namespace::forget`].
    pub fn inherited(volume: Arc<Volume>) -> Result<Self> {
        Self::with_clock(volume, Box::new(clock::now), Reaping::Inherited)
    }

    /// The same with another source of times, and perhaps without a thread.
    pub fn with_clock(volume: Arc<Volume>, clock: Clock, reaping: Reaping) -> Result<Self> {
        let names = NameHash::new(volume.hash_key());
        let reaper = Reaper::start(Arc::clone(&volume), reaping)?;
        Ok(Self { volume, clock, names, locks: InodeLocks::new(), reaper })
    }

    /// Frees space of deleted and truncated files in at most `steps_max` records; the number written, 0 if there is nothing to do.
    pub fn reap(&self, steps_max: usize) -> Result<usize> {
        self.reaper.reap(steps_max)
    }

    /// Inodes that have lost their last name and that somebody may still use.
    pub fn nameless(&self) -> Vec<Ino> {
        self.reaper.nameless()
    }

    /// Ends the freeing in the background: the filesystem is about to be unmounted.
    pub fn stop(&self) {
        self.reaper.stop();
    }

    fn op(&self) -> Op {
        Op { now: (self.clock)(), names: self.names }
    }

    /// Tries again while there is no space but some left to be freed, here or by others. Who may not wait leaves it to a thread that may: what the kernel is
    /// to forget comes only if requests are answered.
    fn with_room<T>(&self, mut attempt: impl FnMut() -> Result<T>) -> Result<T> {
        let mut waiting = None;
        loop {
            match attempt() {
                Err(Error::NoSpace) if self.reaper.reap(REAP_STEPS)? > 0 => {}
                Err(Error::NoSpace) => {
                    let deadline = match waiting {
                        // What was freed before the first look is there for the next attempt.
                        None => Instant::now() + ROOM_PATIENCE,
                        Some(_) if !may_wait() && self.reaper.expects_more() => return Err(Error::MustWait),
                        Some((steps, deadline)) if may_wait() && self.reaper.await_more(steps, deadline) => deadline,
                        Some(_) => return Err(Error::NoSpace),
                    };
                    waiting = Some((self.reaper.steps(), deadline));
                }
                other => return other,
            }
        }
    }

    /// Commits one operation.
    fn mutate<T>(&self, mut plan: impl FnMut(&dyn View) -> Result<Plan<T>>) -> Result<T> {
        self.volume.writable()?;
        self.with_room(|| self.volume.transact(&mut plan))
    }

    /// Commits an operation that may take an inode's last name.
    fn mutate_names(&self, plan: impl FnMut(&dyn View) -> Result<Plan<remove::Orphaned>>) -> Result<()> {
        if let Some(orphan) = self.mutate(plan)? {
            self.reaper.unlinked(orphan);
        }
        Ok(())
    }
}

impl Namespace for Filesystem {
    fn lookup(&self, parent: Ino, name: &[u8]) -> Result<Attr> {
        let attr = self.volume.view(|view| {
            items::directory(view, parent)?;
            let (_, entry) = names::lookup(view, &self.names, parent, name)?;
            Ok(items::attr(entry.ino, &items::get(view, entry.ino)?))
        })?;
        self.volume.kinds.note(attr.ino, parent, name);
        Ok(attr)
    }

    fn parent(&self, dir: Ino) -> Result<Ino> {
        self.volume.view(|view| Ok(items::directory(view, dir)?.parent))
    }

    fn getattr(&self, ino: Ino) -> Result<Attr> {
        self.volume.view(|view| Ok(items::attr(ino, &items::get(view, ino)?)))
    }

    fn setattr(&self, who: &Caller, ino: Ino, change: &AttrChange) -> Result<Attr> {
        self.volume.writable()?;
        let member = Member::of(who, change);
        let mut rest = *change;
        if let Some(size) = change.size {
            let alone = change.mode.is_none();
            let first = if alone { *change } else { AttrChange { mode: None, flags: None, ..*change } };
            self.truncate(ino, size, &member, &first)?;
            if alone {
                return self.getattr(ino);
            }
            rest = AttrChange { mode: change.mode, flags: change.flags, ctime: change.ctime, ..AttrChange::default() };
        }
        let op = self.op();
        self.mutate(|view| attr::plan_setattr(&op, view, ino, &member, &rest))
    }

    fn readlink(&self, ino: Ino) -> Result<Vec<u8>> {
        self.volume.view(|view| create::read_target(view, ino))
    }

    fn create(&self, who: &Caller, parent: Ino, name: &[u8], new: &NewInode<'_>) -> Result<Attr> {
        self.volume.writable()?;
        let (op, ino) = (self.op(), self.volume.allocate_ino());
        let attr = self.mutate(|view| create::plan_create(&op, view, who, ino, parent, name, new))?;
        self.volume.kinds.note(ino, parent, name);
        Ok(attr)
    }

    fn link(&self, ino: Ino, parent: Ino, name: &[u8]) -> Result<Attr> {
        let op = self.op();
        self.mutate(|view| create::plan_link(&op, view, ino, parent, name))
    }

    fn unlink(&self, parent: Ino, name: &[u8]) -> Result<()> {
        let op = self.op();
        self.mutate_names(|view| remove::plan_unlink(&op, view, parent, name))
    }

    fn rmdir(&self, parent: Ino, name: &[u8]) -> Result<()> {
        let op = self.op();
        self.mutate_names(|view| remove::plan_rmdir(&op, view, parent, name))
    }

    fn rename(&self, parent: Ino, name: &[u8], new_parent: Ino, new_name: &[u8], mode: RenameMode) -> Result<()> {
        let op = self.op();
        let (from, to) = (Place { dir: parent, name }, Place { dir: new_parent, name: new_name });
        self.mutate_names(|view| rename::plan_rename(&op, view, from, to, mode))
    }

    fn forget(&self, ino: Ino) {
        self.reaper.forgotten(ino);
    }

    fn readdir(&self, dir: Ino, cookie: u64, plus: bool, visit: &mut dyn FnMut(&DirEntry<'_>) -> bool) -> Result<()> {
        self.list_from(dir, cookie, plus, visit)
    }

    fn read(&self, ino: Ino, offset: u64, buf: &mut [u8]) -> Result<usize> {
        self.read_at(ino, offset, buf)
    }

    fn touch_atime(&self, ino: Ino) -> Result<()> {
        let op = self.op();
        let stale = self.volume.view(|view| Ok(attr::atime_is_stale(&items::get(view, ino)?, op.now)))?;
        match stale && self.volume.writable().is_ok() {
            true => unwitnessed(|| self.mutate(|view| attr::plan_touch(&op, view, ino))),
            false => Ok(()),
        }
    }

    fn write(&self, ino: Ino, offset: u64, data: &[u8], kill_priv: bool) -> Result<()> {
        self.write_at(ino, offset, data, kill_priv)
    }

    fn fallocate(&self, ino: Ino, offset: u64, len: u64, mode: Fallocate) -> Result<()> {
        self.allocate_range(ino, offset, len, mode)
    }

    fn seek(&self, ino: Ino, offset: u64, whence: Seek) -> Result<u64> {
        self.seek_from(ino, offset, whence)
    }

    fn copy_range(&self, from: Ino, from_offset: u64, to: Ino, to_offset: u64, len: u64) -> Result<u64> {
        self.copy(from, from_offset, to, to_offset, len)
    }

    fn fsync(&self, _ino: Ino, _data_only: bool) -> Result<()> {
        // The log is one: what makes one inode durable makes all that came before it durable.
        self.volume.sync()
    }

    fn sync(&self) -> Result<()> {
        self.volume.sync()
    }

    fn set_xattr(&self, ino: Ino, name: &[u8], value: &[u8], mode: XattrMode) -> Result<()> {
        let op = self.op();
        self.mutate(|view| xattr::plan_set(&op, view, ino, name, value, mode))
    }

    fn get_xattr(&self, ino: Ino, name: &[u8]) -> Result<Vec<u8>> {
        self.volume.view(|view| xattr::get(view, &self.names, ino, name))
    }

    fn list_xattr(&self, ino: Ino) -> Result<Vec<u8>> {
        self.volume.view(|view| xattr::list(view, ino))
    }

    fn remove_xattr(&self, ino: Ino, name: &[u8]) -> Result<()> {
        let op = self.op();
        self.mutate(|view| xattr::plan_remove(&op, view, ino, name))
    }

    fn space(&self) -> Result<SpaceInfo> {
        let usage = self.volume.usage();
        let free = usage.capacity.saturating_sub(usage.used);
        Ok(SpaceInfo {
            blocks: usage.capacity,
            free,
            available: free,
            files: usage.capacity.saturating_mul(INODES_PER_BLOCK),
            files_free: free.saturating_mul(INODES_PER_BLOCK),
        })
    }
}
