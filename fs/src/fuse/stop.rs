//! Ends a session without ending its mount: whatever was read is answered, and nothing more is read.
//!
//! `fuser` has no such order, and its threads sit in read(2). So the number that they read from and answer to is made to stand for a socket which
//! has nothing to read and ends; a signal takes them out of the read that they are in, which the kernel then begins anew, at the
//! socket. Answers that are still given go into the socket, and from there to the kernel. When the last one who could answer is gone, so is the socket.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{Builder, JoinHandle};

use anyhow::{Context, Result, bail};
use fuser::{Notifier, Session};
use parking_lot::Mutex;
use rustix::net::{AddressFamily, Shutdown, SocketFlags, SocketType, shutdown, socketpair};

use super::buffers::READ_BYTES_MAX;
use super::connection::stand_in;
use super::requests::Requests;

/// Bytes of an answer beside the data.
const ANSWER_EXTRA_BYTES: usize = 4096;
/// Names of `fuser`'s threads begin so.
const SESSION_THREADS: &str = "fuser-";

/// Stops one session.
pub struct Stopper {
    state: Mutex<State>,
    stopped: AtomicBool,
    device: OwnedFd,
}

#[derive(Default)]
struct State {
    /// `None` once the session is over. As long as the notifier is there the session's descriptor is open, and its number nobody else's.
    session: Option<(Notifier, i32)>,
    forwarder: Option<JoinHandle<()>>,
}

impl Stopper {
    pub(super) fn new(session: &Session<Requests>) -> io::Result<Self> {
        let state = State { session: Some((session.notifier(), session.as_fd().as_raw_fd())), forwarder: None };
        let device = session.as_fd().try_clone_to_owned()?;
        Ok(Self { state: Mutex::new(state), stopped: AtomicBool::new(false), device })
    }

    /// Has the session end soon. An error means that it goes on as if nothing had been asked.
    pub fn stop(&self) -> Result<()> {
        let mut state = self.state.lock();
        let Some((_, number)) = state.session else { bail!("the mount is ending already") };
        if self.stopped.load(Ordering::Acquire) {
            bail!("the mount is being handed over already");
        }
        answer_signals()?;
        let (inner, outer) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        let room = (READ_BYTES_MAX + ANSWER_EXTRA_BYTES) * 2;
        // Needs a privilege. Without it a large read's answer may not fit; the next daemon is then asked for it again.
        let _ = rustix::net::sockopt::set_socket_send_buffer_size_force(&inner, room);
        shutdown(&outer, Shutdown::Write)?;
        let device = self.device.try_clone()?;
        state.forwarder = Some(Builder::new().name("fuse-last".into()).spawn(move || forward(&outer, &device))?);
        self.stopped.store(true, Ordering::Release);
        // SAFETY: the notifier keeps the descriptor open.
        let stage = unsafe { BorrowedFd::borrow_raw(number) };
        // The turning point: whoever reads from now on meets the end.
        if let Err(error) = stand_in(stage, inner.as_fd()) {
            self.stopped.store(false, Ordering::Release);
            return Err(error).context("turning the session to its end");
        }
        drop(inner);
        wake_readers()
    }

    /// Whether the session was stopped.
    pub(super) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
    }

    /// Waits until the last answer has reached the kernel. To be called when nobody is left to answer.
    pub(super) fn finish(&self) {
        let mut state = self.state.lock();
        state.session = None;
        if let Some(forwarder) = state.forwarder.take()
            && forwarder.join().is_err()
        {
            tracing::error!("the thread that hands on the last answers panicked");
        }
    }
}

/// Hands answers on until nobody is left to give any.
fn forward(answers: &OwnedFd, device: &OwnedFd) {
    let mut answer = vec![0; READ_BYTES_MAX + ANSWER_EXTRA_BYTES];
    loop {
        match rustix::io::retry_on_intr(|| rustix::io::read(answers, &mut answer)) {
            Ok(0) | Err(_) => return,
            Ok(len) => {
                // The kernel refuses the answer to a request whose caller was killed meanwhile.
                if let Err(error) = rustix::io::write(device, &answer[..len]) {
                    tracing::debug!("a last answer: {error}");
                }
            }
        }
    }
}

extern "C" fn nothing(_signal: libc::c_int) {}

/// Has `SIGUSR1` interrupt a system call, which then begins anew, and do nothing else.
fn answer_signals() -> io::Result<()> {
    // SAFETY: zeros are a valid sigaction, and the handler does nothing at all.
    let outcome = unsafe {
        let mut action: libc::sigaction = MaybeUninit::zeroed().assume_init();
        action.sa_sigaction = nothing as extern "C" fn(libc::c_int) as libc::sighandler_t;
        action.sa_flags = libc::SA_RESTART;
        libc::sigaction(libc::SIGUSR1, &action, std::ptr::null_mut())
    };
    if outcome == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Signals every session thread of this process once. One that is not in read(2) meets the end at its next.
fn wake_readers() -> Result<()> {
    for task in std::fs::read_dir("/proc/self/task").context("listing threads")? {
        let task = task?;
        let name = std::fs::read_to_string(task.path().join("comm")).unwrap_or_default();
        let number = task.file_name().to_str().and_then(|name| name.parse::<i32>().ok());
        if let Some(thread) = number.filter(|_| name.starts_with(SESSION_THREADS)) {
            // SAFETY: no memory is passed; a thread that has ended since is an error that does not matter.
            unsafe { libc::syscall(libc::SYS_tgkill, std::process::id(), thread, libc::SIGUSR1) };
        }
    }
    Ok(())
}
