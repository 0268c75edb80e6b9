//! A sampler of discrete distributions, over the crate's generator.

pub use crate::rng::Rng;

/// Draws from a discrete distribution in O(1): Vose's alias method (1991).
#[derive(Clone, Debug)]
pub struct Alias {
    keep: Vec<f32>,
    other: Vec<u32>,
}

impl Alias {
    /// `weights` need not sum to 1.
    pub fn new(weights: &[f64]) -> Self {
        let n = weights.len();
        let scale = n as f64 / weights.iter().sum::<f64>();
        let mut left: Vec<f64> = weights.iter().map(|w| w * scale).collect();
        let (mut small, mut large): (Vec<usize>, Vec<usize>) = (0..n).partition(|&i| left[i] < 1.0);
        let mut alias = Self { keep: vec![1.0; n], other: (0..n as u32).collect() };
        while let (Some(s), Some(&l)) = (small.pop(), large.last()) {
            alias.keep[s] = left[s] as f32;
            alias.other[s] = l as u32;
            left[l] -= 1.0 - left[s];
            if left[l] < 1.0 {
                large.pop();
                small.push(l);
            }
        }
        alias
    }

    pub fn draw(&self, rng: &mut Rng) -> u32 {
        let i = rng.below(self.keep.len() as u32);
        if rng.unit() < f64::from(self.keep[i as usize]) { i } else { self.other[i as usize] }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alias_draws_follow_the_weights() {
        let alias = Alias::new(&[1.0, 2.0, 5.0, 0.0]);
        let mut rng = Rng::new(4);
        let mut counts = [0u32; 4];
        for _ in 0..80_000 {
            counts[alias.draw(&mut rng) as usize] += 1;
        }
        for (count, expected) in counts.into_iter().zip([10_000.0, 20_000.0, 50_000.0, 0.0]) {
            assert!((f64::from(count) - expected).abs() < 600.0, "{counts:?}");
        }
    }
}
