//! `gleanfs sim`: what policies would make of a load, without a device: generated loads and recorded ones, many pairs side by side on all cores.
//!
//! The policies are those of the mount, under its limits: tables of constant size, as many log heads as a mount has.

pub mod models;
mod plot;
pub mod policy;
mod report;
pub mod sources;
mod volume;

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use gleanfs_gc::sim::oracle::Future;
use gleanfs_gc::sim::{self, Course, trace};

use super::failure::{About, Failure, Result};
use super::progress::Bar;
use super::size::Share;
use models::{ModelArgs, Models};
use policy::{Kind, Pair, Surroundings};
use report::{Report, Row, Run, Table};
use sources::{Setting, Sources};
use volume::Fullness;

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
    #[command(flatten)]
    sources: Sources,
    /// Pairs to compare
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = policy::DEFAULTS, hide_default_value = true)]
    policy: Vec<Pair>,
    #[command(flatten)]
    models: ModelArgs,
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

/// A volume, its log, and the runs on them.
struct Scene {
    setting: Setting,
    seeds: Vec<u64>,
    /// By seed; made when an oracle first asks.
    futures: Vec<OnceLock<Arc<Future>>>,
}

/// One run.
struct Job<'a> {
    scene: &'a Scene,
    pair: &'a Pair,
    seed_at: usize,
    each_block: bool,
}

pub fn run(arguments: &Args) -> Result<()> {
    let fullness = arguments.sources.fullness()?;
    let loaded = arguments.models.load()?;
    let scenes = arguments.scenes()?;
    let jobs: Vec<Job<'_>> = scenes
        .iter()
        .flat_map(|scene| arguments.policy.iter().map(move |pair| (scene, pair)))
        .flat_map(|(scene, pair)| (0..scene.seeds.len()).map(move |seed_at| (scene, pair, seed_at)))
        .map(|(scene, pair, seed_at)| Job { scene, pair, seed_at, each_block: arguments.sources.each_block })
        .collect();
    let total = jobs.iter().map(|job| job.scene.setting.volume.total()).sum();
    let (bar, done) = (Bar::steps(total, "simulating"), AtomicU64::new(0));
    let passed = |blocks| bar.at(done.fetch_add(blocks, Ordering::Relaxed) + blocks);
    let runs = sim::on_threads(&jobs, threads(arguments.jobs), |job| job.run(&loaded.models, &passed));
    drop(bar);
    loaded.demand_answers()?;
    let report = arguments.report(&scenes, fullness, runs);
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

/// How many runs go on at a time.
pub fn threads(jobs: Option<NonZeroUsize>) -> NonZeroUsize {
    jobs.or_else(|| std::thread::available_parallelism().ok()).unwrap_or(NonZeroUsize::MIN)
}

impl Args {
    fn scenes(&self) -> Result<Vec<Scene>> {
        let scored = f64::from(self.score.hundredths()) / 10_000.0;
        if scored == 0.0 {
            return Err(Failure::new("--score: some of the writes must be scored"));
        }
        let scene = |setting: Setting| {
            let seeds = if setting.volume.is_random() { self.seeds.clone() } else { vec![1] };
            let futures = seeds.iter().map(|_| OnceLock::new()).collect();
            Scene { setting, seeds, futures }
        };
        Ok(self.sources.settings(scored)?.into_iter().map(scene).collect())
    }

    /// Runs come in the order of scenes, pairs and seeds.
    fn report(&self, scenes: &[Scene], fullness: Fullness, runs: Vec<(Run, usize)>) -> Report {
        let mut runs = runs.into_iter();
        let tables = scenes.iter().map(|Scene { setting, seeds, .. }| {
            let rows = self.policy.iter().map(|pair| {
                let (runs, bytes): (Vec<Run>, Vec<usize>) = runs.by_ref().take(seeds.len()).unzip();
                let bytes = bytes.into_iter().max().unwrap_or(0);
                Row::new(pair.name.clone(), pair.kind(), setting.volume.live_blocks, bytes, runs)
            });
            let mut table = Table {
                volume: setting.volume.name.clone(),
                blocks: setting.volume.blocks,
                live_blocks: setting.volume.live_blocks,
                segment_blocks: setting.segment_blocks,
                fullness: fullness.to_string(),
                heads: self.sources.heads,
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
        let Setting { ref volume, geometry, segment_blocks } = self.scene.setting;
        let seed = self.scene.seeds[self.seed_at];
        let future = || Arc::clone(self.scene.futures[self.seed_at].get_or_init(|| volume.future(seed)));
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
