//! Reads a directory piece by piece, and does not believe what it is told.

use std::collections::BTreeSet;

use super::Exactness;
use super::compare::Facts;
use crate::error::Result;
use crate::namespace::api::{DirEntry, Namespace};
use crate::types::Ino;

/// An entry of a directory.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    pub name: Vec<u8>,
    pub dtype: u8,
    pub ino: Ino,
    pub facts: Option<Facts>,
}

impl Entry {
    /// The entry as another filesystem would have it, whose inode numbers differ.
    pub fn anonymous(self) -> Self {
        Self { ino: Ino(0), ..self }
    }
}

/// A directory being read.
pub struct Listing {
    dir: Ino,
    plus: bool,
    exact: Exactness,
    cookie: u64,
    entries: Vec<Entry>,
    cookies: BTreeSet<u64>,
    broken: Option<String>,
}

impl Listing {
    pub fn new(dir: Ino, plus: bool, exact: Exactness) -> Self {
        Self { dir, plus, exact, cookie: 0, entries: Vec::new(), cookies: BTreeSet::new(), broken: None }
    }

    /// Reads everything, undisturbed.
    pub fn whole(fs: &dyn Namespace, dir: Ino, exact: Exactness) -> Result<std::result::Result<Vec<Entry>, String>> {
        let mut listing = Self::new(dir, true, exact);
        while listing.read_on(fs, 1000)? {}
        Ok(listing.finish(&[]))
    }

    /// Reads up to `count` more entries; false if there are no more.
    pub fn read_on(&mut self, fs: &dyn Namespace, count: usize) -> Result<bool> {
        let until = self.entries.len() + count;
        let mut refused = false;
        let from = self.cookie;
        fs.readdir(self.dir, from, self.plus, &mut |entry| {
            if refused {
                self.complain("an entry came after one that was refused");
            } else if self.entries.len() == until {
                refused = true;
            } else {
                self.take(entry);
            }
            !refused
        })?;
        Ok(refused && self.broken.is_none())
    }

    fn take(&mut self, entry: &DirEntry<'_>) {
        let dots: Option<&[u8]> = [&b"."[..], b".."].get(self.entries.len()).copied();
        if dots.is_some_and(|wanted| wanted != entry.name) {
            self.complain("`.` and `..` do not come first");
        }
        if entry.name == b"." && entry.ino != self.dir {
            self.complain(format!("`.` of inode {} is inode {}", self.dir, entry.ino));
        }
        if entry.cookie == 0 || entry.cookie >= 1 << 63 || !self.cookies.insert(entry.cookie) {
            self.complain(format!("bad or repeated cookie {:#x}", entry.cookie));
        }
        if entry.attr.is_some() != (self.plus && dots.is_none()) {
            self.complain(format!("plus={}, but attributes: {}", self.plus, entry.attr.is_some()));
        }
        if entry.attr.is_some_and(|attr| attr.ino != entry.ino || attr.mode >> 12 != u32::from(entry.dtype)) {
            self.complain(format!("entry and attributes disagree: {entry:?}"));
        }
        self.cookie = entry.cookie;
        let facts = entry.attr.map(|attr| Facts::of(&attr, self.exact));
        self.entries.push(Entry { name: entry.name.to_vec(), dtype: entry.dtype, ino: entry.ino, facts });
    }

    fn complain(&mut self, why: impl Into<String>) {
        self.broken.get_or_insert(format!("readdir: {}", why.into()));
    }

    /// Everything but `.`, `..` and the names in `ignored`, sorted; or what was wrong.
    pub fn finish(self, ignored: &[Vec<u8>]) -> std::result::Result<Vec<Entry>, String> {
        if let Some(why) = self.broken {
            return Err(why);
        }
        if self.entries.len() < 2 {
            return Err("readdir: `.` or `..` is missing".into());
        }
        let mut entries: Vec<Entry> = self.entries.into_iter().skip(2).filter(|e| !ignored.contains(&e.name)).collect();
        entries.sort();
        match entries.windows(2).find(|pair| pair[0].name == pair[1].name) {
            Some(pair) => Err(format!("readdir: {:?} came twice", String::from_utf8_lossy(&pair[0].name))),
            None => Ok(entries),
        }
    }
}
