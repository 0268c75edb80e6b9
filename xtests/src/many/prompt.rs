//! How long it takes until a filesystem can be used: made and mounted, however large it is.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use gleanfs::cli::bench::process::run;

use crate::program;
use crate::volume::{Backing, Setup};

/// What a large image took.
#[derive(Clone, Copy, Debug)]
pub struct Prompt {
    pub mkfs: Duration,
    pub mount: Duration,
    pub mount_again: Duration,
}

/// How long `work` takes.
pub fn timed(work: impl FnOnce() -> Result<()>) -> Result<Duration> {
    let begun = Instant::now();
    work()?;
    Ok(begun.elapsed())
}

/// Makes and mounts a sparse image of so many TiB, writes a file, mounts it again and checks it.
pub fn sparse(setup: &Setup, tib: u64) -> Result<Prompt> {
    let setup = Setup { size_mib: tib << 20, backing: Backing::File, ..setup.clone() };
    let mut volume = setup.make().with_context(|| format!("an image of {tib} TiB"))?;
    volume.unmount()?;
    let mut again = Command::new(program::gleanfs()?);
    again.args(["mkfs", "--quiet", "--force"]).arg(volume.source());
    let mkfs = timed(|| {
        run(&mut again)?;
        Ok(())
    })?;
    let mount = timed(|| volume.mount())?;
    std::fs::write(volume.target().join("file"), "a few bytes in a great deal of space")?;
    volume.unmount()?;
    let mount_again = timed(|| volume.mount())?;
    let space = rustix::fs::statvfs(volume.target())?;
    let shown = (space.f_blocks * space.f_frsize) >> 40;
    ensure!(shown + 1 >= tib * 9 / 10, "an image of {tib} TiB has only {shown} TiB for users");
    ensure!(std::fs::read(volume.target().join("file"))?.starts_with(b"a few"), "the file is another one");
    let kept = std::os::unix::fs::MetadataExt::blocks(&std::fs::metadata(volume.source())?) * 512;
    println!("many: {tib} TiB take {} KiB on the host, {shown} TiB are for users", kept >> 10);
    volume.end()?;
    Ok(Prompt { mkfs, mount, mount_again })
}

impl Prompt {
    /// Prints the times; longer ones than `most_ms` are an error.
    pub fn check(&self, what: &str, most_ms: u64) -> Result<()> {
        let Self { mkfs, mount, mount_again } = *self;
        let [m, n, o] = [mkfs, mount, mount_again].map(|took| took.as_millis());
        println!("many: {what}: mkfs {m} ms, mount {n} ms, mount again {o} ms");
        let longest = mkfs.max(mount).max(mount_again);
        ensure!(longest.as_millis() as u64 <= most_ms, "{what} took {longest:?}; at most {most_ms} ms are allowed");
        Ok(())
    }
}
