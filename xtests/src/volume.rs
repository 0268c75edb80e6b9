//! A filesystem under test: made in a directory of its own, mounted, and taken down again whatever happens.

use std::fs::Permissions;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use gleanfs::cli::bench::process::{command, run, run_always, run_umount};
use gleanfs::control::{Client, Status};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::retry_on_intr;
use rustix::process::{PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tempfile::TempDir;

use crate::program;
use crate::testdisk::cut::PowerCut;
use crate::testdisk::{self, TestDisk};

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
    /// A disk that loses its write cache when its process is killed.
    Testdisk,
}

/// Zones of a zoned image: large ones, unless that left so few that the reserves take a notable share of them.
const ZONES_LEAST: u64 = 256;
const ZONE_KIB_LEAST: u64 = 1 << 10;
const ZONE_KIB_MOST: u64 = 8 << 10;

/// Zone size and capacity in KiB: the capacity is below the size, as on real devices.
fn zone_shape(size_mib: u64) -> (u64, u64) {
    let even = (size_mib << 10) / ZONES_LEAST;
    let size = (even + 1).next_power_of_two() / 2;
    let size = size.clamp(ZONE_KIB_LEAST, ZONE_KIB_MOST);
    (size, size / 4 * 3)
}

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
    /// Size of a segment in KiB, where there are no zones [default: what mkfs chooses]
    #[arg(long)]
    pub segment_kib: Option<u64>,
    /// Directory for images and mount points [default: the system's for temporary files]
    #[arg(long)]
    pub scratch: Option<PathBuf>,
    /// Percent of the writes of which a test disk keeps something before a flush
    #[arg(long, default_value_t = testdisk::DESTAGE_PERCENT)]
    pub destage: u64,
    /// What stands in for gleanfs.
    #[arg(skip)]
    pub program: Option<PathBuf>,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            peer: Peer::Gleanfs,
            backing: Backing::File,
            options: String::new(),
            size_mib: 512,
            segment_kib: None,
            scratch: None,
            destage: testdisk::DESTAGE_PERCENT,
            program: None,
        }
    }
}

impl Setup {
    /// The same with more mount options.
    pub fn with(&self, options: &str) -> Self {
        let words: Vec<&str> = [&*self.options, options].into_iter().filter(|words| !words.is_empty()).collect();
        Self { options: words.join(","), ..self.clone() }
    }

    /// Makes an empty filesystem and mounts it.
    pub fn make(&self) -> Result<Volume> {
        let scratch = match &self.scratch {
            Some(directory) => tempfile::Builder::new().prefix("xtests-").tempdir_in(directory)?,
            None => tempfile::Builder::new().prefix("xtests-").tempdir()?,
        };
        let program = match (&self.program, self.peer) {
            (_, Peer::Ext4) => PathBuf::new(),
            (Some(program), Peer::Gleanfs) => program.clone(),
            (None, Peer::Gleanfs) => program::gleanfs()?,
        };
        let target = scratch.path().join("mnt");
        std::fs::create_dir(&target)?;
        let mut volume =
            Volume { setup: self.clone(), program, target, disk: None, scratch, loop_device: None, is_mounted: false };
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
    disk: Option<TestDisk>,
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

    /// The program that made and mounts it, if that is ours.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// Lets users other than root through to the mount; what lies there has permissions of its own.
    pub fn open_to_others(&self) -> Result<()> {
        Ok(std::fs::set_permissions(self.scratch.path(), Permissions::from_mode(0o711))?)
    }

    pub fn peer(&self) -> Peer {
        self.setup.peer
    }

    /// Bytes of the device that can be written.
    pub fn device_bytes(&self) -> u64 {
        let addressed = self.setup.size_mib << 20;
        if self.is_zoned() {
            let (zone, capacity) = zone_shape(self.setup.size_mib);
            addressed / zone * capacity
        } else {
            addressed
        }
    }

    fn is_zoned(&self) -> bool {
        self.setup.backing == Backing::Zoned && self.setup.peer == Peer::Gleanfs
    }

    /// What mkfs, mount and fsck are given.
    pub fn source(&self) -> PathBuf {
        match (&self.disk, &self.loop_device) {
            (Some(disk), _) => disk.image(),
            (None, Some(device)) => device.clone(),
            (None, None) => self.scratch.path().join("image"),
        }
    }

    pub fn backing(&self) -> Backing {
        self.setup.backing
    }

    fn on_loop(&self) -> bool {
        self.setup.peer == Peer::Ext4 || self.setup.backing == Backing::Loop
    }

    fn prepare_backing(&mut self) -> Result<()> {
        let image = self.scratch.path().join("image");
        if self.is_zoned() {
            return Ok(());
        }
        if self.setup.backing == Backing::Testdisk {
            ensure!(self.peer() == Peer::Gleanfs, "the test disk serves a file, and {:?} needs a device", self.peer());
            let bytes = self.setup.size_mib << 20;
            self.disk = Some(TestDisk::make(self.scratch.path(), bytes, self.setup.destage)?);
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
                    let (zone, capacity) = zone_shape(self.setup.size_mib);
                    mkfs.arg(format!("--zone-size={zone}K")).arg(format!("--zone-capacity={capacity}K"));
                    mkfs.arg(format!("--size={}M", self.setup.size_mib));
                } else if let Some(kib) = self.setup.segment_kib {
                    mkfs.arg(format!("--segment-size={kib}K"));
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
        // From here on there may be a mount to take down, also if an interrupt ends the command that has just made it.
        self.is_mounted = true;
        run(mount.arg(self.source()).arg(&self.target)).map(drop)?;
        Ok(())
    }

    /// Unmounts and waits until all is durable; also clears away the mount of a dead daemon.
    pub fn unmount(&mut self) -> Result<()> {
        if self.is_mounted {
            match self.setup.peer {
                Peer::Ext4 => run_umount(command("umount").arg(&self.target))?,
                Peer::Gleanfs => run_always(Command::new(&self.program).arg("umount").arg(&self.target))?,
            };
            self.is_mounted = false;
        }
        Ok(())
    }

    /// Unmounts a filesystem that became read-only: its last checkpoint fails, and the mount has to go all the same.
    pub fn unmount_anyway(&mut self) -> Result<()> {
        if let Err(why) = self.unmount() {
            ensure!(!is_mount_point(&self.target)?, "{why:#}, and it is still mounted");
            self.is_mounted = false;
        }
        Ok(())
    }

    /// `kill -9` of the daemon; returns once it is gone. The mount stays, dead. Nothing to kill on a kernel filesystem.
    pub fn kill_daemon(&self) -> Result<()> {
        if self.setup.peer == Peer::Gleanfs {
            let daemon = self.daemon()?;
            pidfd_send_signal(&daemon, Signal::KILL).context("killing the daemon")?;
            await_end(&daemon).context("waiting for the daemon's end")?;
        }
        Ok(())
    }

    /// On a test disk: the power cut that comes once the disk has taken `changes` more.
    pub fn arm_power_cut(&mut self, changes: u64) -> Result<Option<PowerCut>> {
        if self.disk.is_none() {
            return Ok(None);
        }
        let daemon = self.daemon()?;
        let disk = self.disk.as_mut().expect("just looked");
        let cut = PowerCut::await_stop(daemon, disk.pid()?);
        match disk.stop_after(changes) {
            Ok(()) => Ok(Some(cut)),
            Err(why) => cut.end().and(Err(why)),
        }
    }

    /// Waits until a power cut has struck and gives the disk its power back. The mount stays, dead.
    pub fn end_power_cut(&mut self, cut: PowerCut) -> Result<()> {
        let struck = cut.end();
        let disk = self.disk.as_mut().expect("only a test disk's power is cut");
        disk.restart()?;
        struck
    }

    /// The test disk, if that is what it lies on.
    pub fn disk(&mut self) -> Option<&mut TestDisk> {
        self.disk.as_mut()
    }

    /// The daemon, whatever becomes of its number.
    pub(crate) fn daemon(&self) -> Result<OwnedFd> {
        Ok(pidfd_open(Client::connect(&self.target)?.daemon_pid(), PidfdFlags::empty())?)
    }

    /// What `gleanfs ctl` says of the mount.
    pub fn status(&self) -> Result<Status> {
        ensure!(self.peer() == Peer::Gleanfs, "only gleanfs has counters of its own");
        let told = run(Command::new(&self.program).arg("ctl").arg(&self.target).args(["status", "--json"]))?;
        serde_json::from_slice(&told).context("what ctl status says")
    }

    /// Gives `gleanfs ctl` an order.
    pub fn order(&self, words: &[&str]) -> Result<()> {
        run(Command::new(&self.program).arg("ctl").arg(&self.target).args(words))?;
        Ok(())
    }

    /// Makes everything durable that was written through the mount: first the kernel gives it to the daemon, then the daemon to the device.
    pub fn settle(&self) -> Result<()> {
        let directory = std::fs::File::open(&self.target).context("opening the mount point")?;
        // A process that is killed with a file mapped cannot finish telling its times, and the next syncfs gives that back as its own error, once.
        retry_on_intr(|| rustix::fs::syncfs(&directory)).context("syncfs")?;
        if self.peer() == Peer::Gleanfs { self.order(&["sync"]) } else { Ok(()) }
    }

    /// Mount options of the next mount.
    pub fn set_options(&mut self, options: &str) {
        self.setup.options = options.into();
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

/// Whether something is mounted on `path`: then it lies on another device than the directory above.
fn is_mount_point(path: &Path) -> Result<bool> {
    use std::os::unix::fs::MetadataExt;
    let above = path.parent().context("a mount point has a directory above")?;
    Ok(std::fs::metadata(path)?.dev() != std::fs::metadata(above)?.dev())
}

/// Returns once the process is gone.
pub(crate) fn await_end(process: &OwnedFd) -> Result<()> {
    poll(&mut [PollFd::from_borrowed_fd(process.as_fd(), PollFlags::IN)], None)?;
    Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zones_are_large_where_there_are_enough() {
        assert_eq!(zone_shape(256), (1024, 768));
        assert_eq!(zone_shape(512), (2048, 1536));
        assert_eq!(zone_shape(1000), (2048, 1536));
        assert_eq!(zone_shape(1024), (4096, 3072));
        assert_eq!(zone_shape(1 << 20), (8192, 6144));
    }
}
