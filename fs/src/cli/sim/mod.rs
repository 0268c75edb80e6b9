//! `gleanfs sim`: what policies would make of a load, without a device: generated loads and recorded ones, many pairs side by side on all cores.
//!
//! The policies are those of the mount, under its limits: tables of constant size, as many log heads as a mount has.

mod plot;
mod policy;
mod report;
mod volume;

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use gleanfs_gc::sim::oracle::Future;
use gleanfs_gc::sim::trace::{self, Recording};
use gleanfs_gc::sim::{self, Course, Geometry, NamedSource};
use gleanfs_gc::train::{Mlp, WorthNet};

use super::failure::{About, Failure, Result};
use super::progress::Bar;
use super::size::{Share, Size};
use crate::proxy::service::{SHIPPED, SHIPPED_VICTIM};
use crate::types::BLOCK_SIZE;
use policy::{Kind, Models, Pair, Surroundings};
use report::{Report, Row, Run, Table};
use volume::{Fullness, Volume};

/// Simulate policies on generated or recorded loads; compare write amplification.
#[derive(Debug, clap::Args)]
#[command(after_help = format!("\
Loads: {loads}.
Policies are VICTIM/PLACEMENT. Victims: {victims}, learned. Placements: {placements}, learned; shuffled-rows and constant
(controls that must gain nothing); fk and geometric (oracles that know the future). A star marks the best fixed rule and the best
model. Traces: {formats}; compressed by gzip or zstd or not.

\"of rule\" is blocks moved over those of the best fixed rule, \"over oracle\" what write amplification is above that of the best oracle;
ns/victim and ns/block are mean times to choose a victim and to place a block; KiB and B/block are what a policy remembers.

Examples:
  gleanfs sim --load zipf:0.9,zipf:1.0 --seeds 1,2,3
  gleanfs sim --trace disk.csv.gz --segment 256K --plot disk.svg
  gleanfs sim --load tree:0.25+hotcold:0.9/0.1 --size 4G --policy cost-age/sepbit,learned/learned --json",
    loads = sim::GRAMMAR, victims = gleanfs_gc::victim::NAMES.join(", "), placements = gleanfs_gc::placement::NAMES.join(", "),
    formats = trace::NAMES.join(", ")))]
pub struct Args {
    /// Generated loads
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    load: Vec<NamedSource>,
    /// Recorded loads
    #[arg(long, value_name = "FILE")]
    trace: Vec<PathBuf>,
    /// Format of the traces [default: what their content tells]
    #[arg(long, value_name = "NAME")]
    format: Option<String>,
    /// Of the traces only this volume
    #[arg(long, value_name = "NUMBER")]
    volume: Option<u64>,
    /// Pairs to compare
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = policy::DEFAULTS, hide_default_value = true)]
    policy: Vec<Pair>,
    /// Placement model, one that `train` made [default: the shipped one]
    #[arg(long, value_name = "FILE")]
    model: Option<PathBuf>,
    /// Victim model, one that `train` made [default: the shipped one]
    #[arg(long, value_name = "FILE")]
    victim_model: Option<PathBuf>,
    /// Size of generated volumes, all of it in use
    #[arg(long, default_value = "256M")]
    size: Size,
    /// Segment sizes
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "1M")]
    segment: Vec<Size>,
    /// Clean when more than this share of what is stored is dead
    #[arg(long, default_value = "15%")]
    garbage: Share,
    /// Instead: the live data are this share of the device, and the cleaner starts when free segments run out
    #[arg(long, conflicts_with = "garbage")]
    full: Option<Share>,
    /// Log heads
    #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(u8).range(1..=15))]
    heads: u8,
    /// Place each block of a write request by itself, as a block device would; a mount places the request as a whole
    #[arg(long)]
    each_block: bool,
    /// How often a generated load writes its volume
    #[arg(long, default_value_t = 20.0)]
    times: f64,
    /// Share of the writes, the last ones, that is scored
    #[arg(long, default_value = "50%")]
    score: Share,
    /// Seeds of generated loads
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "1")]
    seeds: Vec<u64>,
    /// Runs at a time [default: one for each core]
    #[arg(long)]
    jobs: Option<NonZeroUsize>,
    /// Print JSON instead of tables
    #[arg(long)]
    json: bool,
    /// Draw write amplification over time, victims by utilization, lifetimes by class
    #[arg(long, value_name = "FILE.svg")]
    plot: Option<PathBuf>,
}

/// A volume in a geometry.
struct Setting {
    volume: Volume,
    segment_blocks: u32,
    geometry: Geometry,
    seeds: Vec<u64>,
    /// By seed; made when an oracle first asks.
    futures: Vec<OnceLock<Arc<Future>>>,
}

/// One run.
struct Job<'a> {
    setting: &'a Setting,
    pair: &'a Pair,
    seed_at: usize,
    each_block: bool,
}

pub fn run(arguments: &Args) -> Result<()> {
    let fullness = arguments.fullness()?;
    let models = arguments.models()?;
    let settings = arguments.settings(fullness)?;
    let jobs: Vec<Job<'_>> = settings
        .iter()
        .flat_map(|setting| arguments.policy.iter().map(move |pair| (setting, pair)))
        .flat_map(|(setting, pair)| (0..setting.seeds.len()).map(move |seed_at| (setting, pair, seed_at)))
        .map(|(setting, pair, seed_at)| Job { setting, pair, seed_at, each_block: arguments.each_block })
        .collect();
    let threads = arguments.jobs.or_else(|| std::thread::available_parallelism().ok()).unwrap_or(NonZeroUsize::MIN);
    let total = jobs.iter().map(|job| job.setting.volume.warm + job.setting.volume.writes).sum();
    let (bar, done) = (Bar::steps(total, "simulating"), AtomicU64::new(0));
    let passed = |blocks| bar.at(done.fetch_add(blocks, Ordering::Relaxed) + blocks);
    let runs = sim::on_threads(&jobs, threads, |job| job.run(&models, &passed));
    drop(bar);
    let report = arguments.report(&settings, fullness, runs);
    if let Some(path) = &arguments.plot {
        plot::draw(&report, path).about(path.display())?;
    }
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&report).map_err(Failure::new)?);
    } else {
        let texts: Vec<String> = report.tables.iter().map(Table::text).collect();
        println!("{}", texts.join("\n\n"));
    }
    Ok(())
}

impl Args {
    fn fullness(&self) -> Result<Fullness> {
        let share = |share: Share| f64::from(share.hundredths()) / 10_000.0;
        let fullness = match self.full {
            Some(full) => Fullness::Utilization(share(full)),
            None => Fullness::Garbage(share(self.garbage)),
        };
        match fullness {
            Fullness::Garbage(share) | Fullness::Utilization(share) if !(0.01..=0.99).contains(&share) => {
                Err(Failure::new("the share of garbage or of live data must lie between 1% and 99%"))
            }
            _ => Ok(fullness),
        }
    }

    fn models(&self) -> Result<Models> {
        let read = |path: &Option<PathBuf>, shipped: &'static [u8]| match path {
            Some(path) => std::fs::read(path).about(path.display()),
            None => Ok(shipped.to_vec()),
        };
        let name = |path: &Option<PathBuf>| path.as_ref().map_or("shipped model".into(), |p| p.display().to_string());
        let placement = Mlp::from_onnx(&read(&self.model, SHIPPED)?).about(name(&self.model))?.0;
        let victim = WorthNet::from_onnx(&read(&self.victim_model, SHIPPED_VICTIM)?).about(name(&self.victim_model))?;
        Ok(Models { placement, victim })
    }

    fn settings(&self, fullness: Fullness) -> Result<Vec<Setting>> {
        let volumes = self.volumes()?;
        let mut settings = Vec::new();
        for (volume, segment) in volumes.iter().flat_map(|v| self.segment.iter().map(move |s| (v, s))) {
            let segment_blocks = (segment.0 / BLOCK_SIZE as u64) as u32;
            if segment_blocks < 8 || u64::from(segment_blocks) * BLOCK_SIZE as u64 != segment.0 {
                return Err(Failure::new("a segment is a multiple of 4K and at least 32K"));
            }
            let geometry = volume.geometry(segment_blocks, fullness, self.heads).map_err(Failure::new)?;
            let seeds = if volume.is_random() { self.seeds.clone() } else { vec![1] };
            let futures = seeds.iter().map(|_| OnceLock::new()).collect();
            settings.push(Setting { volume: volume.clone(), segment_blocks, geometry, seeds, futures });
        }
        Ok(settings)
    }

    fn volumes(&self) -> Result<Vec<Volume>> {
        let scored = f64::from(self.score.hundredths()) / 10_000.0;
        if scored == 0.0 {
            return Err(Failure::new("--score: some of the writes must be scored"));
        }
        let blocks = u32::try_from(self.size.0 / BLOCK_SIZE as u64).ok().filter(|blocks| *blocks >= 4096);
        let blocks = blocks.ok_or_else(|| Failure::new("--size: a volume has at least 16M and less than 16T"))?;
        if self.load.is_empty() && self.trace.is_empty() {
            return Err(Failure::new("name a load with --load or a trace with --trace; see gleanfs sim --help"));
        }
        if !(self.times >= 1.0 && self.times <= 1e6) {
            return Err(Failure::new("--times: a load writes its volume at least once and at most a million times"));
        }
        let made = self.load.iter().map(|source| Ok(Volume::made(source, blocks, self.times, scored)));
        let recorded = self.trace.iter().map(|path| {
            let options = trace::Options { format: self.trace_format()?, volume: self.volume, ..Default::default() };
            let recording = Recording::load(path, &options).map_err(Failure::new)?;
            let name = path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
            Ok(Volume::recorded(name, recording, scored))
        });
        made.chain(recorded).collect()
    }

    fn trace_format(&self) -> Result<Option<trace::Format>> {
        let named = |name: &String| {
            let unknown = || format!("no trace format {name}; there are {}", trace::NAMES.join(", "));
            trace::by_name(name).ok_or_else(|| Failure::new(unknown()))
        };
        self.format.as_ref().map(named).transpose()
    }

    /// Runs come in the order of settings, pairs and seeds.
    fn report(&self, settings: &[Setting], fullness: Fullness, runs: Vec<(Run, usize)>) -> Report {
        let mut runs = runs.into_iter();
        let tables = settings.iter().map(|setting| {
            let rows = self.policy.iter().map(|pair| {
                let (runs, bytes): (Vec<Run>, Vec<usize>) = runs.by_ref().take(setting.seeds.len()).unzip();
                let bytes = bytes.into_iter().max().unwrap_or(0);
                Row::new(pair.name.clone(), pair.kind(), setting.volume.live_blocks, bytes, runs)
            });
            let mut table = Table {
                volume: setting.volume.name.clone(),
                blocks: setting.volume.blocks,
                live_blocks: setting.volume.live_blocks,
                segment_blocks: setting.segment_blocks,
                fullness: fullness.to_string(),
                heads: self.heads,
                warm_blocks: setting.volume.warm,
                scored_blocks: setting.volume.writes,
                rows: rows.collect(),
            };
            table.conclude();
            table
        });
        Report { tables: tables.collect() }
    }
}

impl Job<'_> {
    /// The run, and what the policies remembered at its end, in bytes.
    fn run(&self, models: &Models, passed: &(impl Fn(u64) + Sync)) -> (Run, usize) {
        let Setting { ref volume, geometry, segment_blocks, ref seeds, ref futures } = *self.setting;
        let seed = seeds[self.seed_at];
        let future = || Arc::clone(futures[self.seed_at].get_or_init(|| volume.future(seed)));
        let around = Surroundings { models, segment_blocks, seed, future: &future };
        let (mut victim, mut placement) = self.pair.make(&around);
        let mut load = volume.load(seed);
        let (victim, placement) = (victim.as_mut(), placement.as_mut());
        let course = Course { warm: volume.warm, writes: volume.writes, each_block: self.each_block };
        let measured = sim::measure(geometry, load.as_mut(), placement, victim, course, &mut |blocks| passed(blocks));
        let bytes = if self.pair.kind() == Kind::Oracle { 0 } else { victim.bytes() + placement.bytes() };
        (Run::new(seed, measured), bytes)
    }
}
