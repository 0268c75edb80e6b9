//! Iterative segment quantization: centres of groups of segments of like hotness.

use super::CLASSES;

/// Times that groups and centres are found from each other.
const ROUNDS: usize = 3;

/// What went into a segment.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Filled {
    pub blocks: u32,
    counts: f64,
    /// Sum of the write clocks of its blocks.
    written: f64,
}

impl Filled {
    pub(super) fn add(&mut self, count: f64, blocks: u32, written: u64) {
        self.blocks += blocks;
        self.counts += count * f64::from(blocks);
        self.written += written as f64 * f64::from(blocks);
    }

    /// Mean write count by mean age.
    pub(super) fn hotness(&self, now: u64) -> f64 {
        let age = now as f64 - self.written / f64::from(self.blocks.max(1));
        self.counts / f64::from(self.blocks.max(1)) / age.max(1.0)
    }
}

/// Hotness of the groups, the hottest first.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Centres([f64; CLASSES]);

impl Centres {
    /// The group whose centre is nearest; of several the coldest.
    pub(super) fn nearest(&self, hotness: f64) -> usize {
        let far = |centre: &f64| (centre - hotness).abs();
        let groups = self.0.iter().enumerate().rev();
        groups.min_by(|a, b| far(a.1).total_cmp(&far(b.1))).map_or(CLASSES - 1, |(group, _)| group)
    }

    /// Finds the centres anew for segments of these hotnesses.
    pub(super) fn find(&mut self, segments: impl Iterator<Item = f64> + Clone) {
        for _ in 0..ROUNDS {
            let (mut sums, mut counts) = ([0.0; CLASSES], [0u32; CLASSES]);
            for hotness in segments.clone() {
                let group = self.nearest(hotness);
                sums[group] += hotness;
                counts[group] += 1;
            }
            for (centre, (sum, count)) in self.0.iter_mut().zip(sums.into_iter().zip(counts)) {
                *centre = sum / f64::from(count.max(1));
            }
            self.0.sort_unstable_by(|a, b| b.total_cmp(a));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_that_are_there_are_found() {
        let mut centres = Centres::default();
        assert_eq!(centres.nearest(1.0), CLASSES - 1);
        let segments = [1.0, 1.1, 0.9, 10.0, 11.0, 9.0, 0.1, 0.1, 0.1].into_iter();
        for _ in 0..4 {
            centres.find(segments.clone());
        }
        let groups = [10.0, 1.0, 0.1].map(|h| centres.nearest(h));
        assert!(groups.is_sorted_by(|a, b| a < b), "{groups:?} {centres:?}");
        assert_eq!(centres.nearest(9.5), groups[0]);
        assert!((centres.0[groups[1]] - 1.0).abs() < 0.11, "{centres:?}");
    }

    #[test]
    fn segments_cool_as_they_age() {
        let mut s = Filled::default();
        s.add(3.0, 2, 1000);
        s.add(6.0, 1, 4000);
        assert_eq!((s.blocks, s.hotness(2004), s.hotness(6000)), (3, 1.0, 0.001));
    }
}
