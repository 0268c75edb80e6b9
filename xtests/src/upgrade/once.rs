//! Daemons die while operations are under way that must not be done twice. With `dirsync` each of them is durable before it is answered, so many
//! deaths come between the two: then the kernel sends the request again, and it must find that it is done.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use anyhow::{Context, Result, anyhow, ensure};
use gleanfs::cli::bench::process::check_interrupt;
use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::await_daemon;
use crate::volume::Volume;

/// Rounds of the client between two deaths.
const ROUNDS_BETWEEN: u64 = 3;

/// What is shared with the client.
#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    rounds: AtomicU64,
}

/// Kills the daemon `kills` times under such operations.
pub(super) fn run(volume: &Volume, kills: u32) -> Result<()> {
    let shared = Shared::default();
    std::thread::scope(|scope| {
        let client = scope.spawn(|| go_on(volume, &shared));
        let killed = kill(volume, &shared, kills, || client.is_finished());
        shared.stop.store(true, Ordering::Relaxed);
        client.join().map_err(|_| anyhow!("the client panicked"))?.and(killed)
    })?;
    let rounds = shared.rounds.into_inner();
    println!(
        "upgrade: {kills} kills under operations that are durable when answered; {rounds} rounds, nothing done twice or not at all"
    );
    Ok(())
}

fn kill(volume: &Volume, shared: &Shared, kills: u32, is_over: impl Fn() -> bool) -> Result<()> {
    for _ in 0..kills {
        check_interrupt()?;
        let until = shared.rounds.load(Ordering::Relaxed) + ROUNDS_BETWEEN;
        while shared.rounds.load(Ordering::Relaxed) < until && !is_over() {
            std::thread::yield_now();
        }
        await_daemon(volume)?;
        volume.kill_daemon()?;
    }
    await_daemon(volume)
}

fn go_on(volume: &Volume, shared: &Shared) -> Result<()> {
    for round in 0.. {
        if shared.stop.load(Ordering::Relaxed) {
            break;
        }
        once_each(&volume.target().join(format!("once-{round}"))).with_context(|| format!("round {round}"))?;
        shared.rounds.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

/// Operations that fail, or are undone, when they are done twice.
fn once_each(directory: &Path) -> Result<()> {
    let name = |name: &str| directory.join(name);
    let inodes = || -> io::Result<[u64; 2]> { Ok([name("a").metadata()?.ino(), name("b").metadata()?.ino()]) };
    std::fs::create_dir(directory).context("mkdir")?;
    drop(File::create_new(name("a")).context("create a")?);
    drop(File::create_new(name("b")).context("create b")?);
    let [a, b] = inodes()?;
    renameat_with(CWD, name("a"), CWD, name("b"), RenameFlags::EXCHANGE)
        .map_err(io::Error::from)
        .context("exchange")?;
    ensure!(inodes()? == [b, a], "an exchange was done twice");
    std::fs::hard_link(name("a"), name("c")).context("link")?;
    ensure!(name("c").metadata()?.nlink() == 2, "a link was made twice");
    std::fs::rename(name("c"), name("d")).context("rename")?;
    for gone in ["a", "b", "d"] {
        std::fs::remove_file(name(gone)).context("unlink")?;
    }
    std::fs::remove_dir(directory).context("rmdir")
}
