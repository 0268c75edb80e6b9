//! How fast many operations of one kind go, and whether they get slower: by the clock, and by the processor time of the daemon, which another
//! program's load does not change.

use std::fmt;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use gleanfs::control::Client;

use crate::volume::{Peer, Volume};

/// Operations per second and what each costs the daemon, in the mean and in the first and last tenth.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    pub mean: f64,
    pub first: f64,
    pub last: f64,
    cpu_us: Option<[f64; 3]>,
}

impl fmt::Display for Pace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.0}/s (first tenth {:.0}/s, last {:.0}/s)", self.mean, self.first, self.last)?;
        match self.cpu_us {
            Some([mean, first, last]) => {
                write!(f, ", each {mean:.0} us of the daemon's time (first tenth {first:.0}, last {last:.0})")
            }
            None => Ok(()),
        }
    }
}

/// Units of the times in /proc (USER_HZ), 100 on every machine of today.
const TICKS_PER_SECOND: u32 = 100;

/// The process that serves a mount, if one does.
#[derive(Clone, Copy, Debug)]
pub struct Daemon(Option<i32>);

impl Daemon {
    pub fn of(volume: &Volume) -> Result<Self> {
        match volume.peer() {
            Peer::Gleanfs => Ok(Self(Some(Client::connect(volume.target())?.daemon_pid().as_raw_nonzero().get()))),
            Peer::Ext4 => Ok(Self::none()),
        }
    }

    pub fn none() -> Self {
        Self(None)
    }

    /// Processor time of all its threads, in user and kernel mode (proc_pid_stat(5), fields 14 and 15).
    fn cpu(self) -> Result<Option<Duration>> {
        let Some(pid) = self.0 else { return Ok(None) };
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
        let (_, fields) = stat.rsplit_once(") ").context("a process's stat names it")?;
        let times = fields.split(' ').skip(11).take(2).map(str::parse::<u64>).sum::<Result<u64, _>>()?;
        Ok(Some(Duration::from_secs_f64(times as f64 / f64::from(TICKS_PER_SECOND))))
    }
}

/// Measures `count` operations in tenths.
pub(super) struct Tenths {
    count: u64,
    daemon: Daemon,
    begun: Instant,
    marks: Vec<(Duration, Option<Duration>)>,
}

impl Tenths {
    pub(super) fn new(count: u64, daemon: Daemon) -> Self {
        let mut tenths = Self { count, daemon, begun: Instant::now(), marks: Vec::with_capacity(11) };
        tenths.marks.push((Duration::ZERO, daemon.cpu().ok().flatten()));
        tenths
    }

    /// After `done` operations.
    pub(super) fn note(&mut self, done: u64) -> Result<()> {
        if done * 10 >= self.count * self.marks.len() as u64 {
            self.marks.push((self.begun.elapsed(), self.daemon.cpu()?));
        }
        Ok(())
    }

    pub(super) fn pace(&self) -> Pace {
        let last = self.marks.len() - 1;
        let tenths = |from: usize, to: usize| self.count as f64 * (to - from) as f64 / 10.0;
        let rate = |from: usize, to: usize| tenths(from, to) / (self.marks[to].0 - self.marks[from].0).as_secs_f64();
        let cost = |from: usize, to: usize| match (self.marks[from].1, self.marks[to].1) {
            (Some(before), Some(after)) => Some((after - before).as_secs_f64() * 1e6 / tenths(from, to)),
            _ => None,
        };
        let cpu_us =
            cost(0, last).zip(cost(0, 1)).zip(cost(last - 1, last)).map(|((all, first), last)| [all, first, last]);
        Pace { mean: rate(0, last), first: rate(0, 1), last: rate(last - 1, last), cpu_us }
    }
}
