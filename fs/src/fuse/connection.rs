//! A connection to the kernel that outlives the process which made it.
//!
//! The kernel greets (`FUSE_INIT`) once for each connection; `fuser` waits for that greeting and keeps nothing of it but that it came. So a process that
//! goes on with a connection is greeted by ourselves, over a socket, and then the kernel's descriptor takes the socket's number: from there on
//! `fuser` reads requests as if nothing had happened, and there is no copy and no relay on the way.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use anyhow::{Context, Result, ensure};
use fuser::{Config, Session};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use serde::{Deserialize, Serialize};

use super::requests::Requests;

/// Opcode of the greeting (`include/uapi/linux/fuse.h`).
const FUSE_INIT: u32 = 26;
/// Says that the second word of flags counts.
const FUSE_INIT_EXT: u64 = 1 << 30;
/// The kernel resends requests on demand and marks them.
const FUSE_HAS_RESEND: u64 = 1 << 39;
const HEADER_BYTES: usize = 40;
const GREETING_BYTES: usize = HEADER_BYTES + 64;
/// What every kernel offers to read ahead; only the true greeting's answer counts.
const MAX_READAHEAD: u32 = 128 << 10;

/// What the kernel and the daemon that mounted agreed on: it holds until the connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terms {
    /// The kernel's protocol: 7, and this.
    pub minor: u32,
    /// Capabilities that the kernel offered.
    pub offered: u64,
    /// Capabilities that were taken.
    pub agreed: u64,
}

impl Terms {
    /// Whether what a dead daemon has read and not answered can be had again.
    pub fn resend(&self) -> bool {
        self.agreed & FUSE_HAS_RESEND != 0
    }
}

/// The kernel's descriptor, and what holds for it.
#[derive(Debug)]
pub struct Connection {
    pub device: OwnedFd,
    pub terms: Terms,
}

impl Connection {
    /// Whether the kernel still asks: false once the mount is gone or was cut off.
    pub fn is_alive(&self) -> bool {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        let mut device = [PollFd::new(&self.device, PollFlags::empty())];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        poll(&mut device, Some(&now)).is_ok() && !device[0].revents().contains(PollFlags::ERR)
    }
}

/// A session that goes on with `connection`. Refused if `requests` wants other terms than those that stand.
pub(super) fn go_on(requests: Requests, connection: &Connection, config: Config) -> Result<Session<Requests>> {
    let taken = requests.terms();
    let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    rustix::io::write(&ours, &greeting(&connection.terms))?;
    let session = Session::from_fd(requests, theirs, config.acl, config).context("greeting a session")?;
    let wanted = taken.get().copied();
    ensure!(
        wanted == Some(connection.terms),
        "this program wants other terms of the kernel ({wanted:?}) than the mount has ({:?}); unmount and mount it",
        connection.terms
    );
    stand_in(session.as_fd(), connection.device.as_fd())?;
    Ok(session)
}

/// Has the number of `stage` stand for `file`.
pub(super) fn stand_in(stage: BorrowedFd<'_>, file: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: both are open. The owner of `stage` goes on to own a descriptor by that number, which now is another one.
    match unsafe { libc::dup3(file.as_raw_fd(), stage.as_raw_fd(), libc::O_CLOEXEC) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// `struct fuse_in_header` and `struct fuse_init_in`, as the kernel would send them.
fn greeting(terms: &Terms) -> [u8; GREETING_BYTES] {
    let mut bytes = [0; GREETING_BYTES];
    let mut put = |at: usize, value: u32| bytes[at..at + 4].copy_from_slice(&value.to_ne_bytes());
    let flags = terms.offered | FUSE_INIT_EXT;
    put(0, GREETING_BYTES as u32);
    put(4, FUSE_INIT);
    put(8, 1);
    put(HEADER_BYTES, 7);
    put(HEADER_BYTES + 4, terms.minor);
    put(HEADER_BYTES + 8, MAX_READAHEAD);
    put(HEADER_BYTES + 12, flags as u32);
    put(HEADER_BYTES + 16, (flags >> 32) as u32);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_greeting_says_what_the_kernel_has_said() {
        let terms = Terms { minor: 45, offered: 0x12_0000_0003, agreed: FUSE_HAS_RESEND };
        let bytes = greeting(&terms);
        let word = |at: usize| u32::from_ne_bytes(bytes[at..at + 4].try_into().unwrap());
        assert_eq!((word(0), word(4), word(40), word(44)), (104, FUSE_INIT, 7, 45));
        assert_eq!((word(52), word(56)), (3 | 1 << 30, 0x12));
        assert!(terms.resend() && !Terms { agreed: 0, ..terms }.resend());
    }

    #[test]
    fn a_number_stands_for_another_file_from_then_on() {
        let (mut near, far) = std::os::unix::net::UnixStream::pair().unwrap();
        let (stage, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        stand_in(stage.as_fd(), far.as_fd()).unwrap();
        std::io::Write::write_all(&mut &stage, b"x").unwrap();
        let mut said = [0];
        std::io::Read::read_exact(&mut near, &mut said).unwrap();
        assert_eq!(&said, b"x");
    }
}
