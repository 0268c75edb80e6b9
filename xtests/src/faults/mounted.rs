//! A real mount whose backing store fails, and one whose host is full.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use rustix::fs::{Advice, fadvise};
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags};

use crate::testdisk::cache::Failing;
use crate::volume::{Backing, Setup, Volume};

const MIB: usize = 1 << 20;

/// A file system of its own for an image, small enough to be filled.
struct Host {
    path: PathBuf,
    _directory: tempfile::TempDir,
}

impl Host {
    fn mount(mib: usize) -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("xtests-host-").tempdir()?;
        let path = directory.path().join("tmpfs");
        std::fs::create_dir(&path)?;
        let size = std::ffi::CString::new(format!("size={mib}m"))?;
        rustix::mount::mount("tmpfs", &path, "tmpfs", MountFlags::empty(), Some(size.as_c_str()))
            .context("mounting a small tmpfs")?;
        Ok(Self { path, _directory: directory })
    }

    /// Takes all room that is left.
    fn fill(&self) -> Result<PathBuf> {
        let path = self.path.join("filler");
        let mut filler = File::create(&path)?;
        while filler.write_all(&[7; 64 << 10]).is_ok() {}
        Ok(path)
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(&self.path, UnmountFlags::DETACH);
    }
}

/// The disk answers EIO to every write, or to every flush: the mount becomes read-only and says why, what was synced can be read before and after, and the
/// unmount returns.
pub fn failing_disk(what: Failing) -> Result<()> {
    let setup = Setup { backing: Backing::Testdisk, size_mib: 128, ..Setup::default() };
    let mut volume = setup.make()?;
    let kept = volume.target().join("kept");
    write(&kept, 3)?;
    volume.disk().context("a test disk")?.fail(what)?;
    ensure!(write(&volume.target().join("lost"), 4).is_err(), "a file was synced to a disk that fails");
    let why = volume.status()?.latched.context("the mount says nothing of the failure")?;
    ensure!(why.contains("read-only"), "the reason is `{why}`");
    match File::create(volume.target().join("another")) {
        Err(e) if e.raw_os_error() == Some(Errno::ROFS.raw_os_error()) => {}
        other => bail!("a file could be made, or failed otherwise: {other:?}"),
    }
    check(&kept, 3).context("on the mount that failed")?;
    volume.unmount_anyway()?;
    volume.disk().context("a test disk")?.restart()?;
    volume.fsck()?;
    volume.mount()?;
    check(&kept, 3).context("after the disk works again")?;
    write(&volume.target().join("another"), 5)?;
    volume.end()
}

/// Others take the room of the host under an image: writes fail for want of space, and go on when there is room again.
pub fn full_host() -> Result<()> {
    let host = Host::mount(96)?;
    let setup = Setup { size_mib: 256, segment_kib: Some(1024), scratch: Some(host.path.clone()), ..Setup::default() };
    let mut volume = setup.make()?;
    let kept = volume.target().join("kept");
    write(&kept, 3)?;
    let filler = host.fill()?;
    fill(&volume)?;
    if let Some(why) = volume.status()?.latched {
        bail!("a full host ended writing: {why}");
    }
    check(&kept, 3).context("while the host is full")?;
    std::fs::remove_file(filler)?;
    write(&volume.target().join("later"), 5).context("when there is room again")?;
    volume.unmount()?;
    volume.fsck()?;
    volume.mount()?;
    check(&kept, 3)?;
    check(&volume.target().join("later"), 5)?;
    volume.end()
}

/// Writes and syncs files until there is no space; every other error is one.
fn fill(volume: &Volume) -> Result<()> {
    for n in 0..200 {
        let path = volume.target().join(format!("filling {n}"));
        match write(&path, n) {
            Ok(()) => check(&path, n)?,
            Err(e) if e.downcast_ref::<std::io::Error>().is_some_and(is_no_space) => return Ok(()),
            Err(e) => return Err(e),
        }
    }
    bail!("the host is full, and no write failed")
}

fn is_no_space(error: &std::io::Error) -> bool {
    error.raw_os_error() == Some(Errno::NOSPC.raw_os_error())
}

/// A MiB of a byte, synced.
fn write(path: &Path, byte: u8) -> Result<()> {
    let mut file = File::create(path)?;
    file.write_all(&vec![byte; MIB])?;
    file.sync_all()?;
    Ok(())
}

/// The same bytes, asked of the daemon and not of the kernel's cache.
fn check(path: &Path, byte: u8) -> Result<()> {
    let file = File::open(path)?;
    fadvise(&file, 0, None, Advice::DontNeed)?;
    let found = std::fs::read(path)?;
    ensure!(found == vec![byte; MIB], "{} is not what was written", path.display());
    Ok(())
}
