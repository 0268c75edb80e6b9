//! Damages every block of small images in memory, one after the other and several at once: found, named, contained, never worse afterwards.
//!
//! The trial itself is `gleanfs::trial::corruption`, of which the tests of `fs` run a sample; this runs all of it, seed by seed.

use anyhow::{Result, bail, ensure};
use gleanfs::cli::bench::process::check_interrupt;
use gleanfs::cli::progress::Bar;
use gleanfs::trial::corruption::image::Shape;
use gleanfs::trial::corruption::tally::{Count, Tally};
use gleanfs::trial::corruption::{Plan, run as run_plan};

use crate::table;

/// What to run.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// First seed
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Images of each shape, with seeds in a row
    #[arg(long, default_value_t = 1)]
    pub seeds: u64,
    /// Operations of the workload that makes an image
    #[arg(long, default_value_t = 200)]
    pub operations: usize,
    /// Run one in so many of the cases of single blocks
    #[arg(long, default_value_t = 1)]
    pub one_in: u64,
    /// Cases of 2 to 64 blocks at once for each image
    #[arg(long, default_value_t = 500)]
    pub several: u64,
    /// Only this shape: clean, dirty, extended, zoned, zoneddirty
    #[arg(long, value_parser = shape_by_name)]
    pub shape: Option<Shape>,
    /// Only the case of this number
    #[arg(long)]
    pub case: Option<u64>,
    /// Print the summary as JSON
    #[arg(long)]
    pub json: bool,
}

fn name(shape: Shape) -> String {
    format!("{shape:?}").to_lowercase()
}

fn shape_by_name(wanted: &str) -> Result<Shape, String> {
    let found = Shape::ALL.into_iter().find(|shape| name(*shape) == wanted);
    found.ok_or_else(|| format!("the shapes are {}", Shape::ALL.map(name).join(", ")))
}

/// Runs everything; the first failure ends it with the command that runs that case alone.
pub fn run(options: &Options) -> Result<()> {
    ensure!(options.one_in > 0, "--one-in begins at 1");
    let mut tally = Tally::default();
    for seed in options.seed..options.seed + options.seeds {
        for shape in Shape::ALL.into_iter().filter(|shape| options.shape.is_none_or(|only| only == *shape)) {
            one_image(options, shape, seed, &mut tally)?;
            check_interrupt()?;
        }
    }
    if options.json {
        println!("{}", serde_json::to_string_pretty(&tally)?);
    } else {
        print(&tally);
    }
    Ok(())
}

fn one_image(options: &Options, shape: Shape, seed: u64, tally: &mut Tally) -> Result<()> {
    let Options { operations, one_in, several, case: only, .. } = *options;
    let plan = Plan { shape, seed, operations, one_in, several, only };
    let bar = Bar::live(0, &name(shape));
    let progress = &mut |done, all| {
        bar.length(all);
        bar.at(done);
        bar.message(format!("seed {seed}, case {done} of {all}"));
    };
    let Err(why) = run_plan(&plan, tally, progress) else { return Ok(()) };
    drop(bar);
    let case = why.split("case ").nth(1).and_then(|rest| rest.split(':').next());
    let case = case.map_or(String::new(), |case| format!(" --case {case}"));
    let shape = name(shape);
    bail!(
        "{why}\nreplay with: cargo run -p xtests --release --bin corruption -- \
         --shape {shape} --seed {seed} --operations {operations} --several {several}{case}"
    )
}

fn print(tally: &Tally) {
    let Tally { images, blocks, cases, damaged, several, .. } = tally;
    println!(
        "{images} images of {blocks} blocks: {cases} cases, {damaged} blocks damaged; {several} of several at once"
    );
    let of = |counts: &mut dyn Iterator<Item = (String, u64)>| {
        counts.map(|(name, count)| format!("{count} {name}")).collect::<Vec<_>>().join(", ")
    };
    println!("damage: {}", of(&mut tally.by_damage.iter().map(|(name, count)| ((*name).to_owned(), *count))));
    println!("findings: {}", of(&mut tally.findings.iter().map(|(name, count)| (name.clone(), *count))));
    let row = |(name, count): (&&str, &Count)| {
        let numbers = [
            count.cases,
            count.found,
            count.refused,
            count.with_holes,
            count.paths_with_holes,
            count.paths_whole,
            count.earlier,
            count.drained,
            count.latched,
        ];
        std::iter::once((*name).to_owned()).chain(numbers.map(|n| n.to_string())).collect()
    };
    let rows: Vec<Vec<String>> = tally.by_use.iter().map(row).collect();
    let heads =
        ["damaged", "cases", "found", "refused", "EIO", "paths EIO", "paths whole", "earlier", "drained", "latched"];
    table::print(&heads, &rows);
}
