//! The namespace under watch: how long requests take, the longest of them, and what was written a minute ago.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::control::status::Stall;
use crate::error::Result;
use crate::namespace::Filesystem;
use crate::namespace::api::*;
use crate::types::Ino;

/// Requests shorter than this are not worth a lock.
const WORTH_NOTING: Duration = Duration::from_millis(10);
const STALLS_MAX: usize = 8;
const MINUTE: Duration = Duration::from_secs(60);

/// Bytes at some moment.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sample {
    pub user: u64,
    pub device: u64,
}

/// A filesystem whose requests are timed.
pub struct Watched {
    filesystem: Filesystem,
    since: Instant,
    longest: Mutex<Vec<Stall>>,
    samples: Mutex<VecDeque<(Instant, Sample)>>,
}

impl Watched {
    pub fn new(filesystem: Filesystem) -> Self {
        Self { filesystem, since: Instant::now(), longest: Mutex::default(), samples: Mutex::default() }
    }

    pub fn uptime(&self) -> Duration {
        self.since.elapsed()
    }

    /// No more freeing in the background.
    pub fn stop(&self) {
        self.filesystem.stop();
    }

    /// Inodes that have lost their last name and that somebody may still use.
    pub fn nameless(&self) -> Vec<Ino> {
        self.filesystem.nameless()
    }

    /// The longest requests since the mount, longest first.
    pub fn longest(&self) -> Vec<Stall> {
        self.longest.lock().clone()
    }

    /// What was written up to a minute ago, or up to the mount if that is later.
    pub fn minute_ago(&self) -> Sample {
        let samples = self.samples.lock();
        samples
            .iter()
            .rev()
            .find(|(at, _)| at.elapsed() >= MINUTE)
            .or(samples.front())
            .map_or(Sample::default(), |s| s.1)
    }

    /// Remembers what is written by now, for a minute.
    pub fn note_written(&self, now: Sample) {
        let mut samples = self.samples.lock();
        while samples.len() > 1 && samples[1].0.elapsed() >= MINUTE {
            samples.pop_front();
        }
        samples.push_back((Instant::now(), now));
    }

    fn timed<T>(&self, operation: &'static str, run: impl FnOnce(&Filesystem) -> T) -> T {
        let begin = Instant::now();
        let answer = run(&self.filesystem);
        let took = begin.elapsed();
        if took >= WORTH_NOTING {
            self.note(operation, took);
        }
        answer
    }

    fn note(&self, operation: &'static str, took: Duration) {
        let mut longest = self.longest.lock();
        let duration_us = took.as_micros() as u64;
        let at = longest.partition_point(|s| s.duration_us >= duration_us);
        if at < STALLS_MAX {
            let at_secs = self.since.elapsed().as_secs();
            longest.insert(at, Stall { operation: operation.into(), duration_us, at_secs });
            longest.truncate(STALLS_MAX);
        }
    }
}

macro_rules! timed {
    ($($name:ident($($arg:ident: $type:ty),*) -> $ret:ty;)*) => {
        $(fn $name(&self, $($arg: $type),*) -> $ret {
            self.timed(stringify!($name), |fs| fs.$name($($arg),*))
        })*
    };
}

impl Namespace for Watched {
    timed! {
        lookup(parent: Ino, name: &[u8]) -> Result<Attr>;
        parent(dir: Ino) -> Result<Ino>;
        getattr(ino: Ino) -> Result<Attr>;
        setattr(who: &Caller, ino: Ino, change: &AttrChange) -> Result<Attr>;
        readlink(ino: Ino) -> Result<Vec<u8>>;
        create(who: &Caller, parent: Ino, name: &[u8], new: &NewInode<'_>) -> Result<Attr>;
        link(ino: Ino, parent: Ino, name: &[u8]) -> Result<Attr>;
        unlink(parent: Ino, name: &[u8]) -> Result<()>;
        rmdir(parent: Ino, name: &[u8]) -> Result<()>;
        rename(parent: Ino, name: &[u8], new_parent: Ino, new_name: &[u8], mode: RenameMode) -> Result<()>;
        forget(ino: Ino) -> ();
        readdir(dir: Ino, cookie: u64, plus: bool, visit: &mut dyn FnMut(&DirEntry<'_>) -> bool) -> Result<()>;
        read(ino: Ino, offset: u64, buf: &mut [u8]) -> Result<usize>;
        touch_atime(ino: Ino) -> Result<()>;
        write(ino: Ino, offset: u64, data: &[u8], kill_priv: bool) -> Result<()>;
        fallocate(ino: Ino, offset: u64, len: u64, mode: Fallocate) -> Result<()>;
        seek(ino: Ino, offset: u64, whence: Seek) -> Result<u64>;
        copy_range(from: Ino, from_offset: u64, to: Ino, to_offset: u64, len: u64) -> Result<u64>;
        fsync(ino: Ino, data_only: bool) -> Result<()>;
        sync() -> Result<()>;
        set_xattr(ino: Ino, name: &[u8], value: &[u8], mode: XattrMode) -> Result<()>;
        get_xattr(ino: Ino, name: &[u8]) -> Result<Vec<u8>>;
        list_xattr(ino: Ino) -> Result<Vec<u8>>;
        remove_xattr(ino: Ino, name: &[u8]) -> Result<()>;
        space() -> Result<SpaceInfo>;
    }
}
