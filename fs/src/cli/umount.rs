//! `gleanfs umount`: ends a mount and returns when all of it is durable.
//!
//! umount(2) of a FUSE mount returns before the daemon has written its last checkpoint, so this command asks the daemon
//! for word of the end first, unmounts, and then waits for that word and for the process to be gone.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::mount::{UnmountFlags, unmount};

use super::failure::{About, Failure, Result};
use crate::control::client::ClientError;
use crate::control::mounts::{self, MountEntry};
use crate::control::{Client, Request};
use crate::fuse::umount::{is_busy, while_busy};

/// Exit status of umount(8): it failed.
pub const STATUS_FAILED: u8 = 32;

/// Unmount; return when everything is durable and the daemon is gone.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  gleanfs umount /mnt
  gleanfs umount --lazy /mnt      detach now, even if busy; the daemon ends when the last user is gone

umount(8) works too, but returns before the daemon has written its last checkpoint.
A mount whose daemon has died (\"Transport endpoint is not connected\") is cleared away.")]
pub struct Args {
    /// Mount point, or the mounted device or image
    target: PathBuf,
    /// Detach from the tree at once and do not wait for programs that use it
    #[arg(short, long)]
    lazy: bool,
}

pub fn run(arguments: &Args) -> Result<()> {
    end(&arguments.target, arguments.lazy)
}

/// Ends the mount at (or of) `target`.
pub fn end(target: &Path, lazy: bool) -> Result<()> {
    let mount = find(target)?;
    let shown = mount.target.display();
    let daemon = match Daemon::find(&mount) {
        Ok(daemon) => Some(daemon),
        // A dead daemon: nothing is left to wait for, and the mount is only in the way.
        Err(ClientError::NoDaemon(_) | ClientError::Closed | ClientError::Io(_)) => None,
        Err(other) => return Err(Failure::with_status(other, STATUS_FAILED)),
    };
    while_busy(|| detach(&mount.target, lazy), is_busy)
        .map_err(|why| Failure::with_status(format_args!("{shown}: {}", explain(&why)), STATUS_FAILED))?;
    match daemon {
        Some(daemon) if !lazy => {
            daemon.await_end().map_err(|why| Failure::with_status(format_args!("{shown}: {why}"), STATUS_FAILED))
        }
        _ => Ok(()),
    }
}

fn find(target: &Path) -> Result<MountEntry> {
    let shown = target.display();
    if let Some(mount) = mounts::at(target).about(&shown)? {
        return if mount.is_gleanfs() {
            Ok(mount)
        } else {
            Err(Failure::with_status(
                format_args!("{shown}: a mount of {}, not of gleanfs", mount.fs_type),
                STATUS_FAILED,
            ))
        };
    }
    let source = target.canonicalize().unwrap_or_else(|_| target.to_owned());
    let mounts = mounts::of(&source).about(&shown)?;
    mounts
        .into_iter()
        .rev()
        .find(MountEntry::is_gleanfs)
        .ok_or_else(|| Failure::with_status(format_args!("{shown}: not mounted"), STATUS_FAILED))
}

/// The process behind a mount, listened to before the mount goes.
struct Daemon {
    waiting: Client,
    process: Option<OwnedFd>,
}

impl Daemon {
    /// Listens to the daemon, or to the one that follows if it makes way for another just now.
    fn find(mount: &MountEntry) -> std::result::Result<Self, ClientError> {
        match Self::listen(mount) {
            Err(ClientError::Closed | ClientError::Io(_)) => Self::listen(mount),
            listening => listening,
        }
    }

    /// Makes what is there durable, so that little is left to do at the end, and asks to be told of that end.
    fn listen(mount: &MountEntry) -> std::result::Result<Self, ClientError> {
        let mut waiting = Client::connect_to(mount)?;
        let process = rustix::process::pidfd_open(waiting.daemon_pid(), rustix::process::PidfdFlags::empty()).ok();
        waiting.send(&Request::AwaitEnd)?;
        // Clients are served in turn: this answer means that the request before it has been taken.
        match Client::connect_to(mount)?.ask(&Request::Sync) {
            // A mount that cannot write any more must still end, and its end tells what was lost.
            Ok(_) | Err(ClientError::Refused(_)) => Ok(Self { waiting, process }),
            Err(other) => Err(other),
        }
    }

    fn await_end(mut self) -> std::result::Result<(), ClientError> {
        let outcome = self.waiting.receive();
        if let Some(process) = &self.process {
            await_exit(process)?;
        }
        outcome.map(|_| ())
    }
}

fn await_exit(process: &OwnedFd) -> io::Result<()> {
    loop {
        match poll(&mut [PollFd::from_borrowed_fd(process.as_fd(), PollFlags::IN)], None) {
            Err(rustix::io::Errno::INTR) => {}
            other => return other.map(|_| ()).map_err(io::Error::from),
        }
    }
}

/// umount2(2) where we may, else the setuid helper of FUSE for mounts of ordinary users.
fn detach(target: &Path, lazy: bool) -> io::Result<()> {
    let flags = if lazy { UnmountFlags::DETACH } else { UnmountFlags::empty() };
    match unmount(target, flags) {
        Err(rustix::io::Errno::PERM) => detach_by_fusermount(target, lazy),
        other => other.map_err(io::Error::from),
    }
}

fn detach_by_fusermount(target: &Path, lazy: bool) -> io::Result<()> {
    let flags = if lazy { "-uqz" } else { "-uq" };
    let output = Command::new("fusermount3")
        .args([flags, "--"])
        .arg(target)
        .stdin(Stdio::null())
        .output()
        .map_err(|why| io::Error::new(why.kind(), "only root can unmount without fusermount3; install fuse3"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    if output.status.success() { Ok(()) } else { Err(io::Error::other(said.trim().to_owned())) }
}

fn explain(why: &io::Error) -> String {
    if is_busy(why) {
        "in use; close the programs that fuser -vm shows, or detach it with --lazy".into()
    } else {
        why.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_mount_of_ours_is_left_alone() {
        let failure = end(Path::new("/proc"), false).unwrap_err();
        assert_eq!(
            (failure.status, failure.message.as_str()),
            (STATUS_FAILED, "/proc: a mount of proc, not of gleanfs")
        );
        let directory = tempfile::tempdir().unwrap();
        assert!(end(directory.path(), false).unwrap_err().message.ends_with("not mounted"));
    }
}
