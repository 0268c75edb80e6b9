//! What a program keeps open across daemons: a file without a name, a mapping, a lock.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use rustix::fs::{FlockOperation, flock};

use crate::volume::Volume;

const NAMELESS_BYTES: usize = 300_000;

/// Open things.
pub(super) struct Kept {
    nameless: File,
    contents: Vec<u8>,
    locked: File,
    lock_path: PathBuf,
    round: u64,
}

impl Kept {
    pub(super) fn open(directory: &Path) -> Result<Self> {
        let name = directory.join("nameless");
        let nameless = OpenOptions::new().read(true).write(true).create_new(true).open(&name)?;
        let contents = vec![7; NAMELESS_BYTES];
        nameless.write_all_at(&contents, 0)?;
        nameless.sync_all()?;
        std::fs::remove_file(&name)?;
        let lock_path = directory.join("locked");
        let locked = File::create(&lock_path)?;
        flock(&locked, FlockOperation::NonBlockingLockExclusive)?;
        Ok(Self { nameless, contents, locked, lock_path, round: 0 })
    }

    /// All of it is as it was.
    pub(super) fn verify(&mut self) -> Result<()> {
        let mut read = vec![0; NAMELESS_BYTES];
        // Not from the kernel's cache.
        rustix::fs::fadvise(&self.nameless, 0, None, rustix::fs::Advice::DontNeed)?;
        self.nameless.read_exact_at(&mut read, 0).context("a file without a name")?;
        ensure!(read == self.contents, "a file without a name has other contents");
        ensure!(self.nameless.metadata()?.nlink() == 0, "a file without a name has got one");
        self.round += 1;
        let other = File::open(&self.lock_path)?;
        let taken = flock(&other, FlockOperation::NonBlockingLockExclusive);
        ensure!(taken == Err(rustix::io::Errno::WOULDBLOCK), "a lock that is held was given to another: {taken:?}");
        Ok(())
    }

    /// Closes all, and sees that the room of the file without a name comes back.
    pub(super) fn end(self, volume: &Volume) -> Result<()> {
        let before = rustix::fs::statvfs(volume.target())?.f_bfree;
        drop(self.nameless);
        drop(self.locked);
        for _ in 0..500 {
            if rustix::fs::statvfs(volume.target())?.f_bfree > before {
                return Ok(());
            }
            // The kernel forgets an inode when it likes, and tells nobody.
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        anyhow::bail!("the room of a deleted file did not come back when it was closed")
    }
}
