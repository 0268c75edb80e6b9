//! Directory operations of the reference: create, link, unlink, rmdir and rename, in the order of checks that
//! Linux has (`fs/namei.c`).

use super::acl;
use super::node::*;
use super::sparse::Sparse;
use crate::error::{Error, Result};
use crate::format::value::Time;
use crate::namespace::api::{Caller, NewInode, NewKind, RenameMode};
use crate::types::Ino;

/// Longest symlink target: `PATH_MAX` with its NUL.
const TARGET_MAX: usize = 4095;

/// A name's place.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    pub parent: Ino,
    pub name: &'a [u8],
}

impl Table {
    pub(super) fn create(&mut self, now: Time, who: &Caller, at: Place<'_>, new: &NewInode<'_>) -> Result<Ino> {
        self.check_vacant(at)?;
        let (type_bits, rdev, body) = new_body(at.parent, &new.kind)?;
        let parent = self.node(at.parent)?;
        let inherits_group = parent.mode & SETGID != 0;
        let gid = if inherits_group { parent.gid } else { who.gid };
        let mut mode = type_bits | new.perm & 0o7777;
        if inherits_group && matches!(body, Body::Directory(_)) {
            mode |= SETGID;
        }
        let mut node = Node::new(mode, who.uid, gid, now, body);
        node.rdev = rdev;
        node.flags = parent.flags & inherited_flags(&node);
        inherit(parent, &mut node, new.umask)?;
        let is_directory = node.is_directory();
        let dtype = node.dtype();
        let ino = self.add(node);
        let parent = self.node_mut(at.parent)?;
        parent.directory_mut()?.put(at.name, ino, dtype);
        parent.nlink += u32::from(is_directory);
        parent.modified(now);
        Ok(ino)
    }

    pub(super) fn link(&mut self, now: Time, ino: Ino, at: Place<'_>) -> Result<()> {
        self.check_vacant(at)?;
        let node = self.node_mut(ino)?;
        if node.is_directory() {
            return Err(Error::NotPermitted);
        }
        node.refuse(IMMUTABLE | APPEND_ONLY)?;
        if node.nlink == 0 {
            return Err(Error::NotFound);
        }
        node.nlink += 1;
        node.ctime = now;
        let dtype = node.dtype();
        let parent = self.node_mut(at.parent)?;
        parent.directory_mut()?.put(at.name, ino, dtype);
        parent.modified(now);
        Ok(())
    }

    pub(super) fn unlink(&mut self, now: Time, at: Place<'_>) -> Result<()> {
        let ino = self.existing(at.parent, at.name)?;
        self.check_removable(at.parent, ino)?;
        if self.node(ino)?.is_directory() {
            return Err(Error::IsADirectory);
        }
        self.detach(now, at)
    }

    pub(super) fn rmdir(&mut self, now: Time, at: Place<'_>) -> Result<()> {
        let ino = self.existing(at.parent, at.name)?;
        self.check_removable(at.parent, ino)?;
        self.check_empty(ino)?;
        self.detach(now, at)
    }

    pub(super) fn rename(&mut self, now: Time, from: Place<'_>, to: Place<'_>, mode: RenameMode) -> Result<()> {
        self.node(from.parent)?.directory()?;
        self.node(to.parent)?.directory()?;
        let source = self.existing(from.parent, from.name)?;
        let target = self.find(to.parent, to.name)?;
        match (mode, target) {
            (RenameMode::NoReplace, Some(_)) => return Err(Error::Exists),
            (RenameMode::Exchange, None) => return Err(Error::NotFound),
            _ => {}
        }
        if self.node(to.parent)?.nlink == 0 {
            return Err(Error::NotFound);
        }
        if self.is_within(to.parent, source)? {
            return Err(Error::Invalid);
        }
        if let Some(target) = target
            && self.is_within(from.parent, target)?
        {
            return Err(if mode == RenameMode::Exchange { Error::Invalid } else { Error::NotEmpty });
        }
        if target == Some(source) {
            return Ok(());
        }
        self.check_removable(from.parent, source)?;
        match target {
            None => self.check_vacant(to)?,
            Some(target) => self.check_removable(to.parent, target)?,
        }
        match (mode, target) {
            (RenameMode::Exchange, Some(target)) => {
                self.place(now, to, source)?;
                self.place(now, from, target)
            }
            (_, target) => self.replace(now, from, to, source, target),
        }
    }

    fn replace(&mut self, now: Time, from: Place<'_>, to: Place<'_>, source: Ino, target: Option<Ino>) -> Result<()> {
        if let Some(target) = target {
            match (self.node(source)?.is_directory(), self.node(target)?.is_directory()) {
                (true, _) => self.check_empty(target)?,
                (false, true) => return Err(Error::IsADirectory),
                (false, false) => {}
            }
            self.detach(now, to)?;
        }
        self.place(now, to, source)?;
        let is_directory = self.node(source)?.is_directory();
        let old = self.node_mut(from.parent)?;
        old.directory_mut()?.remove(from.name);
        old.nlink -= u32::from(is_directory);
        old.modified(now);
        Ok(())
    }

    /// Sets an entry, old or new, to an inode that moves here, with all that follows for `..` and the counts.
    fn place(&mut self, now: Time, at: Place<'_>, ino: Ino) -> Result<()> {
        let before = match self.find(at.parent, at.name)? {
            Some(before) => self.node(before)?.is_directory(),
            None => false,
        };
        let node = self.node_mut(ino)?;
        node.ctime = now;
        let dtype = node.dtype();
        let is_directory = node.is_directory();
        if let Ok(dir) = node.directory_mut() {
            dir.parent = at.parent;
        }
        let parent = self.node_mut(at.parent)?;
        parent.directory_mut()?.put(at.name, ino, dtype);
        parent.nlink = parent.nlink + u32::from(is_directory) - u32::from(before);
        parent.modified(now);
        Ok(())
    }

    /// Takes a name away from its inode; a directory thereby loses all links.
    fn detach(&mut self, now: Time, at: Place<'_>) -> Result<()> {
        let ino = self.existing(at.parent, at.name)?;
        let node = self.node_mut(ino)?;
        let is_directory = node.is_directory();
        node.nlink = if is_directory { 0 } else { node.nlink - 1 };
        node.ctime = now;
        let parent = self.node_mut(at.parent)?;
        parent.directory_mut()?.remove(at.name);
        parent.nlink -= u32::from(is_directory);
        parent.modified(now);
        Ok(())
    }

    /// A new entry may be made here.
    fn check_vacant(&self, at: Place<'_>) -> Result<()> {
        if self.find(at.parent, at.name)?.is_some() {
            return Err(Error::Exists);
        }
        let parent = self.node(at.parent)?;
        if parent.nlink == 0 {
            return Err(Error::NotFound);
        }
        parent.refuse(IMMUTABLE)
    }

    fn check_removable(&self, parent: Ino, ino: Ino) -> Result<()> {
        self.node(parent)?.refuse(IMMUTABLE | APPEND_ONLY)?;
        self.node(ino)?.refuse(IMMUTABLE | APPEND_ONLY)
    }

    fn check_empty(&self, dir: Ino) -> Result<()> {
        if self.node(dir)?.directory()?.entries.is_empty() { Ok(()) } else { Err(Error::NotEmpty) }
    }

    /// Whether `dir` is `ancestor` or lies below it.
    fn is_within(&self, dir: Ino, ancestor: Ino) -> Result<bool> {
        let mut at = dir;
        loop {
            if at == ancestor {
                return Ok(true);
            }
            if at == Ino::ROOT {
                return Ok(false);
            }
            at = self.node(at)?.directory()?.parent;
        }
    }
}

/// Type bits, device number and contents of a new inode.
fn new_body(parent: Ino, kind: &NewKind<'_>) -> Result<(u32, u32, Body)> {
    Ok(match kind {
        NewKind::File => (libc::S_IFREG, 0, Body::File(Sparse::default())),
        NewKind::Directory => (libc::S_IFDIR, 0, Body::Directory(Directory::new(parent))),
        NewKind::Symlink([]) => return Err(Error::NotFound),
        NewKind::Symlink(target) if target.len() > TARGET_MAX => return Err(Error::NameTooLong),
        NewKind::Symlink(target) => (libc::S_IFLNK, 0, Body::Symlink(target.to_vec())),
        NewKind::Special { mode, rdev } => match mode & TYPE_MASK {
            libc::S_IFREG => (libc::S_IFREG, 0, Body::File(Sparse::default())),
            bits @ (libc::S_IFIFO | libc::S_IFSOCK) => (bits, 0, Body::Special),
            bits @ (libc::S_IFCHR | libc::S_IFBLK) => (bits, *rdev, Body::Special),
            _ => return Err(Error::Invalid),
        },
    })
}

/// Flags that a new inode takes over from its directory (ext4: `ext4_mask_flags`).
fn inherited_flags(node: &Node) -> u32 {
    match node.body {
        Body::Directory(_) => SYNC | NODUMP | NOATIME | DIRSYNC,
        Body::File(_) => SYNC | NODUMP | NOATIME,
        _ => NODUMP | NOATIME,
    }
}

/// Takes the umask or the parent's default ACL into account.
fn inherit(parent: &Node, node: &mut Node, umask: u32) -> Result<()> {
    if matches!(node.body, Body::Symlink(_)) {
        node.mode = libc::S_IFLNK | 0o777;
        return Ok(());
    }
    let Some(default) = parent.acl(acl::DEFAULT)? else {
        node.mode &= !(umask & 0o777);
        return Ok(());
    };
    if node.is_directory() {
        node.xattrs.insert(acl::DEFAULT.to_vec(), default.encode());
    }
    let (access, mode) = default.inherit(node.mode);
    node.mode = mode;
    if !access.is_minimal() {
        node.xattrs.insert(acl::ACCESS.to_vec(), access.encode());
    }
    Ok(())
}
