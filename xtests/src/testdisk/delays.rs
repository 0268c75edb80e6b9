//! Operations that a disk holds up before it does them: as one that retries, spins up or collects garbage does, for seconds at a time.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// What may be held up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    Read,
    /// Or discarded.
    Write,
    Flush,
}

/// How many operations of each kind were held up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HeldCounts {
    pub reads: u64,
    pub writes: u64,
    pub flushes: u64,
}

/// Every so-and-so-manieth operation of each kind waits.
#[derive(Debug, Default)]
pub struct Delays {
    /// 0: none.
    every: AtomicU64,
    millis: AtomicU64,
    seen: [AtomicU64; 3],
    held: [AtomicU64; 3],
}

impl Delays {
    /// From now on, each `every`-th operation of a kind waits so long; none if that is 0.
    pub fn set(&self, every: u64, millis: u64) {
        self.millis.store(millis, Relaxed);
        self.every.store(every, Relaxed);
    }

    /// To be called before an operation is done, with nothing locked.
    pub fn pass(&self, what: Held) {
        let every = self.every.load(Relaxed);
        if every > 0 && (self.seen[what as usize].fetch_add(1, Relaxed) + 1).is_multiple_of(every) {
            self.held[what as usize].fetch_add(1, Relaxed);
            std::thread::sleep(Duration::from_millis(self.millis.load(Relaxed)));
        }
    }

    pub fn counts(&self) -> HeldCounts {
        let [reads, writes, flushes] = [0, 1, 2].map(|what| self.held[what].load(Relaxed));
        HeldCounts { reads, writes, flushes }
    }
}

impl HeldCounts {
    /// As a line of numbers, and back.
    pub fn to_line(self) -> String {
        format!("{} {} {}", self.reads, self.writes, self.flushes)
    }

    pub fn from_line(line: &str) -> Option<Self> {
        let numbers: Vec<u64> = line.split_whitespace().map(str::parse).collect::<Result<_, _>>().ok()?;
        let [reads, writes, flushes] = numbers[..] else { return None };
        Some(Self { reads, writes, flushes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_of_so_many_is_held_up_and_counted() {
        let delays = Delays::default();
        delays.pass(Held::Read);
        delays.set(2, 0);
        (0..5).for_each(|_| delays.pass(Held::Write));
        (0..2).for_each(|_| delays.pass(Held::Flush));
        let counts = HeldCounts { reads: 0, writes: 2, flushes: 1 };
        assert_eq!(delays.counts(), counts);
        assert_eq!(HeldCounts::from_line(&counts.to_line()), Some(counts));
        assert_eq!(HeldCounts::from_line("1 2"), None);
    }
}
