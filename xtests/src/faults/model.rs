//! What the filesystem must show: files by number, and the stamp of each block.

use std::collections::BTreeMap;

use gleanfs::error::Error;
use gleanfs::namespace::api::Namespace;
use gleanfs::types::{BLOCK_SIZE, Ino};

/// Files that there may be.
pub const FILES: u64 = 10;
/// Blocks that a file may have.
pub const FILE_BLOCKS: u64 = 220;

/// Stamps of the blocks of each file; 0 is a hole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Model(pub BTreeMap<u64, Vec<u64>>);

/// What a look at a filesystem came to.
#[derive(Debug)]
pub enum Seen {
    Whole(Model),
    /// Something could not be read, as a failing device explains; what could be read is as given.
    Partly(Model, String),
}

impl Seen {
    /// What was seen, if all was.
    pub fn whole(self) -> Result<Model, String> {
        match self {
            Self::Whole(model) => Ok(model),
            Self::Partly(_, why) => Err(why),
        }
    }
}

/// The name of a file.
pub fn name(file: u64) -> Vec<u8> {
    format!("a file with the number {file}").into_bytes()
}

/// Bytes of a block with this stamp.
pub fn bytes(stamp: u64) -> Vec<u8> {
    stamp.to_le_bytes().repeat(BLOCK_SIZE / 8)
}

/// Marks a block that could not be read.
pub const UNREAD: u64 = u64::MAX;

impl Model {
    /// Reads everything. `Err`: bytes that nobody wrote.
    pub fn read(fs: &dyn Namespace) -> Result<Seen, String> {
        let (mut model, mut why) = (Self::default(), None);
        for file in 0..FILES {
            match read_file(fs, file, &mut why) {
                Ok(Some(blocks)) => drop(model.0.insert(file, blocks)),
                Ok(None) => {}
                Err(Wrong::Bytes(what)) => return Err(what),
                Err(Wrong::Device(e)) => {
                    why.get_or_insert(e.to_string());
                    model.0.insert(file, vec![UNREAD]);
                }
            }
        }
        Ok(match why {
            None => Seen::Whole(model),
            Some(why) => Seen::Partly(model, why),
        })
    }

    /// Whether this may be what is there where `one` went over into `other`, by an operation on one file that takes effect block by block.
    pub fn is_between(&self, one: &Self, other: &Self) -> bool {
        (0..FILES).all(|file| {
            let (found, a, b) = (self.0.get(&file), one.0.get(&file), other.0.get(&file));
            // A file is made before its first block is written.
            let blocks = |of: Option<&Vec<u64>>| of.cloned().unwrap_or_default();
            found == a || found == b || b.is_some() && found.is_some_and(|found| between(found, &blocks(a), &blocks(b)))
        })
    }

    /// The same where what could not be read may be anything.
    pub fn agrees(&self, expected: &Self) -> bool {
        (0..FILES).all(|file| match (self.0.get(&file), expected.0.get(&file)) {
            (Some(found), _) if found[..] == [UNREAD] => true,
            (Some(found), Some(expected)) => {
                found.len() == expected.len() && found.iter().zip(expected).all(|(f, e)| *f == UNREAD || f == e)
            }
            (found, expected) => found == expected,
        })
    }

    /// Where this differs from `expected`, in a few words.
    pub fn difference(&self, expected: &Self) -> String {
        for file in 0..FILES {
            match (self.0.get(&file), expected.0.get(&file)) {
                (a, b) if a == b => {}
                (Some(a), Some(b)) => {
                    let at = a.iter().zip(b).position(|(x, y)| x != y).unwrap_or(a.len().min(b.len()));
                    let (x, y) = (a.get(at), b.get(at));
                    return format!(
                        "file {file}: {} blocks against {}, block {at} {x:?} against {y:?}",
                        a.len(),
                        b.len()
                    );
                }
                (a, _) => return format!("file {file} is {}there", if a.is_some() { "" } else { "not " }),
            }
        }
        "no difference".into()
    }
}

/// Block by block of one or the other; the length of either, or between.
fn between(found: &[u64], a: &[u64], b: &[u64]) -> bool {
    let at = |of: &[u64], n: usize| of.get(n).copied().unwrap_or(0);
    let lengths = a.len().min(b.len())..=a.len().max(b.len());
    lengths.contains(&found.len())
        && found.iter().enumerate().all(|(n, stamp)| *stamp == at(a, n) || *stamp == at(b, n))
}

enum Wrong {
    Device(Error),
    Bytes(String),
}

/// Whether a failing device may answer so.
pub fn is_of_device(error: &Error) -> bool {
    matches!(error, Error::Device(_) | Error::Damaged { .. } | Error::Latched(_) | Error::ReadOnly | Error::NoSpace)
}

fn read_file(fs: &dyn Namespace, file: u64, why: &mut Option<String>) -> Result<Option<Vec<u64>>, Wrong> {
    let attr = match fs.lookup(Ino::ROOT, &name(file)) {
        Ok(attr) => attr,
        Err(Error::NotFound) => return Ok(None),
        Err(e) => return Err(wrong(file, e)),
    };
    let mut stamps = Vec::new();
    let mut block = vec![0; BLOCK_SIZE];
    for n in 0..attr.size / BLOCK_SIZE as u64 {
        match fs.read(attr.ino, n * BLOCK_SIZE as u64, &mut block) {
            Ok(_) => {
                let stamp = u64::from_le_bytes(block[..8].try_into().expect("eight bytes"));
                if block != bytes(stamp) {
                    return Err(Wrong::Bytes(format!("block {n} of file {file} holds bytes that nobody wrote")));
                }
                stamps.push(stamp);
            }
            Err(e) => match wrong(file, e) {
                Wrong::Device(e) => {
                    why.get_or_insert(e.to_string());
                    stamps.push(UNREAD);
                }
                bytes => return Err(bytes),
            },
        }
    }
    Ok(Some(stamps))
}

fn wrong(file: u64, error: Error) -> Wrong {
    if is_of_device(&error) { Wrong::Device(error) } else { Wrong::Bytes(format!("file {file}: {error}")) }
}
