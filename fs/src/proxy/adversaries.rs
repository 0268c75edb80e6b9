//! Models that mean harm, and what they cost: whatever a model does, over any two volumes written the cost stays within a twentieth of a twin's under
//! the fallback alone.
//!
//! The whole proxy on the simulator, as in `simulated`, but with a clock: answers are renewed with every look, so a model that changes its mind is
//! believed at once. All is seeded.

use gleanfs_gc::advisor::TrustLevel;
use gleanfs_gc::features::{PlacementFeature, PlacementRow};
use gleanfs_gc::placement::{Ewma, LifetimeModel, Placement};
use gleanfs_gc::sim::rng::Rng;
use gleanfs_gc::sim::{Outcome, Simulator};
use gleanfs_gc::train::{Mlp, Scene, evaluation_scenes};
use gleanfs_gc::victim::CostAgeClass;

use super::shared::Authority;
use super::simulated::{Answered, Answers, shipped};

/// What a model does. The honest one is the shipped one.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Conduct {
    Honest,
    /// Says the opposite as soon as it is in charge, and only then.
    Turncoat,
    /// Says anything as soon as it is in charge, and only then.
    Gambler,
    /// A gambler with blocks that are moved only, which are judged late.
    Mole,
    /// A gambler with blocks that are expected to live long, which are judged latest.
    Sleeper,
    /// A gambler that another takes the place of when it has fallen.
    Swapper,
    /// Honest and inverted by turns of so many batches.
    Alternating(u64),
    Constant,
    NaN,
    Random,
    /// Says of a row what it should have said of another.
    Shuffled,
    Inverted,
    /// Says anything to a share of the questions, in per cent.
    Sly(u32),
}

const CONDUCTS: [Conduct; 16] = [
    Conduct::Honest,
    Conduct::Turncoat,
    Conduct::Gambler,
    Conduct::Swapper,
    Conduct::Mole,
    Conduct::Sleeper,
    Conduct::Alternating(500),
    Conduct::Alternating(5000),
    Conduct::Alternating(20_000),
    Conduct::Constant,
    Conduct::NaN,
    Conduct::Random,
    Conduct::Shuffled,
    Conduct::Inverted,
    Conduct::Sly(10),
    Conduct::Sly(30),
];

struct Adversary {
    conduct: Conduct,
    honest: Mlp,
    level: TrustLevel,
    was_in_charge: bool,
    batches: u64,
    past: Vec<f32>,
    rng: Rng,
}

impl Adversary {
    fn new(conduct: Conduct) -> Self {
        let (level, past, rng) = (TrustLevel::Fallback, Vec::new(), Rng::new(77));
        Self { conduct, honest: shipped(), level, was_in_charge: false, batches: 0, past, rng }
    }

    fn anything(&mut self) -> f32 {
        self.rng.below(12) as f32 - 9.5
    }

    fn another(&mut self, y: f32) -> f32 {
        self.past.push(y);
        self.past[self.rng.below(self.past.len() as u32) as usize]
    }
}

/// Of the last class less that of `y`.
fn inverse(y: f32) -> f32 {
    -8.0 - y
}

impl Answers for Adversary {
    fn batch(&mut self, level: TrustLevel) {
        self.level = level;
        self.batches += 1;
    }

    fn is_replaced(&mut self, level: TrustLevel) -> bool {
        let falls = self.was_in_charge && level <= TrustLevel::Learning;
        self.was_in_charge = level == TrustLevel::Recommendation || self.was_in_charge && !falls;
        falls && self.conduct == Conduct::Swapper
    }
}

impl LifetimeModel for Adversary {
    fn predict(&mut self, row: &PlacementRow) -> f32 {
        let y = self.honest.predict(row);
        let in_charge = self.level == TrustLevel::Recommendation;
        match self.conduct {
            Conduct::Turncoat if in_charge => inverse(y),
            Conduct::Gambler | Conduct::Swapper if in_charge => self.anything(),
            Conduct::Mole if in_charge && row[PlacementFeature::IsCleaning as usize] > 0.5 => self.anything(),
            Conduct::Sleeper if in_charge && row[PlacementFeature::RuleLifetime as usize] > -2.0 => self.anything(),
            Conduct::Alternating(turn) if self.batches / turn % 2 == 1 => inverse(y),
            Conduct::Constant => -4.0,
            Conduct::NaN => f32::NAN,
            Conduct::Random => self.anything(),
            Conduct::Shuffled => self.another(y),
            Conduct::Inverted => inverse(y),
            Conduct::Sly(percent) if self.rng.below(100) < percent => self.anything(),
            _ => y,
        }
    }
}

/// Steps of a volume written, and of a window.
const STEPS: u64 = 16;
const WINDOW: usize = 32;
const SEED: u64 = 5;
/// What the cost of a window may be, over the twin's.
const BOUND: f64 = 1.05;

/// What had happened after each step.
fn course(scene: &Scene, seed: u64, placement: &mut dyn Placement, volumes: u64) -> Vec<Outcome> {
    let mut sim = Simulator::new(scene.geometry, scene.blocks);
    let (mut load, step) = (scene.load(seed), u64::from(scene.blocks) / STEPS);
    let mut done = vec![sim.outcome()];
    for _ in 0..volumes * STEPS {
        sim.drive(load.as_mut(), placement, &mut CostAgeClass, None, step);
        done.push(sim.outcome());
    }
    done
}

/// What a model has come to beside a twin.
#[derive(Debug)]
struct Fate {
    /// Write amplification from the third volume on, and the twin's.
    wa: f64,
    twin: f64,
    /// The worst window, over the twin's, and the volumes written by its end.
    worst: f64,
    worst_at: f64,
    /// Share of the decisions at recommendation.
    in_charge: f64,
    /// Blocks moved too many, in volumes: as the account has it, and truly.
    account: f64,
    truth: f64,
    stops: u64,
}

fn fate(scene: &Scene, seed: u64, conduct: Conduct, twin: &[Outcome]) -> Fate {
    let mut placement = Answered::new(Adversary::new(conduct), Authority::Earned(TrustLevel::Recommendation), scene);
    placement.look_secs = 11;
    let run = course(scene, seed, &mut placement, twin.len() as u64 / STEPS);
    let (last, blocks) = (twin.len() - 1, f64::from(scene.blocks));
    let window = |run: &[Outcome], end: usize| run[end].since(&run[end - WINDOW]).wa();
    let late = |run: &[Outcome]| run[last].since(&run[WINDOW]).wa();
    let windows = (WINDOW..=last).map(|end| (window(&run, end) / window(twin, end), end));
    let (worst, end) = windows.max_by(|a, b| a.0.total_cmp(&b.0)).unwrap_or_default();
    let regret = *placement.shared.regret.lock();
    Fate {
        wa: late(&run),
        twin: late(twin),
        worst,
        worst_at: end as f64 / STEPS as f64,
        in_charge: placement.at_level[3] as f64 / placement.at_level.iter().sum::<u64>() as f64,
        account: regret.regret_blocks / blocks,
        truth: (run[last].moved as f64 - twin[last].moved as f64) / blocks,
        stops: regret.stops,
    }
}

fn scene(name: &str, blocks: u32) -> Scene {
    evaluation_scenes(blocks).into_iter().find(|scene| scene.name == name).expect("a scene of this name")
}

/// Lets everybody loose on a load. The honest model must get into charge, and gain so much there.
fn bounded(name: &str, honest_max: f64) {
    let scene = scene(name, 32_768);
    let twin = course(&scene, SEED, &mut Ewma, 8);
    let judged = [
        Conduct::Turncoat,
        Conduct::Gambler,
        Conduct::Swapper,
        Conduct::Mole,
        Conduct::Sleeper,
        Conduct::Alternating(500),
        Conduct::Alternating(5000),
        Conduct::Inverted,
        Conduct::Sly(10),
    ];
    // These never get so far that it would take as long.
    let refused = [Conduct::Constant, Conduct::NaN, Conduct::Random, Conduct::Shuffled];
    for conduct in judged {
        let fate = fate(&scene, SEED, conduct, &twin);
        assert!(fate.worst <= BOUND, "{name}, {conduct:?}: {fate:?}");
    }
    for conduct in refused {
        let fate = fate(&scene, SEED, conduct, &twin[..=5 * STEPS as usize]);
        assert!(fate.worst <= BOUND && fate.in_charge == 0.0, "{name}, {conduct:?}: {fate:?}");
    }
    let honest = fate(&scene, SEED, Conduct::Honest, &twin);
    assert!(honest.worst <= BOUND && honest.in_charge > 0.2, "{name}: {honest:?}");
    assert!(honest.wa <= honest_max * honest.twin, "{name}: {honest:?}");
}

#[test]
fn on_a_skewed_load_no_model_costs_a_twentieth() {
    bounded("zipf 0.99", 1.01);
}

#[test]
fn on_a_shifting_load_no_model_costs_a_twentieth() {
    bounded("shifting 90/10", 1.01);
}

#[test]
fn among_files_no_model_costs_a_twentieth_and_a_good_one_gains() {
    bounded("files", 0.97);
}

#[test]
fn among_tenants_no_model_costs_a_twentieth_and_a_good_one_gains() {
    bounded("tenants", 0.99);
}

/// `LOADS`, `VOLUMES`, `BLOCKS` and `SEED`, if they are set, say what.
#[test]
#[ignore = "a table, which takes long: cargo test --release -p gleanfs --lib adversaries::table -- --ignored --nocapture"]
fn table() {
    let loads = std::env::var("LOADS").unwrap_or_else(|_| "zipf 0.99,shifting 90/10,files,tenants".into());
    let number = |name: &str| std::env::var(name).ok().and_then(|n| n.parse::<u64>().ok());
    let (volumes, blocks) = (number("VOLUMES").unwrap_or(24), number("BLOCKS").unwrap_or(32_768) as u32);
    let seed = number("SEED").unwrap_or(SEED);
    for name in loads.split(',') {
        let scene = scene(name, blocks);
        let twin = course(&scene, seed, &mut Ewma, volumes);
        for conduct in CONDUCTS {
            let f = fate(&scene, seed, conduct, &twin);
            println!(
                "{name:<15} {:<18} wa {:.3} twin {:.3}, worst window {:.3} at {:>5.2}, in charge {:>3.0} %, regret {:+.2} (truly {:+.2}), {} stops",
                format!("{conduct:?}"),
                f.wa,
                f.twin,
                f.worst,
                f.worst_at,
                100.0 * f.in_charge,
                f.account,
                f.truth,
                f.stops
            );
        }
    }
}
