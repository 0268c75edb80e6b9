//! SIGTERM, SIGINT and SIGHUP unmount.
//!
//! The signals are blocked before the first thread starts (threads inherit the mask) and one thread waits for them, so that no
//! handler ever runs in the middle of something else.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};
use std::thread::Builder;
use std::time::Duration;

use super::umount::Unmounter;

/// The blocked signals.
pub struct Signals {
    set: libc::sigset_t,
    arrival: OwnedFd,
}

impl AsFd for Signals {
    /// Can be read while a signal waits for [`Signals::wait`].
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.arrival.as_fd()
    }
}

impl Signals {
    /// Blocks the signals for this thread and those that it will start.
    pub fn block() -> io::Result<Self> {
        let mut set = MaybeUninit::uninit();
        // SAFETY: sigemptyset initializes the set that it is given.
        let mut set = unsafe {
            libc::sigemptyset(set.as_mut_ptr());
            set.assume_init()
        };
        for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP] {
            // SAFETY: `set` is initialized and the number valid.
            unsafe { libc::sigaddset(&mut set, signal) };
        }
        // SAFETY: `set` is initialized; no old mask is asked for.
        match unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &set, std::ptr::null_mut()) } {
            0 => Ok(Self { set, arrival: arrival(&set)? }),
            errno => Err(io::Error::from_raw_os_error(errno)),
        }
    }

    /// Starts a thread that unmounts when a signal arrives: at once if it can, else lazily. A second signal while
    /// that lasts does nothing more.
    pub fn unmount_on_arrival(self, unmounter: Unmounter) -> io::Result<()> {
        Builder::new().name("signals".into()).spawn(move || {
            while self.wait().is_ok() {
                if let Err(error) = unmounter.unmount_or_detach() {
                    tracing::error!("{error:#}");
                }
            }
        })?;
        Ok(())
    }

    /// The number of a signal that arrives within `patience`, if one does.
    pub fn wait_for(&self, patience: Duration) -> io::Result<Option<i32>> {
        let patience =
            libc::timespec { tv_sec: patience.as_secs() as libc::time_t, tv_nsec: patience.subsec_nanos().into() };
        // SAFETY: both point to initialized memory that outlives the call; no details are asked for.
        match unsafe { libc::sigtimedwait(&self.set, std::ptr::null_mut(), &patience) } {
            -1 => match io::Error::last_os_error() {
                e if matches!(e.raw_os_error(), Some(libc::EAGAIN | libc::EINTR)) => Ok(None),
                e => Err(e),
            },
            signal => Ok(Some(signal)),
        }
    }

    /// Waits for one of the signals and returns its number.
    pub fn wait(&self) -> io::Result<i32> {
        let mut signal = 0;
        // SAFETY: both point to initialized memory that outlives the call.
        match unsafe { libc::sigwait(&self.set, &mut signal) } {
            0 => Ok(signal),
            errno => Err(io::Error::from_raw_os_error(errno)),
        }
    }
}

/// A descriptor that tells when one of `set` has arrived (signalfd(2)).
fn arrival(set: &libc::sigset_t) -> io::Result<OwnedFd> {
    // SAFETY: `set` is initialized; a new descriptor is asked for.
    match unsafe { libc::signalfd(-1, set, libc::SFD_CLOEXEC) } {
        -1 => Err(io::Error::last_os_error()),
        // SAFETY: the kernel has just given us this descriptor, which is nobody else's.
        descriptor => Ok(unsafe { OwnedFd::from_raw_fd(descriptor) }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blocked_signal_is_waited_for_instead_of_killing() {
        std::thread::spawn(|| {
            let signals = Signals::block().unwrap();
            // SAFETY: a signal to this thread alone, which has it blocked.
            unsafe { libc::pthread_kill(libc::pthread_self(), libc::SIGTERM) };
            assert_eq!(signals.wait().unwrap(), libc::SIGTERM);
            assert_eq!(signals.wait_for(Duration::from_millis(1)).unwrap(), None);
            // SAFETY: as before.
            unsafe { libc::pthread_kill(libc::pthread_self(), libc::SIGINT) };
            assert_eq!(signals.wait_for(Duration::from_secs(60)).unwrap(), Some(libc::SIGINT));
        })
        .join()
        .unwrap();
    }
}
