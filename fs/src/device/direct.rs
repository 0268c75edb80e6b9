//! A file or block device node opened with `O_DIRECT`, and whole transfers over it.
//!
//! Below every implementation that the kernel backs. Transfers are complete or an error, interruptions are retried, and each
//! byte that the kernel took is counted. A buffer that is not aligned is bounced.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use rustix::fs::{FallocateFlags, Mode, OFlags};
use rustix::io::{Errno, retry_on_intr};

use super::aligned::{AlignedBuf, is_aligned};
use super::counters::Counters;
use super::open::OpenMode;
use crate::types::BLOCK_SIZE;

/// Most blocks that pass through the bounce buffer at once.
const BOUNCE_BLOCKS: usize = 32;

/// What lies behind the end of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PastEnd {
    /// Zeros: the file grows as it is written.
    Zeros,
    /// Nothing: the file should have been longer.
    Missing,
}

/// An open backing file.
#[derive(Debug)]
pub(super) struct DirectFile {
    file: File,
    direct: bool,
}

impl DirectFile {
    /// Opens `path` below `dir` with `O_DIRECT`, or without it where the host filesystem refuses that.
    pub(super) fn open_at(dir: BorrowedFd<'_>, path: &Path, mode: OpenMode, extra: OFlags) -> io::Result<Self> {
        let access = match mode {
            OpenMode::ReadOnly => OFlags::RDONLY,
            OpenMode::ReadWrite => OFlags::RDWR,
        };
        let flags = access | extra | OFlags::CLOEXEC;
        let open = |flags| retry_on_intr(|| rustix::fs::openat(dir, path, flags, Mode::RUSR | Mode::WUSR));
        match open(flags | OFlags::DIRECT) {
            Ok(fd) => Ok(Self { file: fd.into(), direct: true }),
            Err(Errno::INVAL) => Ok(Self { file: open(flags)?.into(), direct: false }),
            Err(e) => Err(e.into()),
        }
    }

    /// Opens `path` and says so if it must do without `O_DIRECT`.
    pub(super) fn open(path: &Path, mode: OpenMode, extra: OFlags) -> io::Result<Self> {
        let opened = Self::open_at(rustix::fs::CWD, path, mode, extra)?;
        if !opened.direct {
            warn_buffered(path);
        }
        Ok(opened)
    }

    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// Whether the page cache is bypassed.
    pub(super) fn is_direct(&self) -> bool {
        self.direct
    }

    /// Fills `buf` from byte `offset` on.
    pub(super) fn read_at(&self, offset: u64, buf: &mut [u8], end: PastEnd, counters: &Counters) -> io::Result<()> {
        if !self.direct || is_aligned(buf) {
            return self.read_whole(offset, buf, end, counters);
        }
        let mut bounce = AlignedBuf::new(BOUNCE_BLOCKS.min(buf.len().div_ceil(BLOCK_SIZE)));
        let mut at = offset;
        for part in buf.chunks_mut(bounce.len()) {
            self.read_whole(at, &mut bounce[..part.len()], end, counters)?;
            part.copy_from_slice(&bounce[..part.len()]);
            at += part.len() as u64;
        }
        Ok(())
    }

    fn read_whole(&self, offset: u64, buf: &mut [u8], end: PastEnd, counters: &Counters) -> io::Result<()> {
        let len = buf.len();
        let done = transfer(len, |done| {
            let read = retry_on_intr(|| rustix::io::pread(&self.file, &mut buf[done..], offset + done as u64))?;
            counters.count_read(read);
            Ok(read)
        })?;
        if done < len && end == PastEnd::Missing {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the image is shorter than it was when opened"));
        }
        buf[done..].fill(0);
        Ok(())
    }

    /// Writes all of `buf` at byte `offset`.
    pub(super) fn write_at(&self, offset: u64, buf: &[u8], counters: &Counters) -> io::Result<()> {
        if !self.direct || is_aligned(buf) {
            return self.write_whole(offset, buf, counters);
        }
        let mut bounce = AlignedBuf::new(BOUNCE_BLOCKS.min(buf.len().div_ceil(BLOCK_SIZE)));
        let mut at = offset;
        for part in buf.chunks(bounce.len()) {
            bounce[..part.len()].copy_from_slice(part);
            self.write_whole(at, &bounce[..part.len()], counters)?;
            at += part.len() as u64;
        }
        Ok(())
    }

    fn write_whole(&self, offset: u64, buf: &[u8], counters: &Counters) -> io::Result<()> {
        let done = transfer(buf.len(), |done| {
            let written = retry_on_intr(|| rustix::io::pwrite(&self.file, &buf[done..], offset + done as u64))?;
            counters.count_write(written);
            Ok(written)
        })?;
        if done < buf.len() { Err(io::ErrorKind::WriteZero.into()) } else { Ok(()) }
    }

    /// Makes contents and size durable.
    pub(super) fn sync(&self) -> io::Result<()> {
        Ok(retry_on_intr(|| rustix::fs::fdatasync(&self.file))?)
    }

    /// Reserves room for a range without changing size or contents. A host that cannot is not an error.
    pub(super) fn allocate(&self, offset: u64, bytes: u64) -> io::Result<()> {
        self.fallocate(FallocateFlags::KEEP_SIZE, offset, bytes)
    }

    /// Gives a range back to the host; it reads as zeros afterwards. A host that cannot is not an error.
    pub(super) fn punch(&self, offset: u64, bytes: u64) -> io::Result<()> {
        self.fallocate(FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, offset, bytes)
    }

    fn fallocate(&self, flags: FallocateFlags, offset: u64, bytes: u64) -> io::Result<()> {
        match retry_on_intr(|| rustix::fs::fallocate(&self.file, flags, offset, bytes)) {
            Ok(()) | Err(Errno::OPNOTSUPP) => Ok(()),
            Err(e) => Err(e.into()),
        }
    }
}

/// Moves `len` bytes by as many calls of `step` as it takes; each is told how many have been moved and says how many more it has. Returns how many were moved
/// when a step came to nothing. A transfer that breaks off inside a block goes on from that block's start: a direct one could not go on from inside.
fn transfer(len: usize, mut step: impl FnMut(usize) -> io::Result<usize>) -> io::Result<usize> {
    let (mut from, mut most) = (0, 0);
    loop {
        let moved = step(from)?;
        let reached = from + moved;
        if reached >= len {
            return Ok(len);
        }
        if reached <= most {
            // At the end, or no further than before.
            return Ok(most);
        }
        most = reached;
        from = reached - reached % BLOCK_SIZE;
    }
}

impl AsFd for DirectFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// Tells the user once that the page cache stands between us and the image.
pub(super) fn warn_buffered(path: &Path) {
    tracing::warn!(
        "{}: its filesystem refuses O_DIRECT; going through the page cache, which needs more memory and can stall under pressure",
        path.display()
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch() -> (tempfile::TempDir, std::path::PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("image");
        File::create(&path).unwrap().set_len(64 * BLOCK_SIZE as u64).unwrap();
        (dir, path)
    }

    #[test]
    fn an_unaligned_buffer_is_bounced_and_every_byte_is_counted() {
        let (_dir, path) = scratch();
        let file = DirectFile::open(&path, OpenMode::ReadWrite, OFlags::empty()).unwrap();
        let counters = Counters::default();
        let blocks = BOUNCE_BLOCKS + 5;
        let mut skewed = AlignedBuf::new(blocks + 1);
        let bytes = blocks * BLOCK_SIZE;
        for (i, b) in skewed[1..=bytes].iter_mut().enumerate() {
            *b = (i / 7) as u8;
        }
        file.write_at(BLOCK_SIZE as u64, &skewed[1..=bytes], &counters).unwrap();
        let mut back = AlignedBuf::new(blocks + 1);
        file.read_at(BLOCK_SIZE as u64, &mut back[3..bytes + 3], PastEnd::Missing, &counters).unwrap();
        assert!(back[3..bytes + 3] == skewed[1..=bytes]);
        let traffic = counters.traffic();
        assert_eq!((traffic.read_bytes, traffic.written_bytes), (bytes as u64, bytes as u64));
    }

    /// A device that moves at most so many bytes at a time, up to its end.
    fn moved_by(most: usize, end: usize, len: usize) -> (usize, Vec<usize>) {
        let mut starts = Vec::new();
        let done = transfer(len, |done| {
            starts.push(done);
            Ok(most.min(end.saturating_sub(done)))
        });
        (done.unwrap(), starts)
    }

    #[test]
    fn a_short_transfer_goes_on_from_a_whole_block_until_nothing_moves() {
        let block = BLOCK_SIZE;
        assert_eq!(moved_by(block, 9 * block, 3 * block), (3 * block, vec![0, block, 2 * block]));
        assert_eq!(moved_by(block + 512, 9 * block, 2 * block), (2 * block, vec![0, block]));
        assert_eq!(moved_by(9 * block, 2 * block, 4 * block).0, 2 * block);
        let (done, starts) = moved_by(9 * block, block + 100, 4 * block);
        assert_eq!((done, starts), (block + 100, vec![0, block]));
        assert_eq!(moved_by(512, 9 * block, 4 * block).0, 512, "no step comes to a whole block");
        let failing = transfer(2 * block, |done| if done == 0 { Ok(block) } else { Err(Errno::IO.into()) });
        assert_eq!(failing.unwrap_err().raw_os_error(), Some(Errno::IO.raw_os_error()));
    }

    #[test]
    fn the_end_of_the_file_is_zeros_or_an_error() {
        let (_dir, path) = scratch();
        let counters = Counters::default();
        File::options().write(true).open(&path).unwrap().set_len(BLOCK_SIZE as u64 + 100).unwrap();
        let file = DirectFile::open(&path, OpenMode::ReadOnly, OFlags::empty()).unwrap();
        let mut buf = AlignedBuf::new(4);
        buf.fill(9);
        file.read_at(0, &mut buf, PastEnd::Zeros, &counters).unwrap();
        assert!(buf.iter().all(|b| *b == 0));
        assert!(file.read_at(2 * BLOCK_SIZE as u64, &mut buf, PastEnd::Missing, &counters).is_err());
    }
}
