//! The disk's process: a FUSE file server with one file, `image`, whose writes go through the volatile cache.
//!
//! Orders come by standard input, one a line. When it ends, so does the server, and its mount goes with it:
//! a campaign that is killed leaves no mount behind.

use std::ffi::OsStr;
use std::io::{BufRead, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use fuser::{
    Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo, KernelConfig,
    LockOwner, MountOption, OpenFlags, ReplyAttr, ReplyData, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyWrite, Request,
    Session, WriteFlags,
};
use rustix::mount::UnmountFlags;

use super::cache::{Cache, Failing, Flushes};
use super::{ANSWER, FAIL_FLUSHES, FAIL_WRITES, FORGET_FLUSHES, IMAGE_NAME, STOP_AFTER};
use crate::block::BLOCK;

const IMAGE: INodeNo = INodeNo(2);
/// Nothing but this server changes the file, and its size is fixed.
const TTL: Duration = Duration::from_secs(3600);
/// Largest transfer; a chunk of gleanfs fits.
const WRITE_BYTES_MAX: u32 = 1 << 20;

/// What a disk is started with.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// The file that is the medium
    pub medium: std::path::PathBuf,
    /// Where to serve it
    pub target: std::path::PathBuf,
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Percent of the writes of which something is destaged before a flush
    #[arg(long, default_value_t = super::DESTAGE_PERCENT)]
    pub destage: u64,
}

/// Serves until standard input ends.
pub fn main(options: &Options) -> Result<()> {
    let cache = Cache::open(&options.medium, options.seed, options.destage)
        .with_context(|| options.medium.display().to_string())?;
    let cache = Arc::new(Mutex::new(cache));
    let session = Session::new(Disk { cache: Arc::clone(&cache) }, &options.target, &config())
        .with_context(|| format!("mounting on {}", options.target.display()))?;
    let serving = session.spawn()?;
    let answered = answer(&cache);
    // The process ends without waiting for the session: whoever still uses the disk shall see it die.
    let unmounted = unmount(&options.target);
    std::mem::forget(serving);
    answered.and(unmounted)
}

fn config() -> Config {
    let mut config = Config::default();
    config.mount_options = vec![MountOption::FSName("testdisk".into()), MountOption::Subtype("testdisk".into())];
    config.n_threads = Some(2);
    config.clone_fd = true;
    config
}

fn answer(cache: &Mutex<Cache>) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{ANSWER}")?;
    for line in std::io::stdin().lock().lines() {
        let order = line?;
        match (order.as_str(), order.strip_prefix(STOP_AFTER)) {
            (FORGET_FLUSHES, _) => locked(cache).flushes = Flushes::Forgotten,
            (FAIL_WRITES, _) => locked(cache).failing = Some((Failing::Writes, 0)),
            (FAIL_FLUSHES, _) => locked(cache).failing = Some((Failing::Flushes, 0)),
            (_, Some(changes)) => {
                locked(cache).stop_after = Some(changes.trim().parse()?);
                continue;
            }
            (other, None) => bail!("no such order: {other}"),
        }
        writeln!(out, "{ANSWER}")?;
    }
    Ok(())
}

fn unmount(target: &Path) -> Result<()> {
    Ok(rustix::mount::unmount(target, UnmountFlags::DETACH)?)
}

fn locked(cache: &Mutex<Cache>) -> MutexGuard<'_, Cache> {
    cache.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Disk {
    cache: Arc<Mutex<Cache>>,
}

impl Disk {
    fn attr(&self, ino: INodeNo) -> Result<FileAttr, Errno> {
        let (kind, perm, size) = match ino {
            INodeNo::ROOT => (FileType::Directory, 0o700, 0),
            IMAGE => (FileType::RegularFile, 0o600, locked(&self.cache).size_bytes().map_err(errno)?),
            _ => return Err(Errno::ENOENT),
        };
        let time = UNIX_EPOCH;
        Ok(FileAttr {
            ino,
            size,
            blocks: size / 512,
            atime: time,
            mtime: time,
            ctime: time,
            crtime: time,
            kind,
            perm,
            nlink: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
            blksize: BLOCK as u32,
            flags: 0,
        })
    }
}

fn errno(error: std::io::Error) -> Errno {
    error.into()
}

impl Filesystem for Disk {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> std::io::Result<()> {
        // Refused is only what is out of range; then the kernel's own limit holds.
        let _ = config.set_max_write(WRITE_BYTES_MAX);
        Ok(())
    }

    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        match self.attr(IMAGE) {
            Ok(attr) if parent == INodeNo::ROOT && name == IMAGE_NAME => reply.entry(&TTL, &attr, Generation(0)),
            Ok(_) => reply.error(Errno::ENOENT),
            Err(error) => reply.error(error),
        }
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match self.attr(ino) {
            Ok(attr) => reply.attr(&TTL, &attr),
            Err(error) => reply.error(error),
        }
    }

    fn open(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        // Past the page cache, so that a write has reached the disk when it returns, as with O_DIRECT on a device.
        reply.opened(FileHandle(0), FopenFlags::FOPEN_DIRECT_IO | FopenFlags::FOPEN_PARALLEL_DIRECT_WRITES);
    }

    fn read(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let cache = locked(&self.cache);
        let left = cache.size_bytes().unwrap_or(0).saturating_sub(offset);
        let mut buf = vec![0; left.min(size.into()) as usize];
        match cache.read(offset, &mut buf) {
            Ok(()) => reply.data(&buf),
            Err(error) => reply.error(errno(error)),
        }
    }

    fn write(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        match locked(&self.cache).write(offset, data) {
            Ok(()) => reply.written(data.len() as u32),
            Err(error) => reply.error(errno(error)),
        }
    }

    /// close(2) is no flush of the disk.
    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }

    fn fsync(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        done(locked(&self.cache).flush(), reply);
    }

    fn fallocate(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        let mut cache = locked(&self.cache);
        if mode & libc::FALLOC_FL_PUNCH_HOLE != 0 {
            done(cache.punch(offset, length), reply);
        } else if mode & !libc::FALLOC_FL_KEEP_SIZE == 0 {
            done(cache.allocate(offset, length), reply);
        } else {
            reply.error(Errno::EOPNOTSUPP);
        }
    }
}

fn done(outcome: std::io::Result<()>, reply: ReplyEmpty) {
    match outcome {
        Ok(()) => reply.ok(),
        Err(error) => reply.error(errno(error)),
    }
}
