//! What a run is made of, beyond its sums: how full victims were, and how long the blocks of each class lived.

/// Bins of utilization, equally wide from 0 to 1.
pub const UTILIZATION_BINS: usize = 20;
/// Classes that are told apart; higher ones count as the last.
pub const CLASSES: usize = 16;
/// Bins of lifetime: [`LIFETIME_STEPS`] per factor of two.
pub const LIFETIME_BINS: usize = 80;
const LIFETIME_STEPS: i32 = 4;
/// log2 of the shortest lifetime that is told apart, as a share of the live blocks.
const LIFETIME_LEAST: i32 = -16;

/// Counts of victims and of deaths.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tally {
    /// Victims by utilization.
    pub victims: [u64; UTILIZATION_BINS],
    /// By the class that a block got when its user wrote it: blocks by log2 of how long they lived, as a share of the live blocks. Those that still live are
    /// left out, so the lifetimes of cold classes come out too short.
    pub lifetimes: [[u64; LIFETIME_BINS]; CLASSES],
}

impl Default for Tally {
    fn default() -> Self {
        Self { victims: [0; UTILIZATION_BINS], lifetimes: [[0; LIFETIME_BINS]; CLASSES] }
    }
}

impl Tally {
    pub(super) fn victim(&mut self, utilization: f64) {
        let bin = (utilization * UTILIZATION_BINS as f64) as usize;
        self.victims[bin.min(UTILIZATION_BINS - 1)] += 1;
    }

    pub(super) fn died(&mut self, class: u8, lifetime: u64, live_blocks: u64) {
        let bin = quarters(lifetime) - quarters(live_blocks) - LIFETIME_LEAST * LIFETIME_STEPS;
        let bin = bin.clamp(0, LIFETIME_BINS as i32 - 1) as usize;
        self.lifetimes[usize::from(class).min(CLASSES - 1)][bin] += 1;
    }

    /// log2 of the lifetime, as a share of the live blocks, that the share `quantile` of a class's dead blocks did not reach; `None` if none died.
    pub fn lifetime_log2(&self, class: usize, quantile: f64) -> Option<f32> {
        let bins = &self.lifetimes[class];
        let died: u64 = bins.iter().sum();
        let wanted = (died as f64 * quantile) as u64;
        let mut sum = 0;
        let reached = |count: &u64| {
            sum += count;
            sum > wanted
        };
        let bin = bins.iter().position(reached)?;
        Some(LIFETIME_LEAST as f32 + (bin as f32 + 0.5) / LIFETIME_STEPS as f32)
    }
}

/// log2 in quarters, straight lines between powers of two: off by less than half a bin, and this is asked of every write.
fn quarters(n: u64) -> i32 {
    let power = n.max(1).ilog2();
    let fraction = (n.max(1) << (63 - power) >> 61) & 3;
    (power * 4) as i32 + fraction as i32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_of_a_class_are_its_own() {
        let mut tally = Tally::default();
        (0..90).for_each(|_| tally.died(1, 1 << 10, 1 << 20));
        (0..10).for_each(|_| tally.died(1, 1 << 20, 1 << 20));
        tally.died(200, 1, 1 << 40);
        let near = |found: Option<f32>, log2: f32| found.is_some_and(|f| (f - log2).abs() <= 0.25);
        assert!(near(tally.lifetime_log2(1, 0.5), -10.0) && near(tally.lifetime_log2(1, 0.95), 0.0));
        assert!(tally.lifetime_log2(0, 0.5).is_none() && near(tally.lifetime_log2(15, 0.5), -16.0));
        tally.victim(1.0);
        tally.victim(0.049);
        assert_eq!((tally.victims[0], tally.victims[UTILIZATION_BINS - 1]), (1, 1));
    }
}
