//! Training of a victim model: what cleaning a segment is worth.
//!
//! Records candidates and how many of their live blocks soon die, and fits a small network to the worth of cleaning each. The worth is
//! `log2((C - L + C/32) / (D + C/32))` of a segment of `C` blocks, of which `L` live and `D` of these die within the horizon `H`. Why:
//! cleaning now and not a horizon later costs `D` more moves and yields `D` fewer free blocks, worth `w` moves each (`w` = moves per user
//! write); not cleaning keeps `C - L` free blocks from use for that long, at a price `h` each. To clean is right where
//! `(1 + w) D < h (C - L)`, so the order in which segments become worth cleaning as the price of space rises is that of
//! `(C - L) / D`, whatever `w` and `h` are: an index rule (Whittle, "Restless Bandits", J. Appl. Prob. 25A, 1988). With `D`
//! proportional to `L / sqrt(age)` it is cost-age (SepBIT, FAST'22). The 32nds keep an
//! empty segment finite and one of which nothing dies; without a floor the logarithm makes much of the few deaths of cold segments.
//!
//! The difference itself, `-((1 + w) D + h L) / C` with `H` a quarter of the live blocks, was tried as label: it needs `w` and `h`, which differ
//! between volumes, and gave up to 11 % more write amplification than the logarithm. So did longer horizons (a whole volume write: up to 9 %) and
//! a shorter one (0.03: 10 % on hot/cold), and other floors: half a block up to 2.5 %, a sixth of the segment up to 5 %.

use super::fit::{FitOptions, fit};
use super::mlp::Mlp;
use super::onnx::{ModelError, ModelInfo, ModelKind};
use super::suite::{Scene, training_scenes};
use crate::features::{CONTRACT, VICTIM, VictimContext, VictimFeature, VictimRow};
use crate::index::UtilizationIndex;
use crate::placement::{Ewma, Learned, Placement};
use crate::segment::SegmentFacts;
use crate::sim::rng::Rng;
use crate::sim::{Fate, FateRecorder, Sample, Simulator};
use crate::victim::{CANDIDATES_PER_BUCKET, CostAgeClass, VictimPolicy, WorthModel};

/// Features that the model reads. Left out is what simulated volumes do not vary as mounts do (`capacity`, `free_segments`), what no mount
/// knows yet (`mean_residual`), and `data_age`: the simulator knows the mean birth of a segment's blocks, a mount only when it was filled.
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
        let columns = info.columns(&CONTRACT.victim)?;
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

/// Share of the victims that are taken at random while recording.
const EXPLORED: f64 = 0.03;

/// Takes any candidate at random once in a while, so that segments are seen that a good policy would not leave behind.
pub struct Exploring {
    policy: Box<dyn VictimPolicy>,
    rng: Rng,
}

impl Exploring {
    pub fn new(policy: Box<dyn VictimPolicy>, seed: u64) -> Self {
        Self { policy, rng: Rng::new(seed) }
    }
}

impl VictimPolicy for Exploring {
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
        if !self.rng.chance(EXPLORED) {
            return chosen;
        }
        // Of the emptier half: the fuller one costs much and teaches little.
        let n = index.candidates(CANDIDATES_PER_BUCKET).count() as u32;
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
    /// Candidates recorded per victim.
    pub per_decision: f64,
    pub fit: FitOptions,
}

impl WorthOptions {
    /// What the shipped model was made with.
    pub fn shipped(seed: u64) -> Self {
        let fit = FitOptions { hidden: [16, 8], epochs: 10, batch: 128, rate: 3e-3 };
        Self { seed, blocks: 24_576, horizon: 0.1, per_decision: 2.0, fit }
    }
}

/// A sample of what the model reads.
pub type WorthSample = Sample<{ READS.len() }>;

/// Trains a victim model and answers it as ONNX; half of its samples are recorded under the fixed placement, half under the learned one.
pub fn train_victim(options: &WorthOptions, placement: &Mlp, name: &str) -> Vec<u8> {
    let samples = collect_worth(options, placement);
    fit(&samples, &options.fit, options.seed).to_onnx(&ModelInfo::victim(name))
}

/// Records samples in all training scenes under both placements.
pub fn collect_worth(options: &WorthOptions, placement: &Mlp) -> Vec<WorthSample> {
    let scenes = training_scenes(options.blocks);
    let under = |make: &(dyn Fn() -> Box<dyn Placement> + Sync)| -> Vec<WorthSample> {
        let seeds = options.seed.wrapping_mul(1000)..;
        let fates = scenes.iter().zip(seeds).flat_map(|(scene, seed)| record(scene, options, make().as_mut(), seed));
        fates.map(|fate| sample(&fate)).collect()
    };
    std::thread::scope(|scope| {
        let learned = scope.spawn(|| under(&|| Box::new(Learned::new(placement.clone()))));
        let mut samples = under(&|| Box::new(Ewma));
        samples.extend(learned.join().expect("a recording does not panic"));
        samples
    })
}

/// Records for two volume writes, after the filling and two more to settle.
fn record(scene: &Scene, options: &WorthOptions, placement: &mut dyn Placement, seed: u64) -> Vec<Fate> {
    let (mut load, blocks) = (scene.load(seed), u64::from(scene.blocks));
    let mut sim = Simulator::new(scene.geometry, scene.blocks);
    let mut victims = Exploring::new(Box::new(CostAgeClass), seed);
    sim.drive(load.as_mut(), placement, &mut victims, None, blocks * 3);
    let recorder = FateRecorder::new(options.horizon, options.per_decision, seed).knowing(load.mean_intervals());
    sim.record_fates(recorder);
    sim.drive(load.as_mut(), placement, &mut victims, None, blocks * 2);
    sim.take_fates().map(FateRecorder::finish).unwrap_or_default()
}

/// Part of a segment that is added to what is dead and to what dies.
const FEW: f32 = 32.0;

/// What a fate teaches: the label that the module explains.
pub fn worth_label(fate: &Fate) -> f32 {
    let (capacity, some) = (fate.capacity as f32, fate.capacity as f32 / FEW);
    let worth = (capacity - fate.live as f32 + some) / (fate.died + some);
    worth.log2()
}

fn sample(fate: &Fate) -> WorthSample {
    Sample { row: READS.map(|f| fate.row[f as usize]), label: worth_label(fate) }
}

impl ModelInfo {
    /// A victim model that takes [`READS`].
    pub fn victim(name: &str) -> Self {
        let features = READS.iter().map(|&f| VICTIM[f as usize].name.to_owned()).collect();
        Self { kind: ModelKind::Victim, features, name: name.to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{ShuffledRows, evaluation_scenes};
    use super::*;
    use crate::sim;
    use crate::victim::{self, Greedy};

    const BLOCKS: u32 = 8192;

    fn wa(scene: &Scene, victims: &mut dyn VictimPolicy) -> f64 {
        let n = u64::from(scene.blocks);
        sim::run(scene.geometry, scene.load(90_002).as_mut(), &mut Ewma, victims, 5 * n, 4 * n).wa()
    }

    fn shipped() -> WorthNet {
        let bytes = include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/../models/first-victim.onnx"));
        WorthNet::from_onnx(bytes).expect("the shipped model is one of ours")
    }

    #[test]
    fn the_shipped_model_is_no_worse_than_the_fixed_rule_and_shuffled_answers_are() {
        let scenes = evaluation_scenes(BLOCKS);
        for name in ["zipf 0.99", "files"] {
            let scene = scenes.iter().find(|s| s.name == name).expect("a known scene");
            let (greedy, rule) = (wa(scene, &mut Greedy), wa(scene, &mut CostAgeClass));
            let model = wa(scene, &mut victim::Learned::new(shipped()));
            let shuffled = wa(scene, &mut victim::Learned::new(ShuffledRows::new(shipped(), 1)));
            assert!(model < 1.03 * rule && model < 0.95 * greedy, "{name}: {model} for {rule} and {greedy}");
            assert!(shuffled > 1.08 * model, "{name}: {shuffled} for {model}");
        }
    }

    #[test]
    fn a_short_training_repeats_itself_and_reads_its_columns() {
        let placement = Mlp::random(&[crate::train::NETWORK_FEATURES, 4, 1], &mut Rng::new(1));
        let fit = FitOptions { epochs: 3, ..WorthOptions::shipped(3).fit };
        let options = WorthOptions { blocks: 2048, per_decision: 0.1, fit, ..WorthOptions::shipped(3) };
        let bytes = train_victim(&options, &placement, "short");
        assert_eq!(bytes, train_victim(&options, &placement, "short"));
        let mut net = WorthNet::from_onnx(&bytes).expect("what the trainer writes can be read");
        let (empty, full) = ([0.1, -3.0, 6.0, -5.0, 0.6, 9.0, 6.0, 0.1], [0.9, -3.0, 6.0, -5.0, 0.6, 9.0, 6.0, 0.1]);
        assert!(net.worth(&empty) > net.worth(&full));
        let other = [0.1, -3.0, 0.0, -5.0, 0.6, 5.0, 0.0, 0.9];
        assert_eq!(net.worth(&empty), net.worth(&other), "capacity, data age, residual and free share are not read");
        let placing = placement.to_onnx(&ModelInfo::placement("p"));
        assert!(WorthNet::from_onnx(&placing).is_err(), "it is for placement");
    }
}
