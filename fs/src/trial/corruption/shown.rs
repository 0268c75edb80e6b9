//! What a filesystem shows, with holes where it answers EIO; compared with what it ought to be.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use super::super::client::xattr_names;
use super::super::compare::{Facts, show};
use super::super::listing::Listing;
use super::image::EXACT;
use crate::error::{Error, Result};
use crate::namespace::api::Namespace;
use crate::types::{BLOCK_SIZE, Ino};

/// `None`: answered EIO.
type Part<T> = Option<T>;

/// What is shown under a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    pub ino: Ino,
    facts: Facts,
    target: Part<Vec<u8>>,
    xattrs: Part<BTreeMap<Vec<u8>, Part<Vec<u8>>>>,
    /// Of a directory.
    names: Part<BTreeSet<Vec<u8>>>,
    /// Hashes of the blocks of a file that are not all zeros.
    pub blocks: BTreeMap<u64, Part<u64>>,
}

impl Item {
    /// Parts that answered EIO.
    pub fn holes(&self) -> usize {
        let xattrs = self.xattrs.as_ref().map_or(1, |all| all.values().filter(|value| value.is_none()).count());
        usize::from(self.target.is_none()) + xattrs + usize::from(self.names.is_none()) + self.bad_blocks().count()
    }

    pub fn bad_blocks(&self) -> impl Iterator<Item = u64> + '_ {
        self.blocks.iter().filter(|(_, hash)| hash.is_none()).map(|(block, _)| *block)
    }
}

/// All paths; `None`: looking it up answered EIO.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shown(pub BTreeMap<Vec<u8>, Part<Item>>);

/// EIO as `None`; any other error is a wrong answer.
fn part<T>(path: &[u8], answer: Result<T>) -> std::result::Result<Part<T>, String> {
    match answer {
        Ok(value) => Ok(Some(value)),
        Err(Error::Damaged { .. } | Error::Device(_) | Error::Decode(_)) => Ok(None),
        Err(e) => Err(format!("{}: {e}", show(path))),
    }
}

impl Shown {
    /// What a filesystem shows of itself.
    pub fn whole(fs: &dyn Namespace) -> std::result::Result<Self, String> {
        Self::read(fs, &Self::default())
    }

    /// What a filesystem shows. The names of `expected` are looked up, whatever directories list.
    pub fn read(fs: &dyn Namespace, expected: &Self) -> std::result::Result<Self, String> {
        let mut shown = Self::default();
        shown.enter(fs, Vec::new(), part(b"", fs.getattr(Ino::ROOT))?.map(|attr| attr.ino), expected)?;
        Ok(shown)
    }

    fn enter(
        &mut self,
        fs: &dyn Namespace,
        path: Vec<u8>,
        ino: Part<Ino>,
        expected: &Self,
    ) -> std::result::Result<(), String> {
        let item = match ino {
            Some(ino) => item(fs, &path, ino)?,
            None => None,
        };
        let listed = item.as_ref().and_then(|item| item.names.clone()).unwrap_or_default();
        let is_directory = item.as_ref().is_some_and(|item| item.facts.mode & libc::S_IFMT == libc::S_IFDIR);
        let names: BTreeSet<Vec<u8>> = listed.into_iter().chain(expected.names_below(&path)).collect();
        self.0.insert(path.clone(), item);
        let Some(dir) = ino.filter(|_| is_directory) else { return Ok(()) };
        for name in names {
            let mut below = path.clone();
            below.push(b'/');
            below.extend_from_slice(&name);
            match fs.lookup(dir, &name) {
                Err(Error::NotFound) => {}
                answer => {
                    let ino = part(&below, answer)?.map(|attr| attr.ino);
                    self.enter(fs, below, ino, expected)?;
                }
            }
        }
        Ok(())
    }

    fn names_below(&self, path: &[u8]) -> Vec<Vec<u8>> {
        let below = |p: &Vec<u8>| p.strip_prefix(path)?.strip_prefix(b"/").map(<[u8]>::to_vec);
        self.0.keys().filter_map(below).filter(|name| !name.contains(&b'/')).collect()
    }

    /// Paths of which something cannot be read.
    pub fn unreadable(&self) -> usize {
        self.0.values().filter(|item| item.as_ref().is_none_or(|item| item.holes() > 0)).count()
    }

    /// Why this is neither `a` nor `b` nor on the way from one to the other, its holes aside.
    pub fn difference(&self, a: &Self, b: &Self) -> Option<String> {
        for (path, item) in &self.0 {
            let Some(item) = item else { continue };
            let of = |state: &Self| state.0.get(path).cloned().flatten();
            let why = match (of(a), of(b)) {
                (Some(a), Some(b)) => item.difference(&a, &b),
                (Some(one), None) | (None, Some(one)) => item.difference(&one, &one),
                (None, None) => Some("there is no such path".into()),
            };
            if let Some(why) = why {
                return Some(format!("{}: {why}", show(path)));
            }
        }
        let missing = |path: &&Vec<u8>| b.0.contains_key(*path) && !self.0.contains_key(*path) && !self.is_hidden(path);
        a.0.keys().find(missing).map(|path| format!("{}: it is missing", show(path)))
    }

    /// Whether something above the path cannot be looked up.
    fn is_hidden(&self, path: &[u8]) -> bool {
        let ends = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
        ends.into_iter().any(|end| matches!(self.0.get(&path[..end]), Some(None)))
    }
}

impl Item {
    fn difference(&self, a: &Self, b: &Self) -> Option<String> {
        let either = |is: bool, what: &str| (!is).then(|| what.to_owned());
        let hash = |item: &Self, block: &u64| item.blocks.get(block).copied().flatten();
        let wrong = self.blocks.iter().filter_map(|(block, seen)| Some((block, (*seen)?)));
        let wrong = wrong.map(|(block, seen)| (block, Some(seen)));
        let lost = a.blocks.keys().chain(b.blocks.keys()).filter(|block| !self.blocks.contains_key(*block));
        let wrong = wrong.chain(lost.map(|block| (block, None)));
        let block = wrong.into_iter().find(|(block, seen)| *seen != hash(a, block) && *seen != hash(b, block));
        let same = |x: &Part<Vec<u8>>, y: &Part<Vec<u8>>| x.is_none() || x == y;
        let xattrs = |of: &Self| match (&self.xattrs, &of.xattrs) {
            (Some(seen), Some(all)) => {
                seen.len() == all.len()
                    && seen.iter().all(|(name, value)| all.get(name).is_some_and(|v| same(value, v)))
            }
            _ => true,
        };
        let names = |of: &Self| self.names.is_none() || self.names == of.names;
        block
            .map(|(block, _)| format!("block {block} has bytes that nobody wrote there"))
            .or_else(|| either(facts_between(&self.facts, &a.facts, &b.facts), "other attributes"))
            .or_else(|| either(same(&self.target, &a.target) || same(&self.target, &b.target), "another target"))
            .or_else(|| either(xattrs(a) || xattrs(b), "other extended attributes"))
            .or_else(|| either(names(a) || names(b), "other names"))
    }
}

fn facts_between(seen: &Facts, a: &Facts, b: &Facts) -> bool {
    let rest = |facts: &Facts| Facts { size: 0, sectors: None, times: None, ..*facts };
    let size = a.size.min(b.size)..=a.size.max(b.size);
    seen == a || seen == b || (a != b && [rest(a), rest(b)].contains(&rest(seen)) && size.contains(&seen.size))
}

fn item(fs: &dyn Namespace, path: &[u8], ino: Ino) -> std::result::Result<Part<Item>, String> {
    let Some(attr) = part(path, fs.getattr(ino))? else { return Ok(None) };
    let kind = attr.mode & libc::S_IFMT;
    let target = if kind == libc::S_IFLNK { part(path, fs.readlink(ino))? } else { Some(Vec::new()) };
    let xattrs = match part(path, xattr_names(fs, ino))? {
        None => None,
        Some(names) => {
            let mut xattrs = BTreeMap::new();
            for name in names {
                let value = part(path, fs.get_xattr(ino, name.strip_suffix(&[0]).unwrap_or(&name)))?;
                xattrs.insert(name, value);
            }
            Some(xattrs)
        }
    };
    let names = if kind == libc::S_IFDIR { names(fs, path, ino)? } else { Some(BTreeSet::new()) };
    let blocks = if kind == libc::S_IFREG { blocks(fs, path, ino, attr.size)? } else { BTreeMap::new() };
    Ok(Some(Item { ino, facts: Facts::of(&attr, EXACT), target, xattrs, names, blocks }))
}

fn names(fs: &dyn Namespace, path: &[u8], ino: Ino) -> std::result::Result<Part<BTreeSet<Vec<u8>>>, String> {
    let mut listing = Listing::new(ino, false, EXACT);
    loop {
        match part(path, listing.read_on(fs, 1000))? {
            None => return Ok(None),
            Some(true) => {}
            Some(false) => return Ok(Some(listing.finish(&[])?.into_iter().map(|entry| entry.name).collect())),
        }
    }
}

fn blocks(
    fs: &dyn Namespace,
    path: &[u8],
    ino: Ino,
    size: u64,
) -> std::result::Result<BTreeMap<u64, Part<u64>>, String> {
    let mut blocks = BTreeMap::new();
    for block in 0..size.div_ceil(BLOCK_SIZE as u64) {
        let mut buf = [0xa5; BLOCK_SIZE];
        let wanted = (size - block * BLOCK_SIZE as u64).min(BLOCK_SIZE as u64) as usize;
        let hash = match part(path, fs.read(ino, block * BLOCK_SIZE as u64, &mut buf))? {
            None => None,
            Some(count) if count != wanted => return Err(format!("{}: short read of block {block}", show(path))),
            Some(count) => match buf[..count].iter().rposition(|byte| *byte != 0) {
                None => continue,
                Some(last) => {
                    let mut hasher = DefaultHasher::new();
                    buf[..=last].hash(&mut hasher);
                    Some(hasher.finish())
                }
            },
        };
        blocks.insert(block, hash);
    }
    Ok(blocks)
}
