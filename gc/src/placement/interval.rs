//! What an extent remembers of the time between user writes of its blocks: a moving average, in one byte.
//!
//! The average is of log2 of the intervals, so that a block that turns hot is known as such after a few writes. One interval alone of a block
//! that is written at random is off by a factor of 3.6 either way (the deviation of the log2 of an exponentially distributed time is 1.85), the average by 1.8. The
//! byte is 0 for "written once", else the log2 in halves, from 2^5 blocks on: up to 62 it stands for intervals of up to 2^35 blocks, and
//! leaf items of the key tree store values below 63 without a byte of their own.

/// Weight of the newest interval.
const NEWEST: f32 = 0.35;
/// Steps of the byte per factor of two.
const STEPS: f32 = 2.0;
/// log2 of the interval that 1 stands for; shorter ones count as this.
const LEAST_LOG2: f32 = 5.0;

/// The byte of a block that is written at `now`, of which the version that dies was written at `previous` and has the byte `stored`.
pub fn interval_code(previous: Option<u64>, stored: u8, now: u64) -> u8 {
    let Some(previous) = previous else { return 0 };
    let newest = (now.saturating_sub(previous).max(1) as f64).log2() as f32;
    let mean = interval_log2(stored).map_or(newest, |mean| mean + NEWEST * (newest - mean));
    // Rounded up or down by a hash of the clock, at odds that are right on average: rounding to the nearest would lose whatever moves the
    // average by less than half a step. Writes that follow each other share the hash, so that a file rewritten in order keeps few extents.
    let chance = ((now >> 7).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as f32 / (1u32 << 24) as f32;
    ((mean - LEAST_LOG2) * STEPS + 1.0 + chance).clamp(1.0, 255.0) as u8
}

/// The log2 of the interval that a byte stands for, in user-written blocks; `None` if written once.
pub fn interval_log2(code: u8) -> Option<f32> {
    (code > 0).then(|| LEAST_LOG2 + f32::from(code - 1) / STEPS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_are_averaged_and_zero_means_once() {
        assert_eq!((interval_code(None, 0, 5), interval_log2(0)), (0, None));
        assert_eq!(interval_code(Some(9), 0, 3), 1, "a clock that stands still is a short interval");
        assert_eq!(interval_log2(interval_code(Some(0), 0, 1 << 15)), Some(15.0));
        assert_eq!(interval_code(Some(0), 0, u64::MAX), 119);
        // A block that is written every 2^14 blocks, then every 2^7.
        let (mut code, mut now) = (0, 0u64);
        let mut write = |interval: u64, times: u32| {
            for _ in 0..times {
                now += interval;
                code = interval_code(Some(now - interval), code, now);
            }
            interval_log2(code).expect("written twice")
        };
        assert_eq!(write(1 << 14, 5), 14.0);
        assert!((9.0..11.0).contains(&write(1 << 7, 2)));
        assert!((7.0..8.0).contains(&write(1 << 7, 10)));
    }

    #[test]
    fn rounding_is_right_on_average() {
        let codes: u32 = (0..1000u64).map(|n| n << 7).map(|n| u32::from(interval_code(Some(n), 0, n + 1200))).sum();
        let mean = LEAST_LOG2 + (codes as f32 / 1000.0 - 1.0) / STEPS;
        assert!((mean - 1200f32.log2()).abs() < 0.02, "{mean}");
    }
}
