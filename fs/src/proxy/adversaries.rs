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
    /// Random for a stretch of time: batches.
    Timed(u64, u64, bool),
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
            Conduct::Timed(from, to, random) => {
                if (from..to).contains(&self.batches) {
                    if random { self.anything() } else { inverse(y) }
                } else { y }
            }
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
    let names = ["zipf 0.99", "shifting 90/10", "files", "tenants"];
    for scene in evaluation_scenes(32_768).iter().filter(|s| names.contains(&s.name.as_str())) {
        let twin = course(scene, &mut Ewma, 16);
        let all = |run: &[Outcome]| run[run.len() - 1].since(&run[64]).wa();
        println!("{}: fallback {:.3}", scene.name, all(&twin));
        for conduct in [Conduct::Honest, Conduct::Turncoat, Conduct::Gambler, Conduct::Alternating(500),Conduct::Alternating(20000), Conduct::Constant, Conduct::NaN, Conduct::Random, Conduct::Shuffled, Conduct::Inverted] {
            let mut p = Answered::new(Adversary::new(conduct), earn, scene);
            p.look_secs = 11;
            let run = course(scene, &mut p, 16);
            let (end, ratio) = worst(&run, &twin, 32);
            let total: u64 = p.at_level.iter().sum();
            println!("  {conduct:?}: {:.3} worst {ratio:.3} at {:.2}; levels {:?} batches {}", all(&run), end as f64 / 16.0, p.at_level.map(|n| n * 100 / total), 0);
        }
        for random in [false, true] { for share in [0.0, 0.05, 0.1, 0.2, 0.5, 1.0] {
            let mut p = Answered::new(Timely { inner: Adversary::new(Conduct::Honest), clock: Default::default(), share, random }, Authority::Forced, scene);
            p.look_secs = 11;
            let blocks = f64::from(scene.blocks);
            let clock = std::sync::Arc::clone(&p.shared);
            let _ = clock;
            let mut base = Answered::new(Adversary::new(Conduct::Honest), Authority::Forced, scene);
            base.look_secs = 11;
            let run = turning(scene, &mut p, share, 10);
            let moved = |r: &[Outcome]| (r[8 * 16].moved - r[4 * 16].moved) as f64 / blocks;
            println!("  random {random} for {share}: excess in 4 volumes {:.3}, worst {:.3}", moved(&run) - moved(&twin), worst(&run, &twin[..run.len()], 32).1);
        }}
    }
}

struct Timely { inner: Adversary, clock: std::sync::Arc<std::sync::atomic::AtomicBool>, share: f64, random: bool }
impl Answers for Timely { fn batch(&mut self, _: TrustLevel) { let _ = self.share; self.inner.conduct = if self.clock.load(std::sync::atomic::Ordering::Relaxed) { if self.random { Conduct::Random } else { Conduct::Inverted } } else { Conduct::Honest } } }
impl LifetimeModel for Timely { fn predict(&mut self, row: &PlacementRow) -> f32 { self.inner.predict(row) } }

/// Fallback, then the model turned for a share of a volume from 4 volumes on, then the fallback.
fn turning(scene: &Scene, p: &mut Answered<Timely>, share: f64, volumes: u64) -> Vec<Outcome> {
    let mut sim = Simulator::new(scene.geometry, scene.blocks);
    let (mut load, step) = (scene.load(5), u64::from(scene.blocks) / STEPS);
    let mut done = vec![sim.outcome()];
    let clock = std::sync::Arc::clone(p.clock());
    for n in 0..volumes * STEPS {
        let mut left = step;
        if n == 4 * STEPS && share > 0.0 {
            clock.store(true, std::sync::atomic::Ordering::Relaxed);
            let bad = (share * f64::from(scene.blocks)) as u64;
            let mut rest = bad;
            while rest > 0 { let now = rest.min(step); sim.drive(load.as_mut(), p, &mut CostAgeClass, None, now); rest -= now; if now == step { done.push(sim.outcome()); } else { left = step - now; } }
            clock.store(false, std::sync::atomic::Ordering::Relaxed);
            if bad % step == 0 { continue; }
            sim.drive(load.as_mut(), p, &mut CostAgeClass, None, left);
            done.push(sim.outcome());
            continue;
        }
        let r: &mut dyn Placement = if n < 4*STEPS { p } else { &mut Ewma };
        sim.drive(load.as_mut(), r, &mut CostAgeClass, None, left);
        done.push(sim.outcome());
    }
    done
}
impl Answered<Timely> { fn clock(&self) -> &std::sync::Arc<std::sync::atomic::AtomicBool> { &self.model_ref().clock } }
