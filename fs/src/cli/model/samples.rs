//! `gleanfs model samples`: what a model is fitted to, as a table for other tools.
//!
//! The loads, logs and policies are those of `gleanfs sim`. A row is what a model would be asked, and beside it stands what became of the block or
//! segment. A volume's rows come in the order of time; of more rows than are wanted a random part is kept.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use clap::builder::{PossibleValuesParser, TypedValueParser};
use flate2::Compression;
use flate2::write::GzEncoder;
use gleanfs_gc::advisor::ModelKind;
use gleanfs_gc::features::{CONTRACT, Feature};
use gleanfs_gc::placement::Placement;
use gleanfs_gc::sim::load::Load;
use gleanfs_gc::sim::rng::Rng;
use gleanfs_gc::sim::{self, FateRecorder, Recorder, Simulator};
use gleanfs_gc::train::{Exploring, WorthOptions, worth_label};
use gleanfs_gc::victim::VictimPolicy;

use super::super::failure::{About, Failure, Result};
use super::super::progress::Bar;
use super::super::sim::models::{ModelArgs, Models};
use super::super::sim::policy::{Pair, Surroundings};
use super::super::sim::sources::{Setting, Sources};
use super::super::sim::threads;
use super::super::size::Share;

/// Steps into which a recording is cut, for whoever watches it.
const STEPS: u64 = 100;

/// Record what models see and what becomes of it, as CSV.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Columns: the features by name, then label, censored, volume and clock (user-written blocks before the row).
Labels are those of models/README.md. A row is censored if its block still lived at the end: its label is then
only twice the age that was reached.

Examples:
  gleanfs model samples --load files,zipf:1,tenants:1/60/30 rows.csv.gz
  gleanfs model samples --trace disk.csv.gz --max 1000000 rows.csv
  gleanfs model samples --load files --policy cost-age-class/learned --model mine.onnx again.csv.gz
  gleanfs model samples --load files,zipf:1 --kind victim victims.csv")]
pub struct Args {
    /// File to write, compressed if its name ends in .gz; one that exists is replaced
    file: PathBuf,
    #[command(flatten)]
    sources: Sources,
    /// Rows for this kind of model
    #[arg(long, default_value = ModelKind::Placement.name(), value_parser = kinds())]
    kind: ModelKind,
    /// Rows at most, shared out among the volumes
    #[arg(long, default_value_t = 200_000, value_parser = clap::value_parser!(u32).range(1..=50_000_000))]
    max: u32,
    /// Of generated loads and of the choice of rows
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Share of the writes, the last ones, that add no rows and only show what becomes of those before
    #[arg(long, value_name = "SHARE", default_value = "25%")]
    watched: Share,
    /// Label with what a generated load lets expect of a block, where it knows, and not with what came of it
    #[arg(long)]
    expected: bool,
    /// Pair of policies that is at work meanwhile
    #[arg(long, value_name = "PAIR", default_value = "cost-age-class/ewma")]
    policy: Pair,
    #[command(flatten)]
    models: ModelArgs,
    /// Volumes at a time [default: one for each core]
    #[arg(long)]
    jobs: Option<NonZeroUsize>,
}

fn kinds() -> impl TypedValueParser<Value = ModelKind> {
    let names = [ModelKind::Placement, ModelKind::Victim].map(ModelKind::name);
    PossibleValuesParser::new(names).map(|name| ModelKind::from_name(&name).unwrap_or(ModelKind::Placement))
}

/// A row of the table without the volume's name.
struct Row {
    features: Vec<f32>,
    label: f32,
    censored: bool,
    clock: u64,
}

pub fn run(arguments: &Args) -> Result<()> {
    let loaded = arguments.models.load()?;
    let settings = arguments.sources.settings(1.0)?;
    if settings.iter().any(|s| arguments.watched.of(s.volume.total()) == s.volume.total()) {
        return Err(Failure::new("--watched: some of the writes must add rows"));
    }
    // Before the work, so that a name that cannot be written is told at once.
    let file = File::create(&arguments.file).about(arguments.file.display())?;
    let quota = (arguments.max as usize / settings.len()).max(1);
    let total = settings.iter().map(|setting| setting.volume.total()).sum();
    let (bar, done) = (Bar::steps(total, "recording"), AtomicU64::new(0));
    let passed = |blocks| bar.at(done.fetch_add(blocks, Ordering::Relaxed) + blocks);
    let recorded = sim::on_threads(&settings, threads(arguments.jobs), |setting| {
        let recording = Recording { arguments, setting, quota, passed: &passed };
        let rows = match arguments.kind {
            ModelKind::Placement => recording.placement(&loaded.models),
            ModelKind::Victim => recording.victims(&loaded.models),
        };
        thinned(rows, quota, arguments.seed)
    });
    drop(bar);
    loaded.demand_answers()?;
    let named: Vec<(&str, Vec<Row>)> =
        settings.iter().map(|setting| setting.volume.name.as_str()).zip(recorded).collect();
    write(file, &arguments.file, arguments.features(), &named).about(arguments.file.display())?;
    let count = |of: fn(&Row) -> bool| named.iter().flat_map(|(_, rows)| rows).filter(|row| of(row)).count();
    let (rows, censored) = (count(|_| true), count(|row| row.censored));
    println!("{}: {rows} rows of {} volumes, {censored} of them censored", arguments.file.display(), named.len());
    Ok(())
}

impl Args {
    fn features(&self) -> &'static [Feature] {
        match self.kind {
            ModelKind::Placement => CONTRACT.placement.features,
            ModelKind::Victim => CONTRACT.victim.features,
        }
    }
}

/// A volume on its way.
struct Recording<'a, P> {
    arguments: &'a Args,
    setting: &'a Setting,
    /// Rows wanted.
    quota: usize,
    passed: &'a P,
}

/// What is at work in a simulation.
struct Works {
    sim: Simulator,
    load: Box<dyn Load>,
    victim: Box<dyn VictimPolicy>,
    placement: Box<dyn Placement>,
}

impl<P: Fn(u64)> Recording<'_, P> {
    fn placement(&self, models: &Models) -> Vec<Row> {
        let (mut works, [adding, watching]) = (self.works(models), self.writes());
        // Moves come on top of writes, so this is enough, and what is too much is thinned out.
        let share = (self.quota as f64 / adding as f64).min(1.0);
        let recorder = Recorder::new(self.setting.volume.blocks, share, u32::MAX as usize, self.arguments.seed);
        let mut recorder = recorder.knowing(self.expectations(&*works.load));
        self.drive(&mut works, adding, Some(&mut recorder));
        recorder.set_recording(false);
        self.drive(&mut works, watching, Some(&mut recorder));
        let seen = recorder.observations(works.sim.now(), works.sim.live_blocks());
        seen.map(|seen| Row {
            features: seen.sample.row.to_vec(),
            label: seen.sample.label,
            censored: seen.censored,
            clock: seen.clock,
        })
        .collect()
    }

    fn victims(&self, models: &Models) -> Vec<Row> {
        let (mut works, [adding, watching]) = (self.works(models), self.writes());
        works.victim = Box::new(Exploring::new(works.victim, self.arguments.seed));
        // A decision frees less than a segment, so there are more of them than segments are written.
        let decisions = adding as f64 / f64::from(self.setting.segment_blocks);
        let horizon = WorthOptions::shipped(self.arguments.seed).horizon;
        let recorder = FateRecorder::new(horizon, self.quota as f64 / decisions, self.arguments.seed);
        works.sim.record_fates(recorder.knowing(self.expectations(&*works.load)));
        self.drive(&mut works, adding + watching, None);
        let fates = works.sim.take_fates().map(FateRecorder::finish).unwrap_or_default();
        let fates = fates.iter().filter(|fate| fate.clock < adding);
        fates
            .map(|fate| Row {
                features: fate.row.to_vec(),
                label: worth_label(fate),
                censored: false,
                clock: fate.clock,
            })
            .collect()
    }

    /// Blocks written while rows are added, and afterwards.
    fn writes(&self) -> [u64; 2] {
        let total = self.setting.volume.total();
        let watching = self.arguments.watched.of(total);
        [total - watching, watching]
    }

    fn works(&self, models: &Models) -> Works {
        let Setting { ref volume, segment_blocks, geometry } = *self.setting;
        let seed = self.arguments.seed;
        let around = Surroundings { models, segment_blocks, seed, future: &|| volume.future(seed) };
        let (victim, placement) = self.arguments.policy.make(&around);
        let sim = Simulator::new(geometry, volume.blocks);
        let sim = if self.arguments.sources.each_block { sim.placing_each_block() } else { sim };
        Works { sim, load: volume.load(seed), victim, placement }
    }

    fn expectations(&self, load: &dyn Load) -> Vec<f64> {
        if self.arguments.expected { load.mean_intervals() } else { Vec::new() }
    }

    fn drive(&self, works: &mut Works, writes: u64, mut recorder: Option<&mut Recorder>) {
        let Works { sim, load, victim, placement } = works;
        let begun = sim.now();
        for step in 1..=STEPS {
            let stretch = begun + writes * step / STEPS - sim.now();
            sim.drive(load.as_mut(), placement.as_mut(), victim.as_mut(), recorder.as_deref_mut(), stretch);
            (self.passed)(stretch);
        }
    }
}

/// So many of the rows, each as likely as any other, in their order (selection sampling: Knuth, TAOCP 2, 3.4.2 S).
fn thinned(rows: Vec<Row>, wanted: usize, seed: u64) -> Vec<Row> {
    let (mut rng, mut wanted, mut left) = (Rng::new(seed), wanted, rows.len());
    let keep = |_: &Row| {
        let kept = rng.chance(wanted as f64 / left as f64);
        left -= 1;
        wanted -= usize::from(kept && wanted > 0);
        kept
    };
    rows.into_iter().filter(keep).collect()
}

fn write(file: File, path: &Path, features: &[Feature], volumes: &[(&str, Vec<Row>)]) -> io::Result<()> {
    if path.extension().is_some_and(|extension| extension == "gz") {
        let mut compressed = BufWriter::new(GzEncoder::new(file, Compression::default()));
        table(&mut compressed, features, volumes)?;
        compressed.into_inner()?.finish()?;
        Ok(())
    } else {
        let mut plain = BufWriter::new(file);
        table(&mut plain, features, volumes)?;
        plain.flush()
    }
}

fn table(out: &mut impl Write, features: &[Feature], volumes: &[(&str, Vec<Row>)]) -> io::Result<()> {
    for feature in features {
        write!(out, "{},", feature.name)?;
    }
    writeln!(out, "label,censored,volume,clock")?;
    for (name, rows) in volumes {
        let name = quoted(name);
        for row in rows {
            for value in &row.features {
                write!(out, "{value},")?;
            }
            writeln!(out, "{},{},{name},{}", row.label, u8::from(row.censored), row.clock)?;
        }
    }
    Ok(())
}

/// A field of a CSV file (RFC 4180).
fn quoted(field: &str) -> String {
    if field.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", field.replace('"', "\"\""))
    } else {
        field.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_random_part_is_kept_in_its_order() {
        let rows = || (0..1000).map(|clock| Row { features: Vec::new(), label: 0.0, censored: false, clock }).collect();
        let clocks = |seed| thinned(rows(), 100, seed).iter().map(|row| row.clock).collect::<Vec<_>>();
        let kept = clocks(1);
        assert!(kept.len() == 100 && kept.is_sorted() && kept != clocks(2) && kept == clocks(1));
        let mean = kept.iter().sum::<u64>() as f64 / 100.0;
        assert!((mean - 500.0).abs() < 100.0, "{mean}");
        assert_eq!(thinned(rows(), 2000, 1).len(), 1000);
    }

    #[test]
    fn names_are_fields() {
        assert_eq!([quoted("zipf:1"), quoted("a,\"b\".csv")], ["zipf:1", "\"a,\"\"b\"\".csv\""]);
    }
}
