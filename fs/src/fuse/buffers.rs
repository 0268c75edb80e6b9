//! Read buffers: one for each session thread, aligned for `O_DIRECT`, kept for the thread's life.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::cell::RefCell;
use std::ptr::NonNull;

use crate::types::BLOCK_SIZE;

/// Bytes that the kernel asks for at most at a time (`max_read`); a buffer's first size.
pub(super) const READ_BYTES_MAX: usize = 1 << 20;

/// Memory aligned to a block.
struct AlignedBuffer {
    start: NonNull<u8>,
    len: usize,
}

impl AlignedBuffer {
    /// `len` bytes, rounded up to whole blocks; at least one.
    fn new(len: usize) -> Self {
        let layout = Self::layout(len.max(1).next_multiple_of(BLOCK_SIZE));
        // SAFETY: the layout's size is not zero.
        let start = unsafe { alloc_zeroed(layout) };
        let Some(start) = NonNull::new(start) else { handle_alloc_error(layout) };
        Self { start, len: layout.size() }
    }

    fn layout(len: usize) -> Layout {
        Layout::from_size_align(len, BLOCK_SIZE).expect("a read is far smaller than the address space")
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: `start` is an allocation of `len` initialized bytes that `self` owns, and `self` is borrowed mutably.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }
}

impl Drop for AlignedBuffer {
    fn drop(&mut self) {
        // SAFETY: allocated in `new` with this layout.
        unsafe { dealloc(self.start.as_ptr(), Self::layout(self.len)) }
    }
}

thread_local! {
    static BUFFER: RefCell<Option<AlignedBuffer>> = const { RefCell::new(None) };
}

/// Calls `work` with this thread's buffer, `len` bytes of it. The bytes are whatever was left in them.
pub(super) fn with_read_buffer<T>(len: usize, work: impl FnOnce(&mut [u8]) -> T) -> T {
    BUFFER.with_borrow_mut(|slot| {
        if slot.as_ref().is_none_or(|buffer| buffer.len < len) {
            *slot = Some(AlignedBuffer::new(len.max(READ_BYTES_MAX)));
        }
        let buffer = slot.as_mut().expect("just filled");
        work(&mut buffer.bytes_mut()[..len])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_gets_the_same_aligned_memory_again() {
        let first = with_read_buffer(10, |buf| {
            buf.fill(7);
            assert_eq!(buf.len(), 10);
            buf.as_ptr() as usize
        });
        let second = with_read_buffer(READ_BYTES_MAX, |buf| buf.as_ptr() as usize);
        assert_eq!(first, second);
        assert_eq!(first % BLOCK_SIZE, 0);
    }

    #[test]
    fn a_longer_read_gets_a_longer_buffer() {
        with_read_buffer(2 * READ_BYTES_MAX + 1, |buf| {
            buf.fill(1);
            assert_eq!(buf.len(), 2 * READ_BYTES_MAX + 1);
            assert_eq!(buf.as_ptr() as usize % BLOCK_SIZE, 0);
        });
    }
}
