//! Whole trees as values: read from any filesystem, compared with a readable first difference.

use std::collections::{BTreeMap, BTreeSet};

use super::Exactness;
use super::walk;
use crate::format::value::Time;
use crate::namespace::api::{Attr, Namespace};
use crate::types::Ino;

/// What is the same of an inode in two filesystems. Inode numbers and generations are not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Facts {
    pub mode: u32,
    pub nlink: u32,
    pub uid: u32,
    pub gid: u32,
    pub rdev: u32,
    pub flags: u32,
    /// 0 for directories: their size is the filesystem's own affair.
    pub size: u64,
    pub sectors: Option<u64>,
    /// atime, mtime, ctime and btime; of the root no btime, which is mkfs's affair.
    pub times: Option<[Time; 4]>,
}

impl Facts {
    pub fn of(attr: &Attr, exact: Exactness) -> Self {
        let kind = attr.mode & libc::S_IFMT;
        let btime = if attr.ino == Ino::ROOT { Time::default() } else { attr.btime };
        Self {
            mode: attr.mode,
            nlink: attr.nlink,
            uid: attr.uid,
            gid: attr.gid,
            rdev: attr.rdev,
            flags: attr.flags,
            size: if kind == libc::S_IFDIR { 0 } else { attr.size },
            sectors: (exact.sectors && kind == libc::S_IFREG).then_some(attr.sectors),
            times: exact.times.then_some([attr.atime, attr.mtime, attr.ctime, btime]),
        }
    }

    /// Whether every field is that of `a` or of `b`, and sizes lie between.
    fn is_between(&self, a: &Self, b: &Self) -> bool {
        fn either<T: PartialEq>(x: T, a: T, b: T) -> bool {
            x == a || x == b
        }
        either(self.mode, a.mode, b.mode)
            && either(self.nlink, a.nlink, b.nlink)
            && either((self.uid, self.gid, self.rdev, self.flags), facts_rest(a), facts_rest(b))
            && (a.size.min(b.size)..=a.size.max(b.size)).contains(&self.size)
            && either(self.times.is_some(), a.times.is_some(), b.times.is_some())
            && (0..4).all(|i| either(self.times.map(|t| t[i]), a.times.map(|t| t[i]), b.times.map(|t| t[i])))
    }
}

fn facts_rest(f: &Facts) -> (u32, u32, u32, u32) {
    (f.uid, f.gid, f.rdev, f.flags)
}

/// A node of a [`Tree`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Node {
    pub facts: Facts,
    /// The first path of the same inode, if this is not it.
    pub same_as: Option<Vec<u8>>,
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    pub target: Option<Vec<u8>>,
    /// Hashes of the blocks that hold anything but zeros; only at the first path.
    pub blocks: BTreeMap<u64, u64>,
    /// Blocks that could not be read.
    pub lost: BTreeSet<u64>,
}

/// Everything that a filesystem shows, by path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tree(BTreeMap<Vec<u8>, Node>);

impl Tree {
    /// Walks the whole filesystem. `Err` says how it contradicts itself, or which access failed.
    pub fn read(fs: &dyn Namespace, exact: Exactness) -> std::result::Result<Self, String> {
        walk::read(fs, exact, false).map(Self)
    }

    /// The same where blocks of files may be unreadable.
    pub fn read_damaged(fs: &dyn Namespace, exact: Exactness) -> std::result::Result<Self, String> {
        walk::read(fs, exact, true).map(Self)
    }

    /// Blocks that could not be read.
    pub fn lost_blocks(&self) -> u64 {
        self.0.values().map(|node| node.lost.len() as u64).sum()
    }

    /// This tree, without what could not be read of `other`: all else must be the same.
    pub fn with_losses_of(mut self, other: &Self) -> Self {
        for (path, node) in &mut self.0 {
            let Some(damaged) = other.0.get(path) else { continue };
            node.blocks.retain(|block, _| !damaged.lost.contains(block));
            node.lost.clone_from(&damaged.lost);
        }
        self
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The first difference, in one line. `names` are those of `self` and `other`.
    pub fn difference(&self, other: &Self, names: [&str; 2]) -> Option<String> {
        let only = |here: &Self, there: &Self, name| {
            let path = here.0.keys().find(|path| !there.0.contains_key(*path))?;
            Some(format!("{}: only in the {name}", show(path)))
        };
        only(self, other, names[0]).or_else(|| only(other, self, names[1])).or_else(|| {
            let (path, (a, b)) = self.pairs(other).find(|(_, (a, b))| a != b)?;
            Some(format!("{}: {}", show(path), a.difference(b, names)))
        })
    }

    fn pairs<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = (&'a Vec<u8>, (&'a Node, &'a Node))> {
        self.0.iter().filter_map(|(path, node)| Some((path, (node, other.0.get(path)?))))
    }

    /// Whether this is a state on the way from `before` to `after`, where the change between them is one of file contents that may
    /// take effect block by block.
    pub fn is_between(&self, before: &Self, after: &Self) -> bool {
        self.0.len() == before.0.len()
            && self.0.iter().all(|(path, node)| match (before.0.get(path), after.0.get(path)) {
                (Some(a), Some(b)) => node.is_between(a, b),
                _ => false,
            })
    }
}

impl Node {
    fn difference(&self, other: &Self, names: [&str; 2]) -> String {
        let [a, b] = names;
        if self.facts != other.facts {
            return format!("{a} has {:?}, {b} has {:?}", self.facts, other.facts);
        }
        if self.same_as != other.same_as {
            let name = |of: &Self| of.same_as.as_ref().map_or("alone".into(), |path| show(path));
            return format!("linked in {a}: {}, in {b}: {}", name(self), name(other));
        }
        if self.xattrs != other.xattrs {
            let of = |one: &Self, two: &Self| {
                let differ = one.xattrs.iter().find(|(name, value)| two.xattrs.get(*name) != Some(*value));
                differ.map(|(name, value)| format!("{}={:02x?}", show(name), &value[..value.len().min(16)]))
            };
            return format!("xattr in {a}: {:?}, in {b}: {:?}", of(self, other), of(other, self));
        }
        if self.target != other.target {
            return format!("the symlink's target differs between {a} and {b}");
        }
        let of = |one: &Self, two: &Self| {
            let differ = one.blocks.iter().find(|(block, hash)| two.blocks.get(*block) != Some(*hash));
            differ.map(|(block, _)| *block)
        };
        format!("contents differ: first such block in {a}: {:?}, in {b}: {:?}", of(self, other), of(other, self))
    }

    fn is_between(&self, a: &Self, b: &Self) -> bool {
        let either = |x: &u64| {
            let hash = self.blocks.get(x);
            hash == a.blocks.get(x) || hash == b.blocks.get(x)
        };
        self.facts.is_between(&a.facts, &b.facts)
            && (self.same_as == a.same_as && self.target == a.target)
            && (self.xattrs == a.xattrs || self.xattrs == b.xattrs)
            && [self, a, b].iter().all(|node| node.blocks.keys().all(either))
    }
}

/// A path or name as a line can show it: long runs cut, odd bytes escaped.
pub(super) fn show(path: &[u8]) -> String {
    let parts = path.split(|b| *b == b'/').map(|part| match part.len() {
        0..=40 => part.escape_ascii().to_string(),
        len => format!("{}..({len})", part[..8].escape_ascii()),
    });
    let shown = parts.collect::<Vec<_>>().join("/");
    if shown.is_empty() { "/".into() } else { shown }
}
