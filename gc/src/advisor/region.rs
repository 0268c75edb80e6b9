//! The sealed memfd that daemon and worker share, seen as atomic words.
//!
//! Below the rings. The other side may write anything anywhere at any time, so no reference to the
//! contents ever exists: each access is one atomic load or store, bounds-checked against the length
//! that this side mapped. The seals forbid shrinking, so an access cannot fault.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};

use memmap2::{MmapOptions, MmapRaw};
use rustix::fs::{MemfdFlags, SealFlags};

use super::protocol::{FEATURES_MAX, MAGIC, REGION_BYTES, ROWS_MAX, SLOTS, VERSION, header};

/// Neither size nor seals of the region can change once it exists.
const SIZE_SEALS: SealFlags = SealFlags::SHRINK.union(SealFlags::GROW).union(SealFlags::SEAL);

/// A mapping of the shared region with the descriptor it came from.
pub struct Region {
    map: MmapRaw,
    fd: OwnedFd,
}

impl Region {
    /// Makes, seals and maps a fresh region with its header written.
    pub fn create() -> io::Result<Region> {
        let fd = sealable(c"gleanfs-advisor")?;
        rustix::fs::ftruncate(&fd, REGION_BYTES as u64)?;
        rustix::fs::fcntl_add_seals(&fd, SIZE_SEALS)?;
        let region = Region { map: MmapOptions::new().len(REGION_BYTES).map_raw(&fd)?, fd };
        region.u64(header::MAGIC).store(MAGIC, Ordering::Relaxed);
        region.u64(header::TOTAL).store(REGION_BYTES as u64, Ordering::Relaxed);
        for (offset, value) in Region::sizes() {
            region.u32(offset).store(value, Ordering::Relaxed);
        }
        Ok(region)
    }

    /// Maps the region behind an inherited descriptor, after checking that it is one.
    pub fn open(fd: OwnedFd) -> Result<Region, String> {
        let seals = rustix::fs::fcntl_get_seals(&fd).map_err(|e| format!("shared region: {e}"))?;
        let size = rustix::fs::fstat(&fd).map_err(|e| format!("shared region: {e}"))?.st_size;
        if !seals.contains(SIZE_SEALS) || size != REGION_BYTES as i64 {
            return Err(format!("shared region: {size} bytes with seals {seals:?} is not what this program uses"));
        }
        let map = MmapOptions::new().len(REGION_BYTES).map_raw(&fd).map_err(|e| format!("shared region: {e}"))?;
        let region = Region { map, fd };
        let same = region.u64(header::MAGIC).load(Ordering::Relaxed) == MAGIC
            && Region::sizes().iter().all(|&(offset, value)| region.u32(offset).load(Ordering::Relaxed) == value);
        if same { Ok(region) } else { Err("shared region: made by another version of this program".into()) }
    }

    fn sizes() -> [(usize, u32); 4] {
        [
            (header::VERSION, VERSION),
            (header::ROWS_MAX, ROWS_MAX as u32),
            (header::FEATURES_MAX, FEATURES_MAX as u32),
            (header::SLOTS, SLOTS as u32),
        ]
    }

    /// The descriptor to hand to a worker.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Bytes mapped.
    pub fn bytes(&self) -> usize {
        REGION_BYTES
    }

    /// Locks the mapping into memory; best effort, false if the limit forbids it.
    pub fn lock(&self) -> bool {
        // SAFETY: the range is exactly the live mapping that `self.map` owns.
        unsafe { rustix::mm::mlock(self.map.as_mut_ptr().cast(), REGION_BYTES) }.is_ok()
    }

    /// The aligned 32-bit word at `offset`.
    ///
    /// Panics if the offset is not inside the region: offsets come from this side's constants and
    /// positions, never from shared memory.
    pub fn u32(&self, offset: usize) -> &AtomicU32 {
        assert!(offset.is_multiple_of(4) && offset + 4 <= REGION_BYTES);
        // SAFETY: in bounds of the mapping, aligned (the mapping is page-aligned), valid as long as
        // `self`, and accessed by everybody through atomics only.
        unsafe { AtomicU32::from_ptr(self.map.as_mut_ptr().add(offset).cast()) }
    }

    /// The aligned 64-bit word at `offset`; panics as [`Region::u32`] does.
    pub fn u64(&self, offset: usize) -> &AtomicU64 {
        assert!(offset.is_multiple_of(8) && offset + 8 <= REGION_BYTES);
        // SAFETY: as in `u32`.
        unsafe { AtomicU64::from_ptr(self.map.as_mut_ptr().add(offset).cast()) }
    }

    fn u8(&self, offset: usize) -> &AtomicU8 {
        assert!(offset < REGION_BYTES);
        // SAFETY: as in `u32`; bytes need no alignment.
        unsafe { AtomicU8::from_ptr(self.map.as_mut_ptr().add(offset)) }
    }

    /// Copies `into.len()` floats out, each read once.
    pub(crate) fn load_f32s(&self, offset: usize, into: &mut [f32]) {
        for (i, value) in into.iter_mut().enumerate() {
            *value = f32::from_bits(self.u32(offset + 4 * i).load(Ordering::Relaxed));
        }
    }

    /// Writes floats one after the other.
    pub(crate) fn store_f32s(&self, offset: usize, from: impl Iterator<Item = f32>) {
        for (i, value) in from.enumerate() {
            self.u32(offset + 4 * i).store(value.to_bits(), Ordering::Relaxed);
        }
    }

    /// Copies a zero-terminated text out; what is not printable ASCII becomes `?`.
    pub(crate) fn load_text(&self, offset: usize, bytes_max: usize) -> String {
        (0..bytes_max)
            .map(|i| self.u8(offset + i).load(Ordering::Relaxed))
            .take_while(|&b| b != 0)
            .map(|b| if (0x20..0x7f).contains(&b) { b as char } else { '?' })
            .collect()
    }

    /// Writes a text, cut to fit with its terminating zero.
    pub(crate) fn store_text(&self, offset: usize, bytes_max: usize, text: &str) {
        let bytes = text.as_bytes();
        for i in 0..bytes_max {
            let byte = if i + 1 < bytes_max { bytes.get(i).copied().unwrap_or(0) } else { 0 };
            self.u8(offset + i).store(byte, Ordering::Relaxed);
        }
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
    fn a_region_cannot_be_resized_and_is_recognized() {
        let region = Region::create().unwrap();
        assert!(rustix::fs::ftruncate(&region.fd, 0).is_err());
        assert!(rustix::fs::ftruncate(&region.fd, 2 * REGION_BYTES as u64).is_err());
        let second = Region::open(region.fd.try_clone().unwrap()).unwrap();
        second.u32(header::STATE).store(7, Ordering::Relaxed);
        assert_eq!(region.u32(header::STATE).load(Ordering::Relaxed), 7);
        region.u32(header::VERSION).store(99, Ordering::Relaxed);
        assert!(Region::open(region.fd.try_clone().unwrap()).is_err());
        assert!(Region::open(sealed_copy(b"not a region").unwrap()).is_err());
    }

    #[test]
    fn text_is_cut_and_cleaned() {
        let region = Region::create().unwrap();
        region.store_text(header::MESSAGE, 8, "long message");
        assert_eq!(region.load_text(header::MESSAGE, 8), "long me");
        region.store_text(header::MESSAGE, 8, "a\x1b\nb");
        assert_eq!(region.load_text(header::MESSAGE, 8), "a??b");
    }

    #[test]
    fn a_sealed_copy_cannot_be_written() {
        let fd = sealed_copy(b"model").unwrap();
        assert!(rustix::io::write(&fd, b"x").is_err());
        assert!(rustix::fs::ftruncate(&fd, 1).is_err());
    }
}
