//! Where the demo works: a directory of its own for temporary files, or the one that the user wants kept.
//!
//! Removes what it made when dropped. Never removes through a mount: files are removed by name and directories only if empty,
//! except for the generated tree, which lies beside the mount and not in it.

use std::path::{Path, PathBuf};

use crate::cli::bench::process::installed;
use crate::cli::failure::{About, Failure, Result};
use crate::cli::size::Size;
use crate::control::mounts;

/// Exit status for "cannot be shown on this machine", which test drivers take for "skipped".
pub const STATUS_SKIPPED: u8 = 77;

/// A directory to work in.
#[derive(Debug)]
pub struct Place {
    dir: PathBuf,
    made: bool,
    kept: bool,
}

impl Place {
    /// Checks that a mount can be made and that the image has room, then makes the directory if it is not there.
    pub fn prepare(keep: Option<&Path>, image_bytes: u64) -> Result<Self> {
        check_fuse()?;
        let place = match keep {
            Some(dir) => Self::kept(dir)?,
            None => Self::temporary()?,
        };
        place.check_room(image_bytes)?;
        Ok(place)
    }

    fn kept(dir: &Path) -> Result<Self> {
        let shown = dir.display();
        let made = !dir.exists();
        if made {
            std::fs::create_dir_all(dir).about(shown)?;
        }
        let place = Self { dir: dir.canonicalize().about(dir.display())?, made, kept: true };
        for taken in [place.image("gleanfs"), place.mount_point()] {
            if mounts::at(&taken).ok().flatten().is_some() || taken.symlink_metadata().is_ok() {
                let taken = taken.display();
                return Err(Failure::new(format_args!(
                    "{taken} is there already; remove it or name another directory"
                )));
            }
        }
        Ok(place)
    }

    fn temporary() -> Result<Self> {
        let dir = base().join(format!("gleanfs-demo-{}", std::process::id()));
        std::fs::create_dir(&dir).about(dir.display())?;
        Ok(Self { dir, made: true, kept: false })
    }

    fn check_room(&self, image_bytes: u64) -> Result<()> {
        let found = rustix::fs::statvfs(&self.dir).about(self.dir.display())?;
        let free = found.f_bavail * found.f_frsize;
        let needed = image_bytes + image_bytes / 8;
        if free < needed {
            let (dir, free, needed) = (self.dir.display(), Size(free), Size(needed));
            let why =
                format!("{dir}: {free} free, {needed} needed; set TMPDIR, or give --keep DIR or a smaller --size");
            return Err(Failure::new(why));
        }
        Ok(())
    }

    pub fn is_kept(&self) -> bool {
        self.kept
    }

    pub fn image(&self, name: &str) -> PathBuf {
        self.dir.join(format!("{name}.img"))
    }

    pub fn mount_point(&self) -> PathBuf {
        self.dir.join("mnt")
    }

    /// A model file for the swap.
    pub fn model_file(&self) -> PathBuf {
        self.dir.join("knows-nothing.onnx")
    }

    /// For a tree of files made up where none is found.
    pub fn generated_tree(&self) -> PathBuf {
        self.dir.join("made-up-files")
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // What cannot be removed is left: nothing depends on it, and an image that would not unmount must stay.
        let _ = std::fs::remove_file(self.model_file());
        let _ = std::fs::remove_dir_all(self.generated_tree());
        if self.made {
            let _ = std::fs::remove_dir(&self.dir);
        }
    }
}

/// The directory for temporary files, unless it lies in memory: an image belongs on a disk.
fn base() -> PathBuf {
    const TMPFS_MAGIC: u64 = 0x0102_1994;
    let in_memory = |dir: &Path| rustix::fs::statfs(dir).is_ok_and(|found| found.f_type as u64 == TMPFS_MAGIC);
    let usual = std::env::temp_dir();
    let named = std::env::var_os("TMPDIR").is_some();
    if !named && in_memory(&usual) && Path::new("/var/tmp").is_dir() { "/var/tmp".into() } else { usual }
}

fn check_fuse() -> Result<()> {
    let skip = |why: String| Err(Failure::with_status(why, STATUS_SKIPPED));
    if let Err(error) = std::fs::File::options().read(true).write(true).open("/dev/fuse") {
        return skip(format!("/dev/fuse: {error}; load the fuse module or give the container access to it"));
    }
    if !rustix::process::geteuid().is_root() && !installed("fusermount3") {
        return skip("mounting without root needs fusermount3; install it (package fuse3) or run as root".into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_temporary_place_is_gone_afterwards() {
        let place = Place::temporary().unwrap();
        let dir = place.dir.clone();
        std::fs::write(place.model_file(), b"m").unwrap();
        std::fs::create_dir(place.generated_tree()).unwrap();
        assert!(dir.is_dir());
        drop(place);
        assert!(!dir.exists());
    }

    #[test]
    fn a_kept_place_takes_nothing_over() {
        let directory = tempfile::tempdir().unwrap();
        let dir = directory.path().join("new");
        let place = Place::kept(&dir).unwrap();
        std::fs::write(place.image("gleanfs"), b"mine").unwrap();
        assert!(Place::kept(&dir).unwrap_err().message.contains("is there already"));
        drop(place);
        assert_eq!(std::fs::read(dir.join("gleanfs.img")).unwrap(), b"mine");
    }

    #[test]
    fn too_little_room_is_said() {
        let place = Place::temporary().unwrap();
        assert!(place.check_room(1 << 60).unwrap_err().message.contains("needed"));
    }
}
