//! Geometric classes by the expected update interval, no model: the interval predicts the lifetime.
//!
//! A moving average of update intervals in the log domain, which is what an extent remembers (`interval`; compare FADaC, SYSTOR'19,
//! and AutoStream, SYSTOR'17, for fading averages). A block that outlived its interval is expected to live as long again as it has.

use super::{LIFETIME_CLASSES, MoveFacts, Placement, WriteFacts, interval_log2, lifetime_class, relative_log2};

/// Weight of the newest interval.
const NEWEST: f32 = 0.5;

/// See the module; without state.
#[derive(Clone, Copy, Debug)]
pub struct Ewma;

impl Placement for Ewma {
    fn name(&self) -> &'static str {
        "ewma"
    }

    fn classes(&self) -> u8 {
        LIFETIME_CLASSES
    }

    fn has_lifetime_classes(&self) -> bool {
        true
    }

    fn user_write(&mut self, w: &WriteFacts) -> u8 {
        lifetime_class(Self::expects_written(w))
    }

    fn cleaning_write(&mut self, m: &MoveFacts) -> u8 {
        lifetime_class(Self::expects_moved(m))
    }
}

impl Ewma {
    /// log2 of the lifetime expected of a block that a user writes, as a share of the live blocks. New blocks are expected to live for as long as
    /// it takes to write all blocks once.
    pub fn expects_written(w: &WriteFacts) -> f32 {
        let Some(previous) = w.previous else { return 0.0 };
        let newest = relative_log2(w.now.saturating_sub(previous), w.live_blocks);
        match interval_log2(w.previous_interval) {
            None => newest,
            Some(mean) => NEWEST * newest + (1.0 - NEWEST) * (mean + relative_log2(1, w.live_blocks)),
        }
    }

    /// The same of a block that is moved.
    pub fn expects_moved(m: &MoveFacts) -> f32 {
        let age = relative_log2(m.now.saturating_sub(m.birth), m.live_blocks);
        let interval = interval_log2(m.interval).unwrap_or(0.0) + relative_log2(1, m.live_blocks);
        age.max(interval)
    }
}

#[cfg(test)]
mod tests {
    use super::super::interval_code;
    use super::*;

    #[test]
    fn short_intervals_are_hot_and_survivors_grow_cold() {
        let w = WriteFacts { now: 1 << 30, live_blocks: 1 << 20, ..Default::default() };
        assert_eq!(Ewma.user_write(&WriteFacts { previous: Some((1 << 30) - 100), ..w }), 0);
        assert_eq!(Ewma.user_write(&WriteFacts { previous: Some(0), ..w }), 5);
        assert_eq!(Ewma.user_write(&w), 4);
        let m = MoveFacts {
            now: 1 << 30,
            live_blocks: 1 << 20,
            interval: interval_code(Some(0), 0, 1 << 8),
            ..Default::default()
        };
        let births = [(1 << 30) - 10, (1 << 30) - (1 << 17), 0];
        assert_eq!(births.map(|birth| Ewma.cleaning_write(&MoveFacts { birth, ..m })), [0, 3, 5]);
    }
}
