//! A small seeded generator of random numbers (SplitMix64, Steele et al. 2014) and a sampler of discrete distributions.

/// Random numbers from a seed; the same on every machine.
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform below `n`; 0 if `n` is 0.
    pub fn below(&mut self, n: u32) -> u32 {
        (((self.next_u64() >> 32) * u64::from(n)) >> 32) as u32
    }

    /// Uniform in `[0, 1)`.
    pub fn unit(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }

    pub fn chance(&mut self, p: f64) -> bool {
        self.unit() < p
    }

    /// Approximately normal, mean 0, variance 1 (sum of twelve uniforms).
    pub fn normal(&mut self) -> f32 {
        ((0..12).map(|_| self.unit()).sum::<f64>() - 6.0) as f32
    }

    /// Fisher-Yates.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.below(i as u32 + 1) as usize);
        }
    }
}

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
