//! Everything that could make writeback wait for itself, one thing at a time and all at once, under a load of written and of mapped pages.
//!
//! The objection to a cleaner that asks another process is a deadlock that hides in corners: memory is short, what would free it is dirty pages of
//! this very mount, and whoever should write them waits for memory. Each trial makes such a corner, and a probe in a process of its own sees
//! the longest gap without a completion. sync(2), syncfs(2) and umount(2) come in the middle of it, and none may hang. All data is verified.
//!
//! | file | duty |
//! |---|---|
//! | `mapped` | a file that is changed through a shared mapping |
//! | `corner` | what each trial does to the machine, and undoes |
//! | `limits` | dirty limits, a hog, cgroups |

mod corner;
mod limits;
pub(crate) mod mapped;

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use gleanfs::cli::bench::process::{check_interrupt, command};

use crate::load::{Load, Running};
use crate::skip;
use crate::steady::Probe;
use crate::steady::probe::Longest;
use crate::volume::{Peer, Setup, Volume};
use crate::workers::{self, advice::Advice, within};
use corner::Corner;
use mapped::Mapped;

pub use limits::hog;

/// What to run.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    #[command(flatten)]
    pub setup: Setup,
    /// Which trials
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Trial::ALL)]
    pub only: Vec<Trial>,
    /// How long each goes on
    #[arg(long, default_value_t = 30)]
    pub seconds: u64,
    /// Percent of the device that is filled with data, where the trial does not say
    #[arg(long, default_value_t = 85)]
    pub fill: u64,
    /// Blocks of the mapped file
    #[arg(long, default_value_t = 4096)]
    pub mapped_blocks: u64,
    /// Memory that a cgroup leaves the client or a worker, in MiB; the daemon gets its cache more
    #[arg(long, default_value_t = 48)]
    pub cgroup_mib: u64,
    /// Memory that the hog leaves the machine, in MiB
    #[arg(long, default_value_t = 256)]
    pub leave_mib: u64,
    /// Longest sync, syncfs, mount and unmount; many times what they take, to tell slow from stuck
    #[arg(long, default_value_t = 120)]
    pub prompt_secs: u64,
    /// Longest gap without a completion, beyond the backing store's own, in ms; 0: only told. To be judged on a quiet machine
    #[arg(long, default_value_t = 0)]
    pub gap_ms_max: u64,
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

/// A corner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Trial {
    /// `vm.dirty_bytes` and its background twin at the minimum
    DirtyLimits,
    /// A hog leaves next to no memory
    LittleMemory,
    /// The writing process in a small memory cgroup
    ClientCgroup,
    /// The daemon in one
    DaemonCgroup,
    /// Both workers in one
    WorkerCgroup,
    /// 95 % full, cleaned only by those who wait for room
    Full,
    /// All of these at once
    AllAtOnce,
    /// Workers get SIGSTOP and SIGCONT
    WorkerStopped,
    /// Workers are killed each time they come back
    WorkerKilled,
    /// Models take turns
    WorkerSwapped,
    /// Workers get no processor and no more memory
    WorkerStarved,
    /// The daemon gets SIGSTOP and SIGCONT
    DaemonStopped,
}

impl Trial {
    pub const ALL: [Self; 12] = [
        Self::DirtyLimits,
        Self::LittleMemory,
        Self::ClientCgroup,
        Self::DaemonCgroup,
        Self::WorkerCgroup,
        Self::Full,
        Self::AllAtOnce,
        Self::WorkerStopped,
        Self::WorkerKilled,
        Self::WorkerSwapped,
        Self::WorkerStarved,
        Self::DaemonStopped,
    ];

    fn needs_worker(self) -> bool {
        use Trial::*;
        matches!(self, WorkerCgroup | WorkerStopped | WorkerKilled | WorkerSwapped | WorkerStarved)
    }

    /// Percent filled and mount options, where the trial has its own.
    fn fullness(self) -> Option<(u64, &'static str)> {
        matches!(self, Self::Full | Self::AllAtOnce).then_some((95, "gc=off"))
    }
}

impl std::fmt::Display for Trial {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let value = clap::ValueEnum::to_possible_value(self).expect("no trial is skipped");
        f.write_str(value.get_name())
    }
}

/// Runs the trials one after the other. `me` is this program, to be started again as the probe (`--probe`) or the hog (`--hog`).
pub fn run(options: &Options, me: impl Fn() -> Result<Command>) -> Result<()> {
    ensure!(options.setup.peer == Peer::Gleanfs, "only gleanfs has a daemon");
    let lacks = workers::lacks();
    for trial in &options.only {
        if let (true, Some(why)) = (trial.needs_worker(), &lacks) {
            skip(format_args!("{trial}: {why}"));
            continue;
        }
        run_one(*trial, options, &me).with_context(|| format!("trial '{trial}'"))?;
    }
    Ok(())
}

fn run_one(trial: Trial, options: &Options, me: &dyn Fn() -> Result<Command>) -> Result<()> {
    let most = Duration::from_secs(options.prompt_secs);
    let (fill, ours) = trial.fullness().unwrap_or((options.fill, ""));
    let mut volume = within(most, "mkfs and mount", || options.setup.with(ours).make())?;
    if trial.needs_worker() {
        Advice::of(volume.target())?.await_ready(most)?;
    }
    let load = Load::fill(&volume, fill.saturating_sub(mapped_percent(&volume, options)), options.seed)?.start();
    let mapped = Mapped::start(volume.target(), options.mapped_blocks, options.seed)?;
    let mut probing = me()?;
    probing.arg("--probe");
    let probe = Probe::start(probing, volume.target(), volume.beside())?;
    let corner = Corner::enter(trial, options, &volume, me)?;
    let least = go_on(options, &load, &mapped, &volume, most)?;
    let longest = probe.end()?;
    let (written, mapped) = (load.end()?, mapped.end()?);
    let begun = Instant::now();
    within(most, "the unmount", || volume.unmount())?;
    let unmounted = begun.elapsed();
    let told = corner.leave()?;
    written.print(&trial.to_string());
    print(trial, &told, &longest, least, mapped.stores(), unmounted);
    volume.fsck()?;
    within(most, "the mount", || volume.mount())?;
    written.contents.verify(volume.target())?;
    mapped.verify(volume.target())?;
    within(most, "the last unmount", || volume.unmount())?;
    judge(trial, options, &longest)?;
    volume.end()
}

/// What the mapped file takes of the device, and what users may not fill: on a small device that would leave no 95 %, so it is of what they have.
fn mapped_percent(volume: &Volume, options: &Options) -> u64 {
    let blocks = volume.device_bytes() / crate::block::BLOCK as u64;
    let users = rustix::fs::statvfs(volume.target()).map_or(blocks, |space| space.f_bavail);
    (options.mapped_blocks * 100).div_ceil(blocks) + 100 - (users.min(blocks) * 100 / blocks)
}

/// Lets it go on, with sync(2) and syncfs(2) in between; the fewest overwrites in any second.
fn go_on(options: &Options, load: &Running, mapped: &Mapped, volume: &Volume, most: Duration) -> Result<u64> {
    let (begun, mut before, mut least) = (Instant::now(), load.overwritten(), u64::MAX);
    let mut syncing: Vec<(Instant, std::process::Child)> = Vec::new();
    while begun.elapsed() < Duration::from_secs(options.seconds) {
        check_interrupt()?;
        std::thread::sleep(Duration::from_secs(1));
        let now = load.overwritten();
        least = least.min(now - before);
        before = now;
        load.check().and_then(|()| mapped.check())?;
        finish(&mut syncing, most)?;
        if syncing.is_empty() {
            for words in [&[][..], &["-f"]] {
                let mut sync = command("sync");
                sync.args(words).args(words.first().map(|_| volume.target())).stdin(Stdio::null());
                syncing.push((Instant::now(), sync.spawn()?));
            }
        }
    }
    while !syncing.is_empty() {
        finish(&mut syncing, most)?;
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(least)
}

/// Takes those that have ended off the list; one that does not end is what this is all about.
fn finish(syncing: &mut Vec<(Instant, std::process::Child)>, most: Duration) -> Result<()> {
    let mut left = Vec::new();
    for (begun, mut child) in syncing.drain(..) {
        match child.try_wait()? {
            Some(status) => ensure!(status.success(), "sync failed: {status}"),
            None => {
                ensure!(begun.elapsed() <= most, "a sync has hung for {most:?}");
                left.push((begun, child));
            }
        }
    }
    *syncing = left;
    Ok(())
}

fn gap_us(longest: &Longest) -> u64 {
    longest.write_us.max(longest.stat_us).max(longest.read_us)
}

fn print(trial: Trial, told: &str, longest: &Longest, least: u64, stores: u64, unmounted: Duration) {
    println!("{trial}: {told}; {stores} stores to mapped pages; least {least} overwrites in any second");
    println!(
        "{trial}: longest gap {} ms, p99.9 {} ms in {} rounds of the probe; of the backing store {} ms; unmounted in {} ms",
        gap_us(longest) / 1000,
        longest.p999_us / 1000,
        longest.rounds,
        longest.backing_us / 1000,
        unmounted.as_millis()
    );
}

/// While the daemon is stopped nobody answers, so that trial has no gap to judge.
fn judge(trial: Trial, options: &Options, longest: &Longest) -> Result<()> {
    let gap_ms = gap_us(longest).saturating_sub(longest.backing_us) / 1000;
    let judged = options.gap_ms_max > 0 && trial != Trial::DaemonStopped;
    ensure!(!judged || gap_ms <= options.gap_ms_max, "a gap of {gap_ms} ms; {} ms are allowed", options.gap_ms_max);
    Ok(())
}
