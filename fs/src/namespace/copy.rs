//! copy_file_range(2): through a bounded buffer, holes staying holes.

use crate::error::{Error, Result};
use crate::types::{BLOCK_SIZE, Ino};

use super::api::Seek;
use super::extents::{block_after, byte_of};
use super::{Filesystem, data, flags, items, space_ops};

/// Bytes that are in memory at a time.
const BUFFER_BYTES: usize = 1 << 20;

/// A copy under way: `len` bytes from `from_offset` of one file to `to_offset` of another.
#[derive(Clone, Copy, Debug)]
struct Copy {
    from: Ino,
    from_offset: u64,
    to: Ino,
    to_offset: u64,
    len: u64,
}

/// Whether a copy within one file would read what it has written; Linux refuses that (`generic_copy_file_checks`).
fn overlaps(from: u64, to: u64, len: u64) -> bool {
    from.abs_diff(to) < len
}

impl Filesystem {
    pub(super) fn copy(&self, from: Ino, from_offset: u64, to: Ino, to_offset: u64, len: u64) -> Result<u64> {
        self.volume.writable()?;
        let size = self.volume.view(|view| {
            flags::may_change(&items::regular(view, to)?)?;
            Ok(items::regular(view, from)?.size)
        })?;
        let len = len.min(size.saturating_sub(from_offset));
        if from == to && overlaps(from_offset, to_offset, len) {
            return Err(Error::Invalid);
        }
        data::end_of(to_offset, len)?;
        self.copy_checked(Copy { from, from_offset, to, to_offset, len })
    }

    fn copy_checked(&self, copy: Copy) -> Result<u64> {
        let mut buf = vec![0; BUFFER_BYTES + BLOCK_SIZE];
        // The part of the buffer that is aligned to a block, so that reading need not copy.
        let skip = buf.as_ptr().align_offset(BLOCK_SIZE);
        let buf = &mut buf[skip..skip + BUFFER_BYTES];
        let mut done = 0;
        while done < copy.len {
            let at = copy.from_offset + done;
            let data = match self.seek_from(copy.from, at, Seek::Data) {
                Ok(data) => data.min(copy.from_offset + copy.len),
                Err(Error::NoSuchAddress) => copy.from_offset + copy.len,
                Err(other) => return Err(other),
            };
            if data > at {
                self.copy_hole(copy.to, copy.to_offset + done, data - at)?;
                done += data - at;
                continue;
            }
            let hole = self.seek_from(copy.from, at, Seek::Hole)?;
            let want = (copy.len - done).min(hole - at).min(BUFFER_BYTES as u64) as usize;
            let read = self.read_at(copy.from, at, &mut buf[..want])?;
            if read == 0 {
                break;
            }
            self.write_at(copy.to, copy.to_offset + done, &buf[..read], true)?;
            done += read as u64;
        }
        Ok(done)
    }

    /// Makes the range read as zeros, and the file at least reach its end.
    fn copy_hole(&self, to: Ino, offset: u64, len: u64) -> Result<()> {
        let end = data::end_of(offset, len)?;
        let _exclusive = self.locks.exclusive(to);
        let size = self.size_for_mapping(to, byte_of(block_after(end)))?;
        self.clear(to, offset, end, size, false)?;
        let op = self.op();
        self.mutate(|view| space_ops::plan_modified(&op, view, to, end))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_overlap_when_they_are_closer_than_their_length() {
        assert!(overlaps(0, 0, 1) && overlaps(0, 9, 10) && overlaps(9, 0, 10));
        assert!(!overlaps(0, 10, 10) && !overlaps(10, 0, 10) && !overlaps(5, 5, 0));
    }
}
