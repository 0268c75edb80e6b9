//! Memory fit for `O_DIRECT`: aligned to a block, zeroed, of a fixed size.
//!
//! The one place in the device layer that allocates by hand.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

use crate::types::BLOCK_SIZE;

/// A buffer of whole blocks, aligned to [`BLOCK_SIZE`]; dereferences to its bytes.
pub struct AlignedBuf {
    start: NonNull<u8>,
    layout: Layout,
}

// SAFETY: the buffer owns its memory alone, and bytes may be used from any thread.
unsafe impl Send for AlignedBuf {}
// SAFETY: shared access gives only `&[u8]`.
unsafe impl Sync for AlignedBuf {}

impl AlignedBuf {
    /// `blocks` blocks of zeros. Panics if that is none, or more than memory can address.
    pub fn new(blocks: usize) -> Self {
        assert!(blocks > 0, "an aligned buffer has at least one block");
        let bytes = blocks.checked_mul(BLOCK_SIZE).expect("an aligned buffer fits the address space");
        let layout = Layout::from_size_align(bytes, BLOCK_SIZE).expect("an aligned buffer fits the address space");
        // SAFETY: the layout's size is not zero.
        let start = unsafe { alloc_zeroed(layout) };
        let start = NonNull::new(start).unwrap_or_else(|| handle_alloc_error(layout));
        Self { start, layout }
    }

    /// A buffer with a copy of `bytes`, which must be whole blocks.
    pub fn copy_of(bytes: &[u8]) -> Self {
        assert!(bytes.len().is_multiple_of(BLOCK_SIZE), "an aligned buffer holds whole blocks");
        let mut buf = Self::new(bytes.len() / BLOCK_SIZE);
        buf.copy_from_slice(bytes);
        buf
    }

    /// Start of the memory, for those who share it in parts; `&self` does not freeze what is behind it.
    pub fn as_raw(&self) -> *mut u8 {
        self.start.as_ptr()
    }

    /// Capacity in blocks.
    pub fn blocks(&self) -> usize {
        self.layout.size() / BLOCK_SIZE
    }
}

/// Whether `O_DIRECT` may use `bytes` as they lie.
pub fn is_aligned(bytes: &[u8]) -> bool {
    bytes.as_ptr().addr().is_multiple_of(BLOCK_SIZE)
}

impl Deref for AlignedBuf {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: `start` points to `layout.size()` initialised bytes that live as long as `self`.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.layout.size()) }
    }
}

impl DerefMut for AlignedBuf {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `deref`, and `&mut self` excludes every other reference.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.layout.size()) }
    }
}

impl Clone for AlignedBuf {
    fn clone(&self) -> Self {
        Self::copy_of(self)
    }
}

impl Drop for AlignedBuf {
    fn drop(&mut self) {
        // SAFETY: allocated in `new` with this very layout, freed only here.
        unsafe { dealloc(self.start.as_ptr(), self.layout) }
    }
}

impl fmt::Debug for AlignedBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AlignedBuf({} blocks)", self.blocks())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_buffer_is_aligned_and_zero() {
        for blocks in [1, 3, 64] {
            let mut buf = AlignedBuf::new(blocks);
            assert!(is_aligned(&buf));
            assert_eq!((buf.len(), buf.blocks()), (blocks * BLOCK_SIZE, blocks));
            assert!(buf.iter().all(|b| *b == 0));
            buf.fill(7);
            let copy = buf.clone();
            assert!(is_aligned(&copy) && copy[..] == buf[..]);
        }
        let buf = AlignedBuf::new(1);
        assert!(!is_aligned(&buf[1..]));
    }
}
