//! The advisor's worker fails in every way that a process can, while a nearly full filesystem is overwritten at random.
//!
//! I8: that may cost decisions, never an operation. Each trial has a mount of its own, a load that verifies itself and a probe in another process. It must
//! show that the failure really happened, that the advisor comes back where it can, and that the mount ends promptly in the middle
//! of it.
//!
//! | file | duty |
//! |---|---|
//! | `advice` | what the daemon tells of its advisor, and what is done to the worker |
//! | `failures` | one function for each way to fail |
//! | `files` | model files, good and bad |
//! | `starvation` | taking the processor away from a worker |

pub(crate) mod advice;
mod failures;
pub(crate) mod files;
pub(crate) mod starvation;

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::block::BLOCK;
use crate::load::Load;
use crate::skip;
use crate::steady::Probe;
use crate::volume::{Peer, Setup, Volume};
use advice::{Advice, RECOVERY_SECS};
use files::Files;

/// What to run.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    #[command(flatten)]
    pub setup: Setup,
    /// Which failures
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Failure::ALL)]
    pub only: Vec<Failure>,
    /// Percent of the device that is filled with data
    #[arg(long, default_value_t = 90)]
    pub fill: u64,
    /// How many times the device's capacity is overwritten at least
    #[arg(long, default_value_t = 1.0)]
    pub times: f64,
    /// How often the failure is repeated: kills, stops, swaps
    #[arg(long, default_value_t = 6)]
    pub rounds: u32,
    /// How long a worker is kept stopped or starved each time
    #[arg(long, default_value_t = 2000)]
    pub hold_ms: u64,
    /// How long the load runs first, at most, so that the model comes to decide something
    #[arg(long, default_value_t = 60)]
    pub warm_secs: u64,
    /// Longest mount and unmount; many times what they take, to tell slow from stuck
    #[arg(long, default_value_t = 20)]
    pub prompt_secs: u64,
    /// Longest wait for the advisor to come back: the daemon's longest pause between two starts, and a start
    #[arg(long, default_value_t = RECOVERY_SECS)]
    pub recovery_secs: u64,
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

/// What happens to the worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Failure {
    /// SIGKILL each time it comes back
    Killed,
    /// SIGSTOP for many deadlines, then SIGCONT
    Stopped,
    /// The idle scheduling class, a busy processor, no more memory
    Starved,
    /// Model files that cannot be used, by `gleanfs model use`
    Refused,
    /// The watched model file is replaced by good and bad ones
    Watched,
    /// Two good models take turns
    Swapped,
    /// The library is not there
    NoLibrary,
    /// What should be the library is something else, until it is repaired
    BadLibrary,
}

impl Failure {
    pub const ALL: [Self; 8] = [
        Self::Killed,
        Self::Stopped,
        Self::Starved,
        Self::Refused,
        Self::Watched,
        Self::Swapped,
        Self::NoLibrary,
        Self::BadLibrary,
    ];
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let value = clap::ValueEnum::to_possible_value(self).expect("no failure is skipped");
        f.write_str(value.get_name())
    }
}

/// A mount under load whose worker is about to fail.
struct Scene<'a> {
    options: &'a Options,
    advice: Advice,
    files: Files,
}

impl Scene<'_> {
    fn hold(&self) -> Duration {
        Duration::from_millis(self.options.hold_ms)
    }

    fn recovery(&self) -> Duration {
        Duration::from_secs(self.options.recovery_secs)
    }
}

/// Why no worker can run here, if so.
pub(crate) fn lacks() -> Option<String> {
    gleanfs_gc::runtime::locate(gleanfs_gc::runtime::Request::default()).err().map(|why| why.to_string())
}

/// Runs the trials one after the other. `probe` is the command that runs [`crate::steady::probe::main`] with its arguments appended.
pub fn run(options: &Options, probe: impl Fn() -> Result<Command>) -> Result<()> {
    ensure!(options.setup.peer == Peer::Gleanfs, "only gleanfs has a worker");
    if let Some(why) = lacks() {
        skip(format_args!("workers: {why}"));
        return Ok(());
    }
    for failure in &options.only {
        trial(*failure, options, probe()?).with_context(|| format!("trial '{failure}'"))?;
    }
    Ok(())
}

fn trial(failure: Failure, options: &Options, probe: Command) -> Result<()> {
    let directory = tempfile::tempdir()?;
    let files = Files::make(directory.path())?;
    let most = Duration::from_secs(options.prompt_secs);
    let mut volume =
        within(most, "mkfs and mount", || options.setup.with(&failures::mount_options(failure, &files)).make())?;
    let scene = Scene { options, advice: Advice::of(volume.target())?, files };
    if failures::begins_ready(failure) {
        scene.advice.await_ready(scene.recovery())?;
    }

    let probe = Probe::start(probe, volume.target(), volume.beside())?;
    let load = Load::fill(&volume, options.fill, options.seed)?.start();
    scene.advice.await_cleaning(|| load.check(), scene.recovery())?;
    if failures::begins_ready(failure) {
        scene.advice.await_trust(|| load.check(), Duration::from_secs(options.warm_secs))?;
    }
    let happened = failures::inflict(failure, &scene).with_context(|| load.told())?;
    let least = volume.device_bytes() as f64 * options.times / BLOCK as f64;
    load.await_overwrites(least as u64)?;
    let longest = probe.end()?;
    let written = load.end()?;
    let status = scene.advice.status()?;

    println!("{failure}: {happened}");
    written.print(&failure.to_string());
    advice::print(&failure.to_string(), &status);
    let stall_us = longest.write_us.max(longest.stat_us).max(longest.read_us);
    println!(
        "{failure}: longest stall {} ms in {} rounds of the probe; of the backing store {} ms",
        stall_us / 1000,
        longest.rounds,
        longest.backing_us / 1000
    );
    ensure!(status.latched.is_none(), "the mount is read-only: {:?}", status.latched);

    end_amid(failure, &scene, &mut volume, most)?;
    volume.fsck()?;
    within(most, "the mount", || volume.mount())?;
    written.contents.verify(volume.target())?;
    within(most, "the last unmount", || volume.unmount())?;
    volume.end()
}

/// Unmounts in the middle of the failure; no worker may be left behind.
fn end_amid(failure: Failure, scene: &Scene<'_>, volume: &mut Volume, most: Duration) -> Result<()> {
    let worker = scene.advice.worker().ok();
    let amid = failures::leave_amid(failure, scene)?;
    let begun = Instant::now();
    within(most, "the unmount", || volume.unmount())?;
    println!("{failure}: unmounted in {} ms, {}", begun.elapsed().as_millis(), amid.how());
    amid.end();
    worker.map_or(Ok(()), |worker| worker.await_end(most)).context("the worker outlives its mount")
}

/// Does `work`, which may not take longer than `most`.
pub(crate) fn within<T>(most: Duration, what: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let begun = Instant::now();
    let value = work()?;
    let took = begun.elapsed();
    ensure!(took <= most, "{what} took {took:?}; at most {most:?} is allowed");
    Ok(value)
}
