//! Taking processor and memory away from a worker: the idle scheduling class on a processor that others keep busy, and no
//! more address space than it has.

use std::process::{Child, Stdio};

use anyhow::Result;
use gleanfs::cli::bench::process::{command, installed, run};

use super::advice::Worker;

/// The processor on which the worker starves.
const PROCESSOR: &str = "0";
/// SCHED_IDLE (linux/sched.h).
pub(crate) const IDLE: u32 = 5;

/// A process that keeps the worker's processor busy; gone when dropped, or when this process is.
pub(crate) struct Burner(Child);

impl Burner {
    pub(crate) fn start() -> Result<Self> {
        let mut burn = command("taskset");
        burn.args(["-c", PROCESSOR, "sh", "-c", "while kill -0 $0; do :; done", &std::process::id().to_string()]);
        Ok(Self(burn.stdin(Stdio::null()).spawn()?))
    }
}

impl Drop for Burner {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The first of the programs that this needs and that is not there.
pub(crate) fn missing_program() -> Option<&'static str> {
    ["chrt", "taskset", "prlimit"].into_iter().find(|program| !installed(program))
}

/// Starves all threads of `worker`. An error if it has ended meanwhile.
pub(crate) fn starve(worker: &Worker) -> Result<()> {
    let pid = worker.pid.to_string();
    run(command("taskset").args(["--all-tasks", "--cpu-list", "--pid", PROCESSOR, &pid]))?;
    run(command("chrt").args(["--all-tasks", "--idle", "--pid", "0", &pid]))?;
    run(command("prlimit").args(["--pid", &pid, "--as=1048576", "--nofile=0"]))?;
    Ok(())
}
