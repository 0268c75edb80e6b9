//! Where the namespace takes its times from: the one place that reads the clock.

use crate::format::value::Time;

/// A source of times; tests give their own.
pub type Clock = Box<dyn Fn() -> Time + Send + Sync>;

/// `CLOCK_REALTIME`.
pub fn now() -> Time {
    let ts = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
    Time { secs: ts.tv_sec, nanos: ts.tv_nsec as u32 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_is_past_2020_and_does_not_run_backwards() {
        let (a, b) = (now(), now());
        assert!(a.secs > 1_577_836_800 && a <= b);
    }
}
