//! The simulated volumes that models are fitted to, and others that they are judged by.

use crate::sim::load::{Load, Pattern};
use crate::sim::{Geometry, Source};

/// A volume, its load and its log.
#[derive(Clone, Debug)]
pub struct Scene {
    pub name: String,
    pub blocks: u32,
    pub geometry: Geometry,
    source: Source,
}

/// Segments that a volume's data fill: volumes of all sizes have the same shape, so a small one stands for a large one.
const SEGMENTS: u32 = 512;
/// Log heads, and share of the device in use.
const HEADS: u8 = 6;
const UTILIZATION: f64 = 0.87;

impl Scene {
    fn new(name: &str, blocks: u32, source: Source) -> Self {
        let geometry = Geometry::full(source.live_blocks(blocks), (blocks / SEGMENTS).max(1), UTILIZATION, HEADS);
        Self { name: name.to_owned(), blocks, geometry, source }
    }

    fn overwrites(name: &str, blocks: u32, pattern: Pattern) -> Self {
        Self::new(name, blocks, Source::Overwrites(pattern))
    }

    pub fn load(&self, seed: u64) -> Box<dyn Load> {
        self.source.load(self.blocks, seed)
    }
}

/// What models are fitted to: volumes of `blocks` blocks and of four times as many. Of these settings only `uniform` and `files` are judged too, at other
/// sizes and seeds.
pub fn training_scenes(blocks: u32) -> Vec<Scene> {
    let (small, large) = (scenes_of(blocks), scenes_of(4 * blocks));
    small.into_iter().zip(large).enumerate().map(|(n, (small, large))| if n % 2 == 0 { small } else { large }).collect()
}

fn scenes_of(blocks: u32) -> Vec<Scene> {
    let shift = |periods: f64| (f64::from(blocks) * periods) as u64;
    let overwrites = |name, pattern| Scene::overwrites(name, blocks, pattern);
    vec![
        overwrites("uniform", Pattern::Uniform),
        overwrites("zipf 0.7", Pattern::Zipf(0.7)),
        overwrites("zipf 0.9", Pattern::Zipf(0.9)),
        overwrites("zipf 1.1", Pattern::Zipf(1.1)),
        overwrites("zipf 1.25", Pattern::Zipf(1.25)),
        overwrites("hot/cold 80/20", Pattern::HotCold { traffic: 0.8, space: 0.2 }),
        overwrites("hot/cold 95/5", Pattern::HotCold { traffic: 0.95, space: 0.05 }),
        overwrites("shifting 80/20", Pattern::Shifting { traffic: 0.8, space: 0.2, period: shift(3.0) }),
        overwrites("shifting 95/3", Pattern::Shifting { traffic: 0.95, space: 0.03, period: shift(0.5) }),
        overwrites("circular", Pattern::Circular),
        overwrites("mixed 35/50/15", Pattern::Tenants { theta: 0.8, percent: [35, 50, 15] }),
        overwrites("mixed 60/15/25", Pattern::Tenants { theta: 1.2, percent: [60, 15, 25] }),
        overwrites("drifting 0.9", Pattern::Drifting { theta: 0.9, space: 0.9, period: shift(0.04) }),
        overwrites("drifting 1.1", Pattern::Drifting { theta: 1.1, space: 0.6, period: shift(0.01) }),
        Scene::new("tree + drifting 0.85", blocks, Source::Tree(drifting(0.85, shift(0.03)), 0.4)),
        Scene::new("tree + drifting 1.1", blocks, Source::Tree(drifting(1.1, shift(0.01)), 0.15)),
        Scene::new("tree + zipf 0.9", blocks, Source::Tree(Pattern::Zipf(0.9), 0.3)),
        Scene::new("tree + hot/cold 80/20", blocks, Source::Tree(Pattern::HotCold { traffic: 0.8, space: 0.2 }, 0.3)),
        Scene::new("files", blocks, Source::Files),
    ]
}

fn drifting(theta: f64, period: u64) -> Pattern {
    Pattern::Drifting { theta, space: 1.0, period }
}

/// What models are judged by, with seeds of their own.
pub fn evaluation_scenes(blocks: u32) -> Vec<Scene> {
    let shift = |periods: f64| (f64::from(blocks) * periods) as u64;
    let overwrites = |name, pattern| Scene::overwrites(name, blocks, pattern);
    vec![
        overwrites("uniform", Pattern::Uniform),
        overwrites("zipf 0.99", Pattern::Zipf(0.99)),
        overwrites("hot/cold 90/10", Pattern::HotCold { traffic: 0.9, space: 0.1 }),
        overwrites("shifting 90/10", Pattern::Shifting { traffic: 0.9, space: 0.1, period: shift(1.5) }),
        overwrites("tenants", Pattern::Tenants { theta: 1.0, percent: [60, 30, 10] }),
        overwrites("drifting 0.99", Pattern::Drifting { theta: 0.99, space: 0.75, period: shift(0.015) }),
        Scene::new("demo", blocks, Source::Tree(drifting(0.99, shift(0.015)), 0.25)),
        Scene::new("files", blocks, Source::Files),
    ]
}
