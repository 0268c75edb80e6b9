//! What a daemon tells of its advisor, and signals to the worker.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use gleanfs::cli::bench::process::{check_interrupt, run};
use gleanfs::control::message::{Model, ModelRole};
use gleanfs::control::status::Advisor;
use gleanfs::control::{Client, Request, Response, Status};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::program;

/// The control socket answers and never calls, so what should become true is asked for so often.
const ASK_EVERY: Duration = Duration::from_millis(10);
/// The daemon's longest pause between two starts of a worker, and a start.
pub(crate) const RECOVERY_SECS: u64 = 90;

/// The advisor of one mount, seen from outside.
pub(crate) struct Advice {
    target: PathBuf,
    program: PathBuf,
}

/// One worker process; its number may be another's by now, the descriptor is not.
pub(crate) struct Worker {
    pub pid: u32,
    process: OwnedFd,
}

impl Advice {
    pub(crate) fn of(target: &Path) -> Result<Self> {
        Ok(Self { target: target.into(), program: program::gleanfs()? })
    }

    pub(crate) fn target(&self) -> &Path {
        &self.target
    }

    pub(crate) fn status(&self) -> Result<Status> {
        match Client::connect(&self.target)?.ask(&Request::Status)? {
            Response::Status(status) => Ok(*status),
            other => bail!("the daemon answers {other:?} when asked for its status"),
        }
    }

    /// Waits until the status is as `wanted`, and answers with it.
    pub(crate) fn await_status(&self, most: Duration, what: &str, wanted: impl Fn(&Status) -> bool) -> Result<Status> {
        let begun = Instant::now();
        loop {
            check_interrupt()?;
            let status = self.status()?;
            if wanted(&status) {
                return Ok(status);
            }
            ensure!(begun.elapsed() < most, "not {what} within {most:?}: {:?}", status.advisor);
            std::thread::sleep(ASK_EVERY);
        }
    }

    pub(crate) fn await_ready(&self, most: Duration) -> Result<Status> {
        self.await_status(most, "ready", is_ready)
    }

    /// Waits until both workers are there, for as long as the daemon may take between two starts.
    pub(crate) fn await_workers(&self) -> Result<()> {
        let both = |status: &Status| is_ready(status) && status.victim_advisor.worker == "ready";
        self.await_status(Duration::from_secs(RECOVERY_SECS), "ready", both).map(drop)
    }

    /// Waits until the cleaner is at work; `check` finds out whether the load still goes.
    pub(crate) fn await_cleaning(&self, check: impl Fn() -> Result<()>, most: Duration) -> Result<()> {
        self.await_status(most, "cleaning", |status| check().is_err() || cleaned(status) > 0)?;
        check()
    }

    /// Waits until the model may decide, but no longer than `most`: it may not be worth it.
    pub(crate) fn await_trust(&self, check: impl Fn() -> Result<()>, most: Duration) -> Result<()> {
        let begun = Instant::now();
        let decides = |status: &Status| matches!(&*status.advisor.trust, "collaboration" | "recommendation");
        self.await_status(Duration::MAX, "trusted", |status| {
            decides(status) || begun.elapsed() >= most || check().is_err()
        })?;
        check()
    }

    /// The one that is asked about placement.
    pub(crate) fn worker(&self) -> Result<Worker> {
        Self::worker_of(&self.status()?.advisor)
    }

    pub(crate) fn worker_for_victims(&self) -> Result<Worker> {
        Self::worker_of(&self.status()?.victim_advisor)
    }

    fn worker_of(advisor: &Advisor) -> Result<Worker> {
        let pid = advisor.worker_pid.with_context(|| format!("there is no worker: {}", advisor.worker))?;
        let known = Pid::from_raw(pid as i32).context("the worker has no process id")?;
        Ok(Worker { pid, process: pidfd_open(known, PidfdFlags::empty())? })
    }

    pub(crate) fn models(&self) -> Result<Vec<Model>> {
        match Client::connect(&self.target)?.ask(&Request::ModelList)? {
            Response::Models(models) => Ok(models),
            other => bail!("the daemon answers {other:?} when asked for its models"),
        }
    }

    /// The name of the model in use.
    pub(crate) fn current(&self) -> Result<String> {
        let models = self.models()?;
        let current = models.into_iter().find(|model| model.role == ModelRole::Active);
        Ok(current.context("no model is in use")?.name)
    }

    /// `gleanfs model use`, as a user runs it; the line that it was refused with.
    pub(crate) fn use_model(&self, file: &Path) -> Result<(), String> {
        let mut command = Command::new(&self.program);
        run(command.args(["model", "use"]).arg(&self.target).arg(file)).map(drop).map_err(|failure| failure.message)
    }

    pub(crate) fn rollback(&self) -> Result<()> {
        run(Command::new(&self.program).args(["model", "rollback"]).arg(&self.target))?;
        Ok(())
    }
}

pub(crate) fn is_ready(status: &Status) -> bool {
    status.advisor.worker == "ready"
}

/// Segments that the cleaner has emptied.
pub(crate) fn cleaned(status: &Status) -> u64 {
    status.cleaner.deciders.iter().map(|work| work.segments).sum()
}

/// Who decided how much, in lines that begin with `what`.
pub(crate) fn print(what: &str, status: &Status) {
    let advisor = &status.advisor;
    let cleaned: Vec<String> = status
        .cleaner
        .deciders
        .iter()
        .map(|work| format!("{} {} (moved {})", work.decider, work.segments, work.moved_blocks))
        .collect();
    let placed: Vec<String> =
        advisor.placements.iter().map(|p| format!("{} {}+{}", p.decider, p.user_blocks, p.moved_blocks)).collect();
    println!("{what}: segments cleaned by {}", cleaned.join(", "));
    println!("{what}: blocks placed (written+moved) by {}", placed.join(", "));
    println!(
        "{what}: worker {}, trust {}, {} restarts, {} batches, {} deadlines missed, {} swaps, {} refused",
        advisor.worker,
        advisor.trust,
        advisor.worker_restarts,
        advisor.batches,
        advisor.deadlines_missed,
        advisor.swaps,
        advisor.swaps_refused
    );
}

impl Worker {
    pub(crate) fn signal(&self, signal: Signal) -> Result<()> {
        pidfd_send_signal(&self.process, signal).with_context(|| format!("{signal:?} to worker {}", self.pid))
    }

    /// True once it has ended, waited for at most for `most`.
    pub(crate) fn has_ended(&self, most: Duration) -> Result<bool> {
        let most = Timespec { tv_sec: most.as_secs() as i64, tv_nsec: most.subsec_nanos().into() };
        Ok(poll(&mut [PollFd::from_borrowed_fd(self.process.as_fd(), PollFlags::IN)], Some(&most))? > 0)
    }

    pub(crate) fn await_end(&self, most: Duration) -> Result<()> {
        ensure!(self.has_ended(most)?, "worker {} has not ended within {most:?}", self.pid);
        Ok(())
    }

    /// State letter and scheduling policy, as the kernel tells them (proc_pid_stat(5), fields 3 and 41).
    pub(crate) fn kernel_view(&self) -> Result<(char, u32)> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid))?;
        let (_, fields) = stat.rsplit_once(") ").context("a process's stat names it")?;
        let fields: Vec<&str> = fields.split(' ').collect();
        let state = fields.first().and_then(|field| field.chars().next()).context("stat without a state")?;
        Ok((state, fields.get(38).context("stat without a policy")?.parse()?))
    }
}
