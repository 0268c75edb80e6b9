//! A nearly full filesystem that is overwritten at random for ever: it must not fail, not stop, and not lose a byte.
//!
//! Fills a share of the device, overwrites 4 KiB at random until a multiple of the device's capacity has been written, while a probe in
//! another process measures how long the simplest requests take. At the end the filesystem is unmounted, checked (fsck counts the
//! live blocks of each segment anew), mounted again and read through, block by block. The same load on a plain file
//! beside the image says what the backing store can do.

mod load;
pub mod probe;

use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::block::BLOCK;
use crate::volume::{Setup, Volume};
use load::Load;
use probe::Longest;

/// What to run.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    #[command(flatten)]
    pub setup: Setup,
    /// Percent of the device that is filled with data
    #[arg(long, default_value_t = 90)]
    pub fill: u64,
    /// How many times the device's capacity is overwritten
    #[arg(long, default_value_t = 10.0)]
    pub times: f64,
    /// Overwrites between two fsyncs
    #[arg(long, default_value_t = 1024)]
    pub fsync_every: u64,
    /// Write past the page cache
    #[arg(long)]
    pub direct: bool,
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self { setup: Setup::default(), fill: 90, times: 10.0, fsync_every: 1024, direct: false, seed: 1 }
    }
}

/// Enough overwrites to know the backing store's rate.
const BACKING_OVERWRITES_MAX: u64 = 50_000;

/// What was seen from outside.
#[derive(Clone, Copy, Debug)]
pub struct Outcome {
    pub overwritten_blocks: u64,
    pub overwrites_per_sec: f64,
    /// The same load on a file of the backing filesystem.
    pub backing_per_sec: f64,
    pub longest: Longest,
}

/// Runs the load. `probe` is the command that runs [`probe::main`] with its arguments appended.
pub fn run(options: &Options, probe: impl Fn() -> Result<Command>) -> Result<Outcome> {
    let mut volume = options.setup.make()?;
    let probe = Probe::start(probe()?, volume.target(), volume.beside())?;
    let blocks = blocks(&volume, options)?;
    let mut load = Load::fill(volume.target(), blocks, options)?;
    println!("steady: {} MiB written, {} % of the device", (blocks * BLOCK as u64) >> 20, options.fill);
    let overwrites = (volume.device_bytes() as f64 * options.times) as u64 / BLOCK as u64;
    let report = |done, rate| println!("steady: {done} of {overwrites} overwrites, {rate:.0}/s");
    let overwrites_per_sec = load.overwrite(overwrites, options.fsync_every, report)?;
    let longest = probe.end()?;
    let versions = load.end()?;
    volume.unmount()?;
    volume.fsck().context("live counts and everything else should be exact")?;
    println!("steady: fsck is content, so the live counts of all segments are exact");
    volume.mount()?;
    load::verify(volume.target(), &versions)?;
    let backing_per_sec = backing_rate(volume.beside(), blocks, overwrites, options)?;
    volume.end()?;
    Ok(Outcome { overwritten_blocks: overwrites, overwrites_per_sec, backing_per_sec, longest })
}

/// Blocks to fill, if users have that many.
fn blocks(volume: &Volume, options: &Options) -> Result<u64> {
    let space = rustix::fs::statvfs(volume.target())?;
    let blocks = volume.device_bytes() / BLOCK as u64 * options.fill / 100;
    let room = space.f_bavail * space.f_frsize / BLOCK as u64;
    let percent = room * 100 / (volume.device_bytes() / BLOCK as u64);
    ensure!(blocks <= room, "--fill {}: users have only {percent} % of a device of this shape", options.fill);
    Ok(blocks)
}

/// Overwrites per second of the same load on a plain file, measured over a part of it.
fn backing_rate(directory: &Path, blocks: u64, overwrites: u64, options: &Options) -> Result<f64> {
    let mut load = Load::fill(directory, blocks, options)?;
    let rate = load.overwrite(overwrites.min(BACKING_OVERWRITES_MAX), options.fsync_every, |_, _| {})?;
    std::fs::remove_file(directory.join(load::NAME))?;
    Ok(rate)
}

/// The other process; ended with its standard input.
pub(crate) struct Probe(Child);

impl Probe {
    pub(crate) fn start(mut command: Command, target: &Path, beside: &Path) -> Result<Self> {
        let child = command.arg(target).arg(beside).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        Ok(Self(child.context("starting the probe")?))
    }

    pub(crate) fn end(mut self) -> Result<Longest> {
        drop(self.0.stdin.take());
        let mut text = String::new();
        self.0.stdout.take().context("the probe's answer")?.read_to_string(&mut text)?;
        let status = self.0.wait()?;
        ensure!(status.success(), "the probe failed: {status}; see its message above");
        serde_json::from_str(&text).context("the probe's answer")
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

impl Outcome {
    /// The longest stall that the filesystem itself has to answer for.
    pub fn stall_us(&self) -> u64 {
        let Longest { write_us, stat_us, read_us, backing_us, .. } = self.longest;
        write_us.max(stat_us).max(read_us).saturating_sub(backing_us)
    }

    pub fn print(&self) {
        let Longest { rounds, write_us, stat_us, read_us, p999_us, backing_us } = self.longest;
        let Self { overwritten_blocks, overwrites_per_sec: own, backing_per_sec: backing, .. } = self;
        println!("steady: {overwritten_blocks} overwrites, {own:.0}/s; data verified");
        println!("steady: {:.2} of the backing store's {backing:.0}/s", own / backing);
        println!(
            "probe: {rounds} rounds; longest write+fsync {write_us} us, stat {stat_us} us, read {read_us} us, p99.9 {p999_us} us; \
             longest of the backing store {backing_us} us; stall {} us",
            self.stall_us()
        );
    }
}
