//! Reads a whole filesystem through its operations, and checks on the way that they do not contradict each other.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::Range;

use super::Exactness;
use super::client::xattr_names;
use super::compare::{Facts, Node, show};
use super::listing::{Entry, Listing};
use crate::error::Error;
use crate::namespace::api::{Namespace, Seek};
use crate::types::{BLOCK_SIZE, Ino};

/// Files up to this size are read whole; of larger ones what [`Seek::Data`] finds.
const READ_WHOLE_MAX: u64 = 4 << 20;
/// Bytes read at a time.
const PIECE: u64 = 64 << 10;
const BLOCK: u64 = BLOCK_SIZE as u64;

/// What is wrong with a file; the caller knows which.
struct Wrong(String);

impl From<Error> for Wrong {
    fn from(error: Error) -> Self {
        Self(error.to_string())
    }
}

/// Nodes by path.
type Nodes = BTreeMap<Vec<u8>, Node>;

/// Every node of the filesystem, or the first thing that is wrong. A block of a file that cannot be read is wrong, unless such are
/// `tolerated`; then it is listed.
pub(super) fn read(fs: &dyn Namespace, exact: Exactness, tolerated: bool) -> Result<Nodes, String> {
    let mut walk = Walk { fs, exact, tolerated, nodes: BTreeMap::new(), first: BTreeMap::new() };
    walk.directory(&mut Vec::new(), Ino::ROOT, Ino::ROOT)?;
    walk.check_links()?;
    Ok(walk.nodes)
}

struct Walk<'a> {
    fs: &'a dyn Namespace,
    exact: Exactness,
    tolerated: bool,
    nodes: Nodes,
    /// First path and number of names of every inode.
    first: BTreeMap<Ino, (Vec<u8>, u32)>,
}

impl Walk<'_> {
    fn directory(&mut self, path: &mut Vec<u8>, dir: Ino, parent: Ino) -> Result<(), String> {
        let entries = self.open(path, dir, parent).map_err(|wrong| at(path, wrong))?;
        for entry in entries {
            let len = path.len();
            path.push(b'/');
            path.extend_from_slice(&entry.name);
            self.check_entry(dir, &entry).map_err(|wrong| at(path, wrong))?;
            if entry.dtype == libc::DT_DIR {
                self.directory(path, entry.ino, dir)?;
            } else {
                let node = self.node(entry.ino, path).map_err(|wrong| at(path, wrong))?;
                self.nodes.insert(path.clone(), node);
            }
            path.truncate(len);
        }
        Ok(())
    }

    fn open(&mut self, path: &[u8], dir: Ino, parent: Ino) -> Result<Vec<Entry>, Wrong> {
        if self.fs.parent(dir)? != parent {
            return Err(Wrong("`..` does not lead to its parent".into()));
        }
        let entries = Listing::whole(self.fs, dir, self.exact)?.map_err(Wrong)?;
        let subdirs = entries.iter().filter(|entry| entry.dtype == libc::DT_DIR).count() as u32;
        let node = self.node(dir, path)?;
        if node.facts.nlink != subdirs + 2 {
            return Err(Wrong(format!("{} links, but {subdirs} directories below", node.facts.nlink)));
        }
        self.nodes.insert(path.to_vec(), node);
        Ok(entries)
    }

    fn check_entry(&self, dir: Ino, entry: &Entry) -> Result<(), Wrong> {
        let attr = self.fs.lookup(dir, &entry.name)?;
        if attr.ino == entry.ino && Some(Facts::of(&attr, self.exact)) == entry.facts {
            return Ok(());
        }
        Err(Wrong(format!("readdir says {entry:?}, lookup {attr:?}")))
    }

    fn node(&mut self, ino: Ino, path: &[u8]) -> Result<Node, Wrong> {
        let attr = self.fs.getattr(ino)?;
        let (first, count) = self.first.entry(ino).or_insert_with(|| (path.to_vec(), 0));
        *count += 1;
        let same_as = (first != path).then(|| first.clone());
        let mut xattrs = BTreeMap::new();
        for name in xattr_names(self.fs, ino)? {
            let value = self.fs.get_xattr(ino, name.strip_suffix(&[0]).unwrap_or(&name))?;
            xattrs.insert(name, value);
        }
        let kind = attr.mode & libc::S_IFMT;
        let target = if kind == libc::S_IFLNK { Some(self.fs.readlink(ino)?) } else { None };
        let contents = kind == libc::S_IFREG && same_as.is_none();
        let mut lost = BTreeSet::new();
        let blocks = if contents { self.blocks(ino, attr.size, &mut lost)? } else { BTreeMap::new() };
        Ok(Node { facts: Facts::of(&attr, self.exact), same_as, xattrs, target, blocks, lost })
    }

    /// Hashes of the blocks that are not all zeros; those that cannot be read go to `lost`.
    fn blocks(&self, ino: Ino, size: u64, lost: &mut BTreeSet<u64>) -> Result<BTreeMap<u64, u64>, Wrong> {
        let data = self.data_ranges(ino, size)?;
        let mut blocks = BTreeMap::new();
        for range in if size <= READ_WHOLE_MAX { vec![Range { start: 0, end: size }] } else { data.clone() } {
            let mut offset = range.start - range.start % BLOCK;
            while offset < range.end {
                let mut buf = vec![0xa5; PIECE.min(range.end - offset) as usize];
                match self.fs.read(ino, offset, &mut buf) {
                    Ok(count) if count == buf.len() => {}
                    Ok(_) => return Err(Wrong(format!("short read at {offset}, before the end at {size}"))),
                    Err(_) if self.tolerated => self.readable(ino, offset, &mut buf, lost),
                    Err(error) => return Err(error.into()),
                }
                for (block, bytes) in (offset / BLOCK..).zip(buf.chunks(BLOCK_SIZE)) {
                    let end = bytes.iter().rposition(|b| *b != 0).map_or(0, |last| last + 1);
                    if end > 0 {
                        blocks.insert(block, hash(&bytes[..end]));
                    }
                }
                offset += buf.len() as u64;
            }
        }
        let in_hole = blocks.keys().find(|block| !data.iter().any(|range| range.contains(&(*block * BLOCK))));
        match in_hole {
            Some(block) => Err(Wrong(format!("data in block {block}, where seek finds a hole"))),
            None => Ok(blocks),
        }
    }

    /// Reads block by block. What cannot be read becomes zeros, and is lost.
    fn readable(&self, ino: Ino, offset: u64, buf: &mut [u8], lost: &mut BTreeSet<u64>) {
        for (block, bytes) in (offset / BLOCK..).zip(buf.chunks_mut(BLOCK_SIZE)) {
            if self.fs.read(ino, block * BLOCK, bytes).is_err() {
                bytes.fill(0);
                lost.insert(block);
            }
        }
    }

    fn data_ranges(&self, ino: Ino, size: u64) -> Result<Vec<Range<u64>>, Wrong> {
        let (mut ranges, mut offset) = (Vec::new(), 0);
        while offset < size {
            let start = match self.fs.seek(ino, offset, Seek::Data) {
                Err(Error::NoSuchAddress) => break,
                found => found?,
            };
            let end = self.fs.seek(ino, start, Seek::Hole)?;
            if start < offset || end <= start || end > size {
                return Err(Wrong(format!("seek from {offset} finds data {start}..{end} in {size} bytes")));
            }
            ranges.push(start..end);
            offset = end;
        }
        Ok(ranges)
    }

    fn check_links(&self) -> Result<(), String> {
        for (path, count) in self.first.values() {
            let facts = &self.nodes[path].facts;
            if facts.mode & libc::S_IFMT != libc::S_IFDIR && facts.nlink != *count {
                return Err(at(path, Wrong(format!("{} links, but {count} names", facts.nlink))));
            }
        }
        Ok(())
    }
}

fn at(path: &[u8], wrong: Wrong) -> String {
    format!("{}: {}", show(path), wrong.0)
}

fn hash(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    hasher.finish()
}
