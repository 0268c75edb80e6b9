//! `gleanfs grow`: a mounted filesystem, or an image that is not mounted, takes more room.

use std::path::{Path, PathBuf};

use super::failure::{About, Failure, Result};
use super::size::Size;
use super::{assemble, ctl};
use crate::control::mounts::{self, MountEntry};
use crate::control::{Client, Request, Response};

/// Make a filesystem larger, mounted or not.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
An image file or zoned image is made larger by --size; a block device by whoever made it, and then grow takes what is there.
Programs go on meanwhile, and a crash leaves the old size or the new one. Shrinking is not possible.

Examples:
  gleanfs grow --size 32G /mnt          the image file below /mnt becomes 32 GiB
  lvextend -L +100G vg/data && gleanfs grow /mnt
  gleanfs grow --size 32G disk.img      the same for an image that is not mounted")]
pub struct Args {
    /// Mount point, or device, image file or zoned image
    path: PathBuf,
    /// New size, of which whole segments are used [default: what the device or file has]
    #[arg(long, value_name = "SIZE")]
    size: Option<Size>,
}

pub fn run(arguments: &Args) -> Result<()> {
    let shown = arguments.path.display();
    let bytes = arguments.size.map(|size| size.0);
    let done = match mount_of(&arguments.path)? {
        Some(mount) => ask(&mount, bytes).map_err(|failure| failure.about(&shown))?,
        None => assemble::grow(&arguments.path, bytes)?,
    };
    if done.is_empty() {
        println!("{shown}: nothing to do, it fills its device; an image file or zoned image is made larger by --size");
    } else {
        println!("{shown}: {done}");
    }
    Ok(())
}

/// The mount that is meant by its mount point or by its image.
fn mount_of(path: &Path) -> Result<Option<MountEntry>> {
    let shown = path.display();
    if let Some(mount) = mounts::at(path).about(&shown)?.filter(MountEntry::is_gleanfs) {
        return Ok(Some(mount));
    }
    let source = path.canonicalize().about(&shown)?;
    let mounted = mounts::of(&source).about(&shown)?;
    Ok(mounted.into_iter().find(|mount| mount.is_gleanfs() && !mount.read_only))
}

fn ask(mount: &MountEntry, bytes: Option<u64>) -> Result<String> {
    match Client::connect_to(mount)?.ask(&Request::Grow { bytes })? {
        Response::Done(line) => Ok(line),
        other => Err(ctl::unexpected(&other)),
    }
}

impl Failure {
    /// Says what it is about, where the message does not.
    fn about(self, what: impl std::fmt::Display) -> Self {
        if self.message.contains(&what.to_string()) {
            return self;
        }
        Self::with_status(format_args!("{what}: {}", self.message), self.status)
    }
}
