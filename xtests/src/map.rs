//! A shared mapping of a file, in blocks.

use std::fs::File;

use anyhow::Result;
use rustix::mm::{MapFlags, MsyncFlags, ProtFlags, mmap, msync, munmap};

use crate::block::BLOCK;

/// The mapping; gone when dropped.
pub(crate) struct Map {
    start: *mut u8,
    bytes: usize,
}

impl Map {
    /// Maps the first `bytes` of `file`, which is as long as that.
    pub(crate) fn of(file: &File, bytes: usize) -> Result<Self> {
        let rights = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping where the kernel likes, of a file that is as long as it.
        let start = unsafe { mmap(std::ptr::null_mut(), bytes, rights, MapFlags::SHARED, file, 0) }?;
        Ok(Self { start: start.cast(), bytes })
    }

    pub(crate) fn block(&mut self, index: u64) -> &mut [u8] {
        let at = index as usize * BLOCK;
        assert!(at + BLOCK <= self.bytes);
        // SAFETY: within the mapping, which nobody else knows.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(at), BLOCK) }
    }

    /// Writes what is dirty of it, and waits for that.
    pub(crate) fn sync(&self) -> Result<()> {
        // SAFETY: the mapping of this value.
        Ok(unsafe { msync(self.start.cast(), self.bytes, MsyncFlags::SYNC) }?)
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        // SAFETY: the mapping of this value, which nobody has a part of any more.
        let _ = unsafe { munmap(self.start.cast(), self.bytes) };
    }
}
