//! Daemons come and go, planned and killed, while programs use the mount.
//!
//! *Upgrades*: with files open that have no name, a mapping, a lock, and clients that create, rename, read and remove all the time, the daemon is
//! replaced again and again; no client may see an error, and nothing may be lost.
//! *Kills*: under the same clients, with nothing synced, the daemon is killed; again no error, and nothing lost. Then the memory of its chunks is taken
//! away with it, after an operation that was answered and not synced: the mount must be usable, what was synced be there, and whoever held the lost file be told.
//! *Once*: it is killed between an operation and its answer, which must not be done twice.
//! *Ends*: supervisors that are killed or give up, and unmounting in the middle.

mod clients;
mod ends;
mod kept;
mod once;

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use gleanfs::cli::bench::process::check_interrupt;
use rustix::process::{Pid, Signal, kill_process};

use crate::volume::{Setup, Volume};
use clients::Clients;
use kept::Kept;

/// What to run.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    #[command(flatten)]
    pub setup: Setup,
    /// Upgrades under load
    #[arg(long, default_value_t = 10)]
    pub upgrades: u32,
    /// Kills under load, with nothing synced
    #[arg(long, default_value_t = 10)]
    pub kills: u32,
    /// Kills that take the memory of the daemon's chunks with them
    #[arg(long, default_value_t = 3)]
    pub losses: u32,
    /// Kills between an operation and its answer
    #[arg(long, default_value_t = 10)]
    pub once: u32,
    /// Unmounts in the middle of an upgrade
    #[arg(long, default_value_t = 3)]
    pub ends: u32,
    /// Clients
    #[arg(long, default_value_t = 3)]
    pub clients: u32,
    /// Run fio with verification beside the clients of the upgrades
    #[arg(long)]
    pub fio: bool,
}

/// Deaths within a minute that the supervisor takes here.
const DEATHS_MAX: u32 = 1_000_000;
/// A program that ends without a word.
const NO_DAEMON: &str = "/bin/false";

/// Runs all of it.
pub fn run(options: &Options) -> Result<()> {
    refuses_without_supervisor(&options.setup)?;
    ends::run(&options.setup, options.ends)?;
    let setup = options.setup.with(&format!("supervise={DEATHS_MAX}"));
    let volume = setup.make()?;
    upgrades(&volume, options).context("upgrades")?;
    kills(&volume, options).context("kills")?;
    losses(&volume, options).context("kills that lose something")?;
    volume.end()?;
    let volume = setup.with("dirsync").make()?;
    once::run(&volume, options.once).context("kills between an operation and its answer")?;
    volume.end()
}

fn refuses_without_supervisor(setup: &Setup) -> Result<()> {
    let volume = setup.make()?;
    let pid = volume.status()?.pid;
    ensure!(volume.order(&["upgrade"]).is_err(), "a mount without a supervisor lets its daemon be replaced");
    ensure!(volume.status()?.pid == pid, "a refused upgrade changed the daemon");
    volume.end()
}

fn upgrades(volume: &Volume, options: &Options) -> Result<()> {
    under_load(volume, options, "upgrade", options.upgrades, |round, _| {
        let before = volume.status()?.pid;
        let program = [NO_DAEMON.into(), volume.program().display().to_string()];
        // Each fourth names a program that does not serve: the old one must go on.
        let bad = round % 4 == 1;
        let outcome = volume.order(&["upgrade", "--executable", &program[usize::from(!bad)]]);
        ensure!(outcome.is_err() == bad, "upgrade {round}: {outcome:?}");
        ensure!(volume.status()?.pid != before, "upgrade {round}: process {before} still serves");
        Ok(())
    })
}

fn kills(volume: &Volume, options: &Options) -> Result<()> {
    under_load(volume, options, "kill", options.kills, |_, clients| {
        clients.await_progress()?;
        volume.kill_daemon()
    })
}

/// Changes the daemon so many times under clients that must see no error, with things held open throughout.
fn under_load(
    volume: &Volume,
    options: &Options,
    what: &str,
    times: u32,
    change: impl Fn(u32, &Clients) -> Result<()>,
) -> Result<()> {
    let mut kept = Kept::open(volume.target())?;
    let clients = Clients::start(volume.target(), options.clients)?;
    let fio = options.fio.then(|| clients::fio(volume.target())).transpose()?;
    for round in 0..times {
        check_interrupt()?;
        change(round, &clients)?;
        kept.verify().with_context(|| format!("after {what} {round}"))?;
    }
    if let Some(mut fio) = fio {
        ensure!(fio.wait()?.success(), "fio's verification failed");
    }
    let seen = clients.end()?;
    let (operations, longest) = (seen.operations, seen.longest);
    println!("upgrade: {times} {what}s; {operations} operations, no error, longest {longest:.0?}");
    kept.end(volume)
}

fn losses(volume: &Volume, options: &Options) -> Result<()> {
    let safe = volume.target().join("safe");
    std::fs::write(&safe, "safe")?;
    for round in 0..options.losses {
        check_interrupt()?;
        volume.order(&["sync"])?;
        one_loss(volume, &safe).with_context(|| format!("round {round}"))?;
    }
    let mounts = std::fs::read_to_string("/proc/self/mountinfo")?;
    let target = volume.target().display().to_string();
    let here = mounts.lines().filter(|line| line.split(' ').nth(4) == Some(&target)).count();
    ensure!(here == 1, "{here} mounts lie one over the other: those that were cut off were not cleared away");
    println!("upgrade: {} kills with losses, each told to who held the file", options.losses);
    Ok(())
}

fn one_loss(volume: &Volume, safe: &Path) -> Result<()> {
    let path: PathBuf = volume.target().join("unsynced");
    let file = File::create(&path)?;
    let supervisor = ends::supervisor_of(volume)?;
    kill_process(supervisor, Signal::STOP)?;
    let lost = volume.kill_daemon().and_then(|()| lose_chunks(supervisor));
    kill_process(supervisor, Signal::CONT)?;
    lost?;
    // Whoever waits for the dead daemon is told when the next one has taken its place.
    let told = file.sync_all();
    await_daemon(volume)?;
    let there = path.exists();
    ensure!(there || told.is_err(), "a file that was created is gone, and its holder was not told");
    ensure!(!there && told.is_err(), "a kill lost nothing, so it tested nothing");
    ensure!(std::fs::read_to_string(safe)? == "safe", "what was synced is not there");
    ensure!(!volume.target().join("unsynced").exists(), "what was lost came back");
    std::fs::write(volume.target().join("next"), "next").context("the mount is not usable")
}

/// Takes what the dead daemon has left of its chunks.
fn lose_chunks(supervisor: Pid) -> Result<()> {
    for descriptor in std::fs::read_dir(format!("/proc/{}/fd", supervisor.as_raw_nonzero()))? {
        let descriptor = descriptor?.path();
        if std::fs::read_link(&descriptor)?.to_string_lossy().contains("gleanfs-chunks") {
            return Ok(OpenOptions::new().write(true).open(descriptor)?.set_len(0)?);
        }
    }
    anyhow::bail!("the supervisor holds no chunks")
}

/// Waits until a daemon serves; between a mount that is dead and the next one nothing can be asked to tell.
fn await_daemon(volume: &Volume) -> Result<()> {
    for _ in 0..3000 {
        check_interrupt()?;
        if volume.status().is_ok() {
            return Ok(());
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    anyhow::bail!("no daemon serves the mount any more")
}
