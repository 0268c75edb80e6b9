//! Every operation of a device fails in turn, and every zone, in memory and on one thread, so that each can be had again.
//!
//! A fixed piece of work is run once to count its operations, and then once for each of them that fails, once or for ever, and for each zone that turns
//! read-only or offline before each step. [`run`] says what must hold. [`mounted`] does a few such things to a real mount.

pub mod model;
pub mod mounted;
pub mod run;
pub mod trouble;
pub mod work;

use std::fmt::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};

use anyhow::{Result, bail};
use gleanfs::cli::bench::process::check_interrupt;
use gleanfs::device::memory::FaultOp;
use gleanfs::error::panic_text;
use indicatif::{ProgressBar, ProgressStyle};

use run::Outcome;
use trouble::Trouble;
use work::{Kind, Step};

/// What to run.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Seed of the work
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Steps of the work
    #[arg(long, default_value_t = 120)]
    pub steps: usize,
    /// Run about so many of each sort, evenly chosen; all if not given
    #[arg(long)]
    pub each: Option<usize>,
    /// Only on this kind of device
    #[arg(long)]
    pub kind: Option<Kind>,
    /// Only this one, as a failure names it
    #[arg(long)]
    pub only: Option<Trouble>,
    /// Go on after a failure, up to so many
    #[arg(long, default_value_t = 1)]
    pub failures: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { seed: 1, steps: 120, each: None, kind: None, only: None, failures: 1 }
    }
}

/// What was tried, by what went wrong.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    /// Name, runs, runs in which it came about, runs that ended read-only.
    pub rows: Vec<(String, u64, u64, u64)>,
    pub failures: Vec<String>,
    /// Why the rest was not run.
    pub broken_off: Option<String>,
}

impl Summary {
    pub fn runs(&self) -> u64 {
        self.rows.iter().map(|row| row.1).sum()
    }

    fn note(&mut self, name: String, outcome: Outcome) {
        let at = self.rows.iter().position(|row| row.0 == name).unwrap_or_else(|| {
            self.rows.push((name, 0, 0, 0));
            self.rows.len() - 1
        });
        let row = &mut self.rows[at];
        row.1 += 1;
        row.2 += u64::from(outcome.struck > 0);
        row.3 += u64::from(outcome.ended);
    }

    /// As a table.
    pub fn show(&self) -> String {
        let mut text = format!("{:<26} {:>8} {:>8} {:>10}\n", "what failed", "runs", "struck", "read-only");
        for (name, runs, struck, ended) in &self.rows {
            let _ = writeln!(text, "{name:<26} {runs:>8} {struck:>8} {ended:>10}");
        }
        let _ = write!(text, "{} faults injected, {} failures", self.runs(), self.failures.len());
        text
    }
}

/// Runs the campaign and prints what came of it.
pub fn campaign(options: &Options) -> Result<()> {
    let bar = ProgressBar::new(0).with_style(ProgressStyle::with_template("{pos}/{len} {wide_bar} {msg} {eta}")?);
    let summary = run_all(options, &mut |done, all, name| {
        bar.set_length(all as u64);
        bar.set_position(done as u64);
        bar.set_message(name.to_owned());
        Ok(check_interrupt()?)
    })?;
    bar.finish_and_clear();
    println!("{}", summary.show());
    if let Some(why) = summary.failures.first().or(summary.broken_off.as_ref()) {
        bail!("{why}");
    }
    Ok(())
}

/// Runs what `options` ask for. `progress` is told how many are done, of how many, and which comes.
pub fn run_all(options: &Options, progress: &mut dyn FnMut(usize, usize, &str) -> Result<()>) -> Result<Summary> {
    let steps = work::steps(options.seed, options.steps);
    let mut chosen = Vec::new();
    for kind in Kind::ALL.into_iter().filter(|kind| options.kind.is_none_or(|only| only == *kind)) {
        let sorts = match options.only {
            Some(only) => vec![vec![only]],
            None => sorts(kind, &steps)?,
        };
        for sort in sorts {
            // Odd, since the lists alternate; begins elsewhere with another seed.
            let stride = options.each.map_or(1, |each| sort.len().div_ceil(each.max(1)) | 1);
            let first = options.seed as usize % stride;
            chosen.extend(sort.into_iter().skip(first).step_by(stride).map(|trouble| (kind, trouble)));
        }
    }
    let mut summary = Summary::default();
    for (n, (kind, trouble)) in chosen.iter().enumerate() {
        if let Err(why) = progress(n, chosen.len(), &format!("{kind:?} {trouble}")) {
            summary.broken_off = Some(why.to_string());
            break;
        }
        match one(*kind, &steps, *trouble) {
            Ok(outcome) => summary.note(group(*kind, trouble), outcome),
            Err(why) => {
                summary.note(group(*kind, trouble), Outcome::default());
                let name = format!("{kind:?}").to_lowercase();
                summary.failures.push(format!(
                    "{why}\nreplay with: cargo run -p xtests --release --bin faults -- --seed {} --steps {} --kind {name} --only {trouble}",
                    options.seed, options.steps
                ));
                if summary.failures.len() >= options.failures {
                    break;
                }
            }
        }
    }
    Ok(summary)
}

fn one(kind: Kind, steps: &[Step], trouble: Trouble) -> std::result::Result<Outcome, String> {
    catch_unwind(AssertUnwindSafe(|| run::run(kind, steps, trouble)))
        .unwrap_or_else(|cause| Err(format!("panicked: {}", panic_text(&*cause))))
}

/// All that can go wrong, sorted by what it strikes.
fn sorts(kind: Kind, steps: &[Step]) -> Result<Vec<Vec<Trouble>>> {
    let counts = run::count(kind, steps).map_err(|why| anyhow::anyhow!("without any fault: {why}"))?;
    let is_zoned = kind == Kind::Zoned;
    let operations = counts.into_iter().filter(|(op, _)| is_zoned || *op != FaultOp::Finish);
    let mut sorts: Vec<_> = operations.map(|(op, count)| trouble::of_operations(op, count, is_zoned)).collect();
    if let Some(spec) = kind.subject().zoned {
        sorts.push(trouble::of_zones(spec.zones, steps.len() as u64));
    }
    Ok(sorts)
}

/// What is counted together.
fn group(kind: Kind, trouble: &Trouble) -> String {
    let kind = format!("{kind:?}").to_lowercase();
    match trouble {
        Trouble::Operation { op, forever, .. } => {
            format!("{kind} {} {}", trouble::word(*op), if *forever { "for ever" } else { "once" })
        }
        Trouble::Zone { condition, .. } => format!("{kind} zone {condition:?}").to_lowercase(),
    }
}
