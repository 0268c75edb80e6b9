//! Memory that two processes share, seen as atomic words: a sealed memfd.
//!
//! Below the advisor's region and the rings of telemetry. The other side may write anything anywhere at any time, so no reference to the
//! contents ever exists: each access is one atomic load or store, bounds-checked against the length that this side mapped. The seals
//! forbid shrinking, so an access cannot fault.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};

use memmap2::{MmapOptions, MmapRaw};
use rustix::fs::{MemfdFlags, SealFlags};

/// Neither size nor seals of the memory can change once it exists.
const SIZE_SEALS: SealFlags = SealFlags::SHRINK.union(SealFlags::GROW).union(SealFlags::SEAL);

#[cfg(test)]
pub(crate) mod modelled;

/// What the rings ask of the memory they stand in, each call one access: so that tests can put them on a model of memory in which accesses
/// come in every order that these ones allow.
pub trait SharedWords {
    fn load_u32(&self, offset: usize, order: Ordering) -> u32;
    fn store_u32(&self, offset: usize, value: u32, order: Ordering);
    fn load_u64(&self, offset: usize, order: Ordering) -> u64;
    fn store_u64(&self, offset: usize, value: u64, order: Ordering);
}

/// A word of this process, for the same reason.
pub trait Atomic64 {
    fn load(&self, order: Ordering) -> u64;
    fn store(&self, value: u64, order: Ordering);
}

impl Atomic64 for AtomicU64 {
    fn load(&self, order: Ordering) -> u64 {
        AtomicU64::load(self, order)
    }

    fn store(&self, value: u64, order: Ordering) {
        AtomicU64::store(self, value, order);
    }
}

impl SharedWords for Words {
    fn load_u32(&self, offset: usize, order: Ordering) -> u32 {
        self.u32(offset).load(order)
    }

    fn store_u32(&self, offset: usize, value: u32, order: Ordering) {
        self.u32(offset).store(value, order);
    }

    fn load_u64(&self, offset: usize, order: Ordering) -> u64 {
        self.u64(offset).load(order)
    }

    fn store_u64(&self, offset: usize, value: u64, order: Ordering) {
        self.u64(offset).store(value, order);
    }
}

/// A mapping of shared memory with the descriptor it came from.
pub struct Words {
    map: MmapRaw,
    fd: OwnedFd,
    bytes: usize,
}

impl Words {
    /// Makes, seals and maps fresh memory, all zeros. `name` is what `/proc` shows.
    pub fn create(name: &CStr, bytes: usize) -> io::Result<Self> {
        let fd = sealable(name)?;
        rustix::fs::ftruncate(&fd, bytes as u64)?;
        rustix::fs::fcntl_add_seals(&fd, SIZE_SEALS)?;
        Ok(Self { map: MmapOptions::new().len(bytes).map_raw(&fd)?, fd, bytes })
    }

    /// Maps the memory behind a descriptor that came from elsewhere, if it is as long as it should be and must stay so.
    pub fn open(fd: OwnedFd, bytes: usize) -> Result<Self, String> {
        let failed = |e: &dyn std::fmt::Display| format!("shared memory: {e}");
        let seals = rustix::fs::fcntl_get_seals(&fd).map_err(|e| failed(&e))?;
        let size = rustix::fs::fstat(&fd).map_err(|e| failed(&e))?.st_size;
        if !seals.contains(SIZE_SEALS) || size != bytes as i64 {
            return Err(format!("shared memory: {size} bytes with seals {seals:?} is not what this program uses"));
        }
        let map = MmapOptions::new().len(bytes).map_raw(&fd).map_err(|e| failed(&e))?;
        Ok(Self { map, fd, bytes })
    }

    /// The descriptor to hand to the other side.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Bytes mapped.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Locks the mapping into memory; best effort, false if the limit forbids it.
    pub fn lock(&self) -> bool {
        // SAFETY: the range is exactly the live mapping that `self.map` owns.
        unsafe { rustix::mm::mlock(self.map.as_mut_ptr().cast(), self.bytes) }.is_ok()
    }

    /// Touches every page, so that later writes need no memory that has to be found first.
    pub fn prefault(&self) {
        (0..self.bytes).step_by(4096).for_each(|at| self.u8(at).store(0, Ordering::Relaxed));
    }

    /// The aligned 32-bit word at `offset`.
    ///
    /// Panics if the offset is not inside the memory: offsets come from this side's constants and
    /// positions, never from shared memory.
    pub fn u32(&self, offset: usize) -> &AtomicU32 {
        assert!(offset.is_multiple_of(4) && offset + 4 <= self.bytes);
        // SAFETY: in bounds of the mapping, aligned (the mapping is page-aligned), valid as long as
        // `self`, and accessed by everybody through atomics only.
        unsafe { AtomicU32::from_ptr(self.map.as_mut_ptr().add(offset).cast()) }
    }

    /// The aligned 64-bit word at `offset`; panics as [`Words::u32`] does.
    pub fn u64(&self, offset: usize) -> &AtomicU64 {
        assert!(offset.is_multiple_of(8) && offset + 8 <= self.bytes);
        // SAFETY: as in `u32`.
        unsafe { AtomicU64::from_ptr(self.map.as_mut_ptr().add(offset).cast()) }
    }

    /// The byte at `offset`; panics as [`Words::u32`] does.
    pub fn u8(&self, offset: usize) -> &AtomicU8 {
        assert!(offset < self.bytes);
        // SAFETY: as in `u32`; bytes need no alignment.
        unsafe { AtomicU8::from_ptr(self.map.as_mut_ptr().add(offset)) }
    }
}

/// An empty memfd that may be sealed, closed on exec.
fn sealable(name: &CStr) -> io::Result<OwnedFd> {
    Ok(rustix::fs::memfd_create(name, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?)
}

/// A memfd that holds `bytes` and can never change again: how a model travels to its worker.
pub fn sealed_copy(bytes: &[u8]) -> io::Result<OwnedFd> {
    let fd = sealable(c"gleanfs-model")?;
    let mut rest = bytes;
    while !rest.is_empty() {
        rest = &rest[rustix::io::write(&fd, rest)?..];
    }
    rustix::fs::fcntl_add_seals(&fd, SIZE_SEALS | SealFlags::WRITE)?;
    Ok(fd)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shared_memory_cannot_be_resized_and_is_seen_by_both() {
        let one = Words::create(c"test", 8192).unwrap();
        assert!(rustix::fs::ftruncate(one.fd(), 0).is_err());
        assert!(rustix::fs::ftruncate(one.fd(), 16_384).is_err());
        let copy = || one.fd().try_clone_to_owned().unwrap();
        let two = Words::open(copy(), 8192).unwrap();
        two.u32(4096).store(7, Ordering::Relaxed);
        assert_eq!(one.u32(4096).load(Ordering::Relaxed), 7);
        assert!(Words::open(copy(), 4096).is_err());
        assert!(Words::open(sealed_copy(b"no such memory").unwrap(), 14).is_err(), "it cannot be written");
    }

    #[test]
    fn a_sealed_copy_cannot_be_written() {
        let fd = sealed_copy(b"model").unwrap();
        assert!(rustix::io::write(&fd, b"x").is_err());
        assert!(rustix::fs::ftruncate(&fd, 1).is_err());
    }
}
