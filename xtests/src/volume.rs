//! A filesystem under test: made in a directory of its own, mounted, and taken down again whatever happens.

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use gleanfs::cli::bench::process::{command, run, run_always};
use gleanfs::control::Client;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tempfile::TempDir;

use crate::program;

/// The filesystem to test.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Peer {
    Gleanfs,
    /// On a loop device: to test the driver, not the filesystem.
    Ext4,
}

/// What it lies on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Backing {
    /// An image file.
    File,
    /// A loop device over an image file, with direct I/O.
    Loop,
    /// A zoned image.
    Zoned,
}

/// Shape of zoned images: a capacity below the size, as real devices have it.
const ZONE_MIB: u64 = 8;
const ZONE_CAPACITY_MIB: u64 = 6;

/// How to make and mount a filesystem; the arguments that all campaigns share.
#[derive(Clone, Debug, clap::Args)]
pub struct Setup {
    /// Filesystem to test
    #[arg(long, value_enum, default_value = "gleanfs")]
    pub peer: Peer,
    /// What it lies on
    #[arg(long, value_enum, default_value = "file")]
    pub backing: Backing,
    /// Mount options
    #[arg(short = 'o', long, default_value = "")]
    pub options: String,
    /// Size of the filesystem in MiB
    #[arg(long, default_value_t = 512)]
    pub size_mib: u64,
    /// Directory for images and mount points [default: the system's for temporary files]
    #[arg(long)]
    pub scratch: Option<PathBuf>,
}

impl Default for Setup {
    fn default() -> Self {
        Self { peer: Peer::Gleanfs, backing: Backing::File, options: String::new(), size_mib: 512, scratch: None }
    }
}

impl Setup {
    /// Makes an empty filesystem and mounts it.
    pub fn make(&self) -> Result<Volume> {
        let scratch = match &self.scratch {
            Some(directory) => tempfile::Builder::new().prefix("xtests-").tempdir_in(directory)?,
            None => tempfile::Builder::new().prefix("xtests-").tempdir()?,
        };
        let program = if self.peer == Peer::Gleanfs { program::gleanfs()? } else { PathBuf::new() };
        let target = scratch.path().join("mnt");
        std::fs::create_dir(&target)?;
        let mut volume = Volume { setup: self.clone(), program, target, scratch, loop_device: None, is_mounted: false };
        volume.prepare_backing()?;
        volume.make()?;
        volume.mount()?;
        Ok(volume)
    }
}

/// A filesystem under test. Dropped, it is unmounted and gone.
#[derive(Debug)]
pub struct Volume {
    setup: Setup,
    program: PathBuf,
    target: PathBuf,
    loop_device: Option<PathBuf>,
    is_mounted: bool,
    scratch: TempDir,
}

impl Volume {
    pub fn target(&self) -> &Path {
        &self.target
    }

    /// A directory beside the image, on the backing filesystem.
    pub fn beside(&self) -> &Path {
        self.scratch.path()
    }

    pub fn peer(&self) -> Peer {
        self.setup.peer
    }

    /// Bytes of the device that can be written.
    pub fn device_bytes(&self) -> u64 {
        let addressed = self.setup.size_mib << 20;
        if self.is_zoned() { addressed / ZONE_MIB * ZONE_CAPACITY_MIB } else { addressed }
    }

    fn is_zoned(&self) -> bool {
        self.setup.backing == Backing::Zoned && self.setup.peer == Peer::Gleanfs
    }

    /// What mkfs, mount and fsck are given.
    pub fn source(&self) -> PathBuf {
        self.loop_device.clone().unwrap_or_else(|| self.scratch.path().join("image"))
    }

    fn on_loop(&self) -> bool {
        self.setup.peer == Peer::Ext4 || self.setup.backing == Backing::Loop
    }

    fn prepare_backing(&mut self) -> Result<()> {
        let image = self.scratch.path().join("image");
        if self.is_zoned() {
            return Ok(());
        }
        std::fs::File::create_new(&image)?.set_len(self.setup.size_mib << 20)?;
        if self.on_loop() {
            let output = run(command("losetup").args(["--find", "--show", "--direct-io=on"]).arg(&image))?;
            self.loop_device = Some(String::from_utf8(output)?.trim().into());
        }
        Ok(())
    }

    fn make(&self) -> Result<()> {
        let mut mkfs = match self.setup.peer {
            Peer::Ext4 => {
                let mut mkfs = command("mkfs.ext4");
                mkfs.args(["-q", "-F", "-m", "0"]);
                mkfs
            }
            Peer::Gleanfs => {
                let mut mkfs = Command::new(&self.program);
                mkfs.args(["mkfs", "--quiet", "--force"]);
                if self.is_zoned() {
                    mkfs.args(["--zoned", "--max-open", "12"]);
                    mkfs.arg(format!("--zone-size={ZONE_MIB}M")).arg(format!("--zone-capacity={ZONE_CAPACITY_MIB}M"));
                    mkfs.arg(format!("--size={}M", self.setup.size_mib));
                }
                mkfs
            }
        };
        run(mkfs.arg(self.source()))?;
        Ok(())
    }

    /// Mounts it (again).
    pub fn mount(&mut self) -> Result<()> {
        let mut mount = match self.setup.peer {
            Peer::Ext4 => command("mount"),
            Peer::Gleanfs => {
                let mut mount = Command::new(&self.program);
                mount.arg("mount");
                mount
            }
        };
        if !self.setup.options.is_empty() {
            mount.args(["-o", &self.setup.options]);
        }
        run(mount.arg(self.source()).arg(&self.target))?;
        self.is_mounted = true;
        Ok(())
    }

    /// Unmounts and waits until all is durable; also clears away the mount of a dead daemon.
    pub fn unmount(&mut self) -> Result<()> {
        if self.is_mounted {
            match self.setup.peer {
                Peer::Ext4 => run_always(command("umount").arg(&self.target))?,
                Peer::Gleanfs => run_always(Command::new(&self.program).arg("umount").arg(&self.target))?,
            };
            self.is_mounted = false;
        }
        Ok(())
    }

    /// `kill -9` of the daemon; returns once it is gone. The mount stays, dead. Nothing to kill on a kernel filesystem.
    pub fn kill_daemon(&self) -> Result<()> {
        if self.setup.peer == Peer::Gleanfs {
            let daemon = pidfd_open(Client::connect(&self.target)?.daemon_pid(), PidfdFlags::empty())?;
            pidfd_send_signal(&daemon, Signal::KILL)?;
            poll(&mut [PollFd::from_borrowed_fd(daemon.as_fd(), PollFlags::IN)], None)?;
        }
        Ok(())
    }

    /// Checks the unmounted filesystem; anything but clean is an error.
    pub fn fsck(&self) -> Result<()> {
        ensure!(!self.is_mounted, "fsck of a mounted filesystem");
        let checked = match self.setup.peer {
            Peer::Ext4 => run(command("e2fsck").args(["-f", "-n"]).arg(self.source())),
            Peer::Gleanfs => run(Command::new(&self.program).args(["fsck", "-n"]).arg(self.source())),
        };
        checked.map(drop).context("fsck is not content")
    }

    /// Unmounts, checks and removes everything; what a drop cannot report.
    pub fn end(mut self) -> Result<()> {
        self.unmount()?;
        self.fsck()
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        if self.is_mounted && self.unmount().is_err() {
            let _ = run_always(command("umount").arg("-l").arg(&self.target));
        }
        if let Some(device) = self.loop_device.take() {
            let _ = run_always(command("losetup").arg("-d").arg(device));
        }
    }
}
