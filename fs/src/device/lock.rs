//! One writer per image: an advisory `flock` on the image file, device node or directory, held while it is open.
//!
//! A writer locks exclusively, a reader shared: so any number of readers may look at an image, and a writer is alone with it.
//! The lock belongs to the open file, so it goes when the last descriptor is closed, however the process ends.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::FlockOperation;
use rustix::io::{Errno, retry_on_intr};

use super::open::OpenMode;
use crate::error::{Error, Result};

/// How long a passing holder of a block device's lock is waited for: udev takes a shared one whenever a writer has closed the node.
const PROBE_WAIT: Duration = Duration::from_secs(2);
/// A process that another thread of the holder has just forked shares the lock until it execs.
const FORK_WAIT: Duration = Duration::from_millis(300);
const PROBE_STEP: Duration = Duration::from_millis(20);

/// The right to use an image; given up when this and the device are dropped.
#[derive(Debug)]
pub struct ImageLock {
    _file: File,
}

impl ImageLock {
    /// Locks the open image `file`; `path` is for messages. Refused, naming the holder, if others use it in a way that excludes this.
    pub fn take(file: &File, path: &Path, mode: OpenMode) -> Result<Self> {
        let operation = match mode {
            OpenMode::ReadOnly => FlockOperation::NonBlockingLockShared,
            OpenMode::ReadWrite => FlockOperation::NonBlockingLockExclusive,
        };
        let refused = |e: io::Error| Error::Refused(format!("{}: cannot be locked: {e}", path.display()));
        let block_device = file.metadata().map_err(refused)?.file_type().is_block_device();
        let patience = if block_device { PROBE_WAIT } else { FORK_WAIT };
        match lock_within(file, operation, patience) {
            Ok(()) => Ok(Self { _file: file.try_clone().map_err(refused)? }),
            Err(Errno::WOULDBLOCK) => Err(Error::Refused(in_use(path))),
            Err(e) => Err(refused(e.into())),
        }
    }
}

/// The kernel has no `flock` with a time limit, so a limit means trying again.
fn lock_within(file: &File, operation: FlockOperation, patience: Duration) -> rustix::io::Result<()> {
    let deadline = Instant::now() + patience;
    loop {
        match retry_on_intr(|| rustix::fs::flock(file.as_fd(), operation)) {
            Err(Errno::WOULDBLOCK) if Instant::now() < deadline => std::thread::sleep(PROBE_STEP),
            other => return other,
        }
    }
}

/// The sentence for an image in other use, with the holder if he can be found.
pub(super) fn in_use(path: &Path) -> String {
    let by = match std::fs::metadata(path).ok().and_then(|m| holder(m.dev(), m.ino())) {
        Some(holder) => format!("by {holder}"),
        None => "(mounted, or opened by another program)".to_owned(),
    };
    format!("{} is in use {by}", path.display())
}

/// Name and id of a process that holds a lock on an inode.
fn holder(dev: u64, ino: u64) -> Option<String> {
    let locks = std::fs::read_to_string("/proc/locks").ok()?;
    let pid = locks.lines().find_map(|line| holder_in(line, dev, ino))?;
    match std::fs::read_to_string(format!("/proc/{pid}/comm")) {
        Ok(name) => Some(format!("{} (process {pid})", name.trim())),
        Err(_) => Some(format!("process {pid}")),
    }
}

/// The process in one line of `/proc/locks`, as `1: FLOCK  ADVISORY  WRITE 4711 fd:00:8128 0 EOF`, if it is about this inode.
fn holder_in(line: &str, dev: u64, ino: u64) -> Option<u32> {
    let fields: Vec<_> = line.split_ascii_whitespace().collect();
    // A waiter's line has an arrow in the second place.
    let [_, "FLOCK", _, _, pid, place, ..] = fields[..] else { return None };
    let mut parts = place.split(':');
    let major = u32::from_str_radix(parts.next()?, 16).ok()?;
    let minor = u32::from_str_radix(parts.next()?, 16).ok()?;
    let found: u64 = parts.next()?.parse().ok()?;
    let same = (major, minor, found) == (rustix::fs::major(dev), rustix::fs::minor(dev), ino);
    // 0 and -1 stand for processes of another pid namespace.
    pid.parse().ok().filter(|pid| same && *pid > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_writer_is_alone_and_readers_share() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("image");
        File::create(&file).unwrap();
        for path in [file.as_path(), dir.path()] {
            let take = |mode| ImageLock::take(&File::open(path).unwrap(), path, mode);
            let writer = take(OpenMode::ReadWrite).unwrap();
            let message = take(OpenMode::ReadWrite).unwrap_err().to_string();
            assert!(message.starts_with(&format!("{} is in use", path.display())), "{message}");
            assert!(take(OpenMode::ReadOnly).is_err());
            drop(writer);
            let reader = take(OpenMode::ReadOnly).unwrap();
            let second = take(OpenMode::ReadOnly).unwrap();
            assert!(take(OpenMode::ReadWrite).is_err());
            drop((reader, second));
            take(OpenMode::ReadWrite).unwrap();
        }
    }

    #[test]
    fn the_holder_is_found_in_the_kernels_list() {
        let line = "3: FLOCK  ADVISORY  WRITE 4711 fd:0a:8128 0 EOF";
        let dev = rustix::fs::makedev(0xfd, 0x0a);
        assert_eq!(holder_in(line, dev, 8128), Some(4711));
        assert_eq!(holder_in(line, dev, 8129), None);
        assert_eq!(holder_in(line, rustix::fs::makedev(0xfd, 0x0b), 8128), None);
        assert_eq!(holder_in("3: -> FLOCK  ADVISORY  WRITE 4711 fd:0a:8128 0 EOF", dev, 8128), None);
        assert_eq!(holder_in("3: FLOCK  ADVISORY  WRITE -1 fd:0a:8128 0 EOF", dev, 8128), None);
        assert_eq!(holder_in("nonsense", dev, 8128), None);
    }
}
