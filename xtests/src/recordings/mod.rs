//! Real programs at work on a mount for so long that the cleaner works in steady state: loads to record and to replay.
//!
//! A load fills most of a small image and then works in rounds until it has written a multiple of what lives there. Meanwhile
//! `gleanfs ctl MNT record` may write down what the filesystem saw. At the end the volume is unmounted and checked.
//!
//! | file | duty |
//! |---|---|
//! | `watch` | samples of the counters while a load runs, and the figures from them |
//! | `recorder` | the recording process |
//! | `pgbench` | PostgreSQL: heap, indexes, write-ahead log, checkpoints, vacuum |
//! | `cargo` | a workspace, edited and built again and again |
//! | `rocksdb` | an LSM tree: flushes, compactions, write-ahead log |
//! | `mail` | PostMark: small files made, appended to, removed |

mod cargo;
mod mail;
mod pgbench;
mod recorder;
mod rocksdb;
mod watch;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::volume::{Peer, Setup, Volume};
use crate::{skip, table};
use recorder::Recorder;
use watch::{Figures, Watch};

/// What to run.
#[derive(Clone, Debug, clap::Args)]
#[command(mut_arg("size_mib", |size| size.default_value("0").help("Size of the filesystem in MiB [0: what suits the load]")))]
pub struct Options {
    #[command(flatten)]
    pub setup: Setup,
    /// Which of them
    #[arg(long, value_enum, value_delimiter = ',', default_value = "pgbench,cargo,rocksdb,mail")]
    pub only: Vec<Program>,
    /// Percent of the device that a load is sized to fill
    #[arg(long, default_value_t = 80, value_parser = clap::value_parser!(u64).range(0..=90))]
    pub fill: u64,
    /// A load ends once it has written so many times what lives on the filesystem, its filling not counted
    #[arg(long, default_value_t = 6.0)]
    pub times: f64,
    /// Or after so many seconds, which is said
    #[arg(long, default_value_t = 600)]
    pub secs_max: u64,
    /// Record what the filesystem sees into DIR/LOAD.telemetry
    #[arg(long, value_name = "DIR")]
    pub record: Option<PathBuf>,
    /// Cargo workspace to build [default: this one]
    #[arg(long)]
    pub workspace: Option<PathBuf>,
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Program {
    /// PostgreSQL under pgbench's bank transactions, with frequent checkpoints
    Pgbench,
    /// Debug builds of a cargo workspace between edits
    Cargo,
    /// RocksDB under db_bench: filled, then overwritten, with small files and many compactions
    Rocksdb,
    /// PostMark, the mail server's benchmark
    Mail,
}

/// Where a load works, and how large it may be.
struct Place<'a> {
    target: &'a Path,
    live_bytes: u64,
    seed: u64,
}

/// A program that can go on for ever. Dropped, its processes are gone.
trait Load {
    /// Puts there what will live there.
    fn fill(&mut self) -> Result<()>;
    /// Works on it for some seconds.
    fn round(&mut self) -> Result<()>;
    /// Ends the program as its users do.
    fn end(&mut self) -> Result<()> {
        Ok(())
    }
}

impl Program {
    fn name(self) -> &'static str {
        match self {
            Self::Pgbench => "pgbench",
            Self::Cargo => "cargo",
            Self::Rocksdb => "rocksdb",
            Self::Mail => "mail",
        }
    }

    /// Size of an image on which it settles within minutes, and of segments that hold more than one of its files: in MiB, in KiB.
    fn shape(self) -> (u64, u64) {
        match self {
            Self::Pgbench => (512, 1024),
            Self::Cargo => (2560, 4096),
            Self::Rocksdb => (1024, 4096),
            Self::Mail => (512, 2048),
        }
    }

    fn setup(self, options: &Options) -> Setup {
        let mut setup = options.setup.clone();
        let (size_mib, segment_kib) = self.shape();
        if setup.size_mib == 0 {
            setup.size_mib = size_mib;
            setup.segment_kib = setup.segment_kib.or(Some(segment_kib));
        }
        setup
    }

    /// What this machine lacks for it.
    fn lacks(self, options: &Options) -> Option<String> {
        match self {
            Self::Pgbench => pgbench::lacks(),
            Self::Cargo => cargo::lacks(options.workspace()),
            Self::Rocksdb => rocksdb::lacks(),
            Self::Mail => mail::lacks(),
        }
    }

    fn load<'a>(self, place: Place<'a>, options: &'a Options) -> Result<Box<dyn Load + 'a>> {
        Ok(match self {
            Self::Pgbench => Box::new(pgbench::Pgbench::new(place)?),
            Self::Cargo => Box::new(cargo::Cargo::new(place, options.workspace())),
            Self::Rocksdb => Box::new(rocksdb::Rocksdb::new(place)),
            Self::Mail => Box::new(mail::Mail::new(place)?),
        })
    }
}

impl Options {
    fn workspace(&self) -> &Path {
        self.workspace.as_deref().unwrap_or(crate::program::workspace())
    }
}

/// Runs each on a mount of its own, and prints what they wrote.
pub fn run(options: &Options) -> Result<()> {
    ensure!(options.setup.peer == Peer::Gleanfs, "only gleanfs has counters and recordings");
    if let Some(directory) = &options.record {
        std::fs::create_dir_all(directory).with_context(|| directory.display().to_string())?;
    }
    let mut rows = Vec::new();
    for program in &options.only {
        let name = program.name();
        match program.lacks(options) {
            Some(why) => skip(format_args!("{name}: {why}")),
            None => rows.push(exercise(*program, options).context(name)?.row(name)),
        }
    }
    if !rows.is_empty() {
        table::print(&Figures::HEADS, &rows);
    }
    Ok(())
}

/// One load on a filesystem of its own.
fn exercise(program: Program, options: &Options) -> Result<Figures> {
    let volume = program.setup(options).make()?;
    let recorder = match &options.record {
        Some(directory) => Some(Recorder::start(&volume, &directory.join(format!("{}.telemetry", program.name())))?),
        None => None,
    };
    let watch = Watch::start(volume.target())?;
    let live_bytes = volume.device_bytes() * options.fill / 100;
    let place = Place { target: volume.target(), live_bytes, seed: options.seed };
    let mut load = program.load(place, options)?;
    let filled = work(&mut *load, &volume, program.name(), options)?;
    load.end()?;
    drop(load);
    volume.order(&["sync"])?;
    let figures = watch.end(&volume.status()?, filled)?;
    if let Some(recorder) = recorder {
        println!("{}: recorded: {}", program.name(), recorder.end()?);
    }
    volume.end()?;
    Ok(figures)
}

/// Fills, then works in rounds until enough has been written; when since the start it was full.
fn work(load: &mut dyn Load, volume: &Volume, name: &str, options: &Options) -> Result<Duration> {
    let begun = Instant::now();
    load.fill().context("filling")?;
    volume.order(&["sync"])?;
    let (filled, before) = (begun.elapsed(), volume.status()?.traffic.user_bytes);
    println!("{name}: filled in {} s, {} MiB written", filled.as_secs(), before >> 20);
    loop {
        load.round()?;
        let status = volume.status()?;
        let written = status.traffic.user_bytes - before;
        let times = written as f64 / status.space.used_bytes.max(1) as f64;
        let secs = begun.elapsed().as_secs();
        println!("{name}: {times:.1} times the live data written since, {secs} s");
        if times >= options.times {
            return Ok(filled);
        }
        if secs >= options.secs_max {
            println!("{name}: falls short of {} times in {} s", options.times, options.secs_max);
            return Ok(filled);
        }
    }
}
