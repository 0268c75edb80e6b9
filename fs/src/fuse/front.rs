//! What each request means to the namespace, free of the protocol.
//!
//! Permissions are checked by the kernel before a request is sent (`default_permissions`). What is checked here is only what
//! the kernel cannot know: the immutable and append-only flags when a file is opened.

use std::sync::Arc;

use super::aside::Aside;
use super::control::Control;
use super::options::MountOptions;
use super::tracking::{Unlinked, Writers};
use crate::error::{Error, Result};
use crate::meta::patience::without_waiting;
use crate::meta::witness::{Mark, Witness, is_done};
use crate::namespace::api::*;
use crate::types::Ino;

/// `FS_IMMUTABLE_FL` of `linux/fs.h`.
pub(super) const IMMUTABLE: u32 = 0x10;
/// `FS_APPEND_FL` of `linux/fs.h`.
pub(super) const APPEND_ONLY: u32 = 0x20;
/// `FUSE_UNIQUE_RESEND`: set in the number of a request that is sent once more.
const RESENT: u64 = 1 << 63;
/// Most bytes copied for one request, so that one caller does not hold a session thread for long; callers go on from a short copy.
const COPY_BYTES_MAX: u64 = 8 << 20;

/// One mounted namespace.
pub(super) struct Front {
    pub(super) ns: Arc<dyn Namespace>,
    pub(super) control: Arc<dyn Control>,
    pub(super) options: MountOptions,
    pub(super) aside: Aside,
    pub(super) unlinked: Arc<Unlinked>,
    pub(super) writers: Writers,
    pub(super) witness: Option<Arc<Witness>>,
}

/// A name in a directory.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) parent: Ino,
    pub(super) name: &'a [u8],
}

impl Front {
    /// `.` and `..` arrive when a file handle is resolved (NFS, open_by_handle_at), then `parent` may be any number.
    pub(super) fn lookup(&self, at: Place<'_>) -> Result<Attr> {
        match at.name {
            b"." => {
                let attr = self.ns.getattr(at.parent)?;
                if attr.nlink == 0 { Err(Error::Stale) } else { Ok(attr) }
            }
            b".." => self.ns.getattr(self.ns.parent(at.parent)?),
            name => self.ns.lookup(at.parent, name),
        }
    }

    /// The kernel dropped an inode, or some of its references to it.
    pub(super) fn forgotten(&self, ino: Ino) {
        if !self.unlinked.contains(ino) {
            return;
        }
        let (ns, unlinked) = (self.ns.clone(), self.unlinked.clone());
        self.aside.run(move |line| {
            if !line.holds(ino) && unlinked.remove(ino) {
                ns.forget(ino);
            }
        });
    }

    pub(super) fn setattr(&self, ino: Ino, change: &AttrChange) -> Result<Attr> {
        // The kernel has taken setgid off already where the caller is not in the file's group; it knows all groups of the caller.
        let kernel = Caller::default();
        if *change != AttrChange::default() {
            return self.ns.setattr(&kernel, ino, change);
        }
        // A change of nothing is how the kernel asks to drop setuid and setgid (its `fuse_setattr` takes all else off).
        let attr = self.ns.getattr(ino)?;
        let kept = without_privileges(attr.mode);
        if kept == attr.mode {
            return Ok(attr);
        }
        self.ns.setattr(&kernel, ino, &AttrChange { mode: Some(kept & 0o7777), ..AttrChange::default() })
    }

    /// To be held until the request with this number is answered: what another daemon has done for it is not done again.
    pub(super) fn mark(&self, request: u64) -> Option<Mark> {
        Some(self.witness.as_ref()?.mark(request & !RESENT, request & RESENT != 0))
    }

    pub(super) fn create(&self, who: &Caller, at: Place<'_>, new: &NewInode<'_>) -> Result<Attr> {
        let attr = if is_done() { self.lookup(at)? } else { self.ns.create(who, at.parent, at.name, new)? };
        self.names_changed(at.parent)?;
        Ok(attr)
    }

    pub(super) fn link(&self, ino: Ino, at: Place<'_>) -> Result<Attr> {
        let attr = if is_done() { self.lookup(at)? } else { self.ns.link(ino, at.parent, at.name)? };
        self.names_changed(at.parent)?;
        Ok(attr)
    }

    pub(super) fn unlink(&self, at: Place<'_>) -> Result<()> {
        if is_done() {
            return self.names_changed(at.parent);
        }
        let ino = self.ns.lookup(at.parent, at.name)?.ino;
        self.ns.unlink(at.parent, at.name)?;
        self.unlinked.add(ino);
        self.names_changed(at.parent)
    }

    pub(super) fn rmdir(&self, at: Place<'_>) -> Result<()> {
        if is_done() {
            return self.names_changed(at.parent);
        }
        let ino = self.ns.lookup(at.parent, at.name)?.ino;
        self.ns.rmdir(at.parent, at.name)?;
        self.unlinked.add(ino);
        self.names_changed(at.parent)
    }

    /// `flags` as in renameat2(2).
    pub(super) fn rename(&self, from: Place<'_>, to: Place<'_>, flags: u32) -> Result<()> {
        if is_done() {
            return self.names_changed(to.parent);
        }
        let mode = match flags {
            0 => RenameMode::Replace,
            libc::RENAME_NOREPLACE => RenameMode::NoReplace,
            libc::RENAME_EXCHANGE => RenameMode::Exchange,
            _ => return Err(Error::Invalid),
        };
        let replaced = match (mode, self.ns.lookup(to.parent, to.name)) {
            (RenameMode::Replace, Ok(attr)) => Some(attr.ino),
            _ => None,
        };
        self.ns.rename(from.parent, from.name, to.parent, to.name, mode)?;
        if let Some(ino) = replaced {
            self.unlinked.add(ino);
        }
        self.names_changed(to.parent)
    }

    /// `flags` as in open(2).
    pub(super) fn open(&self, ino: Ino, flags: i32) -> Result<()> {
        if writes(flags) || flags & libc::O_TRUNC != 0 {
            let attr = self.ns.getattr(ino)?;
            let appends_only = flags & libc::O_APPEND != 0 && flags & libc::O_TRUNC == 0;
            if attr.flags & IMMUTABLE != 0 || (attr.flags & APPEND_ONLY != 0 && !appends_only) {
                return Err(Error::NotPermitted);
            }
        }
        if flags & libc::O_TRUNC != 0 {
            let change = AttrChange { size: Some(0), mtime: Some(SetTime::Now), ..AttrChange::default() };
            self.setattr(ino, &change)?;
        }
        self.opened(ino, flags);
        Ok(())
    }

    /// Counts a new handle.
    pub(super) fn opened(&self, ino: Ino, flags: i32) {
        if writes(flags) {
            self.writers.opened(ino);
        }
    }

    pub(super) fn released(&self, ino: Ino, flags: i32) {
        if writes(flags) {
            self.writers.released(ino);
        }
    }

    pub(super) fn read(&self, ino: Ino, offset: u64, buf: &mut [u8]) -> Result<usize> {
        let read = self.ns.read(ino, offset, buf)?;
        self.accessed(ino);
        Ok(read)
    }

    /// The kernel leaves access times to us, and asks for them again after it has read.
    pub(super) fn accessed(&self, ino: Ino) {
        if self.options.noatime || self.options.read_only {
            return;
        }
        // A read succeeds whether or not its time can be kept, and is not kept waiting for it.
        if let Err(error) = without_waiting(|| self.ns.touch_atime(ino)) {
            tracing::debug!("access time of inode {ino}: {error}");
        }
    }

    /// A directory was listed.
    pub(super) fn listed(&self, dir: Ino) {
        if !self.options.nodiratime {
            self.accessed(dir);
        }
    }

    /// `mode` as in fallocate(2).
    pub(super) fn fallocate(&self, ino: Ino, offset: u64, len: u64, mode: i32) -> Result<()> {
        const PUNCH: i32 = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
        const ZERO_KEEP: i32 = libc::FALLOC_FL_ZERO_RANGE | libc::FALLOC_FL_KEEP_SIZE;
        let mode = match mode {
            0 => Fallocate::Allocate { keep_size: false },
            libc::FALLOC_FL_KEEP_SIZE => Fallocate::Allocate { keep_size: true },
            PUNCH => Fallocate::PunchHole,
            libc::FALLOC_FL_ZERO_RANGE => Fallocate::ZeroRange { keep_size: false },
            ZERO_KEEP => Fallocate::ZeroRange { keep_size: true },
            _ => return Err(Error::NotSupported),
        };
        self.ns.fallocate(ino, offset, len, mode)
    }

    /// A copy of at most [`COPY_BYTES_MAX`] bytes.
    pub(super) fn copy(&self, from: (Ino, u64), to: (Ino, u64), len: u64) -> Result<u32> {
        let copied = self.ns.copy_range(from.0, from.1, to.0, to.1, len.min(COPY_BYTES_MAX))?;
        Ok(copied as u32)
    }

    /// `flags` as in setxattr(2).
    pub(super) fn set_xattr(&self, ino: Ino, name: &[u8], value: &[u8], flags: i32) -> Result<()> {
        let mode = match flags {
            0 => XattrMode::Set,
            libc::XATTR_CREATE => XattrMode::Create,
            libc::XATTR_REPLACE => XattrMode::Replace,
            _ => return Err(Error::Invalid),
        };
        if is_done() { Ok(()) } else { self.ns.set_xattr(ino, name, value, mode) }
    }

    pub(super) fn remove_xattr(&self, ino: Ino, name: &[u8]) -> Result<()> {
        if is_done() { Ok(()) } else { self.ns.remove_xattr(ino, name) }
    }

    /// Names, each followed by NUL. The kernel hides `trusted.` from users in its own filesystems only, so here we do.
    pub(super) fn list_xattr(&self, ino: Ino, privileged: bool) -> Result<Vec<u8>> {
        let names = self.ns.list_xattr(ino)?;
        if privileged || !names.windows(8).any(|w| w == b"trusted.") {
            return Ok(names);
        }
        Ok(names
            .split_inclusive(|b| *b == 0)
            .filter(|name| !name.starts_with(b"trusted."))
            .flatten()
            .copied()
            .collect())
    }

    /// Names under `dir` changed: with `dirsync` they become durable now.
    fn names_changed(&self, dir: Ino) -> Result<()> {
        if self.options.sync || self.options.dirsync { self.ns.fsync(dir, false) } else { Ok(()) }
    }
}

/// Whether `flags` of open(2) let a caller write.
fn writes(flags: i32) -> bool {
    flags & libc::O_ACCMODE != libc::O_RDONLY
}

/// `mode` without setuid, and without setgid where that gives the group's rights to who executes.
fn without_privileges(mode: u32) -> u32 {
    let setgid = if mode & libc::S_IXGRP != 0 { libc::S_ISGID } else { 0 };
    mode & !(libc::S_ISUID | setgid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn setgid_without_group_execution_is_no_privilege() {
        assert_eq!(without_privileges(0o106777), 0o100777);
        assert_eq!(without_privileges(0o106767), 0o102767);
        assert_eq!(without_privileges(0o100644), 0o100644);
    }

    #[test]
    fn only_handles_that_can_write_count_as_writers() {
        assert!(!writes(libc::O_RDONLY | libc::O_APPEND));
        assert!(writes(libc::O_WRONLY) && writes(libc::O_RDWR | libc::O_DIRECT));
    }
}
