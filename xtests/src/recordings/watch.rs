//! The filesystem's counters, looked at every second while a load runs, and the figures that tell whether the cleaner was at work.

use std::path::Path;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use gleanfs::control::{Client, Request, Response, Status};

const EVERY: Duration = Duration::from_secs(1);

/// The counters at one moment.
#[derive(Clone, Copy, Debug)]
struct Sample {
    since_start: Duration,
    user_bytes: u64,
    device_bytes: u64,
    used_bytes: u64,
}

/// A thread that looks.
pub(super) struct Watch {
    stop: Sender<()>,
    thread: JoinHandle<Result<Vec<Sample>>>,
    begun: Instant,
}

/// What a load wrote.
#[derive(Clone, Debug)]
pub(super) struct Figures {
    device_total_bytes: u64,
    segments: u32,
    segment_bytes: u64,
    cleaned_segments: u64,
    user_bytes: u64,
    device_bytes: u64,
    /// Write amplification over the later half of the user's bytes; `None` if they came too quickly to look between.
    later_amplification: Option<f64>,
    /// Mean and maximum after the filling.
    live_bytes_mean: f64,
    live_bytes_max: u64,
    took: Duration,
}

impl Watch {
    /// Looks at the mount at `target` until it is ended or dropped.
    pub(super) fn start(target: &Path) -> Result<Self> {
        let (stop, stopped) = mpsc::channel();
        let (begun, target) = (Instant::now(), target.to_owned());
        let thread = std::thread::spawn(move || {
            let mut samples = Vec::new();
            while stopped.recv_timeout(EVERY) == Err(RecvTimeoutError::Timeout) {
                // The daemon serves one client at a time, so none may stay.
                match Client::connect(&target)?.ask(&Request::Status)? {
                    Response::Status(status) => samples.push(Sample::of(&status, begun.elapsed())),
                    other => bail!("the daemon answers {other:?}"),
                }
            }
            Ok(samples)
        });
        Ok(Self { stop, thread, begun })
    }

    /// The figures of a load that had filled the filesystem after `filled` and ended with `last`.
    pub(super) fn end(self, last: &Status, filled: Duration) -> Result<Figures> {
        drop(self.stop);
        let mut samples = self.thread.join().expect("the watch does not panic")?;
        samples.push(Sample::of(last, self.begun.elapsed()));
        Figures::of(&samples, last, filled)
    }
}

impl Sample {
    fn of(status: &Status, since_start: Duration) -> Self {
        Self {
            since_start,
            user_bytes: status.traffic.user_bytes,
            device_bytes: status.traffic.device_bytes,
            used_bytes: status.space.used_bytes,
        }
    }
}

impl Figures {
    pub(super) const HEADS: [&str; 12] = [
        "load",
        "live MiB",
        "% of device",
        "most %",
        "user MiB",
        "times live",
        "device MiB",
        "WA",
        "later half",
        "segments",
        "cleaned",
        "seconds",
    ];

    fn of(samples: &[Sample], status: &Status, filled: Duration) -> Result<Self> {
        ensure!(status.traffic.user_bytes > 0, "nothing was written");
        let last = *samples.last().expect("at least what was asked at the end");
        let half =
            samples.iter().find(|sample| sample.user_bytes >= last.user_bytes / 2).expect("the last one has more");
        let full: Vec<u64> =
            samples.iter().filter(|sample| sample.since_start >= filled).map(|sample| sample.used_bytes).collect();
        let later = (last.user_bytes - half.user_bytes, last.device_bytes - half.device_bytes);
        let Status { segments, cleaner, .. } = status;
        Ok(Self {
            device_total_bytes: u64::from(segments.total) * segments.segment_bytes,
            segments: segments.total,
            segment_bytes: segments.segment_bytes,
            cleaned_segments: cleaner.deciders.iter().map(|decider| decider.segments).sum(),
            user_bytes: last.user_bytes,
            device_bytes: last.device_bytes,
            later_amplification: (later.0 > 0).then(|| later.1 as f64 / later.0 as f64),
            live_bytes_mean: full.iter().sum::<u64>() as f64 / full.len() as f64,
            live_bytes_max: full.iter().copied().max().unwrap_or(0),
            took: last.since_start,
        })
    }

    /// Under [`Self::HEADS`].
    pub(super) fn row(&self, name: &str) -> Vec<String> {
        let mib = |bytes: f64| format!("{:.0}", bytes / f64::from(1 << 20));
        let percent = |bytes: f64| format!("{:.1}", 100.0 * bytes / self.device_total_bytes as f64);
        vec![
            name.into(),
            mib(self.live_bytes_mean),
            percent(self.live_bytes_mean),
            percent(self.live_bytes_max as f64),
            mib(self.user_bytes as f64),
            format!("{:.1}", self.user_bytes as f64 / self.live_bytes_mean),
            mib(self.device_bytes as f64),
            format!("{:.2}", self.device_bytes as f64 / self.user_bytes as f64),
            self.later_amplification.map_or("-".into(), |amplification| format!("{amplification:.2}")),
            format!("{} of {} KiB", self.segments, self.segment_bytes >> 10),
            self.cleaned_segments.to_string(),
            format!("{:.0}", self.took.as_secs_f64()),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_tell_filling_from_steady_work() {
        let sample = |secs, user_bytes, device_bytes, used_bytes| Sample {
            since_start: Duration::from_secs(secs),
            user_bytes,
            device_bytes,
            used_bytes,
        };
        let samples = [sample(1, 50, 50, 50), sample(2, 100, 110, 80), sample(3, 200, 300, 90)];
        let mut status = Status::default();
        status.traffic.user_bytes = 200;
        let figures = Figures::of(&samples, &status, Duration::from_secs(2)).unwrap();
        assert_eq!((figures.live_bytes_mean, figures.live_bytes_max), (85.0, 90));
        assert_eq!(figures.later_amplification, Some(1.9));
    }
}
