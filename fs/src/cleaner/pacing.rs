//! How fast users may write while segments run short: in proportion to what cleaning gains.
//!
//! All writers share one queue in time. Each write books its blocks behind those before it, at a price per block that grows with the
//! shortage; its answer is due when its turn has come. Above *high* the price is nothing; half way to *low* users write as fast as
//! the cleaner gains room, and at *low* a quarter as fast, so the shortage falls. Nobody sleeps here: whoever answers holds the answer back.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Longest time that an answer is held back. What this does not slow down meets the limit of the log itself.
const PAUSE_MAX: Duration = Duration::from_millis(100);
/// Shorter pauses are not worth a timer.
const PAUSE_MIN: Duration = Duration::from_micros(60);
/// Blocks per second that cleaning is taken to gain before it was measured, and at the least: 64 MiB and 1 MiB.
const GAIN_FIRST: f64 = 16384.0;
const GAIN_MIN: f64 = 256.0;
/// Weight of one victim in the measured gain.
const GAIN_WEIGHT: f64 = 0.125;
/// Price of a block at *low*, in units of the time in which cleaning gains a block.
const PRICE_AT_LOW: f64 = 4.0;

/// The queue, and what cleaning gains.
#[derive(Debug)]
pub(super) struct Pacing(Mutex<Books>);

#[derive(Debug)]
struct Books {
    /// Blocks per second.
    gain: f64,
    /// When the last booking is due; in the past if the queue is empty.
    booked: Instant,
}

impl Pacing {
    pub(super) fn new() -> Self {
        Self(Mutex::new(Books { gain: GAIN_FIRST, booked: Instant::now() }))
    }

    /// One victim was cleaned in `took` and left `freed_blocks` to be written again.
    pub(super) fn cleaned(&self, freed_blocks: u32, took: Duration) {
        let gain = f64::from(freed_blocks) / took.as_secs_f64().max(1e-6);
        let mut books = self.0.lock();
        books.gain += (gain - books.gain) * GAIN_WEIGHT;
        books.gain = books.gain.max(GAIN_MIN);
    }

    /// Books `blocks` at `shortage` (0 to 1, see [`super::Marks::shortage`]); for how long from `now` on the answer is to be held back.
    pub(super) fn book(&self, blocks: u64, shortage: f64, now: Instant) -> Duration {
        if shortage <= 0.0 {
            return Duration::ZERO;
        }
        let mut books = self.0.lock();
        let price = PRICE_AT_LOW * shortage * shortage / books.gain;
        // A debt beyond the limit is forgotten: it must not outlast the shortage.
        let due = books.booked.max(now) + PAUSE_MAX.min(Duration::from_secs_f64(price * blocks as f64));
        books.booked = due.min(now + PAUSE_MAX);
        let pause = books.booked - now;
        if pause < PAUSE_MIN { Duration::ZERO } else { pause }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Blocks per second that writers of `blocks` each get at a shortage, as long as their answers are not held back for too long.
    fn rate(pacing: &Pacing, blocks: u64, shortage: f64) -> f64 {
        let begin = Instant::now();
        let mut now = begin;
        for _ in 0..1000 {
            now += pacing.book(blocks, shortage, now);
        }
        (1000 * blocks) as f64 / (now - begin).as_secs_f64()
    }

    #[test]
    fn users_write_in_proportion_to_what_cleaning_gains() {
        let pacing = Pacing::new();
        for _ in 0..100 {
            pacing.cleaned(100, Duration::from_millis(100));
        }
        let (full, half) = (rate(&pacing, 4, 1.0), rate(&pacing, 4, 0.5));
        assert!((225.0..275.0).contains(&full), "a quarter of 1000 blocks a second: {full}");
        assert!((900.0..1100.0).contains(&half), "{half}");
        assert_eq!(pacing.book(1000, 0.0, Instant::now()), Duration::ZERO);
    }

    #[test]
    fn many_writers_share_one_queue_and_nobody_waits_longer_than_the_limit() {
        let pacing = Pacing::new();
        let now = Instant::now();
        let pauses: Vec<_> = (0..10_000).map(|_| pacing.book(16, 1.0, now)).collect();
        assert!(pauses.is_sorted());
        assert_eq!(pauses.last(), Some(&PAUSE_MAX));
        // The debt ends with the limit.
        assert!(pacing.book(1, 1.0, now + PAUSE_MAX) < Duration::from_millis(1));
        (0..100).for_each(|_| pacing.cleaned(0, Duration::from_secs(1)));
        assert_eq!(pacing.book(1 << 20, 1.0, now + 3 * PAUSE_MAX), PAUSE_MAX);
    }
}
