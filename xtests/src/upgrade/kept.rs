//! What a program keeps open across daemons: a file without a name, a mapping with dirty pages, a lock, a directory half read.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs::{File, OpenOptions, ReadDir};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use rustix::fs::{FlockOperation, flock};

use super::clients::see_stored;
use crate::block::{BLOCK, Seen, Stamp};
use crate::map::Map;
use crate::volume::Volume;

const NAMELESS_BYTES: usize = 300_000;
/// More than one getdents(2) gives.
const NAMES: usize = 2500;
/// Number of the mapped file in its blocks.
const MAPPED: u64 = 99;

/// Open things.
pub(super) struct Kept {
    nameless: File,
    contents: Vec<u8>,
    locked: File,
    mapped: Map,
    listing: ReadDir,
    listed: HashSet<OsString>,
    directory: PathBuf,
    round: u64,
}

impl Kept {
    pub(super) fn open(directory: &Path) -> Result<Self> {
        let directory = directory.join("kept");
        std::fs::create_dir(&directory)?;
        let name = directory.join("nameless");
        let nameless = OpenOptions::new().read(true).write(true).create_new(true).open(&name)?;
        let contents = vec![7; NAMELESS_BYTES];
        nameless.write_all_at(&contents, 0)?;
        nameless.sync_all()?;
        std::fs::remove_file(&name)?;
        let locked = File::create(directory.join("locked"))?;
        flock(&locked, FlockOperation::NonBlockingLockExclusive)?;
        let listing = half_read(&directory.join("names"))?;
        let mapped = OpenOptions::new().read(true).write(true).create_new(true).open(directory.join("mapped"))?;
        mapped.write_all_at(&stamp(0).block(), 0)?;
        let mapped = Map::of(&mapped, BLOCK)?;
        Ok(Self { nameless, contents, locked, mapped, listing, listed: HashSet::new(), directory, round: 0 })
    }

    /// All of it is as it was. Leaves a dirty page behind.
    pub(super) fn verify(&mut self) -> Result<()> {
        let mut read = vec![0; NAMELESS_BYTES];
        // Not from the kernel's cache.
        rustix::fs::fadvise(&self.nameless, 0, None, rustix::fs::Advice::DontNeed)?;
        self.nameless.read_exact_at(&mut read, 0).context("a file without a name")?;
        ensure!(read == self.contents, "a file without a name has other contents");
        ensure!(self.nameless.metadata()?.nlink() == 0, "a file without a name has got one");
        self.verify_mapped().context("a mapped file")?;
        self.list(NAMES / 50).context("a directory half read")?;
        let other = File::open(self.directory.join("locked"))?;
        let taken = flock(&other, FlockOperation::NonBlockingLockExclusive);
        ensure!(taken == Err(rustix::io::Errno::WOULDBLOCK), "a lock that is held was given to another: {taken:?}");
        Ok(())
    }

    fn verify_mapped(&mut self) -> Result<()> {
        self.mapped.sync()?;
        let seen = see_stored(&self.directory.join("mapped"), 0)?;
        ensure!(seen == Seen::Whole(stamp(self.round)), "round {} was stored, there is {seen:?}", self.round);
        self.round += 1;
        self.mapped.block(0).copy_from_slice(&stamp(self.round).block());
        Ok(())
    }

    /// Goes on reading the directory for `most` names.
    fn list(&mut self, most: usize) -> Result<()> {
        for entry in self.listing.by_ref().take(most) {
            let name = entry?.file_name();
            ensure!(self.listed.insert(name.clone()), "{} is listed twice", name.display());
        }
        Ok(())
    }

    /// Closes all, and sees that every name was listed and that the room of the file without a name comes back.
    pub(super) fn end(mut self, volume: &Volume) -> Result<()> {
        self.list(NAMES)?;
        ensure!(self.listed.len() == NAMES, "of {NAMES} names {} were listed", self.listed.len());
        let before = rustix::fs::statvfs(volume.target())?.f_bfree;
        drop((self.nameless, self.locked, self.mapped));
        for _ in 0..3000 {
            if rustix::fs::statvfs(volume.target())?.f_bfree > before {
                return Ok(std::fs::remove_dir_all(&self.directory)?);
            }
            // The kernel forgets an inode when it likes, and tells nobody.
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        anyhow::bail!("the room of a deleted file did not come back when it was closed")
    }
}

fn stamp(version: u64) -> Stamp {
    Stamp { file: MAPPED, index: 0, version }
}

/// A directory of which the first names are on their way to the reader.
fn half_read(directory: &Path) -> Result<ReadDir> {
    std::fs::create_dir(directory)?;
    for n in 0..NAMES {
        File::create_new(directory.join(format!("name {n}")))?;
    }
    Ok(std::fs::read_dir(directory)?)
}
