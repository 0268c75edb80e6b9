//! SepBIT: six classes by inferred block invalidation time.
//!
//! Wang et al., "Separating Data via Block Invalidation Time Inference for Write Amplification Reduction in Log-Structured
//! Storage", FAST'22, and its published simulator. User writes: class 0 if the version that dies was short-lived, else 1. Cleaning
//! writes: class 2 from victims of class 0, otherwise 3 to 5 by age. "Short" is measured by `l`, the mean lifespan of recent class-0 segments.
//!
//! The original looks up the last write of a block in a FIFO of recent addresses, because a block device does not know it. Here
//! the extent that is overwritten says it exactly, so there is no FIFO; its length, which bounds what it finds, is `min(l, live blocks)`. Lifespans
//! count from when a segment was opened, which facts do not hold: it is the seal clock less the time to fill a segment at the rate of class 0. (Leaving
//! that out costs a tenth of WA on zipf loads.) State: 18 words.

use super::{MoveFacts, Placement, WriteFacts};
use crate::segment::SegmentFacts;

/// Class-0 victims that `l` is the mean of.
const VICTIMS: usize = 16;

/// User-written blocks over which the share of class 0 is averaged.
const SHARE_BLOCKS: f32 = 4096.0;

/// See the module.
#[derive(Clone, Copy, Debug, Default)]
pub struct SepBit {
    lifespans: [u64; VICTIMS],
    cleaned: usize,
    /// Share of user writes that went to class 0, a moving average.
    short_share: f32,
}

impl SepBit {
    /// The mean lifespan of the last class-0 victims; unbounded until there were enough.
    fn lifespan(&self) -> u64 {
        if self.cleaned < VICTIMS { u64::MAX } else { self.lifespans.iter().sum::<u64>() / VICTIMS as u64 }
    }
}

impl Placement for SepBit {
    fn name(&self) -> &'static str {
        "sepbit"
    }

    fn classes(&self) -> u8 {
        6
    }

    fn user_write(&mut self, w: &WriteFacts) -> u8 {
        let short = self.lifespan().min(w.live_blocks.max(1));
        let was_short = w.previous.is_some_and(|p| w.now.saturating_sub(p) < short);
        let weight = (w.blocks.max(1) as f32 / SHARE_BLOCKS).min(1.0);
        self.short_share += (f32::from(u8::from(was_short)) - self.short_share) * weight;
        u8::from(!was_short)
    }

    fn cleaning_write(&mut self, m: &MoveFacts) -> u8 {
        if m.from_class == 0 {
            return 2;
        }
        let (age, l) = (m.now.saturating_sub(m.birth), self.lifespan());
        match age {
            _ if age < l.saturating_mul(4) => 3,
            _ if age < l.saturating_mul(16) => 4,
            _ => 5,
        }
    }

    fn segment_cleaned(&mut self, s: &SegmentFacts, now: u64) {
        if s.class == 0 {
            let filling = f64::from(s.capacity) / f64::from(self.short_share.max(1e-3));
            self.lifespans[self.cleaned % VICTIMS] = s.age(now) + filling as u64;
            self.cleaned += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(now: u64, previous: Option<u64>) -> WriteFacts {
        WriteFacts { now, previous, live_blocks: 1_000_000, ..Default::default() }
    }

    fn moved(now: u64, birth: u64, from_class: u8) -> MoveFacts {
        MoveFacts { now, birth, from_class, ..Default::default() }
    }

    #[test]
    fn classes_follow_the_lifespan_of_short_lived_segments() {
        let mut p = SepBit::default();
        assert_eq!(p.user_write(&write(10, None)), 1);
        assert_eq!(p.user_write(&write(900_000, Some(1))), 0, "every lifetime is short while l is unknown");
        assert_eq!(p.cleaning_write(&moved(1 << 40, 0, 1)), 3);
        for _ in 0..VICTIMS {
            p.segment_cleaned(&SegmentFacts { class: 0, seal_clock: 0, ..Default::default() }, 1000);
            p.segment_cleaned(&SegmentFacts { class: 3, seal_clock: 0, ..Default::default() }, 9_000_000);
        }
        assert_eq!([1999, 2000].map(|now| p.user_write(&write(now, Some(1000)))), [0, 1]);
        assert_eq!([3999, 4000, 15_999, 16_000].map(|now| p.cleaning_write(&moved(now, 0, 1))), [3, 4, 4, 5]);
        assert_eq!(p.cleaning_write(&moved(16_000, 0, 0)), 2);
    }
}
