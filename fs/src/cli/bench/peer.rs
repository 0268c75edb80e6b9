//! Filesystems to compare with, each over an image file of the same size in the same directory.
//!
//! A [`Mounted`] is a guard: whatever it set up (daemon, mount, loop device, image, directory) is gone after [`Mounted::end`] or
//! its drop, in the reverse order, and nothing else is touched.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::process::{check_interrupt, command, installed, run, run_always, run_umount, start};
use crate::cli::failure::{About, Failure, Result};
use crate::control::mounts;

/// How long a daemon may take to mount.
const MOUNT_PATIENCE: Duration = Duration::from_secs(30);

/// A filesystem that can be made and mounted here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Peer {
    /// By this executable, with these mount options.
    Gleanfs { program: PathBuf, options: String },
    /// The kernel's ext4 on a loop device with direct I/O to the image.
    Ext4,
    /// ext4 in user space; reads and writes the image through the page cache.
    Fuse2fs,
    /// Copy-on-write in user space.
    Redoxfs,
}

impl Peer {
    /// The peer of that name; gleanfs is the running program itself.
    pub fn by_name(name: &str) -> Result<Self> {
        match name {
            "gleanfs" => {
                let program = std::env::current_exe().about("finding this program")?;
                Ok(Self::Gleanfs { program, options: String::new() })
            }
            "ext4" => Ok(Self::Ext4),
            "fuse2fs" => Ok(Self::Fuse2fs),
            "redoxfs" => Ok(Self::Redoxfs),
            other => {
                Err(Failure::new(format_args!("unknown peer '{other}'; known are gleanfs, ext4, fuse2fs, redoxfs")))
            }
        }
    }

    pub fn name(&self) -> &'static str {
        match self {
            Self::Gleanfs { .. } => "gleanfs",
            Self::Ext4 => "ext4",
            Self::Fuse2fs => "fuse2fs",
            Self::Redoxfs => "redoxfs",
        }
    }

    /// Why this peer cannot run here, if it cannot.
    pub fn missing(&self) -> Option<String> {
        let needed: &[&str] = match self {
            Self::Gleanfs { .. } => &[],
            Self::Ext4 => &["mkfs.ext4", "losetup", "mount", "umount"],
            Self::Fuse2fs => &["mkfs.ext4", "fuse2fs", "umount"],
            Self::Redoxfs => &["redoxfs-mkfs", "redoxfs", "umount"],
        };
        if let Some(program) = needed.iter().find(|program| !installed(program)) {
            return Some(format!("{program} is not installed"));
        }
        if *self == Self::Ext4 && !rustix::process::geteuid().is_root() {
            return Some("loop devices need root".into());
        }
        let fuse = *self != Self::Ext4;
        (fuse && !Path::new("/dev/fuse").exists()).then(|| "there is no /dev/fuse".into())
    }

    /// Makes an empty filesystem of `size` bytes in a new file in `backing` and mounts it.
    pub fn make_and_mount(&self, backing: &Path, size: u64) -> Result<Mounted> {
        let backing = backing.canonicalize().about(backing.display())?;
        let name = format!("gleanfs-{}-{}", self.name(), std::process::id());
        let mut mounted = Mounted {
            peer: self.clone(),
            image: backing.join(format!("{name}.img")),
            target: backing.join(format!("{name}.mnt")),
            loop_device: None,
            daemon: None,
            is_mounted: false,
            is_finished: false,
        };
        File::create_new(&mounted.image).and_then(|image| image.set_len(size)).about(mounted.image.display())?;
        std::fs::create_dir(&mounted.target).about(mounted.target.display())?;
        mounted.make(size)?;
        mounted.mount()?;
        Ok(mounted)
    }
}

/// A peer's filesystem, mounted.
#[derive(Debug)]
pub struct Mounted {
    peer: Peer,
    image: PathBuf,
    target: PathBuf,
    loop_device: Option<PathBuf>,
    daemon: Option<Child>,
    is_mounted: bool,
    is_finished: bool,
}

impl Mounted {
    pub fn target(&self) -> &Path {
        &self.target
    }

    pub fn image(&self) -> &Path {
        &self.image
    }

    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    fn make(&self, size: u64) -> Result<()> {
        let mut mkfs = match &self.peer {
            Peer::Gleanfs { program, .. } => {
                let mut mkfs = Command::new(program);
                mkfs.args(["mkfs", "--quiet", "--force", "--size", &size.to_string()]);
                mkfs
            }
            Peer::Ext4 | Peer::Fuse2fs => {
                let mut mkfs = command("mkfs.ext4");
                // Nothing left to do in the background, nothing kept back: the same room and quiet for all.
                mkfs.args(["-q", "-F", "-m", "0", "-E", "lazy_itable_init=0,lazy_journal_init=0"]);
                mkfs
            }
            Peer::Redoxfs => command("redoxfs-mkfs"),
        };
        run(mkfs.arg(&self.image)).map(|_| ())
    }

    /// Mounts what is in the image (again, after [`Mounted::unmount`]).
    pub fn mount(&mut self) -> Result<()> {
        match &self.peer {
            Peer::Gleanfs { program, options } => {
                let mut mount = Command::new(program);
                mount.arg("mount").args((!options.is_empty()).then_some(["-o", options]).into_iter().flatten());
                run(mount.arg(&self.image).arg(&self.target))?;
            }
            Peer::Ext4 => {
                let output = run(command("losetup").args(["--find", "--show", "--direct-io=on"]).arg(&self.image))?;
                let device = PathBuf::from(String::from_utf8_lossy(&output).trim());
                self.loop_device = Some(device.clone());
                run(command("mount").args(["-t", "ext4"]).arg(device).arg(&self.target))?;
            }
            Peer::Fuse2fs => {
                self.daemon = Some(start(command("fuse2fs").arg("-f").arg(&self.image).arg(&self.target))?);
                self.await_mount()?;
            }
            Peer::Redoxfs => {
                self.daemon = Some(start(command("redoxfs").arg("--no-daemon").arg(&self.image).arg(&self.target))?);
                self.await_mount()?;
            }
        }
        self.is_mounted = true;
        Ok(())
    }

    /// The kernel makes the mount table readable for an exceptional condition whenever it changes (proc(5)).
    fn await_mount(&mut self) -> Result<()> {
        let table = File::open("/proc/self/mountinfo").about("/proc/self/mountinfo")?;
        let deadline = std::time::Instant::now() + MOUNT_PATIENCE;
        let name = self.peer.name();
        while mounts::at(&self.target).about(self.target.display())?.is_none() {
            check_interrupt()?;
            let left = deadline.saturating_duration_since(std::time::Instant::now());
            if left.is_zero() {
                return Err(Failure::new(format_args!("{name}: not mounted after {} s", MOUNT_PATIENCE.as_secs())));
            }
            if let Some(daemon) = &mut self.daemon
                && let Some(status) = daemon.try_wait().about(name)?
            {
                return Err(Failure::new(format_args!("{name}: ended before it had mounted: {status}")));
            }
            // Short rounds, because a daemon that dies changes no mount.
            let round = Timespec { tv_sec: 0, tv_nsec: 200_000_000 };
            let _ = poll(&mut [PollFd::from_borrowed_fd(table.as_fd(), PollFlags::PRI)], Some(&round));
        }
        Ok(())
    }

    /// Unmounts and waits until everything is durable; the image stays.
    pub fn unmount(&mut self) -> Result<()> {
        if self.is_mounted {
            match &self.peer {
                Peer::Gleanfs { program, .. } => run_always(Command::new(program).arg("umount").arg(&self.target))?,
                _ => run_umount(command("umount").arg(&self.target))?,
            };
            self.is_mounted = false;
        }
        if let Some(mut daemon) = self.daemon.take() {
            daemon.wait().about(self.peer.name())?;
        }
        if let Some(device) = self.loop_device.take() {
            run_always(command("losetup").arg("-d").arg(device))?;
        }
        Ok(())
    }

    /// Unmounts and removes everything; says what went wrong, which a drop cannot.
    pub fn end(mut self) -> Result<()> {
        self.is_finished = true;
        let unmounted = self.unmount();
        if unmounted.is_err() {
            self.force();
        }
        let removed = std::fs::remove_dir(&self.target)
            .about(self.target.display())
            .and_then(|()| std::fs::remove_file(&self.image).about(self.image.display()));
        unmounted.and(removed)
    }

    /// Takes down what would not go in the ordinary way.
    fn force(&mut self) {
        if self.is_mounted {
            let _ = run_always(command("umount").arg("-l").arg(&self.target));
        }
        if let Some(mut daemon) = self.daemon.take() {
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
        if let Some(device) = self.loop_device.take() {
            let _ = run_always(command("losetup").arg("-d").arg(device));
        }
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if self.is_finished {
            return;
        }
        if !self.is_mounted || self.unmount().is_err() {
            self.force();
        }
        let _ = std::fs::remove_dir(&self.target);
        let _ = std::fs::remove_file(&self.image);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers_are_known_by_name() {
        for name in ["gleanfs", "ext4", "fuse2fs", "redoxfs"] {
            assert_eq!(Peer::by_name(name).unwrap().name(), name);
        }
        assert!(Peer::by_name("zfs").is_err());
    }

    #[test]
    fn a_peer_is_mounted_written_and_leaves_nothing() {
        for peer in [Peer::Ext4, Peer::Fuse2fs] {
            if let Some(why) = peer.missing() {
                println!("skipped: {}: {why}", peer.name());
                continue;
            }
            let backing = tempfile::tempdir().unwrap();
            let mut mounted = match peer.make_and_mount(backing.path(), 64 << 20) {
                Ok(mounted) => mounted,
                Err(why) => {
                    println!("skipped: {}: {why}", peer.name());
                    assert_eq!(std::fs::read_dir(backing.path()).unwrap().count(), 0);
                    continue;
                }
            };
            let file = mounted.target().join("file");
            std::fs::write(&file, b"kept").unwrap();
            mounted.unmount().unwrap();
            assert!(!file.exists());
            mounted.mount().unwrap();
            assert_eq!(std::fs::read(&file).unwrap(), b"kept");
            mounted.end().unwrap();
            assert_eq!(std::fs::read_dir(backing.path()).unwrap().count(), 0);
        }
    }
}
