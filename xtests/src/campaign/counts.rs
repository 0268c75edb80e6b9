//! What a campaign has done so far.

use std::time::Duration;

use serde::Serialize;

/// Figures that add up over units, kinds and threads.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Counts {
    /// Units of work.
    pub rounds: u64,
    /// Lists compared with the reference, answer by answer.
    pub model_lists: u64,
    /// Times that the power went, ACE-like workloads included.
    pub crash_points: u64,
    pub ace_workloads: u64,
    pub chaos_schedules: u64,
    /// Failures that were planted in a device.
    pub faults: u64,
    /// Bits of file data that were flipped on the medium.
    pub flips: u64,
    pub failures: u64,
}

/// The figures with the time that they took.
#[derive(Serialize)]
pub(super) struct Timed<'a> {
    #[serde(flatten)]
    counts: &'a Counts,
    seconds: f64,
}

impl Counts {
    pub(super) fn add(&mut self, more: &Self) {
        for ((_, sum), (_, part)) in self.fields_mut().into_iter().zip(more.fields()) {
            *sum += part;
        }
    }

    pub(super) fn with_time(&self, time: Duration) -> Timed<'_> {
        Timed { counts: self, seconds: time.as_secs_f64() }
    }

    /// All of it in one line.
    pub(super) fn line(&self, time: Duration) -> String {
        let figures = self.fields().map(|(name, figure)| format!("{figure} {name}")).join(", ");
        format!("{figures}; {:.0} crash points/s", self.crash_points as f64 / time.as_secs_f64().max(0.001))
    }

    /// One figure a line.
    pub(super) fn print(&self, time: Duration) {
        for (name, figure) in self.fields() {
            println!("campaign: {figure:>12} {name}");
        }
        println!("campaign: {:>12.1} seconds", time.as_secs_f64());
    }

    fn fields(&self) -> [(&'static str, u64); 8] {
        let mut copy = self.clone();
        copy.fields_mut().map(|(name, figure)| (name, *figure))
    }

    fn fields_mut(&mut self) -> [(&'static str, &mut u64); 8] {
        [
            ("rounds", &mut self.rounds),
            ("model lists", &mut self.model_lists),
            ("crash points", &mut self.crash_points),
            ("ACE-like workloads", &mut self.ace_workloads),
            ("chaos schedules", &mut self.chaos_schedules),
            ("faults", &mut self.faults),
            ("flips", &mut self.flips),
            ("failures", &mut self.failures),
        ]
    }
}
