//! How long versions of blocks live: a histogram of update intervals, and what follows from it.
//!
//! Geometric steps, eight to a factor of two, so that short intervals are told apart as finely as long ones. A block that is written for the first time has no interval;
//! as in MiDAS's model it stands for one that is never overwritten.

/// Steps per factor of two.
const STEPS: f64 = 8.0;
/// Bins: intervals of up to 2^40 blocks.
const BINS: usize = 320;

/// Update intervals of user writes, in blocks.
#[derive(Clone, Debug)]
pub(crate) struct Intervals {
    counts: Box<[f32]>,
    never: f32,
}

impl Default for Intervals {
    fn default() -> Self {
        Self { counts: vec![0.0; BINS].into(), never: 0.0 }
    }
}

/// First interval of a bin.
fn start(bin: usize) -> f64 {
    (bin as f64 / STEPS).exp2()
}

impl Intervals {
    pub(crate) fn bytes(&self) -> usize {
        size_of_val(&*self.counts)
    }

    pub(crate) fn note(&mut self, interval: Option<u64>, blocks: u32) {
        match interval {
            None => self.never += blocks as f32,
            Some(interval) => {
                let bin = ((interval.max(1) as f64).log2() * STEPS) as usize;
                self.counts[bin.min(BINS - 1)] += blocks as f32;
            }
        }
    }

    /// Blocks were removed after so long: versions that were not overwritten, and did not live for ever either.
    pub(crate) fn removed(&mut self, age: u64, blocks: u32) {
        self.note(Some(age), blocks);
        self.never = (self.never - blocks as f32).max(0.0);
    }

    /// Blocks noted.
    pub(crate) fn blocks(&self) -> f64 {
        self.counts.iter().copied().chain([self.never]).map(f64::from).sum()
    }

    pub(crate) fn forget(&mut self) {
        self.counts.fill(0.0);
        self.never = 0.0;
    }

    /// What the histogram says of lifetimes; nothing if it is empty.
    pub(crate) fn survival(&self) -> Option<Survival> {
        let total = self.blocks();
        if total <= 0.0 {
            return None;
        }
        let mut s = Survival { edges: Vec::with_capacity(BINS + 1) };
        let (mut alive, mut area, mut time) = (1.0, 0.0, 0.0);
        for bin in 0..=BINS {
            s.edges.push(Edge { alive, area, time });
            let share = self.counts.get(bin).map_or(0.0, |&count| f64::from(count) / total);
            let (from, to) = (if bin == 0 { 0.0 } else { start(bin) }, start(bin + 1));
            area += (alive - share / 2.0) * (to - from);
            time += share * from.midpoint(to);
            alive = (alive - share).max(0.0);
        }
        Some(s)
    }
}

/// At the start of a bin.
#[derive(Clone, Copy, Debug)]
struct Edge {
    /// Share that lives longer.
    alive: f64,
    /// Integral of that share from 0.
    area: f64,
    /// Sum of the lifetimes of those that have died, by all.
    time: f64,
}

/// Shares of versions that live longer than an age, in user-written blocks.
#[derive(Clone, Debug)]
pub(crate) struct Survival {
    edges: Vec<Edge>,
}

impl Survival {
    /// Everything known at an age; within a bin deaths are even.
    fn at(&self, age: f64) -> Edge {
        let bin = if age < 1.0 { 0 } else { ((age.log2() * STEPS) as usize).min(BINS - 1) };
        let (from, to) = (if bin == 0 { 0.0 } else { start(bin) }, start(bin + 1));
        let part = ((age - from) / (to - from)).clamp(0.0, 1.0);
        let (a, b) = (self.edges[bin], self.edges[bin + 1]);
        let between = |x: f64, y: f64| x + (y - x) * part;
        let alive = between(a.alive, b.alive);
        let area = a.area + a.alive.midpoint(alive) * (to - from) * part;
        Edge { alive, area, time: between(a.time, b.time) }
    }

    /// Share that lives longer than `age`.
    pub(crate) fn alive(&self, age: f64) -> f64 {
        self.at(age).alive
    }

    /// Versions alive between two ages if one is written per block of the clock.
    pub(crate) fn live_between(&self, from: f64, to: f64) -> f64 {
        (self.at(to).area - self.at(from).area).max(0.0)
    }

    /// Of those that die between two ages: their share of all, and the sum of their lifetimes by all.
    pub(crate) fn dying_between(&self, from: f64, to: f64) -> (f64, f64) {
        let (a, b) = (self.at(from), self.at(to));
        ((a.alive - b.alive).max(0.0), (b.time - a.time).max(0.0))
    }

    /// Beyond all ages that are told apart.
    pub(crate) fn end(&self) -> f64 {
        start(BINS)
    }

    /// The age by which a queue that takes in the share `caught` of what dies younger has moved so many blocks on.
    pub(crate) fn age_at(&self, blocks: f64, caught: f64) -> f64 {
        let (mut low, mut high) = (0.0, self.end());
        for _ in 0..40 {
            // Ages span many magnitudes: the middle is a geometric one.
            let middle = ((1.0 + low) * (1.0 + high)).sqrt() - 1.0;
            if middle * caught * (1.0 - self.alive(middle)) < blocks { low = middle } else { high = middle }
        }
        high
    }

    /// The versions that are left when the share `caught` of those that die before an age is taken out.
    pub(crate) fn without(&self, caught: f64, age: f64) -> Rest<'_> {
        Rest { all: self, caught, age, share: 1.0 - caught * (1.0 - self.alive(age)) }
    }
}

/// What is left of a survival without some of the short-lived.
#[derive(Clone, Debug)]
pub(crate) struct Rest<'a> {
    all: &'a Survival,
    caught: f64,
    age: f64,
    /// Share of all versions that it is.
    pub share: f64,
}

impl Rest<'_> {
    /// Share that lives longer than `age`.
    pub(crate) fn alive(&self, age: f64) -> f64 {
        let s = self.all;
        let taken_out = self.caught * (s.alive(age) - s.alive(self.age)).max(0.0);
        (s.alive(age) - taken_out) / self.share
    }

    /// Versions alive between two ages if one is written per block of the clock.
    pub(crate) fn live_between(&self, from: f64, to: f64) -> f64 {
        let s = self.all;
        let (until, since) = (to.min(self.age), from.min(self.age));
        let taken_out = self.caught * (s.live_between(since, until) - (until - since) * s.alive(self.age));
        ((s.live_between(from, to) - taken_out) / self.share).max(0.0)
    }

    /// Of those that die between two ages: their share, and the sum of their lifetimes by all.
    pub(crate) fn dying_between(&self, from: f64, to: f64) -> (f64, f64) {
        let (all, time) = self.all.dying_between(from, to);
        let (caught, caught_time) = self.all.dying_between(from.min(self.age), to.min(self.age));
        ((all - self.caught * caught) / self.share, (time - self.caught * caught_time) / self.share)
    }

    pub(crate) fn end(&self) -> f64 {
        self.all.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_and_areas_agree_with_the_distribution() {
        let mut intervals = Intervals::default();
        assert!(intervals.survival().is_none());
        // Half of the blocks live for an exponential time of mean 10000, half for ever.
        let mut rng = crate::rng::Rng::new(2);
        for _ in 0..200_000 {
            intervals.note(Some((-(1.0 - rng.unit()).ln() * 10_000.0) as u64), 1);
        }
        intervals.note(None, 200_000);
        let s = intervals.survival().expect("not empty");
        for age in [100.0, 5000.0, 40_000.0] {
            let expected = 0.5 + 0.5 * (-age / 10_000.0f64).exp();
            assert!((s.alive(age) / expected - 1.0).abs() < 0.01, "{age}: {} {expected}", s.alive(age));
            let area = 0.5 * age + 5000.0 * (1.0 - (-age / 10_000.0).exp());
            assert!((s.live_between(0.0, age) / area - 1.0).abs() < 0.01, "{age}: {}", s.live_between(0.0, age));
        }
        let (share, time) = s.dying_between(0.0, s.end());
        assert!((share - 0.5).abs() < 1e-6 && (time / 5000.0 - 1.0).abs() < 0.02, "{share} {time}");
        intervals.forget();
        assert!(intervals.survival().is_none());
    }

    #[test]
    fn what_is_caught_is_missing_from_the_rest() {
        // Lifetimes are even from 0 to 1000.
        let mut intervals = Intervals::default();
        (0..100_000).for_each(|n| intervals.note(Some(n / 100), 1));
        let s = intervals.survival().expect("not empty");
        // 0.5 t^2 / 1000 = 45 at t = 300.
        let age = s.age_at(45.0, 0.5);
        assert!((age - 300.0).abs() < 5.0, "{age}");
        let rest = s.without(0.5, 300.0);
        assert!((rest.share - 0.85).abs() < 0.005);
        for (age, alive) in [(0.0, 1.0), (100.0, 0.8 / 0.85), (300.0, 0.7 / 0.85), (800.0, 0.2 / 0.85)] {
            assert!((rest.alive(age) - alive).abs() < 0.01, "{age}: {}", rest.alive(age));
        }
        // From 0 to 300 half of the triangle of base 300 and height 0.3 is missing.
        let live = rest.live_between(0.0, 400.0) * 0.85;
        assert!((live - (400.0 * 0.8 - 0.5 * 0.5 * 300.0 * 0.3)).abs() < 3.0, "{live}");
        let (share, time) = rest.dying_between(200.0, 400.0);
        assert!((share * 0.85 - 0.15).abs() < 0.005 && (time * 0.85 - (12.5 + 35.0)).abs() < 2.0, "{share} {time}");
    }
}
