//! Models that mean harm, and what they cost: every window of a run set against a twin under the fallback.

use gleanfs_gc::advisor::TrustLevel;
use gleanfs_gc::features::PlacementRow;
use gleanfs_gc::placement::{Ewma, LifetimeModel, Placement};
use gleanfs_gc::sim::rng::Rng;
use gleanfs_gc::sim::{Outcome, Simulator};
use gleanfs_gc::train::{Mlp, Scene, evaluation_scenes};
use gleanfs_gc::victim::CostAgeClass;

use super::shared::Authority;
use super::simulated::{Answered, Answers, shipped};

/// What a model does.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Conduct {
    Honest,
    /// Answers the opposite once it is in charge.
    Turncoat,
    /// Answers anything once it is in charge.
    Gambler,
    /// Honest and inverted by turns of so many batches.
    Alternating(u64),
    Constant,
    NaN,
    Random,
    Shuffled,
    Inverted,
    /// Anything for a share of the questions.
    Sly(f32),
}

struct Adversary {
    conduct: Conduct,
    honest: Mlp,
    level: TrustLevel,
    batches: u64,
    past: Vec<f32>,
    rng: Rng,
}

impl Adversary {
    fn new(conduct: Conduct) -> Self {
        Self { conduct, honest: shipped(), level: TrustLevel::Fallback, batches: 0, past: Vec::new(), rng: Rng::new(77) }
    }

    fn anything(&mut self) -> f32 {
        self.rng.below(12) as f32 - 9.5
    }
}

impl Answers for Adversary {
    fn batch(&mut self, level: TrustLevel) {
        self.level = level;
        self.batches += 1;
    }
}

/// Of class 5 less the class.
fn inverse(y: f32) -> f32 {
    -8.0 - y
}

impl LifetimeModel for Adversary {
    fn predict(&mut self, row: &PlacementRow) -> f32 {
        let y = self.honest.predict(row);
        let charged = self.level == TrustLevel::Recommendation;
        match self.conduct {
            Conduct::Honest => y,
            Conduct::Turncoat => if charged { inverse(y) } else { y },
            Conduct::Gambler => if charged { self.anything() } else { y },
            Conduct::Alternating(turn) => if self.batches / turn % 2 == 1 { inverse(y) } else { y },
            Conduct::Constant => -4.0,
            Conduct::NaN => f32::NAN,
            Conduct::Random => self.anything(),
            Conduct::Shuffled => {
                self.past.push(y);
                let other = self.rng.below(self.past.len() as u32) as usize;
                self.past[other]
            }
            Conduct::Inverted => inverse(y),
            Conduct::Sly(share) => if self.rng.below(1000) as f32 <= share * 1000.0 { self.anything() } else { y },
        }
    }
}

/// Steps of a volume.
const STEPS: u64 = 16;

fn course(scene: &Scene, placement: &mut dyn Placement, volumes: u64) -> Vec<Outcome> {
    let mut sim = Simulator::new(scene.geometry, scene.blocks);
    let (mut load, step) = (scene.load(5), u64::from(scene.blocks) / STEPS);
    let mut done = vec![sim.outcome()];
    for _ in 0..volumes * STEPS {
        sim.drive(load.as_mut(), placement, &mut CostAgeClass, None, step);
        done.push(sim.outcome());
    }
    done
}

/// The worst window of so many steps: where it ends, and the ratio.
fn worst(actual: &[Outcome], twin: &[Outcome], steps: usize) -> (usize, f64) {
    let wa = |run: &[Outcome], end: usize| run[end].since(&run[end - steps]).wa();
    (steps..twin.len()).map(|end| (end, wa(actual, end) / wa(twin, end))).max_by(|a, b| a.1.total_cmp(&b.1)).unwrap()
}

#[test]
#[ignore = "an experiment"]
fn how_much_harm() {
    let earn = Authority::Earned(TrustLevel::Recommendation);
    let names = std::env::var("SCENES").unwrap_or("zipf 0.99,shifting 90/10,files,tenants".into());
    let volumes = 24;
    for scene in evaluation_scenes(32_768).iter().filter(|s| names.split(',').any(|n| n == s.name)) {
        let twin = course(scene, &mut Ewma, volumes);
        let all = |run: &[Outcome]| run[run.len() - 1].since(&run[64]).wa();
        println!("{}: fallback {:.3}", scene.name, all(&twin));
        for conduct in [Conduct::Honest, Conduct::Turncoat, Conduct::Gambler, Conduct::Alternating(500), Conduct::Alternating(5000),Conduct::Alternating(20000), Conduct::Constant, Conduct::NaN, Conduct::Random, Conduct::Shuffled, Conduct::Inverted, Conduct::Sly(0.1), Conduct::Sly(0.3)] {
            let mut p = Answered::new(Adversary::new(conduct), earn, scene);
            p.look_secs = 11;
            let run = course(scene, &mut p, volumes);
            let (end, ratio) = worst(&run, &twin, 32);
            let total: u64 = p.at_level.iter().sum();
            let r = p.asker.ghosts.status();
            println!("  {conduct:?}: {:.3} worst {ratio:.3} at {:.2}; levels {:?} regret {:.2} true {:.2} of {:.2} debt {:.3} stops {} bias {:.3} max debt {:.3}", all(&run), end as f64 / 16.0, p.at_level.map(|n| n * 100 / total),
                r.regret_blocks / f64::from(scene.blocks), (run[run.len()-1].moved as f64 - twin[run.len()-1].moved as f64) / f64::from(scene.blocks), r.ghost.unwrap_or_default(), r.debt_blocks / f64::from(scene.blocks), r.stops, p.asker.ghosts.bias(), p.debt_max / f64::from(scene.blocks));
        }
    }
}
