//! Names and the inodes that they lead to: link counts, types, parents, and whether every inode can be reached.
//!
//! One entry of 40 bytes per inode is kept, so 64 MiB per million inodes with the map's slack.

use std::collections::{HashMap, HashSet};

use crate::format::value::{Dirent, Inode};
use crate::types::Ino;

use super::finding::Finding;
use super::report::Report;

const IFDIR: u32 = 0o040000;

/// Type bits of a mode, as `DT_*`.
pub fn dtype_of(mode: u32) -> u8 {
    (mode >> 12 & 0xf) as u8
}

pub fn is_dir(mode: u32) -> bool {
    mode & 0o170000 == IFDIR
}

/// How far the way up from a directory has been followed.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Way {
    #[default]
    Unknown,
    /// Being followed now.
    Followed,
    /// Ends somewhere, for better or worse.
    Settled,
}

/// What is known of one inode.
#[derive(Clone, Copy, Default)]
struct Links {
    exists: bool,
    /// `DT_*` of its mode.
    dtype: u8,
    /// `DT_*` of the entries; `mixed` if they do not agree.
    entry_dtype: u8,
    mixed: bool,
    way: Way,
    nlink: u32,
    names: u32,
    subdirs: u32,
    parent: Ino,
    found_in: Ino,
}

/// All inodes and names of the filesystem.
#[derive(Default)]
pub struct LinkTable {
    inodes: HashMap<Ino, Links>,
    /// Inodes listed to be freed, and files listed to be trimmed.
    pub to_free: HashSet<Ino>,
    pub to_trim: HashSet<Ino>,
}

impl LinkTable {
    pub fn inode(&mut self, ino: Ino, inode: &Inode) {
        let links = self.inodes.entry(ino).or_default();
        links.exists = true;
        links.dtype = dtype_of(inode.mode);
        links.nlink = inode.nlink;
        links.parent = inode.parent;
    }

    pub fn entry(&mut self, dir: Ino, entry: &Dirent) {
        let links = self.inodes.entry(entry.ino).or_default();
        links.mixed |= links.names > 0 && links.entry_dtype != entry.dtype;
        links.entry_dtype = entry.dtype;
        links.names = links.names.saturating_add(1);
        links.found_in = dir;
    }

    /// Inodes whose entries must be looked at again to say which of them is wrong.
    pub fn suspects(&self) -> HashSet<Ino> {
        let wrong = |l: &Links| l.names > 0 && (!l.exists || l.mixed || l.entry_dtype != l.dtype);
        self.inodes.iter().filter(|(_, links)| wrong(links)).map(|(ino, _)| *ino).collect()
    }

    /// `DT_*` of an inode, if it exists.
    pub fn dtype(&self, ino: Ino) -> Option<u8> {
        self.inodes.get(&ino).filter(|links| links.exists).map(|links| links.dtype)
    }

    /// Compares what inodes say with the names that were found.
    pub fn check(&mut self, report: &mut Report) {
        self.count_subdirs();
        let mut inos: Vec<Ino> = self.inodes.iter().filter(|(_, l)| l.exists).map(|(ino, _)| *ino).collect();
        inos.sort_unstable();
        if self.dtype(Ino::ROOT) != Some(dtype_of(IFDIR)) {
            report.add(Finding::NoRoot);
        }
        for ino in &inos {
            self.check_links(*ino, report);
        }
        for ino in inos {
            if let Some(at) = self.find_loop(ino) {
                report.add(Finding::DirectoryLoop { ino: at });
            }
        }
        self.check_work(report);
    }

    fn count_subdirs(&mut self) {
        let is_subdir = |l: &&Links| l.exists && l.dtype == dtype_of(IFDIR) && l.names > 0;
        let parents: Vec<Ino> = self.inodes.values().filter(is_subdir).map(|l| l.found_in).collect();
        for parent in parents {
            if let Some(links) = self.inodes.get_mut(&parent) {
                links.subdirs += 1;
            }
        }
    }

    fn check_links(&self, ino: Ino, report: &mut Report) {
        let l = self.inodes[&ino];
        let directory = l.dtype == dtype_of(IFDIR);
        let root = ino == Ino::ROOT;
        let listed = self.to_free.contains(&ino);
        if l.nlink == 0 && l.names == 0 {
            if !listed {
                report.add(Finding::NotListed { ino });
            }
            return;
        }
        if listed && l.nlink > 0 {
            report.add(Finding::StaleWork { ino, what: "freed", why: "has links" });
        }
        if l.names == 0 && !root {
            report.add(Finding::Unreachable { ino });
            return;
        }
        if directory && l.names > 1 {
            report.add(Finding::DirectoryLinked { ino, names: l.names });
        }
        let actual = if root { Ino::ROOT } else { l.found_in };
        if directory && l.parent != actual {
            report.add(Finding::WrongParent { ino, stored: l.parent, actual });
        }
        let counted = if directory { 2 + u64::from(l.subdirs) } else { u64::from(l.names) };
        if counted != u64::from(l.nlink) {
            report.add(Finding::LinkCount { ino, stored: l.nlink, counted });
        }
    }

    /// Follows the way up from an inode; a directory that is met twice on it.
    fn find_loop(&mut self, ino: Ino) -> Option<Ino> {
        let mut path = Vec::new();
        let mut at = ino;
        let found = loop {
            match self.inodes.get_mut(&at) {
                Some(l) if l.way == Way::Followed => break Some(at),
                Some(l) if l.way == Way::Unknown && l.names > 0 && at != Ino::ROOT => {
                    l.way = Way::Followed;
                    path.push(at);
                    at = l.found_in;
                }
                _ => break None,
            }
        };
        for step in path {
            if let Some(l) = self.inodes.get_mut(&step) {
                l.way = Way::Settled;
            }
        }
        found
    }

    fn check_work(&self, report: &mut Report) {
        for (list, what) in [(&self.to_free, "freed"), (&self.to_trim, "trimmed")] {
            let mut missing: Vec<Ino> = list.iter().copied().filter(|ino| self.dtype(*ino).is_none()).collect();
            missing.sort_unstable();
            for ino in missing {
                report.add(Finding::StaleWork { ino, what, why: "does not exist" });
            }
        }
    }
}
