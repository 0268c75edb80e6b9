//! How fast a scrub reads: as fast as the user says, or politely.

use std::time::Duration;

use crate::device::Traffic;

/// Most that a polite scrub reads when nobody else does anything.
const POLITE_BYTES_PER_SEC: u64 = 128 << 20;
/// While others use the device a polite scrub rests so many times as long as it has read.
const BUSY_RESTS: u32 = 9;
/// How long it stands back, piece by piece, while the cleaner is in an emergency: it goes on in any case.
const PRESSED_REST: Duration = Duration::from_secs(1);

/// The speed of a pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pace {
    /// The device's idle time, and a tenth of it while others use it.
    #[default]
    Polite,
    /// At most so many bytes a second, whoever else is at work.
    BytesPerSec(u64),
}

/// Decides how long a pass rests after each piece.
pub(super) struct Pacer {
    pace: Pace,
    /// Bytes read by the pass, and those that the device moved for everybody, when the last piece ended.
    own_bytes: u64,
    all_bytes: u64,
}

fn moved(traffic: &Traffic) -> u64 {
    traffic.read_bytes + traffic.written_bytes
}

impl Pacer {
    pub fn new(pace: Pace, traffic: Traffic) -> Self {
        Self { pace, own_bytes: 0, all_bytes: moved(&traffic) }
    }

    /// The rest after a piece that took `took`. `own_bytes`: read by the pass so far.
    pub fn pause(
        &mut self,
        own_bytes: u64,
        took: Duration,
        traffic: Traffic,
        is_pressed: impl Fn() -> bool,
    ) -> Duration {
        let own = own_bytes.saturating_sub(self.own_bytes);
        let all = moved(&traffic).saturating_sub(self.all_bytes);
        (self.own_bytes, self.all_bytes) = (own_bytes, moved(&traffic));
        let at_rate = |rate: u64| Duration::from_secs_f64(own as f64 / rate.max(1) as f64).saturating_sub(took);
        match self.pace {
            Pace::BytesPerSec(rate) => at_rate(rate),
            Pace::Polite if is_pressed() => PRESSED_REST,
            Pace::Polite if all > own => at_rate(POLITE_BYTES_PER_SEC).max(took * BUSY_RESTS),
            Pace::Polite => at_rate(POLITE_BYTES_PER_SEC),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_kept_and_politeness_gives_way() {
        let traffic = |read_bytes| Traffic { read_bytes, ..Traffic::default() };
        let took = Duration::from_millis(10);
        let mut pacer = Pacer::new(Pace::BytesPerSec(1 << 20), traffic(0));
        assert_eq!(pacer.pause(1 << 20, took, traffic(9 << 20), || true), Duration::from_millis(990));
        let mut pacer = Pacer::new(Pace::Polite, traffic(0));
        assert_eq!(pacer.pause(1 << 20, took, traffic(1 << 20), || false), Duration::ZERO);
        assert_eq!(pacer.pause(2 << 20, took, traffic(4 << 20), || false), took * BUSY_RESTS);
        assert_eq!(pacer.pause(3 << 20, took, traffic(5 << 20), || true), PRESSED_REST);
        assert_eq!(pacer.pause(131 << 20, took, traffic(133 << 20), || false), Duration::from_millis(990));
    }
}
