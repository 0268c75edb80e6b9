//! Everything that could make writeback wait for itself, one thing at a time and all at once, under a load of written and of mapped pages.
//!
//! The objection to a cleaner that asks another process is a deadlock that hides in corners: memory is short, what would free it is dirty pages of
//! this very mount, and whoever should write them waits for memory. Each trial makes such a corner, and a probe in a process of its own sees
//! the longest gap without a completion. sync(2), syncfs(2) and umount(2) come in the middle of it, and none may hang. All data is verified.
//!
//! | file | duty |
//! |---|---|
//! | `trial` | which corners there are |
//! | `corner` | what each trial does to the machine |
//! | `guard` | a process that gives it all back, however the trial ends |
//! | `limits` | dirty limits, a hog, cgroups |
//! | `mapped` | a file that is changed through a shared mapping |
//! | `misled`, `standin` | workers that hang or write to the mount, seen from outside and from inside |
//! | `syncs` | sync and syncfs in the middle of it |
//! | `patience` | an end for what would hang for ever |

mod corner;
mod guard;
mod limits;
mod mapped;
mod misled;
mod patience;
pub mod standin;
mod syncs;
mod trial;

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use gleanfs::cli::bench::process::check_interrupt;

use crate::load::{Load, Running, Written};
use crate::skip;
use crate::steady::Probe;
use crate::steady::probe::Longest;
use crate::volume::{Peer, Setup, Volume};
use crate::workers::{self, advice::Advice, within};
use corner::{Corner, HOLD};
use mapped::{Mapped, Stored};
use misled::Misled;
use patience::Patience;
use syncs::Syncs;

pub use guard::guard;
pub use limits::hog;
pub use trial::Trial;

const SECOND: Duration = Duration::from_secs(1);
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// What a trial waits for one after the other beside its time: the corner, what should happen there, the syncs, the unmount.
const STEPS: u32 = 4;

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
    /// Memory that a cgroup leaves the client or the workers, in MiB; the daemon gets what it needs more
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

/// Runs the trials one after the other. `me` is this program, to be started again as the probe (`--probe`), the hog (`--hog`) or the guard (`--guard`).
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
    let (corner, mut volume) = within(most, "mkfs and mount", || Corner::mount(trial, options, me))?;
    if trial.needs_worker() {
        Advice::of(volume.target())?.await_workers()?;
    }
    let fill = trial.fullness().map_or(options.fill, |(fill, _)| fill);
    let load = Load::fill(&volume, fill.saturating_sub(mapped_percent(&volume, options)), options.seed)?.start();
    let mapped = Mapped::start(volume.target(), options.mapped_blocks, options.seed)?;
    let mut probing = me()?;
    probing.arg("--probe");
    let probe = Probe::start(probing, volume.target(), volume.beside())?;
    let patience = Patience::with(&volume, Duration::from_secs(options.seconds) + STEPS * most)?;
    let seen = patience.end(endure(corner, options, load, mapped, probe, &mut volume))?;
    print(trial, &seen);
    volume.fsck()?;
    within(most, "the mount", || volume.mount())?;
    seen.written.contents.verify(volume.target())?;
    seen.stored.verify(volume.target())?;
    seen.misled.as_ref().map_or(Ok(()), |misled| misled.verify(volume.target()))?;
    within(most, "the last unmount", || volume.unmount())?;
    judge(trial, options, &seen.longest)?;
    volume.end()
}

/// What a trial has shown.
struct Seen {
    told: String,
    longest: Longest,
    /// The fewest overwrites in any second.
    least: u64,
    syncs: [Duration; 2],
    unmounted: Duration,
    written: Written,
    stored: Stored,
    misled: Option<Misled>,
}

/// From the way into the corner to the unmount in it.
fn endure(
    mut corner: Corner<'_>,
    options: &Options,
    load: Running,
    mapped: Mapped,
    probe: Probe,
    volume: &mut Volume,
) -> Result<Seen> {
    let most = Duration::from_secs(options.prompt_secs);
    corner.enter(volume)?;
    let mut syncs = Syncs::new(volume.target(), most);
    let least = go_on(options, &load, &mapped, &mut syncs, &|| corner.told(volume).is_ok())?;
    let syncs = syncs.end()?;
    let longest = probe.end()?;
    let (written, stored) = (load.end()?, mapped.end()?);
    let told = corner.told(volume)?;
    let begun = Instant::now();
    unmount(volume, most)?;
    let unmounted = begun.elapsed();
    let misled = corner.leave()?;
    Ok(Seen { told, longest, least, syncs, unmounted, written, stored, misled })
}

/// A worker that has a file of the mount open keeps it busy as any client does; that is said at once and does not last.
fn unmount(volume: &mut Volume, most: Duration) -> Result<()> {
    let begun = Instant::now();
    loop {
        match volume.unmount() {
            Err(why) if begun.elapsed() < most && format!("{why:#}").contains("busy") => {}
            other => return within(most, "the unmount", || other),
        }
    }
}

/// What the mapped file takes of the device, and what users may not fill: on a small device that would leave no 95 %, so it is of what they have.
fn mapped_percent(volume: &Volume, options: &Options) -> u64 {
    let blocks = volume.device_bytes() / crate::block::BLOCK as u64;
    let users = rustix::fs::statvfs(volume.target()).map_or(blocks, |space| space.f_bavail);
    (options.mapped_blocks * 100).div_ceil(blocks) + 100 - (users.min(blocks) * 100 / blocks)
}

/// Lets it go on, with sync(2) and syncfs(2) in between, for its time and until what should happen has happened, as far as there is patience for that; the
/// fewest overwrites in any second.
fn go_on(
    options: &Options,
    load: &Running,
    mapped: &Mapped,
    syncs: &mut Syncs,
    has_happened: &dyn Fn() -> bool,
) -> Result<u64> {
    let (mut least, mut seconds) = (u64::MAX, 0);
    while seconds < options.seconds || (!has_happened() && seconds < options.seconds + options.prompt_secs / 2) {
        let (begun, before) = (Instant::now(), load.overwritten());
        while begun.elapsed() < SECOND {
            check_interrupt()?;
            syncs.go_on()?;
            load.check().and_then(|()| mapped.check())?;
            std::thread::sleep(LOOK_EVERY);
        }
        least = least.min(load.overwritten() - before);
        seconds += 1;
    }
    Ok(least)
}

fn gap_us(longest: &Longest) -> u64 {
    longest.write_us.max(longest.stat_us).max(longest.read_us)
}

fn print(trial: Trial, seen: &Seen) {
    let Seen { told, longest, least, syncs: [sync, syncfs], unmounted, written, stored, .. } = seen;
    written.print(&trial.to_string());
    println!("{trial}: {told}; {} stores to mapped pages; least {least} overwrites in any second", stored.stores());
    println!(
        "{trial}: longest gap {} ms (write+fsync {}, stat {}, read {}), p99.9 {} ms in {} rounds of the probe; of the backing store {} ms",
        gap_us(longest) / 1000,
        longest.write_us / 1000,
        longest.stat_us / 1000,
        longest.read_us / 1000,
        longest.p999_us / 1000,
        longest.rounds,
        longest.backing_us / 1000,
    );
    println!(
        "{trial}: longest sync {} ms, syncfs {} ms; unmounted in {} ms",
        sync.as_millis(),
        syncfs.as_millis(),
        unmounted.as_millis()
    );
}

/// While the daemon is stopped nobody answers; that time is the trial's, not the daemon's.
fn judge(trial: Trial, options: &Options, longest: &Longest) -> Result<()> {
    let stopped = if trial == Trial::DaemonStopped { HOLD } else { Duration::ZERO };
    let excused_us = longest.backing_us + stopped.as_micros() as u64;
    let gap_ms = gap_us(longest).saturating_sub(excused_us) / 1000;
    let is_short = options.gap_ms_max == 0 || gap_ms <= options.gap_ms_max;
    ensure!(is_short, "a gap of {gap_ms} ms; {} ms are allowed", options.gap_ms_max);
    Ok(())
}
