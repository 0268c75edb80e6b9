//! Read buffers: one for each session thread, aligned for `O_DIRECT`, kept for the thread's life.

use std::cell::RefCell;

use crate::device::aligned::AlignedBuf;
use crate::types::BLOCK_SIZE;

/// Bytes that the kernel asks for at most at a time (`max_read`); a buffer's first size.
pub(super) const READ_BYTES_MAX: usize = 1 << 20;

thread_local! {
    static BUFFER: RefCell<Option<AlignedBuf>> = const { RefCell::new(None) };
}

/// Calls `work` with this thread's buffer, `len` bytes of it. The bytes are whatever was left in them.
pub(super) fn with_read_buffer<T>(len: usize, work: impl FnOnce(&mut [u8]) -> T) -> T {
    BUFFER.with_borrow_mut(|slot| {
        if slot.as_ref().is_none_or(|buffer| buffer.len() < len) {
            *slot = Some(AlignedBuf::new(len.max(READ_BYTES_MAX).div_ceil(BLOCK_SIZE)));
        }
        let buffer = slot.as_mut().expect("just filled");
        work(&mut buffer[..len])
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
