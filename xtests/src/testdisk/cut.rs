//! A power cut: daemon and disk end at one moment, which the disk chooses.
//!
//! Between a write and its flush lies a millisecond, and a kill from outside hardly ever falls into it. So the disk counts its writes and
//! stops itself at one of them. Frozen, it answers nothing more, so nothing more can be acknowledged; then the daemon is killed, and the disk last. In
//! this order the daemon never sees the disk die: a host without power handles no I/O errors either. A daemon that saw one would still
//! be right, but what is tested would be its way of giving up. It can end only after the disk, since its threads wait
//! uninterruptibly for answers.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use anyhow::{Result, ensure};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, Signal, WaitOptions, kill_process, pidfd_send_signal, waitpid};

/// A cut to come; a thread of its own waits for the disk to stop.
#[derive(Debug)]
pub struct PowerCut {
    disk: Pid,
    /// The disk has stopped.
    has_come: Arc<AtomicBool>,
    thread: JoinHandle<Result<()>>,
}

impl PowerCut {
    /// Strikes `daemon` and `disk` as soon as the disk has stopped.
    pub fn await_stop(daemon: OwnedFd, disk: Pid) -> Self {
        let has_come = Arc::new(AtomicBool::new(false));
        let coming = Arc::clone(&has_come);
        Self { disk, has_come, thread: std::thread::spawn(move || strike(&daemon, disk, &coming)) }
    }

    /// Whether the disk has stopped. True for whoever has seen an effect of the daemon's death.
    pub fn has_come(&self) -> bool {
        self.has_come.load(Ordering::Acquire)
    }

    /// Returns once both are dead. A disk that has not stopped by itself is stopped now.
    pub fn end(self) -> Result<()> {
        // Fails if it is dead already, as it should be.
        let _ = kill_process(self.disk, Signal::STOP);
        self.thread.join().expect("no panic in a thread that kills")
    }
}

fn strike(daemon: &OwnedFd, disk: Pid, has_come: &AtomicBool) -> Result<()> {
    let stopped = waitpid(Some(disk), WaitOptions::UNTRACED)?;
    has_come.store(true, Ordering::Release);
    let killed = pidfd_send_signal(daemon, Signal::KILL);
    // Killed whatever came before: nobody can unmount a filesystem from a frozen disk.
    let _ = kill_process(disk, Signal::KILL);
    ensure!(stopped.is_some_and(|(_, status)| status.stopped()), "the test disk died by itself");
    killed?;
    poll(&mut [PollFd::from_borrowed_fd(daemon.as_fd(), PollFlags::IN)], None)?;
    Ok(())
}
