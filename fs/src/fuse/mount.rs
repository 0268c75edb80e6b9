//! mount(2) of our own: type `fuse.gleanfs`, so that `df -T` shows type and device, and every flag is under our control.
//!
//! A user who is not root has no mount(2); `fuser` then calls `fusermount3`.

use std::ffi::CString;
use std::fs::{File, OpenOptions};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use anyhow::{Context, Result, bail};
use fuser::{Config, MountOption, SessionACL};
use rustix::mount::MountFlags;

use super::buffers::READ_BYTES_MAX;
use super::mountinfo::{self, Mount};
use super::options::MountOptions;

/// Type and subtype, as the kernel shows it.
pub(super) const FSTYPE: &str = "fuse.gleanfs";
const SUBTYPE: &str = "gleanfs";
const DEVICE: &str = "/dev/fuse";

/// Mounts on `mountpoint` as root; the kernel's requests can be read from the descriptor.
pub(super) fn mount_as_root(mountpoint: &Path, spec: &str, options: &MountOptions) -> Result<OwnedFd> {
    let device = open_device()?;
    let data = CString::new(mount_data(device.as_raw_fd(), options))?;
    let source = CString::new(spec).context("the device's path holds a NUL byte")?;
    rustix::mount::mount(source.as_c_str(), mountpoint, FSTYPE, mount_flags(options), data.as_c_str())
        .with_context(|| format!("cannot mount on {}", mountpoint.display()))?;
    Ok(device.into())
}

fn open_device() -> Result<File> {
    let opened = OpenOptions::new().read(true).write(true).open(DEVICE);
    opened.with_context(|| format!("cannot open {DEVICE} (is the kernel's fuse module there?)"))
}

/// The options of the kernel's own (`fs/fuse/inode.c`, `fuse_fs_parameters`).
fn mount_data(device: i32, options: &MountOptions) -> String {
    let (user, group) = options.owner;
    let mut data = format!(
        "fd={device},rootmode={:o},user_id={user},group_id={group},default_permissions,max_read={READ_BYTES_MAX}",
        libc::S_IFDIR
    );
    if options.allow_other {
        data.push_str(",allow_other");
    }
    data
}

fn mount_flags(options: &MountOptions) -> MountFlags {
    let chosen = [
        (options.read_only, MountFlags::RDONLY),
        (options.nosuid, MountFlags::NOSUID),
        (options.nodev, MountFlags::NODEV),
        (options.noexec, MountFlags::NOEXEC),
        (options.nodiratime, MountFlags::NODIRATIME),
        (options.sync, MountFlags::SYNCHRONOUS),
        (options.dirsync, MountFlags::DIRSYNC),
        (options.noatime, MountFlags::NOATIME),
        (!options.noatime, MountFlags::RELATIME),
    ];
    chosen.into_iter().filter(|(on, _)| *on).map(|(_, flag)| flag).collect()
}

/// How `fuser` runs a session, and how it mounts for a user who is not root.
pub(super) fn session_config(spec: &str, options: &MountOptions) -> Config {
    let flags = [
        (options.read_only, MountOption::RO),
        (options.nosuid, MountOption::NoSuid),
        (options.nodev, MountOption::NoDev),
        (options.noexec, MountOption::NoExec),
        (options.noatime, MountOption::NoAtime),
        (options.sync, MountOption::Sync),
        (options.dirsync, MountOption::DirSync),
    ];
    let mut config = Config::default();
    config.mount_options = vec![
        // `fusermount3` takes commas for separators.
        MountOption::FSName(spec.replace('\\', "\\\\").replace(',', "\\,")),
        MountOption::Subtype(SUBTYPE.into()),
        MountOption::DefaultPermissions,
    ];
    config.mount_options.extend(flags.into_iter().filter(|(on, _)| *on).map(|(_, option)| option));
    config.acl = if options.allow_other { SessionACL::All } else { SessionACL::Owner };
    config.n_threads = Some(options.threads.max(1));
    // Requests that were read over a clone fail when it is closed, so with clones nothing that a dead daemon has read could be resent.
    config.clone_fd = !options.outlives;
    config
}

/// Waits for nothing: the mount is there once mount(2) has returned.
pub(super) fn own_mount(mountpoint: &Path) -> Result<Mount> {
    match mountinfo::find(mountpoint)? {
        Some(mount) if mount.fstype == FSTYPE => Ok(mount),
        _ => bail!("{} is not mounted", mountpoint.display()),
    }
}

/// Has the kernel read further ahead than the 128 KiB that the protocol begins with. Without the privilege it stays so.
pub(super) fn set_read_ahead(mount: &Mount, bytes: u32) {
    let knob = format!("/sys/class/bdi/{}/read_ahead_kb", mount.device);
    if let Err(error) = std::fs::write(&knob, (bytes / 1024).to_string()) {
        tracing::debug!("{knob}: {error}");
    }
}

/// Whether `image` lies inside `mountpoint`, where the mount would hide it. What does not exist lies nowhere.
pub fn image_inside(mountpoint: &Path, image: &Path) -> bool {
    match (mountpoint.canonicalize(), image.canonicalize()) {
        (Ok(mountpoint), Ok(image)) => image.starts_with(&mountpoint),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_below_its_mount_point_is_told_also_through_links() {
        let dir = tempfile::tempdir().unwrap();
        let (mountpoint, image) = (dir.path().join("mnt"), dir.path().join("mnt/sub/image"));
        std::fs::create_dir_all(image.parent().unwrap()).unwrap();
        std::fs::write(&image, b"").unwrap();
        std::os::unix::fs::symlink(&image, dir.path().join("link")).unwrap();
        std::fs::write(dir.path().join("mnt-image"), b"").unwrap();
        assert!(image_inside(&mountpoint, &image));
        assert!(image_inside(&mountpoint, &dir.path().join("link")));
        assert!(!image_inside(&mountpoint, &dir.path().join("mnt-image")));
        assert!(!image_inside(&mountpoint, &dir.path().join("missing")));
    }

    #[test]
    fn flags_and_data_say_what_the_options_say() {
        let mut options = MountOptions { allow_other: false, ..MountOptions::default() };
        assert_eq!(mount_flags(&options), MountFlags::RELATIME);
        assert_eq!(
            mount_data(5, &options),
            "fd=5,rootmode=40000,user_id=0,group_id=0,default_permissions,max_read=1048576"
        );
        options.owner = (1000, 100);
        assert!(mount_data(5, &options).contains(",user_id=1000,group_id=100,"));
        options.set("noatime");
        options.set("ro");
        options.allow_other = true;
        assert_eq!(mount_flags(&options), MountFlags::NOATIME | MountFlags::RDONLY);
        assert!(mount_data(5, &options).ends_with(",allow_other"));
    }
}
