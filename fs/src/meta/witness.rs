//! What clients may know of, kept where it outlives the process.
//!
//! A page of shared memory that a supervisor holds has the LSN of the newest operation that a client may have been told of. A
//! daemon that follows one that died compares it with what roll-forward found: so it knows, and need not guess, whether anything that
//! was accepted is lost. One store for each operation.

use std::cell::Cell;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::MemfdFlags;
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

use crate::types::Lsn;

const PAGE_BYTES: usize = 4096;

thread_local! {
    static QUIET: Cell<bool> = const { Cell::new(false) };
}

/// Runs `work`, whose operations nobody was told of and nobody misses: access times, and the freeing of what was deleted before.
pub fn unwitnessed<T>(work: impl FnOnce() -> T) -> T {
    let before = QUIET.replace(true);
    let value = work();
    QUIET.set(before);
    value
}

/// The page, mapped.
#[derive(Debug)]
pub struct Witness {
    page: NonNull<AtomicU64>,
}

// SAFETY: the page is only touched through atomics, and stays mapped until the drop.
unsafe impl Send for Witness {}
// SAFETY: as above.
unsafe impl Sync for Witness {}

impl Witness {
    /// A page of zeros, to be mapped by any number of processes one after the other.
    pub fn create() -> io::Result<OwnedFd> {
        let memory = rustix::fs::memfd_create("gleanfs-witness", MemfdFlags::CLOEXEC)?;
        rustix::fs::ftruncate(&memory, PAGE_BYTES as u64)?;
        Ok(memory)
    }

    /// Maps the page.
    pub fn map(memory: impl AsFd) -> io::Result<Self> {
        if rustix::fs::fstat(&memory)?.st_size < PAGE_BYTES as i64 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        // SAFETY: a new mapping at a place of the kernel's choice, of bytes that the file has.
        let page = unsafe {
            let protection = ProtFlags::READ | ProtFlags::WRITE;
            mmap(std::ptr::null_mut(), PAGE_BYTES, protection, MapFlags::SHARED, memory, 0)?
        };
        Ok(Self { page: NonNull::new(page.cast()).ok_or(io::ErrorKind::AddrNotAvailable)? })
    }

    fn newest(&self) -> &AtomicU64 {
        // SAFETY: mapped and aligned as long as `self` lives.
        unsafe { self.page.as_ref() }
    }

    /// The newest operation that a client may know of.
    pub fn accepted(&self) -> Lsn {
        Lsn(self.newest().load(Ordering::Acquire))
    }

    /// Clients may soon be told of the operation. The caller holds the state lock, so LSNs come in their order.
    pub(super) fn note(&self, lsn: Lsn) {
        if !QUIET.get() {
            self.newest().store(lsn.0, Ordering::Release);
        }
    }

    /// Nobody knows of anything: there is a new mount, or none yet.
    pub fn forget(&self) {
        self.newest().store(0, Ordering::Release);
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        // SAFETY: mapped by `map` with this length, and nobody has a reference any more.
        let _ = unsafe { munmap(self.page.as_ptr().cast(), PAGE_BYTES) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_noted_is_seen_through_another_mapping_and_quiet_work_is_not() {
        let memory = Witness::create().unwrap();
        let (first, second) = (Witness::map(&memory).unwrap(), Witness::map(&memory).unwrap());
        first.note(Lsn(7));
        unwitnessed(|| first.note(Lsn(8)));
        drop(first);
        assert_eq!(second.accepted(), Lsn(7));
        second.forget();
        assert_eq!(Witness::map(&memory).unwrap().accepted(), Lsn(0));
    }
}
