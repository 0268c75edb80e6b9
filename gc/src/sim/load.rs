//! Seeded loads: which block is written next.

use super::rng::{Alias, Rng};
use crate::features::FileKind;

/// One step of a load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// A user writes a block.
    Write(BlockWrite),
    /// A block of the volume is no longer used.
    Discard(u32),
}

impl Op {
    /// The block of the volume that it is about.
    pub fn block(&self) -> u32 {
        match self {
            Self::Write(w) => w.block,
            Self::Discard(block) => *block,
        }
    }
}

/// A block that a user writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockWrite {
    /// Which block of the volume it is; its place in a file never changes while it is in use.
    pub block: u32,
    pub ino: u64,
    pub kind: FileKind,
    pub file_block: u64,
    /// Length of the write request that it belongs to, and its place in it. Blocks of a request come one after the other.
    pub request_blocks: u32,
    pub request_at: u32,
    pub append: bool,
    /// Size of the file before.
    pub file_blocks: u64,
}

/// A stream of operations without an end.
pub trait Load {
    /// Blocks are numbered below this.
    fn blocks(&self) -> u32;

    fn next_op(&mut self) -> Op;

    /// Mean interval between writes of each block, in writes, if those are independent of each other and of time; else empty.
    fn mean_intervals(&self) -> Vec<f64> {
        Vec::new()
    }
}

/// How a file that is full is overwritten.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pattern {
    Uniform,
    /// Independent draws, rank `r` with weight `r^-theta`, ranks scattered over the file.
    Zipf(f64),
    /// A share of the traffic goes to a share of the space, uniformly within both.
    HotCold {
        traffic: f64,
        space: f64,
    },
    /// The same, but the hot set moves on by its own width every `period` writes.
    Shifting {
        traffic: f64,
        space: f64,
        period: u64,
    },
    /// From the front to the back, again and again.
    Circular,
    /// A share of the space is written by zipf, by four writers in turn with a quarter of it each, the rest never again. After every `period`
    /// writes each of a writer's blocks falls back by a rank, and its coldest becomes the hottest. (The load of `gleanfs demo`.)
    Drifting {
        theta: f64,
        space: f64,
        period: u64,
    },
    /// Thirds of the file are written by zipf, circularly and uniformly, each with a share of the traffic that is given in percent.
    Tenants {
        theta: f64,
        percent: [u32; 3],
    },
}

/// A file that is written once from front to back and then overwritten by a pattern.
#[derive(Debug)]
pub struct Overwrites {
    blocks: u32,
    pattern: Pattern,
    rng: Rng,
    filled: u32,
    written: u64,
    zipf: Option<(Alias, Vec<u32>)>,
}

/// Length of the write requests that fill the file.
const FILL_BLOCKS: u32 = 64;
const INO: u64 = 16;
/// Writers of a drifting load.
const WRITERS: u32 = 4;

impl Overwrites {
    pub fn new(blocks: u32, pattern: Pattern, seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let zipf = match pattern {
            Pattern::Zipf(theta) => Some(zipf(blocks, theta, &mut rng)),
            Pattern::Tenants { theta, .. } => Some(zipf(blocks / 3, theta, &mut rng)),
            Pattern::Drifting { theta, space, .. } => {
                Some(zipf((f64::from(blocks) * space) as u32 / WRITERS, theta, &mut rng))
            }
            _ => None,
        };
        Self { blocks, pattern, rng, filled: 0, written: 0, zipf }
    }

    fn draw(&mut self) -> u32 {
        let n = self.blocks;
        self.written += 1;
        let w = self.written;
        match self.pattern {
            Pattern::Uniform => self.rng.below(n),
            Pattern::Zipf(_) => self.zipf_block(0),
            Pattern::HotCold { traffic, space } => self.hot_cold(traffic, space, 0),
            Pattern::Shifting { traffic, space, period } => {
                let width = (f64::from(n) * space) as u64;
                self.hot_cold(traffic, space, (w / period * width % u64::from(n)) as u32)
            }
            Pattern::Circular => (w % u64::from(n)) as u32,
            Pattern::Drifting { period, .. } => {
                let writer = (w % u64::from(WRITERS)) as u32;
                self.zipf_block(w / period) * WRITERS + writer
            }
            Pattern::Tenants { percent: [skewed, circular, _], .. } => match self.rng.below(100) {
                draw if draw < skewed => self.zipf_block(0),
                draw if draw < skewed + circular => n / 3 + (w % u64::from(n / 3)) as u32,
                _ => n / 3 * 2 + self.rng.below(n - n / 3 * 2),
            },
        }
    }

    /// A block by its rank, which it has had for as long as `steps` is 0 and which grows with it.
    fn zipf_block(&mut self, steps: u64) -> u32 {
        self.zipf.as_ref().map_or(0, |(alias, places)| {
            let (rank, len) = (u64::from(alias.draw(&mut self.rng)), places.len() as u64);
            places[((rank + len - steps % len) % len) as usize]
        })
    }

    fn hot_blocks(&self, space: f64) -> u32 {
        ((f64::from(self.blocks) * space) as u32).clamp(1, self.blocks - 1)
    }

    fn hot_cold(&mut self, traffic: f64, space: f64, first_hot: u32) -> u32 {
        let hot = self.hot_blocks(space);
        let offset = match self.rng.chance(traffic) {
            true => self.rng.below(hot),
            false => hot + self.rng.below(self.blocks - hot),
        };
        (first_hot + offset) % self.blocks
    }
}

fn zipf(blocks: u32, theta: f64, rng: &mut Rng) -> (Alias, Vec<u32>) {
    let weights: Vec<f64> = (1..=blocks).map(|rank| f64::from(rank).powf(-theta)).collect();
    let mut places: Vec<u32> = (0..blocks).collect();
    rng.shuffle(&mut places);
    (Alias::new(&weights), places)
}

impl Load for Overwrites {
    fn blocks(&self) -> u32 {
        self.blocks
    }

    fn mean_intervals(&self) -> Vec<f64> {
        let n = f64::from(self.blocks);
        match self.pattern {
            Pattern::Uniform => vec![n; self.blocks as usize],
            Pattern::HotCold { traffic, space } => {
                let hot = self.hot_blocks(space);
                let interval = |block| match block < hot {
                    true => f64::from(hot) / traffic,
                    false => (n - f64::from(hot)) / (1.0 - traffic),
                };
                (0..self.blocks).map(interval).collect()
            }
            Pattern::Zipf(theta) => {
                let sum: f64 = (1..=self.blocks).map(|rank| f64::from(rank).powf(-theta)).sum();
                let mut intervals = vec![0.0; self.blocks as usize];
                let places = self.zipf.iter().flat_map(|(_, places)| places);
                places
                    .zip(1u32..)
                    .for_each(|(&block, rank)| intervals[block as usize] = sum * f64::from(rank).powf(theta));
                intervals
            }
            _ => Vec::new(),
        }
    }

    fn next_op(&mut self) -> Op {
        let filling = self.filled < self.blocks;
        let block = if filling { self.filled } else { self.draw() };
        self.filled += u32::from(filling);
        let request_at = if filling { block % FILL_BLOCKS } else { 0 };
        Op::Write(BlockWrite {
            block,
            ino: INO,
            kind: FileKind::default(),
            file_block: u64::from(block),
            request_blocks: if filling { FILL_BLOCKS.min(self.blocks - (block - request_at)) } else { 1 },
            request_at,
            append: filling,
            file_blocks: if filling { u64::from(block) } else { u64::from(self.blocks) },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(pattern: Pattern) -> Vec<u32> {
        let mut load = Overwrites::new(1000, pattern, 9);
        let mut counts = vec![0; 1000];
        for step in 0..101_000 {
            let Op::Write(w) = load.next_op() else { panic!("an overwriting load discards nothing") };
            assert_eq!(w.append, step < 1000);
            counts[w.block as usize] += u32::from(!w.append);
        }
        counts
    }

    #[test]
    fn hot_blocks_get_their_share() {
        let hot: u32 = counts(Pattern::HotCold { traffic: 0.9, space: 0.1 })[..100].iter().sum();
        assert!((89_000..91_000).contains(&hot), "{hot}");
        let mut zipf = counts(Pattern::Zipf(1.0));
        zipf.sort_unstable();
        assert!((12_500..14_300).contains(&zipf[999]), "the first of 1000 ranks has 1 / 7.49: {}", zipf[999]);
        let spread = counts(Pattern::Shifting { traffic: 1.0, space: 0.1, period: 10_000 });
        assert!(spread.iter().all(|&c| c > 50), "every block had its turn");
        assert!(counts(Pattern::Circular).iter().all(|&c| c == 100));
    }
}
