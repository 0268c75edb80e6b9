//! What gleanfs says that it wrote, beside what the kernel saw it write and what the client knows that it asked for.
//!
//! Write amplification is a quotient of two counters, so both have to be right. A nearly full filesystem is overwritten at random, once with direct
//! I/O and once through the page cache, with the cleaner at work; all figures are differences over that load. The kernel's witness
//! is the loop device's statistics, or for an image file what the daemon's process had written.

mod kernel;
mod load;

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use gleanfs::cli::bench::process::check_interrupt;

use crate::table;
use crate::volume::{Setup, Volume};
pub(crate) use kernel::Witness;
use load::Load;

/// Between two readings that must be equal.
const REST: Duration = Duration::from_millis(200);

/// How long a filesystem without load may go on writing.
const REST_MAX: Duration = Duration::from_secs(20);

/// What to run.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    #[command(flatten)]
    pub setup: Setup,
    /// Percent of the device that is filled with data
    #[arg(long, default_value_t = 85)]
    pub fill: u64,
    /// How many times the device's capacity is overwritten, each way
    #[arg(long, default_value_t = 2.0)]
    pub times: f64,
    /// Overwrites between two fsyncs, all of different blocks
    #[arg(long, default_value_t = 1024)]
    pub fsync_every: usize,
    /// Largest difference in percent
    #[arg(long, default_value_t = 1.0)]
    pub difference_max: f64,
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

/// All counters at one moment, or what they grew by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Reading {
    user_bytes: u64,
    device_bytes: u64,
    flushes: u64,
    cleaned_segments: u64,
    kernel_bytes: u64,
    /// Where the kernel counts them.
    kernel_flushes: Option<u64>,
}

/// Two counts of one thing.
#[derive(Clone, Debug)]
struct Comparison {
    what: String,
    gleanfs: u64,
    witness: u64,
}

/// Runs the load both ways and compares.
pub fn run(options: &Options) -> Result<()> {
    let volume = options.setup.make()?;
    let witness = Witness::of(&volume)?;
    let blocks = volume.device_bytes() / load::BLOCK_BYTES * options.fill / 100;
    let mut load = Load::fill(volume.target(), blocks, options.seed)?;
    println!("counters: {} MiB written, {} % of the device; witness: {witness}", blocks >> 8, options.fill);
    let batches =
        (volume.device_bytes() as f64 * options.times / load::BLOCK_BYTES as f64) as usize / options.fsync_every;
    ensure!(batches > 0, "{} times the device are less than {} overwrites", options.times, options.fsync_every);
    let mut comparisons = Vec::new();
    for (way, flags) in [("direct", libc::O_DIRECT), ("writeback", 0)] {
        let before = Reading::take(&volume, &witness)?;
        let written_bytes = load.overwrite(flags, batches, options.fsync_every)?;
        let grown = Reading::take(&volume, &witness)?.since(before);
        ensure!(grown.cleaned_segments > 0, "nothing was cleaned; fill more");
        comparisons.extend(grown.compare(way, written_bytes));
        let amplification = grown.device_bytes as f64 / grown.user_bytes as f64;
        println!("counters: {way}: {} segments cleaned, WA {amplification:.2}", grown.cleaned_segments);
    }
    print(&comparisons);
    volume.end()?;
    let worst = comparisons.iter().max_by(|a, b| a.difference_percent().total_cmp(&b.difference_percent()));
    match worst.filter(|worst| worst.difference_percent() > options.difference_max) {
        Some(worst) => bail!("{}: counts differ by {:.2} %", worst.what, worst.difference_percent()),
        None => Ok(()),
    }
}

fn print(comparisons: &[Comparison]) {
    let rows: Vec<Vec<String>> = comparisons
        .iter()
        .map(|c| {
            let difference = format!("{:.3}", c.difference_percent());
            vec![c.what.clone(), c.gleanfs.to_string(), c.witness.to_string(), difference]
        })
        .collect();
    table::print(&["counter", "gleanfs", "witness", "difference %"], &rows);
}

impl Comparison {
    fn difference_percent(&self) -> f64 {
        100.0 * self.gleanfs.abs_diff(self.witness) as f64 / self.witness.max(1) as f64
    }
}

impl Reading {
    /// Of a filesystem at rest: a write is counted here when it is submitted and there when it is complete, and with
    /// the cleaner behind, megabytes are between the two.
    fn take(volume: &Volume, witness: &Witness) -> Result<Self> {
        volume.order(&["gc", "off"])?;
        volume.order(&["sync"])?;
        let reading = Self::at_rest(volume, witness)?;
        volume.order(&["gc", "on"])?;
        Ok(reading)
    }

    /// Asks until gleanfs and the kernel say the same twice.
    fn at_rest(volume: &Volume, witness: &Witness) -> Result<Self> {
        let deadline = Instant::now() + REST_MAX;
        let mut last = Self::now(volume, witness)?;
        loop {
            check_interrupt()?;
            thread::sleep(REST);
            let reading = Self::now(volume, witness)?;
            if reading == last {
                return Ok(reading);
            }
            ensure!(Instant::now() < deadline, "still writing {REST_MAX:?} after the load, with the cleaner off");
            last = reading;
        }
    }

    fn now(volume: &Volume, witness: &Witness) -> Result<Self> {
        let status = volume.status()?;
        let kernel = witness.ask()?;
        Ok(Self {
            user_bytes: status.traffic.user_bytes,
            device_bytes: status.traffic.device_bytes,
            flushes: status.traffic.device_flushes,
            cleaned_segments: status.cleaner.deciders.iter().map(|decider| decider.segments).sum(),
            kernel_bytes: kernel.written_bytes,
            kernel_flushes: kernel.flushes,
        })
    }

    fn since(self, before: Self) -> Self {
        Self {
            user_bytes: self.user_bytes - before.user_bytes,
            device_bytes: self.device_bytes - before.device_bytes,
            flushes: self.flushes - before.flushes,
            cleaned_segments: self.cleaned_segments - before.cleaned_segments,
            kernel_bytes: self.kernel_bytes - before.kernel_bytes,
            kernel_flushes: self.kernel_flushes.zip(before.kernel_flushes).map(|(now, before)| now - before),
        }
    }

    fn compare(self, way: &str, written_bytes: u64) -> Vec<Comparison> {
        let row = |what: &str, gleanfs, witness| Comparison { what: format!("{way}: {what}"), gleanfs, witness };
        let mut rows = vec![
            row("user bytes (client)", self.user_bytes, written_bytes),
            row("device bytes (kernel)", self.device_bytes, self.kernel_bytes),
        ];
        rows.extend(self.kernel_flushes.map(|flushes| row("flushes (kernel)", self.flushes, flushes)));
        rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_miscount_shows_in_percent_of_the_witness() {
        let reading = Reading { user_bytes: 990, device_bytes: 2040, kernel_bytes: 2000, ..Reading::default() };
        let rows = reading.compare("direct", 1000);
        let percents: Vec<f64> = rows.iter().map(Comparison::difference_percent).collect();
        assert_eq!(percents, [1.0, 2.0]);
    }
}
