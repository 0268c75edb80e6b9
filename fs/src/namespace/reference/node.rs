//! Inodes of the reference, and the table of them.

use std::collections::BTreeMap;

use super::acl::{self, Acl};
use super::sparse::Sparse;
use crate::error::{Error, Result};
use crate::format::value::{NAME_MAX, Time};
use crate::namespace::api::Attr;
use crate::types::Ino;

pub(super) const TYPE_MASK: u32 = libc::S_IFMT;
pub(super) const SETUID: u32 = libc::S_ISUID;
pub(super) const SETGID: u32 = libc::S_ISGID;
/// `FS_*_FL` of `linux/fs.h`.
pub(super) const SYNC: u32 = 0x8;
pub(super) const IMMUTABLE: u32 = 0x10;
pub(super) const APPEND_ONLY: u32 = 0x20;
pub(super) const NODUMP: u32 = 0x40;
pub(super) const NOATIME: u32 = 0x80;
pub(super) const DIRSYNC: u32 = 0x1_0000;
/// Flags that a user may set.
pub(super) const SETTABLE: u32 = SYNC | IMMUTABLE | APPEND_ONLY | NODUMP | NOATIME | DIRSYNC;

/// An inode.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub mode: u32,
    pub nlink: u32,
    pub uid: u32,
    pub gid: u32,
    pub rdev: u32,
    pub flags: u32,
    pub atime: Time,
    pub mtime: Time,
    pub ctime: Time,
    pub btime: Time,
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    pub body: Body,
}

/// What an inode holds.
#[derive(Clone, Debug)]
pub(super) enum Body {
    File(Sparse),
    Directory(Directory),
    Symlink(Vec<u8>),
    Special,
}

/// A directory's entries, by name and by cookie. A name keeps its cookie for as long as it stays.
#[derive(Clone, Debug)]
pub(super) struct Directory {
    pub parent: Ino,
    pub names: BTreeMap<Vec<u8>, u64>,
    pub entries: BTreeMap<u64, Entry>,
    next_cookie: u64,
}

/// A directory entry.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub name: Vec<u8>,
    pub ino: Ino,
    pub dtype: u8,
}

impl Directory {
    pub(super) fn new(parent: Ino) -> Self {
        Self { parent, names: BTreeMap::new(), entries: BTreeMap::new(), next_cookie: 3 }
    }

    pub(super) fn get(&self, name: &[u8]) -> Option<Ino> {
        self.names.get(name).map(|cookie| self.entries[cookie].ino)
    }

    /// Sets where `name` leads, whether it was there or not.
    pub(super) fn put(&mut self, name: &[u8], ino: Ino, dtype: u8) {
        let next = self.next_cookie;
        let cookie = *self.names.entry(name.to_vec()).or_insert(next);
        self.next_cookie = next.max(cookie + 1);
        self.entries.insert(cookie, Entry { name: name.to_vec(), ino, dtype });
    }

    pub(super) fn remove(&mut self, name: &[u8]) {
        if let Some(cookie) = self.names.remove(name) {
            self.entries.remove(&cookie);
        }
    }
}

impl Node {
    /// A new inode with one name (a directory: its name and its own `.`), all times now.
    pub(super) fn new(mode: u32, uid: u32, gid: u32, now: Time, body: Body) -> Self {
        let nlink = if matches!(body, Body::Directory(_)) { 2 } else { 1 };
        let [atime, mtime, ctime, btime] = [now; 4];
        let xattrs = BTreeMap::new();
        Self { mode, nlink, uid, gid, rdev: 0, flags: 0, atime, mtime, ctime, btime, xattrs, body }
    }

    pub(super) fn attr(&self, ino: Ino) -> Attr {
        let (size, sectors) = match &self.body {
            Body::File(file) => (file.size(), file.blocks() * 8),
            Body::Directory(dir) => (32 * (dir.entries.len() as u64 + 2), 0),
            Body::Symlink(target) => (target.len() as u64, 0),
            Body::Special => (0, 0),
        };
        let Self { mode, nlink, uid, gid, rdev, flags, atime, mtime, ctime, btime, .. } = *self;
        Attr { ino, generation: 0, mode, nlink, uid, gid, rdev, size, sectors, atime, mtime, ctime, btime, flags }
    }

    /// `DT_*`: the type bits of the mode, shifted.
    pub(super) fn dtype(&self) -> u8 {
        ((self.mode & TYPE_MASK) >> 12) as u8
    }

    pub(super) fn is_directory(&self) -> bool {
        matches!(self.body, Body::Directory(_))
    }

    pub(super) fn directory(&self) -> Result<&Directory> {
        if let Body::Directory(dir) = &self.body { Ok(dir) } else { Err(Error::NotADirectory) }
    }

    pub(super) fn directory_mut(&mut self) -> Result<&mut Directory> {
        if let Body::Directory(dir) = &mut self.body { Ok(dir) } else { Err(Error::NotADirectory) }
    }

    pub(super) fn file(&self) -> Result<&Sparse> {
        match &self.body {
            Body::File(file) => Ok(file),
            Body::Directory(_) => Err(Error::IsADirectory),
            _ => Err(Error::Invalid),
        }
    }

    pub(super) fn file_mut(&mut self) -> Result<&mut Sparse> {
        match &mut self.body {
            Body::File(file) => Ok(file),
            Body::Directory(_) => Err(Error::IsADirectory),
            _ => Err(Error::Invalid),
        }
    }

    /// Contents changed.
    pub(super) fn modified(&mut self, now: Time) {
        self.mtime = now;
        self.ctime = now;
    }

    /// Drops setuid, and setgid where the group may execute, unless this is a directory.
    pub(super) fn drop_privileges(&mut self) {
        if !self.is_directory() {
            self.mode &= !SETUID;
            if self.mode & libc::S_IXGRP != 0 {
                self.mode &= !SETGID;
            }
        }
    }

    /// `NotPermitted` if any of `flags` is set.
    pub(super) fn refuse(&self, flags: u32) -> Result<()> {
        if self.flags & flags == 0 { Ok(()) } else { Err(Error::NotPermitted) }
    }

    pub(super) fn acl(&self, name: &[u8]) -> Result<Option<Acl>> {
        self.xattrs.get(name).map(|value| Acl::decode(value)).transpose()
    }

    /// chmod as far as the bits go; an access ACL follows.
    pub(super) fn set_mode(&mut self, bits: u32) -> Result<()> {
        self.mode = self.mode & TYPE_MASK | bits & 0o7777;
        if let Some(mut list) = self.acl(acl::ACCESS)? {
            list.set_mode_bits(self.mode);
            self.xattrs.insert(acl::ACCESS.to_vec(), list.encode());
        }
        Ok(())
    }
}

/// Every inode, with or without names.
#[derive(Clone, Debug)]
pub(super) struct Table {
    pub nodes: BTreeMap<Ino, Node>,
    next_ino: u64,
}

impl Table {
    pub(super) fn new(now: Time) -> Self {
        let root = Node::new(libc::S_IFDIR | 0o755, 0, 0, now, Body::Directory(Directory::new(Ino::ROOT)));
        Self { nodes: BTreeMap::from([(Ino::ROOT, root)]), next_ino: Ino::FIRST_USER.0 }
    }

    pub(super) fn add(&mut self, node: Node) -> Ino {
        let ino = Ino(self.next_ino);
        self.next_ino += 1;
        self.nodes.insert(ino, node);
        ino
    }

    pub(super) fn node(&self, ino: Ino) -> Result<&Node> {
        self.nodes.get(&ino).ok_or(Error::Stale)
    }

    pub(super) fn node_mut(&mut self, ino: Ino) -> Result<&mut Node> {
        self.nodes.get_mut(&ino).ok_or(Error::Stale)
    }

    /// Where `name` leads in `parent`.
    pub(super) fn find(&self, parent: Ino, name: &[u8]) -> Result<Option<Ino>> {
        let dir = self.node(parent)?.directory()?;
        check_name(name)?;
        Ok(dir.get(name))
    }

    /// The same where there must be something.
    pub(super) fn existing(&self, parent: Ino, name: &[u8]) -> Result<Ino> {
        self.find(parent, name)?.ok_or(Error::NotFound)
    }
}

fn check_name(name: &[u8]) -> Result<()> {
    match name.len() {
        0 => Err(Error::Invalid),
        len if len > NAME_MAX => Err(Error::NameTooLong),
        _ => Ok(()),
    }
}
