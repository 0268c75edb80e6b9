//! The real files: a tree that any machine has, copied into the mount and compared with what was read.
//!
//! The list is taken once, in sorted order and bounded, so that both images get the same. Each copy is compared by a checksum of the
//! bytes that were read, because the source may change under a running demo.

use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use gleanfs_gc::sim::rng::Rng;

use super::load::Scale;
use super::place::Place;
use crate::cli::bench::process::check_interrupt;
use crate::cli::failure::{About, Failure, Result};
use crate::cli::progress::Bar;

/// Most files and directories taken.
const ENTRIES_MAX: usize = 12_000;
/// A tree smaller than this part of the wanted bytes is only taken if there is no larger one.
const ENOUGH: u64 = 2;
/// Less than this is no tree worth copying.
const WORTH_COPYING: u64 = 1 << 20;

/// What is to be copied, in the order in which it is made.
#[derive(Debug)]
pub struct Manifest {
    root: PathBuf,
    entries: Vec<Entry>,
    bytes: u64,
}

#[derive(Debug)]
struct Entry {
    /// Below the root.
    path: PathBuf,
    kind: Kind,
}

#[derive(Debug, PartialEq, Eq)]
enum Kind {
    Directory,
    File { bytes: u64 },
    Link { target: PathBuf },
}

/// What was written for each entry: the checksum and length of a file.
#[derive(Debug)]
pub struct Copied(Vec<Option<Sum>>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Sum {
    crc: u32,
    bytes: usize,
    mode: u32,
}

impl Manifest {
    /// Takes the first tree of this machine that is large enough, else the largest, else one made up.
    pub fn choose(scale: &Scale, place: &Place) -> Result<Self> {
        let wanted = scale.tree_bytes();
        let mut best: Option<Self> = None;
        for root in candidates() {
            let found = Self::of(root, wanted);
            if found.bytes >= wanted / ENOUGH {
                return Ok(found);
            }
            if best.as_ref().is_none_or(|best| best.bytes < found.bytes) {
                best = Some(found);
            }
        }
        match best.filter(|best| best.bytes >= WORTH_COPYING) {
            Some(best) => Ok(best),
            None => {
                make_up(&place.generated_tree(), wanted, scale.seed)?;
                Ok(Self::of(place.generated_tree(), wanted))
            }
        }
    }

    /// What is below `root`, up to about `wanted` bytes. What cannot be read is left out.
    fn of(root: PathBuf, wanted: u64) -> Self {
        let mut manifest = Self { root, entries: Vec::new(), bytes: 0 };
        manifest.walk(Path::new(""), wanted);
        manifest
    }

    fn walk(&mut self, below: &Path, wanted: u64) {
        let Ok(listing) = std::fs::read_dir(self.root.join(below)) else { return };
        let mut names: Vec<OsString> = listing.flatten().map(|entry| entry.file_name()).collect();
        names.sort();
        for name in names {
            if self.bytes >= wanted || self.entries.len() >= ENTRIES_MAX {
                return;
            }
            let path = below.join(name);
            let Some(kind) = kind_of(&self.root.join(&path), wanted / 4) else { continue };
            let is_directory = kind == Kind::Directory;
            if let Kind::File { bytes } = kind {
                self.bytes += bytes;
            }
            self.entries.push(Entry { path: path.clone(), kind });
            if is_directory {
                self.walk(&path, wanted);
            }
        }
    }

    pub fn source(&self) -> String {
        self.root.display().to_string()
    }

    pub fn files(&self) -> usize {
        self.entries.iter().filter(|entry| matches!(entry.kind, Kind::File { .. })).count()
    }

    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Copies everything to `to`, a directory that is made.
    pub fn copy(&self, to: &Path) -> Result<Copied> {
        let bar = Bar::bytes(self.bytes, "copying files");
        std::fs::create_dir(to).about(to.display())?;
        let mut sums = Vec::with_capacity(self.entries.len());
        let mut done = 0;
        for entry in &self.entries {
            check_interrupt()?;
            sums.push(self.copy_one(entry, &to.join(&entry.path))?);
            if let Kind::File { bytes } = entry.kind {
                done += bytes;
                bar.at(done);
            }
        }
        Ok(Copied(sums))
    }

    fn copy_one(&self, entry: &Entry, to: &Path) -> Result<Option<Sum>> {
        match &entry.kind {
            Kind::Directory => std::fs::create_dir(to).about(to.display())?,
            Kind::Link { target } => std::os::unix::fs::symlink(target, to).about(to.display())?,
            Kind::File { .. } => {
                let from = self.root.join(&entry.path);
                let metadata = std::fs::metadata(&from).about(from.display())?;
                let bytes = std::fs::read(&from).about(from.display())?;
                let mode = metadata.permissions().mode() & 0o777;
                std::fs::write(to, &bytes).about(to.display())?;
                std::fs::set_permissions(to, std::fs::Permissions::from_mode(mode)).about(to.display())?;
                return Ok(Some(Sum { crc: crc32fast::hash(&bytes), bytes: bytes.len(), mode }));
            }
        }
        Ok(None)
    }

    /// Compares the copy with what was read when it was made.
    pub fn verify(&self, copy: &Path, copied: &Copied) -> Result<()> {
        let bar = Bar::steps(self.entries.len() as u64, "comparing files");
        for (n, (entry, sum)) in self.entries.iter().zip(&copied.0).enumerate() {
            check_interrupt()?;
            let path = copy.join(&entry.path);
            let metadata = path.symlink_metadata().about(path.display())?;
            let same = match (&entry.kind, sum) {
                (Kind::Directory, _) => metadata.is_dir(),
                (Kind::Link { target }, _) => std::fs::read_link(&path).about(path.display())? == *target,
                (Kind::File { .. }, sum) => {
                    let bytes = std::fs::read(&path).about(path.display())?;
                    let mode = metadata.permissions().mode() & 0o777;
                    *sum == Some(Sum { crc: crc32fast::hash(&bytes), bytes: bytes.len(), mode })
                }
            };
            if !same {
                return Err(Failure::new(format_args!("{}: differs from what was copied", path.display())));
            }
            bar.at(n as u64 + 1);
        }
        Ok(())
    }
}

fn candidates() -> Vec<PathBuf> {
    let cargo = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let cargo = cargo.or_else(|| std::env::var_os("HOME").map(|home| Path::new(&home).join(".cargo")));
    let registry = cargo.map(|cargo| cargo.join("registry/src"));
    let usual = ["/usr/include", "/usr/share/doc", "/usr/lib/python3", "/usr/share"].map(PathBuf::from);
    registry.into_iter().chain(usual).filter(|root| root.is_dir()).collect()
}

/// What stands at `path`, if it is of a kind that is copied and not larger than `bytes_max`.
fn kind_of(path: &Path, bytes_max: u64) -> Option<Kind> {
    let metadata = path.symlink_metadata().ok()?;
    let kind = metadata.file_type();
    if kind.is_dir() {
        return Some(Kind::Directory);
    }
    if kind.is_symlink() {
        return Some(Kind::Link { target: std::fs::read_link(path).ok()? });
    }
    let readable = || std::fs::File::open(path).is_ok();
    (kind.is_file() && metadata.len() <= bytes_max && readable()).then_some(Kind::File { bytes: metadata.len() })
}

/// Writes a tree of files with sizes from 1 KiB to 512 KiB, most of them small.
fn make_up(root: &Path, wanted: u64, seed: u64) -> Result<()> {
    let mut rng = Rng::new(seed);
    let (mut bytes, mut number) = (0, 0);
    while bytes < wanted && number < ENTRIES_MAX / 2 {
        check_interrupt()?;
        let dir = root.join(format!("{:02}", number % 40));
        std::fs::create_dir_all(&dir).about(dir.display())?;
        let len = (1usize << (10 + rng.below(10))) + rng.below(1000) as usize;
        let content: Vec<u8> = (0..len.div_ceil(8)).flat_map(|_| rng.next_u64().to_le_bytes()).collect();
        let path = dir.join(format!("{number}"));
        std::fs::write(&path, &content).about(path.display())?;
        bytes += content.len() as u64;
        number += 1;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree() -> (tempfile::TempDir, Manifest) {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("source");
        make_up(&root, 1 << 20, 5).unwrap();
        std::os::unix::fs::symlink("00/0", root.join("link")).unwrap();
        let manifest = Manifest::of(root, 1 << 30);
        (directory, manifest)
    }

    #[test]
    fn a_copy_is_compared_and_every_change_is_seen() {
        let (directory, manifest) = tree();
        let to = directory.path().join("copy");
        let copied = manifest.copy(&to).unwrap();
        manifest.verify(&to, &copied).unwrap();
        let victim = to.join("00/0");
        let mut bytes = std::fs::read(&victim).unwrap();
        bytes[100] ^= 1;
        std::fs::write(&victim, &bytes).unwrap();
        assert!(manifest.verify(&to, &copied).unwrap_err().message.contains("00/0: differs"));
        std::fs::remove_file(&victim).unwrap();
        assert!(manifest.verify(&to, &copied).is_err());
    }

    #[test]
    fn the_list_is_bounded_and_repeats_itself() {
        let (directory, manifest) = tree();
        assert!(manifest.files() > 5 && manifest.bytes() >= 1 << 20);
        let small = Manifest::of(directory.path().join("source"), 200 << 10);
        assert!(small.bytes() < (200 << 10) + (50 << 10) && small.files() < manifest.files());
        let again = Manifest::of(directory.path().join("source"), 1 << 30);
        let paths = |m: &Manifest| m.entries.iter().map(|entry| entry.path.clone()).collect::<Vec<_>>();
        assert_eq!(paths(&again), paths(&manifest));
    }
}
