//! What deciders make of the same load on a real mount: device bytes by the kernel's count, latency by fio's, processor time by `/proc`.
//!
//! A file that fills most of the filesystem is overwritten by fio, in steps; the first steps warm up, the others are measured. Every decider gets a fresh
//! filesystem and, for each seed, the same writes. Interleaved: all deciders with one seed come before the next seed.
//!
//! | file | duty |
//! |---|---|
//! | `load` | fio's steps, and what fio says of them |
//! | `processes` | processor time of the daemon and the processes beside it |

mod load;
mod processes;

use anyhow::{Context, Result, ensure};
use gleanfs::cli::bench::process::installed;

use crate::counters::Witness;
use crate::volume::{Setup, Volume};
use crate::{skip, table};
use load::{Latency, Shape};
use processes::Spent;

/// Ways to decide: a name, and mount options.
const DECIDERS: [(&str, &str); 6] = [
    ("greedy/none", "policy=greedy/none,trust=fallback"),
    ("cost-age/sepbit", "policy=cost-age/sepbit,trust=fallback"),
    ("cost-age-class/ewma", "trust=fallback"),
    ("shipped models", "advise=placement"),
    ("learning", "advise=placement,learn=on"),
    ("learning, in charge at once", "advise=placement,learn=on,trust=forced"),
];

/// What to run.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    #[command(flatten)]
    pub setup: Setup,
    #[arg(long, value_enum, value_delimiter = ',', default_value = "zipf,shifting")]
    pub loads: Vec<Shape>,
    /// Which ways to decide, by a part of their names [default: all]
    #[arg(long, value_delimiter = ',')]
    pub only: Vec<String>,
    #[arg(long, value_delimiter = ',', default_value = "1")]
    pub seeds: Vec<u64>,
    /// Percent of the device that the file fills
    #[arg(long, default_value_t = 85, value_parser = clap::value_parser!(u64).range(10..=92))]
    pub fill: u64,
    /// Times that the file's size is written before it is measured, and while
    #[arg(long, default_value_t = 2.0)]
    pub warm: f64,
    #[arg(long, default_value_t = 2.0)]
    pub times: f64,
}

/// What one run came to, in its measured part.
#[derive(Clone, Copy, Debug)]
struct Outcome {
    /// Device bytes over user bytes.
    device: f64,
    /// The same of data blocks alone.
    data: f64,
    latency: Latency,
    spent: Spent,
    /// Share of all blocks whose head a model chose.
    by_model: f64,
}

/// Runs all and prints a table for each load.
pub fn run(options: &Options) -> Result<()> {
    if !installed("fio") {
        skip("fio: not installed");
        return Ok(());
    }
    let wanted = |name: &str| options.only.is_empty() || options.only.iter().any(|part| name.contains(part.as_str()));
    let deciders: Vec<_> = DECIDERS.into_iter().filter(|(name, _)| wanted(name)).collect();
    ensure!(!deciders.is_empty(), "--only names no way to decide; there are {}", DECIDERS.map(|d| d.0).join(", "));
    for &shape in &options.loads {
        let mut outcomes = vec![Vec::new(); deciders.len()];
        for &seed in &options.seeds {
            for ((name, mount), outcomes) in deciders.iter().zip(&mut outcomes) {
                let outcome =
                    one(options, mount, shape, seed).with_context(|| format!("{shape:?}, {name}, seed {seed}"))?;
                println!(
                    "{shape:?}, {name}, seed {seed}: {:.3} of the device, {:.3} of data",
                    outcome.device, outcome.data
                );
                outcomes.push(outcome);
            }
        }
        println!("{shape:?}, {} MiB, {} % full:", options.setup.size_mib, options.fill);
        let rows: Vec<Vec<String>> = deciders.iter().zip(&outcomes).map(|((name, _), all)| row(name, all)).collect();
        table::print(&HEADS, &rows);
    }
    Ok(())
}

fn one(options: &Options, mount: &str, shape: Shape, seed: u64) -> Result<Outcome> {
    let mut setup = options.setup.clone();
    setup.options = [setup.options.as_str(), mount].into_iter().filter(|o| !o.is_empty()).collect::<Vec<_>>().join(",");
    let volume = setup.make()?;
    let bytes = (options.setup.size_mib << 20) / 100 * options.fill;
    load::fill(volume.target(), bytes)?;
    let steps = |times: f64| (times * load::STEPS_PER_VOLUME).round().max(1.0) as u64;
    let (warm, measured) = (steps(options.warm), steps(options.times));
    (0..warm).try_for_each(|step| load::step(volume.target(), bytes, shape, seed, step).map(drop))?;
    let witness = Witness::of(&volume)?;
    let before = Moment::of(&volume, &witness)?;
    let latencies = (warm..warm + measured).map(|step| load::step(volume.target(), bytes, shape, seed, step));
    let latencies: Vec<Latency> = latencies.collect::<Result<_>>()?;
    volume.order(&["sync"])?;
    let outcome = Moment::of(&volume, &witness)?.since(&before, Latency::worst(&latencies));
    volume.end()?;
    Ok(outcome)
}

/// Counters at one moment.
struct Moment {
    user_bytes: u64,
    data_bytes: u64,
    device_bytes: u64,
    by_model: u64,
    by_all: u64,
    spent: Spent,
}

impl Moment {
    fn of(volume: &Volume, witness: &Witness) -> Result<Self> {
        let status = volume.status()?;
        let placed = |of: &str| {
            let named = status.advisor.placements.iter().filter(|p| of.is_empty() || p.decider == of);
            named.map(|p| p.user_blocks + p.moved_blocks).sum()
        };
        Ok(Self {
            user_bytes: status.traffic.user_bytes,
            data_bytes: status.traffic.device_data_bytes,
            device_bytes: witness.ask()?.written_bytes,
            by_model: placed("model"),
            by_all: placed(""),
            spent: Spent::of(&status)?,
        })
    }

    fn since(&self, before: &Self, latency: Latency) -> Outcome {
        let user = (self.user_bytes - before.user_bytes).max(1) as f64;
        Outcome {
            device: (self.device_bytes - before.device_bytes) as f64 / user,
            data: (self.data_bytes - before.data_bytes) as f64 / user,
            latency,
            spent: self.spent.since(&before.spent),
            by_model: (self.by_model - before.by_model) as f64 / (self.by_all - before.by_all).max(1) as f64,
        }
    }
}

const HEADS: [&str; 9] =
    ["decider", "device WA", "spread", "data WA", "p99.9 us", "by model %", "daemon s", "worker %", "trainer %"];

fn row(name: &str, all: &[Outcome]) -> Vec<String> {
    let mean = |of: fn(&Outcome) -> f64| all.iter().map(of).sum::<f64>() / all.len() as f64;
    let device = mean(|o| o.device);
    let spread = all.iter().map(|o| (o.device - device).abs()).fold(0.0, f64::max);
    let percent_of_all = |of: fn(&Outcome) -> f64| 100.0 * mean(of) / mean(|o| o.spent.all_secs()).max(1e-9);
    vec![
        name.into(),
        format!("{device:.3}"),
        format!("{spread:.3}"),
        format!("{:.3}", mean(|o| o.data)),
        format!("{:.0}", mean(|o| o.latency.p999_us)),
        format!("{:.0}", 100.0 * mean(|o| o.by_model)),
        format!("{:.1}", mean(|o| o.spent.daemon_secs)),
        format!("{:.1}", percent_of_all(|o| o.spent.worker_secs)),
        format!("{:.1}", percent_of_all(|o| o.spent.trainer_secs)),
    ]
}
