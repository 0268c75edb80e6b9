//! Counting in a byte: an approximate counter.
//!
//! Morris, "Counting Large Numbers of Events in Small Registers", CACM 21(10), 1978, with base 1.1: the byte `c` stands for `(1.1^c - 1) / 0.1`,
//! exact for 0 and 1, and is raised with probability `1.1^-c`, so it is right on average, off by about a fifth, and full at 10^11.

const BASE: f64 = 1.1;

/// The count that a byte stands for.
pub(super) fn value(count: u8) -> f64 {
    (BASE.powi(i32::from(count)) - 1.0) / (BASE - 1.0)
}

/// The byte after another event, at a write clock whose hash makes the chance.
pub(super) fn next(count: u8, now: u64) -> u8 {
    let h = (now ^ (now >> 29)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let h = (h ^ (h >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
    let chance = (h >> 40) as f64 / (1u32 << 24) as f64;
    count.saturating_add(u8::from(chance < BASE.powi(-i32::from(count))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_right_on_average_and_never_run_over() {
        assert_eq!((value(0), next(0, 12_345), value(255) > 1e11, next(255, 9)), (0.0, 1, true, 255));
        assert!((value(1) - 1.0).abs() < 1e-9);
        for events in [10u64, 1000, 30_000] {
            let runs = 50;
            let counted: f64 = (0..runs).map(|run| value((0..events).fold(0, |c, n| next(c, run * events + n)))).sum();
            let ratio = counted / (runs * events) as f64;
            assert!((ratio - 1.0).abs() < 0.12, "{events}: {ratio}");
        }
    }
}
