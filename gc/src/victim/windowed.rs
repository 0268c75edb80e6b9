//! Windowed greedy: greedy over the oldest nine tenths, so that young segments are given time to empty themselves.
//!
//! Hu et al., "Write Amplification Analysis in Flash-Based Solid State Drives", SYSTOR 2009 (the window); the share of 90 % as in the
//! comparisons of SepBIT, FAST'22.

use super::VictimPolicy;
use crate::index::UtilizationIndex;
use crate::segment::SegmentFacts;

/// Share of the segments, the oldest first, among which it chooses.
const WINDOW: f64 = 0.9;
/// Segments looked at to find the window's end.
const SAMPLES: usize = 64;

/// Score `1 - u` inside the window; outside it the same less one, so after all that is inside. The window's end is estimated from 64 segments, spread evenly over the numbers.
#[derive(Clone, Copy, Debug, Default)]
pub struct WindowedGreedy {
    youngest: u64,
}

impl VictimPolicy for WindowedGreedy {
    fn name(&self) -> &'static str {
        "windowed-greedy"
    }

    fn observe(&mut self, index: &UtilizationIndex, now: u64) {
        let mut seals = [0u64; SAMPLES];
        let mut n = 0;
        let stride = (index.slots() as usize / SAMPLES).max(1);
        for seg in (0..index.slots()).step_by(stride) {
            if let Some(s) = index.get(seg).filter(|_| n < SAMPLES) {
                seals[n] = s.seal_clock;
                n += 1;
            }
        }
        seals[..n].sort_unstable();
        self.youngest = if n == 0 { now } else { seals[((n - 1) as f64 * WINDOW).ceil() as usize] };
    }

    fn score(&self, s: &SegmentFacts, _now: u64) -> f64 {
        let gain = 1.0 - s.utilization();
        if s.seal_clock <= self.youngest { gain } else { gain - 1.0 }
    }
}
