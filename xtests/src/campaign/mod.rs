//! The seeded simulator of the whole filesystem: trials without a mount, on devices in memory, for minutes or for days.
//!
//! Every unit of work is a function of its kind and its number, runs on one thread, and can be run again alone: that is the command that
//! a failure prints. `work` does one unit, `shapes` says what filesystem a seed stands for, `plan` hands units out, `counts` adds up.

mod counts;
mod plan;
mod shapes;
mod work;

use std::num::NonZero;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use gleanfs::cli::bench::process::check_interrupt;
use indicatif::{ProgressBar, ProgressStyle};
use parking_lot::{Condvar, Mutex};

use counts::Counts;
use plan::Plan;
use work::Worker;

pub use work::Kind;

/// How often the progress line is drawn anew.
const TICK: Duration = Duration::from_millis(500);

/// What to run.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Run for so many hours
    #[arg(long)]
    pub hours: Option<f64>,
    /// Run for so many minutes [default: 10, unless seeds or a workload are given]
    #[arg(long)]
    pub minutes: Option<f64>,
    /// Run so many seeds of each kind, and all ACE-like workloads
    #[arg(long)]
    pub seeds: Option<u64>,
    /// The first seed
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Cut the power after so many writes and nowhere else
    #[arg(long)]
    pub cut: Option<u64>,
    /// Kinds of trials [default: all]
    #[arg(long, value_enum, value_delimiter = ',')]
    pub only: Vec<Kind>,
    /// Operations of an ACE-like workload [default: one, then two]
    #[arg(long, value_parser = clap::value_parser!(u8).range(1..=2))]
    pub length: Option<u8>,
    /// Run this ACE-like workload alone
    #[arg(long, requires = "length")]
    pub workload: Option<u64>,
    /// Run the part I of N of the ACE-like workloads, from 1 on
    #[arg(long, value_name = "I/N", value_parser = shard)]
    pub shard: Option<(u64, u64)>,
    /// Threads [default: one for each core]
    #[arg(long)]
    pub jobs: Option<NonZero<usize>>,
    /// Have the devices acknowledge flushes and forget them; the campaign has to fail
    #[arg(long)]
    pub lie: bool,
    /// End after so many failures
    #[arg(long, default_value_t = 10)]
    pub failures_max: u64,
    /// Print the summary as JSON
    #[arg(long)]
    pub json: bool,
}

fn shard(text: &str) -> Result<(u64, u64), String> {
    let parts = text.split_once('/').and_then(|(i, n)| Some((i.parse().ok()?, n.parse().ok()?)));
    parts.filter(|(i, n)| (1..=*n).contains(i)).ok_or_else(|| "a part of a whole is wanted, as 1/4".into())
}

impl Options {
    /// When to stop handing out work; `None`: when it is all done.
    fn time(&self) -> Option<Duration> {
        let minutes = match (self.hours, self.minutes) {
            (None, None) if self.seeds.is_some() || self.workload.is_some() => return None,
            (None, None) => 10.0,
            (hours, minutes) => hours.unwrap_or(0.0) * 60.0 + minutes.unwrap_or(0.0),
        };
        Some(Duration::from_secs_f64(minutes.max(0.0) * 60.0))
    }

    fn kinds(&self) -> Vec<Kind> {
        match (&self.only[..], self.workload) {
            ([], Some(_)) => vec![Kind::Ace],
            ([], None) => Kind::ALL.to_vec(),
            (only, _) => only.to_vec(),
        }
    }
}

/// What the threads share.
struct Shared {
    plan: Plan,
    counts: Counts,
    /// Threads that have not ended.
    working: usize,
    reports: Vec<String>,
}

/// Runs the campaign; the failures' reports come on stdout as they are found, the summary last.
pub fn run(options: &Options) -> Result<()> {
    let begun = Instant::now();
    let jobs = options.jobs.or_else(|| std::thread::available_parallelism().ok()).map_or(1, NonZero::get);
    let plan = Plan::new(options, begun)?;
    let shared = Mutex::new(Shared { plan, counts: Counts::default(), working: jobs, reports: Vec::new() });
    let changed = Condvar::new();
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                let left = Leaving { shared: &shared, changed: &changed };
                // Not in the head of the loop, where the lock would be held all through its body.
                let next = || shared.lock().plan.next();
                while let Some(unit) = next() {
                    let done = Worker { options }.run(&unit);
                    left.book(options, &unit, done);
                }
            });
        }
        watch(&shared, &changed, options, begun);
    });
    let shared = shared.into_inner();
    check_interrupt().context("the campaign ended early")?;
    summarize(options, &shared.counts, begun)?;
    match shared.counts.failures {
        0 => Ok(()),
        1 => bail!("there was a failure; its report is above"),
        n => bail!("there were {n} failures; their reports are above"),
    }
}

/// A thread at work; that it has ended is told even if it panics.
struct Leaving<'a> {
    shared: &'a Mutex<Shared>,
    changed: &'a Condvar,
}

impl Leaving<'_> {
    fn book(&self, options: &Options, unit: &plan::Unit, done: work::Done) {
        let mut shared = self.shared.lock();
        shared.plan.took(unit, done.took);
        shared.counts.add(&done.counts);
        shared.reports.extend(done.report);
        if shared.counts.failures >= options.failures_max || check_interrupt().is_err() {
            shared.plan.end();
        }
        self.changed.notify_all();
    }
}

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        self.shared.lock().working -= 1;
        self.changed.notify_all();
    }
}

/// Shows how far it has come until all threads have ended.
fn watch(shared: &Mutex<Shared>, changed: &Condvar, options: &Options, begun: Instant) {
    let bar = ProgressBar::new(options.time().map_or(0, |time| time.as_secs()));
    bar.set_style(ProgressStyle::with_template("{elapsed_precise} {wide_msg}").expect("the template is well formed"));
    let mut shared = shared.lock();
    while shared.working > 0 {
        changed.wait_for(&mut shared, TICK);
        bar.set_message(shared.counts.line(begun.elapsed()));
        for report in std::mem::take(&mut shared.reports) {
            bar.suspend(|| println!("{report}\n"));
        }
    }
    bar.finish_and_clear();
}

fn summarize(options: &Options, counts: &Counts, begun: Instant) -> Result<()> {
    ensure!(counts.rounds > 0, "nothing was run");
    if options.json {
        println!("{}", serde_json::to_string(&counts.with_time(begun.elapsed()))?);
    } else {
        counts.print(begun.elapsed());
    }
    Ok(())
}
