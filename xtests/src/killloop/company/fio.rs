//! fio, whose blocks carry a checksum: after a kill each is an old or a new one, and whole.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;
use gleanfs::cli::bench::process::{command, installed, run};

use super::{Companion, Process};

const PROGRAM: &str = "fio";

pub(super) struct Fio {
    file: PathBuf,
    process: Process,
}

pub(super) fn lacks() -> Option<String> {
    (!installed(PROGRAM)).then(|| format!("{PROGRAM} is not installed"))
}

impl Fio {
    pub(super) fn make(target: &Path) -> Result<Self> {
        let fio = Self { file: target.join("fio"), process: Process::default() };
        run(fio.job().args(["--rw=write", "--do_verify=0", "--end_fsync=1"]))?;
        Ok(fio)
    }

    fn job(&self) -> Command {
        let mut job = command(PROGRAM);
        // A thread, so that a kill hits who writes.
        job.args(["--name=company", "--thread", "--size=8M", "--bs=4k", "--ioengine=psync", "--output-format=terse"]);
        job.args(["--verify=crc32c", "--verify_state_save=0"]);
        job.arg(format!("--filename={}", self.file.display()));
        job
    }
}

impl Companion for Fio {
    fn start(&mut self) -> Result<()> {
        let mut job = self.job();
        job.args(["--rw=randwrite", "--do_verify=0", "--fdatasync=8", "--time_based", "--runtime=1000000"]);
        self.process.start(&mut job)
    }

    fn is_running(&mut self) -> Result<bool> {
        self.process.is_running()
    }

    fn kill(&mut self) -> Result<()> {
        self.process.kill()
    }

    fn check(&mut self) -> Result<()> {
        run(self.job().args(["--rw=read", "--verify_fatal=1"]))?;
        Ok(())
    }
}
