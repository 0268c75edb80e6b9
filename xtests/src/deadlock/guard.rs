//! The process that gives back what a trial took from the whole machine. It lives until the trial lets go of it or is gone, however that
//! ended, so a trial that was killed leaves the machine as it was. There is no other way back, so every trial takes this one; processes end with the trial.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};

/// A process that was just moved or killed may still hold its cgroup for a moment.
const TRIES: u32 = 100;
const PAUSE: Duration = Duration::from_millis(20);

/// How to take one thing back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Undo {
    /// Writes `value` to `path`.
    Write { path: PathBuf, value: String },
    /// Sends everybody in `cgroup` to the cgroup `home` and removes it.
    Disband { cgroup: PathBuf, home: PathBuf },
    /// Lets a stopped process go on.
    Continue { pid: i32 },
}

/// The guard, seen from the trial. Dropped, it undoes everything, latest first, before the drop returns.
pub(super) struct Guard(Child);

impl Guard {
    /// `me` is this program; with `--guard` it becomes the guard. In a process group of its own: a terminal's interrupt is for the trial.
    pub(super) fn start(mut me: Command) -> Result<Self> {
        let child = me.arg("--guard").process_group(0).stdin(Stdio::piped()).stdout(Stdio::null()).spawn();
        Ok(Self(child.context("starting the guard")?))
    }

    /// Says how to take back what is about to be done.
    pub(super) fn before(&mut self, undo: &Undo) -> Result<()> {
        let mut line = serde_json::to_vec(undo)?;
        line.push(b'\n');
        let guard = self.0.stdin.as_mut().context("the guard has been let go")?;
        guard.write_all(&line).context("the guard is gone")
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        if let Err(why) = self.0.wait() {
            eprintln!("waiting for the guard: {why}");
        }
    }
}

/// The guard's life: listens until nobody can say anything any more, then undoes it all.
pub fn guard() -> Result<()> {
    // Where memory is short it must be the last to go.
    let _ = std::fs::write("/proc/self/oom_score_adj", "-1000");
    let mut told: Vec<Undo> = Vec::new();
    for line in BufReader::new(std::io::stdin()).lines() {
        told.push(serde_json::from_str(&line?).context("the trial's word")?);
    }
    for undo in told.iter().rev() {
        if let Err(why) = undo.run() {
            eprintln!("guard: {undo:?}: {why:#}");
        }
    }
    Ok(())
}

impl Undo {
    fn run(&self) -> Result<()> {
        match self {
            Self::Write { path, value } => Ok(std::fs::write(path, value)?),
            Self::Disband { cgroup, home } => disband(cgroup, home),
            Self::Continue { pid } => {
                let pid = Pid::from_raw(*pid).context("no process")?;
                // It has ended: then it does not stand still either.
                let _ = kill_process(pid, Signal::CONT);
                Ok(())
            }
        }
    }
}

fn disband(cgroup: &Path, home: &Path) -> Result<()> {
    if !cgroup.exists() {
        return Ok(());
    }
    for _ in 1..TRIES {
        for pid in std::fs::read_to_string(cgroup.join("cgroup.procs"))?.lines() {
            // One that has ended meanwhile cannot be moved and need not be.
            let _ = std::fs::write(home.join("cgroup.procs"), pid);
        }
        if std::fs::remove_dir(cgroup).is_ok() {
            return Ok(());
        }
        std::thread::sleep(PAUSE);
    }
    Ok(std::fs::remove_dir(cgroup)?)
}
