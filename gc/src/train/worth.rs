//! Training of a victim model: what cleaning a segment is worth.
//!
//! PLACEHOLDER

use super::fit::{FitOptions, fit};
use super::mlp::Mlp;
use super::onnx::{ModelError, ModelInfo, ModelKind};
use super::suite::{Scene, training_scenes};
use crate::features::{CONTRACT, VICTIM, VictimFeature, VictimRow, select};
use crate::index::UtilizationIndex;
use crate::placement::Placement;
use crate::segment::SegmentFacts;
use crate::sim::rng::Rng;
use crate::sim::{Fate, FateRecorder, Sample, Simulator};
use crate::victim::{CANDIDATES_PER_BUCKET, CostAgeClass, Learned, VictimPolicy, WorthModel};
use crate::features::VictimContext;

pub const READS: [VictimFeature; 4] =
    [VictimFeature::Utilization, VictimFeature::Age, VictimFeature::Idle, VictimFeature::Class];

/// A victim model as the trainer writes it: a network and the columns of a row that it reads.
#[derive(Clone, Debug, PartialEq)]
pub struct WorthNet {
    mlp: Mlp,
    columns: Vec<usize>,
}

impl WorthNet {
    /// Of a network that reads [`READS`].
    pub fn new(mlp: Mlp) -> Self {
        Self { mlp, columns: READS.iter().map(|&f| f as usize).collect() }
    }

    /// Reads a model of the kind `victim`.
    pub fn from_onnx(bytes: &[u8]) -> Result<Self, ModelError> {
        let (mlp, info) = Mlp::from_onnx(bytes)?;
        if info.kind != ModelKind::Victim {
            return Err(ModelError::Unsupported("it is not for victims"));
        }
        let columns = select(&CONTRACT.victim, info.features.iter().map(String::as_str))
            .map_err(|_| ModelError::Unsupported("it wants a feature that there is not"))?;
        Ok(Self { mlp, columns })
    }
}

impl WorthModel for WorthNet {
    fn worth(&mut self, row: &VictimRow) -> f32 {
        let mut seen = VictimRow::default();
        seen.iter_mut().zip(&self.columns).for_each(|(x, &column)| *x = row[column]);
        self.mlp.predict(&seen[..self.columns.len()])
    }
}

/// Takes any candidate at random once in a while, so that segments are seen that a good policy would not leave behind.
struct Exploring<V> {
    policy: V,
    rng: Rng,
    share: f64,
}

impl<V: VictimPolicy> VictimPolicy for Exploring<V> {
    fn name(&self) -> &'static str {
        "exploring"
    }

    fn tell(&mut self, volume: &VictimContext) {
        self.policy.tell(volume);
    }

    fn score(&self, s: &SegmentFacts, now: u64) -> f64 {
        self.policy.score(s, now)
    }

    fn choose(&mut self, index: &UtilizationIndex, now: u64) -> Option<SegmentFacts> {
        let chosen = self.policy.choose(index, now);
        if !self.rng.chance(self.share) {
            return chosen;
        }
        let n = index.candidates(CANDIDATES_PER_BUCKET).count() as u32;
        // The fuller half costs much and teaches little.
        index.candidates(CANDIDATES_PER_BUCKET).nth(self.rng.below(n / 2) as usize).or(chosen)
    }
}

/// How much to record and to fit.
#[derive(Clone, Copy, Debug)]
pub struct WorthOptions {
    pub seed: u64,
    /// Blocks of each simulated volume.
    pub blocks: u32,
    /// Over which deaths are counted, in user-written blocks as a share of the live ones.
    pub horizon: f64,
    /// Samples of each scene, roughly, per volume write of recording.
    pub per_decision: f64,
    pub fit: FitOptions,
}

impl WorthOptions {
    /// What the shipped model was made with.
    pub fn shipped(seed: u64) -> Self {
        let fit = FitOptions { hidden: [16, 8], epochs: 10, batch: 128, rate: 3e-3 };
        Self { seed, blocks: 24_576, horizon: 0.25, per_decision: 2.0, fit }
    }
}

/// Share of the victims that are taken at random while recording.
const EXPLORED: f64 = 0.03;

fn record(
    scene: &Scene,
    options: &WorthOptions,
    placement: &mut dyn Placement,
    policy: impl VictimPolicy,
    seed: u64,
) -> Vec<Fate> {
    let (mut load, blocks) = (scene.load(seed), u64::from(scene.blocks));
    let mut sim = Simulator::new(scene.geometry, scene.blocks);
    let mut victims = Exploring { policy, rng: Rng::new(seed), share: EXPLORED };
    sim.drive(load.as_mut(), placement, &mut victims, None, blocks * 3);
    sim.record_fates(
        FateRecorder::new(options.horizon, options.per_decision, seed).knowing(load.mean_intervals()),
    );
    sim.drive(load.as_mut(), placement, &mut victims, None, blocks * 2);
    sim.take_fates().map(FateRecorder::finish).unwrap_or_default()
}

/// Records fates in all training scenes.
pub fn collect_fates<V: VictimPolicy>(
    options: &WorthOptions,
    placement: &mut dyn FnMut() -> Box<dyn Placement>,
    policy: &mut dyn FnMut() -> V,
) -> Vec<Fate> {
    let scenes = training_scenes(options.blocks);
    let numbered = scenes.iter().zip(options.seed.wrapping_mul(1000)..);
    numbered.flat_map(|(scene, seed)| record(scene, options, placement().as_mut(), policy(), seed)).collect()
}

/// The sample that a fate makes.
pub fn sample(fate: &Fate, label: f32) -> Sample<{ READS.len() }> {
    Sample { row: READS.map(|f| fate.row[f as usize]), label }
}
