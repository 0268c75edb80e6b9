//! `gleanfs mount`, which mount.gleanfs is another face of.

use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::io::Errno;

use super::failure::{About, Failure, Result};
use super::options::MountOptions;
use super::{assemble, daemon, supervised, umount};
use crate::control::client::ClientError;
use crate::control::{Client, mounts};

/// Exit status of mount(8): wrong invocation or permissions.
pub const STATUS_INVOCATION: u8 = 1;
/// Exit status of mount(8): the mount failed.
pub const STATUS_FAILED: u8 = 32;

/// Mount an image; return once it is mounted.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Options for -o, separated by commas:
  ro, rw                 read-only (replays the log in memory, writes nothing) or read-write
  cache=SIZE             memory for data and metadata [256M]
  policy=VICTIM[/PLACEMENT]
                         what decides when no model does; an unknown name lists all [cost-age-class/ewma]
  model=FILE             ONNX model for the cleaner, of either kind [the shipped ones]
  watch=FILE             use this model whenever the file is replaced
  library=FILE           ONNX Runtime library [the cached one]
  trust=LEVEL            most that a model may do: fallback, learning, collaboration, recommendation;
                         or forced: it decides from its first answer on, whatever that costs
  advise=WHAT            what models are asked about: placement, victims or both [both]
  learn=off|shadow|on    fit models of placement to this mount's own load; only watch them, or use those
                         that turn out to be better [off]
  deadline=US            age past which a recommendation is not used [20000]
  gc=on|off|sync         clean in the background, only when space is short, or only in the writer
  checkpoint=SECS        longest time between checkpoints [30]
  writeback=on|off       the kernel's writeback cache; off: a full disk is seen by write(2) itself [on]
  threads=N, heads=N     FUSE threads, log heads for data
  setuid=USER            let the daemon become this user, who owns the image, once all is open
  supervise[=N]          another process holds the mount, so that it outlives its daemon, until more than N
                         die within a minute [5]; root only; see also gleanfs ctl MNT upgrade
and those of mount(8): nosuid, nodev, noexec, noatime, sync, allow_other, remount, _netdev, nofail, x-...

Examples:
  gleanfs mount disk.img /mnt
  gleanfs mount -o ro disk.img /mnt
  gleanfs mount -o cache=64M,policy=greedy --foreground disk.img /mnt
  mount -t gleanfs -o noatime /dev/sdb /mnt
An fstab line:
  /dev/sdb  /mnt  gleanfs  noatime,nofail  0  2")]
pub struct Args {
    /// Device, image file or zoned image
    path: PathBuf,
    /// Directory to mount on
    mount_point: PathBuf,
    /// Mount options, see below
    #[arg(short = 'o', value_name = "OPTIONS")]
    options: Vec<String>,
    /// Stay in the foreground and log to stderr; ends when the mount does
    #[arg(short, long)]
    foreground: bool,
}

/// A mount that has been checked as far as names allow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountRequest {
    /// Absolute.
    pub source: PathBuf,
    /// Absolute, an existing directory.
    pub target: PathBuf,
    pub options: MountOptions,
    pub foreground: bool,
}

pub fn run(arguments: &Args) -> Result<()> {
    let options =
        MountOptions::parse(arguments.options.iter().map(String::as_str)).map_err(|f| f.status(STATUS_INVOCATION))?;
    mount(&arguments.path, &arguments.mount_point, options, &arguments.options, arguments.foreground)
}

/// Mounts `source` on `target` (or hands a remount on to mount(8)). `lists` is what `options` were read from.
pub fn mount(source: &Path, target: &Path, options: MountOptions, lists: &[String], foreground: bool) -> Result<()> {
    if options.remount {
        return remount(target, &options);
    }
    let request = request(source, target, options, foreground).map_err(|failure| failure.status(STATUS_FAILED))?;
    let serve = |ready| match request.options.supervise {
        Some(deaths_max) => supervised::keep(&request, lists, deaths_max, ready),
        None => assemble::serve(&request, ready, None),
    };
    if foreground {
        log_to_stderr();
        serve(Box::new(|| ()))
    } else {
        daemon::detached(serve)
    }
    .map_err(|failure| failure.status(STATUS_FAILED))
}

fn request(source: &Path, target: &Path, options: MountOptions, foreground: bool) -> Result<MountRequest> {
    let source = source.canonicalize().about(source.display())?;
    let shown = target.display().to_string();
    let target = mounts::resolve(target).about(&shown)?;
    let there = mounts::at(&target).about(&shown)?.filter(mounts::MountEntry::is_gleanfs);
    if let Some(mount) = there.as_ref().filter(|mount| !is_dead(mount)) {
        return Err(Failure::new(format_args!(
            "{shown}: {} is mounted here already; unmount it with gleanfs umount {shown}",
            mount.source.display()
        )));
    }
    if there.is_some() {
        // What a killed daemon has left is only in the way; its log brings back all that was synced.
        umount::end(&target, true)?;
    }
    if !std::fs::metadata(&target).about(&shown)?.is_dir() {
        return Err(Failure::new(format_args!("{shown}: not a directory; mount on a directory")));
    }
    if mounts::lies_under(&source, &target) {
        return Err(Failure::new(format_args!(
            "{}: lies inside the mount point {shown} and would vanish under it; mount elsewhere",
            source.display()
        )));
    }
    if let Err(error) = std::fs::metadata("/dev/fuse") {
        return Err(Failure::new(format_args!(
            "/dev/fuse: {error}; load the fuse module or give the container access to it"
        )));
    }
    let options = absolute_files(options)?;
    Ok(MountRequest { source, target, options, foreground })
}

/// Whether the mount's daemon is gone for good. The kernel says so only of a connection that was cut, so a daemon that is
/// merely out of our sight is left alone.
fn is_dead(mount: &mounts::MountEntry) -> bool {
    matches!(Client::connect_to(mount), Err(ClientError::NoDaemon(_)))
        && rustix::fs::statfs(&mount.target).is_err_and(|error| matches!(error, Errno::NOTCONN | Errno::CONNABORTED))
}

/// The daemon changes its directory, so files named in the options are made absolute here.
fn absolute_files(mut options: MountOptions) -> Result<MountOptions> {
    for file in [&mut options.model, &mut options.watch, &mut options.library].into_iter().flatten() {
        *file = std::path::absolute(&*file).about(file.display())?;
    }
    Ok(options)
}

/// Only the kernel's flags can change; mount(8) knows which of them stand.
fn remount(target: &Path, options: &MountOptions) -> Result<()> {
    let words = remount_words(options);
    let status = Command::new("mount").args(["-i", "-o", &words]).arg(target).status().about("mount")?;
    if status.success() {
        Ok(())
    } else {
        let shown = target.display();
        Err(Failure::with_status(
            format_args!("{shown}: mount -i -o {words} failed; see its message above"),
            STATUS_FAILED,
        ))
    }
}

fn remount_words(options: &MountOptions) -> String {
    use super::options::Atime;
    let kernel = &options.kernel;
    let mut words = vec!["remount", if options.read_only { "ro" } else { "rw" }];
    for (set, word) in [
        (!kernel.suid, "nosuid"),
        (!kernel.dev, "nodev"),
        (!kernel.exec, "noexec"),
        (kernel.sync, "sync"),
        (kernel.dirsync, "dirsync"),
        (!kernel.diratime, "nodiratime"),
        (kernel.lazytime, "lazytime"),
        (kernel.atime == Atime::Noatime, "noatime"),
        (kernel.atime == Atime::Strictatime, "strictatime"),
    ] {
        if set {
            words.push(word);
        }
    }
    words.join(",")
}

pub(super) fn log_to_stderr() {
    let filter = tracing_subscriber::EnvFilter::try_from_env("GLEANFS_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    // Fails only if a log is set up already, and then that one serves.
    let _ = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).try_init();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(source: &Path, target: &Path) -> String {
        request(source, target, MountOptions::default(), true).unwrap_err().message
    }

    #[test]
    fn sources_and_targets_that_cannot_be_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        let image = directory.path().join("image");
        let target = directory.path().join("mnt");
        assert!(refusal(&image, &target).contains("No such file"));
        std::fs::write(&image, b"").unwrap();
        assert!(refusal(&image, &target).contains("No such file"));
        std::fs::write(&target, b"").unwrap();
        assert!(refusal(&image, &target).contains("not a directory"));
        assert!(refusal(&image, directory.path()).contains("inside the mount point"));
    }

    #[test]
    fn a_remount_hands_on_the_flags() {
        let options = MountOptions::parse(["remount,ro,noatime,nosuid,_netdev"]).unwrap();
        assert_eq!(remount_words(&options), "remount,ro,nosuid,noatime");
    }

    #[test]
    fn files_in_options_become_absolute() {
        let options = MountOptions::parse(["model=m.onnx,library=/l.so"]).unwrap();
        let options = absolute_files(options).unwrap();
        assert_eq!(options.model, Some(std::env::current_dir().unwrap().join("m.onnx")));
        assert_eq!(options.library, Some("/l.so".into()));
    }
}
