//! Training of a first placement model: seeded and deterministic, from simulated loads, in plain Rust.
//!
//! Runs loads through the simulator, records what a placement saw and how long the blocks then lived, fits a small network
//! to the logarithm of the residual lifetime, and writes it as ONNX. Two rounds: the second records under the placement
//! that the first one learned, because what the cleaner meets depends on where it put things.

mod fit;
mod mlp;
mod onnx;
mod protobuf;
mod suite;

pub use fit::{FitOptions, fit};
pub use mlp::Mlp;
pub use onnx::{ModelError, ModelInfo, ModelKind};
pub use suite::{Scene, evaluation_scenes, training_scenes};

use crate::features::{CONTRACT, PLACEMENT};
use crate::placement::{Ewma, Learned, Placement};
use crate::sim::{Recorder, Sample, Simulator, rng::Rng};
use crate::victim::CostAge;

/// How much to record and to fit.
#[derive(Clone, Copy, Debug)]
pub struct TrainOptions {
    pub seed: u64,
    /// Blocks of each simulated volume.
    pub blocks: u32,
    /// Samples recorded of each scene and round.
    pub samples: usize,
    pub fit: FitOptions,
}

impl TrainOptions {
    /// What the shipped model was made with.
    pub fn shipped(seed: u64) -> Self {
        Self { seed, blocks: 32_768, samples: 12_000, fit: FitOptions { epochs: 24, ..FitOptions::default() } }
    }
}

/// Trains a placement model and answers it as ONNX.
pub fn train_placement(options: &TrainOptions, name: &str) -> Vec<u8> {
    let mlp = train_mlp(options);
    onnx::encode(&mlp, &ModelInfo::placement(name))
}

/// The same, as a network.
pub fn train_mlp(options: &TrainOptions) -> Mlp {
    let mut samples = collect(options, &mut || Box::new(Ewma));
    let first = fit(&samples, &options.fit, options.seed);
    samples.extend(collect(options, &mut || Box::new(Learned::new(first.clone()))));
    fit(&samples, &options.fit, options.seed)
}

/// Records samples of all training scenes under a placement.
pub fn collect(options: &TrainOptions, placement: &mut dyn FnMut() -> Box<dyn Placement>) -> Vec<Sample> {
    let mut samples = Vec::new();
    for (n, scene) in training_scenes(options.blocks).iter().enumerate() {
        let seed = options.seed.wrapping_mul(1000).wrapping_add(n as u64);
        samples.extend(record(scene, placement().as_mut(), options.samples, seed));
    }
    samples
}

/// Fills the volume, lets it settle, records for as long as it has blocks twice over, then watches for three times as long.
fn record(scene: &Scene, placement: &mut dyn Placement, samples: usize, seed: u64) -> Vec<Sample> {
    let (mut load, blocks) = (scene.load(seed), u64::from(scene.blocks));
    let mut sim = Simulator::new(scene.geometry, scene.blocks);
    // About as many moves as user writes are expected; the recorder stops at its limit.
    let mut recorder = Recorder::new(scene.blocks, samples as f64 / (4 * blocks) as f64, samples, seed);
    recorder.set_recording(false);
    sim.drive(load.as_mut(), placement, &mut CostAge, Some(&mut recorder), blocks * 3);
    recorder.set_recording(true);
    sim.drive(load.as_mut(), placement, &mut CostAge, Some(&mut recorder), blocks * 2);
    recorder.set_recording(false);
    sim.drive(load.as_mut(), placement, &mut CostAge, Some(&mut recorder), blocks * 3);
    recorder.finish(sim.now(), sim.live_blocks())
}

/// Copies of a model that know nothing, for control experiments: what such a one gains, no model has earned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Control {
    /// Answers the same for every row.
    Constant,
    /// Fitted to labels dealt to the wrong rows.
    ShuffledLabels,
    /// The same numbers in every weight matrix, its rows in another order.
    ShuffledRows,
}

/// Makes a control of a network; `samples` are needed for [`Control::ShuffledLabels`] alone.
pub fn control(kind: Control, mlp: &Mlp, samples: &[Sample], options: &FitOptions, seed: u64) -> Mlp {
    let mut rng = Rng::new(seed);
    match kind {
        Control::Constant => mlp.constant(),
        Control::ShuffledRows => mlp.with_shuffled_rows(&mut rng),
        Control::ShuffledLabels => {
            let mut labels: Vec<f32> = samples.iter().map(|s| s.label).collect();
            rng.shuffle(&mut labels);
            let dealt: Vec<Sample> = samples.iter().zip(labels).map(|(s, label)| Sample { label, ..*s }).collect();
            fit(&dealt, options, seed)
        }
    }
}

/// All features of placement, which is what the trainer uses.
fn all_placement_features() -> Vec<String> {
    debug_assert_eq!(CONTRACT.placement.features, &PLACEMENT);
    PLACEMENT.iter().map(|f| f.name.to_owned()).collect()
}

impl ModelInfo {
    /// A placement model that takes all features in their order.
    pub fn placement(name: &str) -> Self {
        Self { kind: ModelKind::Placement, features: all_placement_features(), name: name.to_owned() }
    }
}
