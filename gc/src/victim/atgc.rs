//! Age-threshold cleaning of F2FS, from Linux `fs/f2fs/gc.c`: `add_victim_entry`, `atgc_lookup_victim`; defaults from `gc.h`.
//!
//! Candidates are at least as much older than the youngest segment as the threshold says. Of these, ordered by age, the oldest 20 %, but at least 10, are
//! looked at; that one wins for which `60 age + 40 free` is largest, age being `(max + 1 - mtime) / (max + 1 - min)` and free the dead share. Where nothing is
//! old enough there is no threshold. (That, moved blocks go to a segment of their age, is placement and not part of it.)
//!
//! F2FS's threshold is a week of wall time, which means nothing on a write clock, nor on a device that is rewritten every night. To the phones
//! that it was made for a week is a time in which what is going to be overwritten soon has been, while less than all that is stored was
//! written: here half of the live blocks ([`THRESHOLD`]), so that it means the same on every volume. A sixteenth to all of that moves write amplification
//! on zipf loads by up to a tenth, without a trend. Age is that of the seal, as in `f2fs`: by this the index is ordered, and a mounted filesystem knows no better.
//!
//! Instead of sorting all candidates, the end of the oldest 20 % is estimated from 64 segments, spread evenly over the numbers, and the oldest of each
//! bucket are looked at: at one utilization the oldest has the best score. State: 5 words.

use super::VictimPolicy;
use crate::features::VictimContext;
use crate::index::UtilizationIndex;
use crate::segment::SegmentFacts;

/// Age from which on a segment is a candidate, as a share of the live blocks.
const THRESHOLD: f64 = 0.5;
/// Share of the candidates that is looked at, and the least number.
const LOOKED_AT: f64 = 0.2;
const LOOKED_AT_MIN: f64 = 10.0;
/// Weight of age; that of free space is what is missing to 100.
const AGE_WEIGHT: f64 = 60.0;
/// Segments from which the window is estimated.
const SAMPLES: usize = 64;
/// More than any score: what is in the window goes before what is not.
const BEYOND: f64 = 1000.0;

/// Score as in the module; what is not looked at by the same score after all that is.
#[derive(Clone, Copy, Debug, Default)]
pub struct Atgc {
    live_blocks: u64,
    oldest: u64,
    youngest: u64,
    /// Seal clock of the youngest segment that is looked at.
    window: u64,
}

impl Atgc {
    fn threshold(&self) -> u64 {
        (self.live_blocks as f64 * THRESHOLD) as u64
    }

    /// The window's end from some segments' seal clocks, which stand for `len` segments.
    fn end_of_window(&self, seals: &mut [u64], len: usize) -> u64 {
        seals.sort_unstable();
        let limit = self.youngest.saturating_sub(self.threshold());
        let old = match seals.partition_point(|&seal| seal <= limit) {
            0 => &seals[..],
            n => &seals[..n],
        };
        let candidates = len as f64 * old.len() as f64 / seals.len().max(1) as f64;
        let looked_at = LOOKED_AT.max(LOOKED_AT_MIN / candidates.max(1.0)).min(1.0);
        old.get((old.len() as f64 * looked_at).ceil() as usize - usize::from(!old.is_empty())).copied().unwrap_or(limit)
    }
}

impl VictimPolicy for Atgc {
    fn name(&self) -> &'static str {
        "atgc"
    }

    fn tell(&mut self, volume: &VictimContext) {
        self.live_blocks = volume.live_blocks;
    }

    fn observe(&mut self, index: &UtilizationIndex, now: u64) {
        self.oldest = index.candidates(1).map(|s| s.seal_clock).min().unwrap_or(now);
        self.youngest = index.youngest().map(|s| s.seal_clock).max().unwrap_or(now);
        let (mut seals, mut n) = ([0u64; SAMPLES], 0);
        let stride = (index.slots() as usize).div_ceil(SAMPLES).max(1);
        for seg in (0..index.slots()).step_by(stride) {
            if let Some(s) = index.get(seg).filter(|s| !s.is_full()) {
                seals[n] = s.seal_clock;
                n += 1;
            }
        }
        self.window = self.end_of_window(&mut seals[..n], index.len());
    }

    fn score(&self, s: &SegmentFacts, _now: u64) -> f64 {
        let top = self.youngest + 1;
        let age = top.saturating_sub(s.seal_clock) as f64 / top.saturating_sub(self.oldest).max(1) as f64;
        let score = AGE_WEIGHT * age + (100.0 - AGE_WEIGHT) * (1.0 - s.utilization());
        match s {
            // F2FS frees such a segment without cleaning.
            _ if s.live == 0 => score + BEYOND,
            _ if s.seal_clock <= self.window => score,
            _ => score - BEYOND,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choice(segments: &[(u32, u64)], live_blocks: u64) -> Option<u64> {
        let mut index = UtilizationIndex::new(segments.len() as u32, 100);
        for (seg, &(live, seal_clock)) in (0..).zip(segments) {
            index.insert(SegmentFacts { seg, live, capacity: 100, seal_clock, ..Default::default() });
        }
        let mut policy = Atgc::default();
        policy.tell(&VictimContext { now: 100_000, live_blocks, free_share: 0.1 });
        policy.choose(&index, 100_000).map(|s| s.seal_clock)
    }

    #[test]
    fn age_weighs_more_than_free_space_among_the_old() {
        // A threshold of half of 20000 is 10000: 95000 is too young, however empty.
        let segments = [(90, 0), (50, 20_000), (20, 60_000), (5, 95_000), (99, 100_000)];
        // 60 + 4, 48 + 20, 24 + 32.
        assert_eq!(choice(&segments, 20_000), Some(20_000));
        // Without an old one there is no threshold: 60 * 5 / 5 + 1 loses to 60 * 4 / 5 + 38.
        assert_eq!(choice(&[(99, 95_000), (5, 96_000), (100, 100_000)], 20_000), Some(96_000));
    }

    #[test]
    fn only_the_oldest_fifth_is_looked_at_but_at_least_ten() {
        // 200 segments, the second oldest fifth of which are nearly empty.
        let segments = |n: u64| -> Vec<_> {
            let live = |k| if k >= n / 5 && k < n * 2 / 5 { 3 } else { 80 };
            (0..n).map(|k| (live(k), k * 100)).collect()
        };
        assert_eq!(choice(&segments(200), 0), Some(0));
        // Of 20 the oldest fifth is 4, of which 10 are looked at.
        assert_eq!(choice(&segments(20), 0), Some(400));
    }
}
