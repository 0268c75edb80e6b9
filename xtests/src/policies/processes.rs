//! Processor time of the daemon and of the processes beside it.

use anyhow::{Context, Result};
use gleanfs::control::Status;

/// Seconds of processor, user and system.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Spent {
    pub daemon_secs: f64,
    /// Of the processes that run models.
    pub worker_secs: f64,
    pub trainer_secs: f64,
}

impl Spent {
    pub(super) fn of(status: &Status) -> Result<Self> {
        let secs = |pid: Option<u32>| pid.map_or(Ok(0.0), seconds);
        Ok(Self {
            daemon_secs: seconds(status.pid)?,
            worker_secs: secs(status.advisor.worker_pid)? + secs(status.victim_advisor.worker_pid)?,
            trainer_secs: secs(status.learning.trainer_pid)?,
        })
    }

    /// A process that was replaced meanwhile counts from its start.
    pub(super) fn since(&self, before: &Self) -> Self {
        let since = |now: f64, before: f64| if now >= before { now - before } else { now };
        Self {
            daemon_secs: since(self.daemon_secs, before.daemon_secs),
            worker_secs: since(self.worker_secs, before.worker_secs),
            trainer_secs: since(self.trainer_secs, before.trainer_secs),
        }
    }

    pub(super) fn all_secs(&self) -> f64 {
        self.daemon_secs + self.worker_secs + self.trainer_secs
    }
}

/// Fields 14 and 15 of `/proc/PID/stat` (proc(5)), in clock ticks of a hundredth of a second. A process that has just ended counts as nothing.
fn seconds(pid: u32) -> Result<f64> {
    let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else { return Ok(0.0) };
    let after_name = stat.rsplit_once(')').context("/proc/PID/stat has the name in parentheses")?.1;
    let fields: Vec<&str> = after_name.split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<f64>().ok()).unwrap_or(0.0);
    Ok((ticks(11) + ticks(12)) / 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_spent_something() {
        let mut sum = 0u64;
        let before = seconds(std::process::id()).unwrap();
        while seconds(std::process::id()).unwrap() < before + 0.02 {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
        assert_eq!(seconds(0).unwrap(), 0.0, "there is no such process");
    }
}
