//! Training of first models, of placement here and of victims in `worth`: seeded and deterministic, from simulated loads, in plain Rust.
//!
//! Runs loads through the simulator, records what a placement saw and how long the blocks then lived, fits a small network
//! to the logarithm of the residual lifetime, and writes it as ONNX. Two rounds: the second records under the placement
//! that the first one learned, because what the cleaner meets depends on where it put things.

mod control;
mod fit;
mod lifetime;
mod mlp;
mod onnx;
mod protobuf;
mod suite;
mod trees;
mod worth;

pub use control::{ShuffledRows, constant_onnx, shuffled_labels, shuffled_rows_onnx};
pub use fit::{FitOptions, fit};
pub use lifetime::LifetimeNet;
pub use mlp::Mlp;
pub use onnx::{ModelError, ModelInfo, ModelKind};
pub use suite::{Scene, evaluation_scenes, training_scenes};
pub use trees::{Node, Split, TreeOptions, Trees, fit_trees};
pub use worth::{Exploring, READS, WorthNet, WorthOptions, WorthSample, collect_worth, train_victim, worth_label};

use crate::features::{PLACEMENT, PlacementFeature};
use crate::placement::{Ewma, Learned, Placement};
use crate::sim::{Recorder, Sample, Simulator};
use crate::victim::CostAgeClass;

/// Networks read the first so many features of placement: those after them speak of kinds of files, of which simulated loads know next to nothing.
pub const NETWORK_FEATURES: usize = PlacementFeature::FileAge as usize + 1;

/// What a network of placement is fitted to.
pub type NetworkSample = Sample<NETWORK_FEATURES>;

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
        Self {
            seed,
            blocks: 24_576,
            samples: 36_000,
            fit: FitOptions { epochs: 14, batch: 128, ..FitOptions::default() },
        }
    }
}

/// Trains a placement model and answers it as ONNX.
pub fn train_placement(options: &TrainOptions, name: &str) -> Vec<u8> {
    let mlp = train_mlp(options);
    mlp.to_onnx(&ModelInfo::placement(name))
}

/// The same, as a network: the mean of two fits that began differently, because one alone is off by more than a model gains over a good rule.
pub fn train_mlp(options: &TrainOptions) -> Mlp {
    let mut samples = collect(options, &mut || Box::new(Ewma));
    let first = fit(&samples, &options.fit, options.seed);
    samples.extend(collect(options, &mut || Box::new(Learned::new(first.clone()))));
    let again = options.seed.wrapping_add(1000);
    std::thread::scope(|scope| {
        let other = scope.spawn(|| fit(&samples, &options.fit, again));
        let one = fit(&samples, &options.fit, options.seed);
        one.mean(&other.join().expect("a fit does not panic"))
    })
}

/// Records samples of all training scenes under a placement.
pub fn collect(options: &TrainOptions, placement: &mut dyn FnMut() -> Box<dyn Placement>) -> Vec<NetworkSample> {
    let mut samples = Vec::new();
    for (n, scene) in training_scenes(options.blocks).iter().enumerate() {
        let seed = options.seed.wrapping_mul(1000).wrapping_add(n as u64);
        samples.extend(record(scene, placement().as_mut(), options.samples, seed).iter().map(Sample::first));
    }
    samples
}

/// Parts of the filling, of which every fifth is recorded.
const FILL_PARTS: u64 = 20;

/// Records from the first block on until the volume was filled and overwritten twice, then watches for three times as long as it has blocks. A model must
/// know young volumes, where most blocks have no interval yet, and how a volume is filled: files that come and stay.
fn record(scene: &Scene, placement: &mut dyn Placement, samples: usize, seed: u64) -> Vec<Sample> {
    let (mut load, blocks) = (scene.load(seed), u64::from(scene.blocks));
    let mut sim = Simulator::new(scene.geometry, scene.blocks);
    // About half as many moves as user writes are expected; the recorder stops at its limit.
    let share = samples as f64 / (4 * blocks) as f64;
    let mut recorder = Recorder::new(scene.blocks, share, samples, seed).knowing(load.mean_intervals());
    // Of the filling, where all is new and alike, a part is enough.
    for part in 0..FILL_PARTS {
        recorder.set_recording(part % 5 == 0);
        sim.drive(load.as_mut(), placement, &mut CostAgeClass, Some(&mut recorder), blocks / FILL_PARTS);
    }
    recorder.set_recording(true);
    sim.drive(load.as_mut(), placement, &mut CostAgeClass, Some(&mut recorder), blocks * 2);
    recorder.set_recording(false);
    sim.drive(load.as_mut(), placement, &mut CostAgeClass, Some(&mut recorder), blocks * 3);
    recorder.finish(sim.now(), sim.live_blocks())
}

impl ModelInfo {
    /// A placement model that takes the features of networks in their order.
    pub fn placement(name: &str) -> Self {
        let features = PLACEMENT[..NETWORK_FEATURES].iter().map(|f| f.name.to_owned()).collect();
        Self { kind: ModelKind::Placement, features, name: name.to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{placement, sim, victim};

    const BLOCKS: u32 = 8192;

    fn wa(scene: &Scene, placement: &mut dyn Placement, selection: &str) -> f64 {
        let mut selection = victim::by_name(selection).expect("a known name");
        let n = u64::from(scene.blocks);
        sim::run(scene.geometry, scene.load(90_001).as_mut(), placement, selection.as_mut(), 10 * n, 5 * n).wa()
    }

    fn shipped() -> Mlp {
        let bytes = include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/../models/first.onnx"));
        Mlp::from_onnx(bytes).expect("the shipped model is one of ours").0
    }

    #[test]
    fn the_shipped_model_beats_greedy_and_its_controls_lose_the_gain() {
        let scenes = evaluation_scenes(BLOCKS);
        for name in ["zipf 0.99", "hot/cold 90/10", "files"] {
            let scene = scenes.iter().find(|s| s.name == name).expect("a known scene");
            let none = &mut placement::NoSeparation;
            let (greedy, cost_age) = (wa(scene, none, "greedy"), wa(scene, none, "cost-age"));
            let model = wa(scene, &mut Learned::new(shipped()), "cost-age-class");
            let shuffled = wa(scene, &mut Learned::new(ShuffledRows::new(shipped(), 1)), "cost-age-class");
            let constant = wa(scene, &mut Learned::new(shipped().constant()), "cost-age-class");
            assert!(model - 1.0 < 0.6 * (greedy - 1.0), "{name}: {model} for {greedy}");
            let kept = (cost_age - shuffled) / (cost_age - model);
            assert!(kept < 0.4, "{name}: shuffled rows keep {kept} of the gain ({shuffled})");
            assert_eq!(constant, cost_age, "{name}: a constant separates nothing");
        }
    }

    #[test]
    fn a_short_training_repeats_itself_and_already_helps() {
        let fit = FitOptions { epochs: 4, ..FitOptions::default() };
        let options = TrainOptions { seed: 3, blocks: 2048, samples: 600, fit };
        let bytes = train_placement(&options, "short");
        assert_eq!(bytes, train_placement(&options, "short"));
        let (mlp, info) = Mlp::from_onnx(&bytes).expect("what the trainer writes can be read");
        assert_eq!(info, ModelInfo::placement("short"));
        let scene = &evaluation_scenes(BLOCKS)[1];
        let (model, none) =
            (wa(scene, &mut Learned::new(mlp), "cost-age"), wa(scene, &mut placement::NoSeparation, "greedy"));
        assert!(model < 0.8 * none, "{model} for {none}");
    }
}
