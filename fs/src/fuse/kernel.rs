//! Notes to the kernel that answer no request (Linux: `FUSE_NOTIFY_INVAL_INODE`, `FUSE_NOTIFY_RESEND`, `include/uapi/linux/fuse.h`).
//!
//! Written by hand because `fuser`'s notifier hides the answer "not in memory", which is just what [`KernelLine::holds`] asks.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::OnceLock;

use crate::types::Ino;

const NOTIFY_INVAL_INODE: i32 = 2;
const NOTIFY_RESEND: i32 = 7;
const HEADER_BYTES: usize = 16;
const NOTE_BYTES: usize = HEADER_BYTES + 24;

/// A line to the kernel's side of one mount.
#[derive(Default)]
pub(super) struct KernelLine {
    /// Another descriptor of the session's `/dev/fuse`.
    device: OnceLock<OwnedFd>,
}

impl KernelLine {
    /// Connects the line. Before that it answers as a kernel that holds every inode.
    pub(super) fn connect(&self, device: impl AsFd) -> io::Result<()> {
        let device = device.as_fd().try_clone_to_owned()?;
        self.device.set(device).map_err(|_| io::ErrorKind::AlreadyExists.into())
    }

    /// Whether the kernel still has the inode in memory. May wait for a request to be answered, and invalidates cached attributes.
    pub(super) fn holds(&self, ino: Ino) -> bool {
        self.inval_inode(ino, -1).err().and_then(|e| e.raw_os_error()) != Some(libc::ENOENT)
    }

    /// Makes the kernel write the inode's dirty pages to us and drop them. Waits for the writes to be answered.
    pub(super) fn write_out(&self, ino: Ino) -> io::Result<()> {
        self.inval_inode(ino, 0)
    }

    /// Has the kernel queue again every request that was read and not answered: for a daemon that follows one that died.
    pub(super) fn resend(&self) -> io::Result<()> {
        let Some(device) = self.device.get() else { return Ok(()) };
        rustix::io::write(device, &header(HEADER_BYTES, NOTIFY_RESEND))?;
        Ok(())
    }

    fn inval_inode(&self, ino: Ino, offset: i64) -> io::Result<()> {
        let Some(device) = self.device.get() else { return Ok(()) };
        rustix::io::write(device, &note(ino, offset))?;
        Ok(())
    }
}

/// `struct fuse_out_header` of a note of `len` bytes: it answers request 0, so its error is a code.
fn header(len: usize, code: i32) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    header[0..4].copy_from_slice(&(len as u32).to_ne_bytes());
    header[4..8].copy_from_slice(&code.to_ne_bytes());
    header
}

/// The header and `struct fuse_notify_inval_inode_out`, from `offset` to the end (length 0).
fn note(ino: Ino, offset: i64) -> [u8; NOTE_BYTES] {
    let mut note = [0; NOTE_BYTES];
    note[..HEADER_BYTES].copy_from_slice(&header(NOTE_BYTES, NOTIFY_INVAL_INODE));
    note[16..24].copy_from_slice(&ino.0.to_ne_bytes());
    note[24..32].copy_from_slice(&offset.to_ne_bytes());
    note
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wish_for_unanswered_requests_is_a_header_alone() {
        assert_eq!(header(HEADER_BYTES, NOTIFY_RESEND), [16, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn a_note_is_laid_out_as_the_kernel_reads_it() {
        let note = note(Ino(0x0102), -1);
        assert_eq!(note[0], 40);
        assert_eq!(note[4], 2);
        assert_eq!(&note[8..16], &[0; 8]);
        assert_eq!(&note[16..18], &[2, 1]);
        assert_eq!(&note[24..32], &[0xff; 8]);
        assert_eq!(&note[32..40], &[0; 8]);
    }

    #[test]
    fn an_unconnected_line_never_says_that_an_inode_is_gone() {
        assert!(KernelLine::default().holds(Ino(5)));
    }
}
