//! One unit of work: a seed of a kind, or a batch of workloads.

use std::fmt::Display;
use std::time::{Duration, Instant};

use clap::ValueEnum;
use gleanfs::trial::Found;
use gleanfs::trial::ace::Ace;
use gleanfs::trial::chaos::{self, Injected};
use gleanfs::trial::crash::CrashTrial;
use gleanfs::trial::model::ModelTrial;
use gleanfs::trial::on_memory::OnMemory;

use super::Options;
use super::counts::Counts;
use super::plan::{Batch, Unit};
use super::shapes::{self, Shape};

/// How every command begins that replays something.
const COMMAND: &str = "cargo run -p xtests --release --bin campaign --";
/// Operations of a list.
const CRASH_OPERATIONS: usize = 120;
const MODEL_OPERATIONS: usize = 600;
const CHAOS_OPERATIONS: usize = 300;
/// Most cuts of a list.
const CUTS_MAX: u64 = 80;
/// The log may cut a write after any block: what room a chunk has left decides.
const RECORD_BLOCKS: u64 = 1;

/// Kinds of trials.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// Random lists with the power cut at device writes
    Crash,
    /// Random lists, compared with the reference answer by answer
    Model,
    /// Everything at once: failures of the device, flipped bits, power cuts, an advisor that misbehaves
    Chaos,
    /// All short workloads over a small tree, with the power cut after each
    Ace,
}

impl Kind {
    pub const ALL: [Self; 4] = [Self::Crash, Self::Model, Self::Chaos, Self::Ace];

    fn word(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }
}

/// What came of a unit.
pub(super) struct Done {
    pub counts: Counts,
    pub took: Duration,
    pub report: Option<String>,
}

/// Runs units.
pub(super) struct Worker<'a> {
    pub options: &'a Options,
}

impl Worker<'_> {
    pub(super) fn run(&self, unit: &Unit) -> Done {
        let begun = Instant::now();
        let mut counts = Counts { rounds: 1, ..Counts::default() };
        let outcome = match unit {
            Unit::Seed(kind, seed) => self.seed(*kind, *seed, &mut counts),
            Unit::Workloads(batch) => self.workloads(batch, &mut counts),
        };
        counts.failures += u64::from(outcome.is_err());
        Done { counts, took: begun.elapsed(), report: outcome.err() }
    }

    fn seed(&self, kind: Kind, seed: u64, counts: &mut Counts) -> Result<(), String> {
        let shape = shapes::draw(seed, kind);
        let shape = Shape { subject: self.told_to_lie(shape.subject), ..shape };
        let replay = |more: String| self.replay(format!("--only {} --seed {seed} --seeds 1{more}", kind.word()));
        match kind {
            Kind::Model => self.model(shape, seed, counts).map_err(|found| found.report(&replay(String::new()))),
            Kind::Chaos => self.chaos(shape, seed, counts).map_err(|found| found.report(&replay(String::new()))),
            _ => self.crash(shape, seed, counts).map_err(|found| {
                let cut = found.cut.map_or_else(String::new, |cut| format!(" --cut {cut}"));
                found.report(&replay(cut))
            }),
        }
    }

    fn model(&self, shape: Shape, seed: u64, counts: &mut Counts) -> Result<(), Box<Found>> {
        let trial = ModelTrial { command: COMMAND, mix: shape.mix, seeds: 1, operations: MODEL_OPERATIONS };
        counts.model_lists += 1;
        trial.try_seed(&shape.subject, seed, MODEL_OPERATIONS)
    }

    fn crash(&self, shape: Shape, seed: u64, counts: &mut Counts) -> Result<(), Box<Found>> {
        let trial = CrashTrial {
            command: COMMAND,
            mix: shape.mix,
            seeds: 1,
            operations: CRASH_OPERATIONS,
            cuts_max: CUTS_MAX,
            record_blocks: RECORD_BLOCKS,
        };
        counts.crash_points += trial.try_seed(&shape.subject, seed, CRASH_OPERATIONS, self.options.cut)?;
        Ok(())
    }

    fn chaos(&self, shape: Shape, seed: u64, counts: &mut Counts) -> Result<(), Box<chaos::Found>> {
        let Injected { cuts, faults, flips } = chaos::try_seed(shape.subject, &shape.mix, seed, CHAOS_OPERATIONS)?;
        counts.chaos_schedules += 1;
        counts.crash_points += cuts;
        counts.faults += faults;
        counts.flips += flips;
        Ok(())
    }

    fn workloads(&self, batch: &Batch, counts: &mut Counts) -> Result<(), String> {
        let subject = self.told_to_lie(OnMemory::small());
        let ace = Ace::new(&subject, RECORD_BLOCKS)?;
        let outcome = ace.run(&batch.workloads, batch.first..batch.workloads.count(), batch.stride);
        let crashes = outcome.map_err(|found| {
            let place = format!("--only ace --length {} --workload {}", batch.length, found.workload);
            found.report(&self.replay(place))
        })?;
        counts.ace_workloads += batch.count();
        counts.crash_points += crashes;
        Ok(())
    }

    fn told_to_lie(&self, subject: OnMemory) -> OnMemory {
        OnMemory { flushes_lost: self.options.lie, ..subject }
    }

    fn replay(&self, arguments: impl Display) -> String {
        format!("{COMMAND} {arguments}{}", if self.options.lie { " --lie" } else { "" })
    }
}
