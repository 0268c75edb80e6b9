//! Who is killed, and what that leaves running.

use std::fmt;

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;

use crate::skip;
use crate::volume::{Backing, Peer, Volume};
use crate::workers::{self, advice::Advice};

/// Whom a round kills.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Victim {
    Daemon,
    /// Both of the advisor's workers; the writer follows later
    Worker,
    /// Daemon and workers at once
    Both,
    /// The writer, with the mount going on
    Client,
}

/// Those that can be killed on this volume. A kernel filesystem has but a client, and a power cut takes daemon and disk.
pub fn possible(wanted: &[Victim], volume: &Volume) -> Result<Vec<Victim>> {
    if volume.peer() == Peer::Ext4 {
        return Ok(vec![Victim::Client]);
    }
    ensure!(!wanted.is_empty(), "nobody to kill");
    ensure!(
        volume.backing() != Backing::Testdisk || wanted == [Victim::Daemon],
        "a test disk dies together with the daemon, and with nobody else"
    );
    let (workers, others): (Vec<_>, Vec<_>) = wanted.iter().partition(|victim| victim.has_worker());
    match workers::lacks() {
        Some(why) if !workers.is_empty() => {
            skip(format_args!("killing workers: {why}"));
            ensure!(!others.is_empty(), "nobody else to kill");
            Ok(others)
        }
        _ => Ok(wanted.to_vec()),
    }
}

impl Victim {
    /// Whether the mount lives on.
    pub fn spares_daemon(self) -> bool {
        matches!(self, Self::Worker | Self::Client)
    }

    fn has_worker(self) -> bool {
        matches!(self, Self::Worker | Self::Both)
    }

    /// Kills it, unless it is the writer, whom only its parent can kill.
    pub fn strike(self, volume: &Volume) -> Result<()> {
        if self.has_worker() {
            kill_workers(volume)?;
        }
        if self.spares_daemon() { Ok(()) } else { volume.kill_daemon() }
    }
}

fn kill_workers(volume: &Volume) -> Result<()> {
    let advice = Advice::of(volume.target())?;
    // After a kill the daemon takes its time until the next start.
    advice.await_workers().context("there is no worker to kill")?;
    advice.worker()?.signal(Signal::KILL)?;
    advice.worker_for_victims()?.signal(Signal::KILL)
}

/// What was killed so far, and what was acknowledged meanwhile.
#[derive(Debug, Default)]
pub struct Tally {
    kills: std::collections::BTreeMap<Victim, u64>,
    acknowledged: u64,
}

impl Tally {
    pub fn count(&mut self, victim: Victim, acknowledged: u64) {
        *self.kills.entry(victim).or_default() += 1;
        self.acknowledged += acknowledged;
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all: u64 = self.kills.values().sum();
        let each: Vec<String> =
            self.kills.iter().map(|(victim, n)| format!("{n} of {victim:?}").to_lowercase()).collect();
        let acknowledged = self.acknowledged;
        write!(f, "{all} kills survived ({}), {acknowledged} acknowledged operations all there", each.join(", "))
    }
}
