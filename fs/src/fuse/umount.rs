//! Unmounting, and clearing away what a daemon that died has left mounted.

use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::io::Errno;
use rustix::mount::UnmountFlags;

use super::mount::FSTYPE;
use super::mountinfo::{self, Mount};

/// How often a busy mount is tried, and the pause between (the kernel tells nobody when a mount stops being busy).
const TRIES: u32 = 40;
const PAUSE: Duration = Duration::from_millis(25);

/// Unmounts one mount of ours, and never another that has taken its place.
#[derive(Clone, Debug)]
pub struct Unmounter {
    mount: Mount,
}

impl Unmounter {
    pub(super) fn new(mount: Mount) -> Self {
        Self { mount }
    }

    /// The mount at `mountpoint`, for unmounting from another process.
    pub fn find(mountpoint: &Path) -> Result<Self> {
        let path = resolve(mountpoint)?;
        match mountinfo::find(&path)? {
            Some(mount) if mount.fstype == FSTYPE => Ok(Self { mount }),
            _ => bail!("{} is not a mounted gleanfs", mountpoint.display()),
        }
    }

    pub fn mountpoint(&self) -> &Path {
        &self.mount.mountpoint
    }

    /// Whether the mount is still there.
    pub fn is_mounted(&self) -> io::Result<bool> {
        Ok(mountinfo::find(&self.mount.mountpoint)?.as_ref() == Some(&self.mount))
    }

    /// Unmounts; an error if the mount stays busy. Fine if it is no longer there. Returns before the daemon has made all durable.
    pub fn unmount(&self) -> Result<()> {
        let shown = self.mount.mountpoint.display();
        let attempt = || {
            if !self.is_mounted()? {
                return Ok(());
            }
            match unmount(&self.mount.mountpoint, UnmountFlags::empty()) {
                Err(Errno::INVAL) => Ok(()),
                done => Ok(done?),
            }
        };
        match while_busy(attempt, is_busy) {
            Err(error) if is_busy(&error) => {
                bail!("{shown} is busy: some program has a file open or its working directory there")
            }
            other => other.with_context(|| format!("cannot unmount {shown}")),
        }
    }

    /// Unmounts; if the mount stays busy it vanishes from the tree now and ends with its last user.
    pub fn unmount_or_detach(&self) -> Result<()> {
        let Err(busy) = self.unmount() else { return Ok(()) };
        if !self.is_mounted()? {
            return Ok(());
        }
        tracing::warn!("{busy:#}; detached");
        unmount(&self.mount.mountpoint, UnmountFlags::DETACH)
            .with_context(|| format!("cannot detach {}", self.mount.mountpoint.display()))
    }
}

pub fn is_busy(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::ResourceBusy
}

/// Tries again for a moment what fails because the mount is in use. Who uses it may be just leaving: a process forked by another
/// thread holds our descriptors until its exec, and programs look into every new mount.
pub fn while_busy<T, E>(
    mut attempt: impl FnMut() -> std::result::Result<T, E>,
    is_busy: impl Fn(&E) -> bool,
) -> std::result::Result<T, E> {
    for _ in 1..TRIES {
        match attempt() {
            Err(error) if is_busy(&error) => sleep(PAUSE),
            other => return other,
        }
    }
    attempt()
}

/// umount2(2), or `fusermount3` for a user who is not root.
fn unmount(mountpoint: &Path, flags: UnmountFlags) -> std::result::Result<(), Errno> {
    match rustix::mount::unmount(mountpoint, flags | UnmountFlags::NOFOLLOW) {
        Err(Errno::PERM) => {
            let mode = if flags.contains(UnmountFlags::DETACH) { "-uqz" } else { "-uq" };
            let helper = Command::new("fusermount3").arg(mode).arg("--").arg(mountpoint).stderr(Stdio::null()).status();
            match helper {
                Ok(status) if status.success() => Ok(()),
                Ok(_) => Err(Errno::BUSY),
                Err(_) => Err(Errno::PERM),
            }
        }
        done => done,
    }
}

/// Detaches mounts of ours at `mountpoint` whose daemon is gone. Returns how many.
pub fn clear_stale(mountpoint: &Path) -> Result<u32> {
    let mut cleared = 0;
    while is_stale(mountpoint) {
        let path = resolve(mountpoint)?;
        match mountinfo::find(&path)? {
            Some(mount) if mount.fstype == FSTYPE => {}
            _ => bail!("{} holds a dead mount that is not a gleanfs", mountpoint.display()),
        }
        unmount(&path, UnmountFlags::DETACH)
            .with_context(|| format!("cannot clear the dead mount at {}", mountpoint.display()))?;
        cleared += 1;
    }
    Ok(cleared)
}

/// Whether a FUSE daemon that served `mountpoint` is gone. The daemon is asked for its space, since attributes may come from the kernel's memory.
pub fn is_stale(mountpoint: &Path) -> bool {
    rustix::fs::statfs(mountpoint).is_err_and(|errno| matches!(errno, Errno::NOTCONN | Errno::CONNABORTED))
}

/// Cuts the connection of the mount of ours at `mountpoint`, whoever else holds its descriptor: all who wait for an answer are told. If somebody uses
/// the mount it stays, dead.
pub fn cut_off(mountpoint: &Path) -> Result<()> {
    let Some(_) = mountinfo::find(mountpoint)?.filter(|mount| mount.fstype == FSTYPE) else { return Ok(()) };
    match unmount(mountpoint, UnmountFlags::FORCE) {
        Ok(()) | Err(Errno::BUSY | Errno::INVAL) => Ok(()),
        Err(error) => Err(error).with_context(|| format!("cutting {} off", mountpoint.display())),
    }
}

/// The absolute path without links, also of a mount point whose daemon is dead.
pub(super) fn resolve(mountpoint: &Path) -> Result<PathBuf> {
    let resolved = mountpoint.canonicalize().or_else(|error| match (mountpoint.parent(), mountpoint.file_name()) {
        (Some(parent), Some(name)) if is_stale(mountpoint) => {
            let parent = if parent.as_os_str().as_bytes().is_empty() { Path::new(".") } else { parent };
            Ok(parent.canonicalize()?.join(name))
        }
        _ => Err(error),
    });
    resolved.with_context(|| format!("mount point {}", mountpoint.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_neither_stale_nor_unmounted() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(clear_stale(dir.path()).unwrap(), 0);
        let error = Unmounter::find(dir.path()).unwrap_err();
        assert!(error.to_string().contains("not a mounted gleanfs"));
    }

    #[test]
    fn a_mount_that_is_gone_needs_no_unmounting() {
        let dir = tempfile::tempdir().unwrap();
        let mount =
            Mount { device: "0:99999".into(), mountpoint: dir.path().canonicalize().unwrap(), fstype: FSTYPE.into() };
        let unmounter = Unmounter::new(mount);
        assert!(!unmounter.is_mounted().unwrap());
        unmounter.unmount().unwrap();
        unmounter.unmount_or_detach().unwrap();
    }
}
