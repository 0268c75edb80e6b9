//! Watching a load: the mount's own numbers now and then, shown while it runs and kept for the comparison.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::image::Image;
use super::overwrite::{Until, Written};
use crate::cli::failure::Result;
use crate::cli::progress::Bar;
use crate::control::Status;
use crate::types::BLOCK_SIZE;

const LOOK_EVERY: Duration = Duration::from_millis(500);

/// The end of the load, for those who run beside it.
#[derive(Default)]
pub struct End {
    has_come: Mutex<bool>,
    come: Condvar,
}

impl End {
    pub fn announce(&self) {
        *self.has_come.lock() = true;
        self.come.notify_all();
    }

    /// Waits for the end, at most so long. True once it has come.
    pub fn wait(&self, time: Duration) -> bool {
        let mut has_come = self.has_come.lock();
        if !*has_come {
            self.come.wait_for(&mut has_come, time);
        }
        *has_come
    }
}

/// Device bytes at some number of writes since the load began.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    pub writes: u64,
    pub device_bytes: u64,
}

/// What the device got in the course of a load.
#[derive(Clone, Debug, Default)]
pub struct Timeline {
    samples: Vec<Sample>,
    /// Levels of trust, and at how many writes each was seen first.
    trust: Vec<(u64, String)>,
}

impl Timeline {
    pub fn starting_at(status: &Status) -> Self {
        let samples = vec![Sample { writes: 0, device_bytes: status.traffic.device_bytes }];
        Self { samples, trust: vec![(0, status.advisor.trust.clone())] }
    }

    pub fn note(&mut self, writes: u64, status: &Status) {
        if self.trust.last().is_none_or(|(_, level)| *level != status.advisor.trust) {
            self.trust.push((writes, status.advisor.trust.clone()));
        }
        let sample = Sample { writes, device_bytes: status.traffic.device_bytes };
        if self.samples.last().is_none_or(|last| last.writes < writes) {
            self.samples.push(sample);
        }
    }

    /// The last sample counts everything, so it takes the place of one that was taken at the same write.
    pub fn finish(&mut self, written: &Written, status: &Status) {
        self.samples.retain(|sample| sample.writes < written.total());
        self.note(written.total(), status);
    }

    /// The levels of trust in the course of the load, as text.
    pub fn trust_levels(&self) -> String {
        let total = self.samples.last().map_or(1, |last| last.writes.max(1));
        let level = |(writes, level): &(u64, String)| format!("{level} from {} %", 100 * writes / total);
        self.trust.iter().map(level).collect::<Vec<_>>().join(", ")
    }

    /// Device bytes over user bytes between two shares of the load, 0 to 1.
    pub fn amplification(&self, from: f64, to: f64) -> Option<f64> {
        let total = self.samples.last()?.writes as f64;
        let user = (to - from) * total * BLOCK_SIZE as f64;
        (user > 0.0).then(|| (self.device_at(to * total) - self.device_at(from * total)) / user)
    }

    /// Between two samples the device is taken to be written evenly.
    fn device_at(&self, writes: f64) -> f64 {
        let after = self.samples.partition_point(|sample| (sample.writes as f64) < writes);
        let (before, after) = (after.saturating_sub(1), after.min(self.samples.len() - 1));
        let (a, b) = (self.samples[before], self.samples[after]);
        if a.writes == b.writes {
            return b.device_bytes as f64;
        }
        let share = (writes - a.writes as f64) / (b.writes - a.writes) as f64;
        a.device_bytes as f64 + share * (b.device_bytes as f64 - a.device_bytes as f64)
    }
}

/// Steps of a bar for a load that ends thus.
pub fn steps(until: &Until) -> u64 {
    match until {
        Until::After(time) => time.as_millis() as u64,
        Until::Writes(counts) => counts.iter().sum(),
    }
}

/// Looks at the mount until the end, shows its numbers, notes them in `timeline`. A status that cannot be had is left out: the one at the
/// end is demanded elsewhere.
pub fn watch(image: &Image, timeline: &mut Timeline, until: &Until, progress: &AtomicU64, bar: &Bar, end: &End) {
    let began = Instant::now();
    let first = timeline.samples.first().copied();
    while !end.wait(LOOK_EVERY) {
        let writes = progress.load(Relaxed);
        bar.at(match until {
            Until::After(_) => began.elapsed().as_millis() as u64,
            Until::Writes(_) => writes,
        });
        let found: Result<Status> = image.status();
        if let (Ok(status), Some(first)) = (found, first) {
            bar.message(numbers(&status, first, writes, began.elapsed()));
            timeline.note(writes, &status);
        }
    }
}

fn numbers(status: &Status, first: Sample, writes: u64, time: Duration) -> String {
    let user = (writes * BLOCK_SIZE as u64) as f64;
    let device = (status.traffic.device_bytes - first.device_bytes) as f64;
    let amplification = if writes > 0 { device / user } else { 0.0 };
    let rate = user / time.as_secs_f64() / (1 << 20) as f64;
    let (free, advisor) = (status.segments.free, &status.advisor);
    format!(
        "{rate:.0} MiB/s  WA {amplification:.2}  {free} segments free  trust {}, pressure {}",
        advisor.trust, advisor.pressure
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timeline(samples: &[(u64, u64)]) -> Timeline {
        let samples = samples.iter().map(|&(writes, device_bytes)| Sample { writes, device_bytes }).collect();
        Timeline { samples, trust: Vec::new() }
    }

    #[test]
    fn amplification_of_a_part_is_taken_between_the_samples() {
        let block = BLOCK_SIZE as u64;
        let line = timeline(&[(0, 500), (100, 500 + 100 * block), (200, 500 + 400 * block)]);
        assert_eq!(line.amplification(0.0, 1.0), Some(2.0));
        assert_eq!(line.amplification(0.0, 0.5), Some(1.0));
        assert_eq!(line.amplification(0.5, 1.0), Some(3.0));
        assert_eq!(line.amplification(0.25, 0.75), Some(2.0));
        assert_eq!(line.amplification(0.5, 0.5), None);
        assert_eq!(line.trust_levels(), "");
        assert_eq!(Timeline::default().amplification(0.0, 1.0), None);
    }

    #[test]
    fn the_last_sample_counts() {
        let mut line = timeline(&[(0, 0), (10, 5)]);
        let written = Written { writes: vec![4, 6], ..Written::default() };
        let mut status = Status::default();
        status.traffic.device_bytes = 10 * BLOCK_SIZE as u64;
        line.finish(&written, &status);
        assert_eq!(line.amplification(0.0, 1.0), Some(1.0));
    }

    #[test]
    fn the_end_wakes_those_who_wait() {
        let end = End::default();
        assert!(!end.wait(Duration::ZERO));
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| end.wait(Duration::from_secs(600)));
            end.announce();
            assert!(waiting.join().unwrap());
        });
    }
}
