//! A disk with a volatile write cache that can be robbed of its power.
//!
//! Killing a filesystem's daemon loses nothing that it gave to the kernel, so a missing flush shows in no such test. This disk is
//! a process ([`server`]) that keeps writes in memory until a flush; killed, it loses them as a disk does at a power cut.
//! It is mounted, and what it serves is one file of fixed size.

pub mod cache;
pub mod cut;
pub mod server;

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context, Result, ensure};
use rustix::mount::UnmountFlags;
use rustix::process::Pid;

use crate::program;

/// Percent of the writes of which something is destaged before a flush, unless told otherwise.
pub const DESTAGE_PERCENT: u64 = 50;

const IMAGE_NAME: &str = "image";
const FORGET_FLUSHES: &str = "forget flushes";
const FAIL_WRITES: &str = "fail writes";
const FAIL_FLUSHES: &str = "fail flushes";
const STOP_AFTER: &str = "stop after";
const ANSWER: &str = "done";

/// The disk's process and its mount. Dropped, both are gone; the medium stays.
#[derive(Debug)]
pub struct TestDisk {
    program: PathBuf,
    medium: PathBuf,
    target: PathBuf,
    destage_percent: u64,
    /// Each life of the process decides anew what survives.
    lives: u64,
    forgets_flushes: bool,
    process: Option<Process>,
    lost_blocks: u64,
}

#[derive(Debug)]
struct Process {
    child: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl TestDisk {
    /// A disk of `bytes` zeros whose files lie in `directory`, running.
    pub fn make(directory: &Path, bytes: u64, destage_percent: u64) -> Result<Self> {
        let (medium, target) = (directory.join("medium"), directory.join("disk"));
        File::create_new(&medium)?.set_len(bytes)?;
        std::fs::create_dir(&target)?;
        let mut disk = Self {
            program: program::own("testdisk")?,
            medium,
            target,
            destage_percent,
            lives: 0,
            forgets_flushes: false,
            process: None,
            lost_blocks: 0,
        };
        disk.start()?;
        Ok(disk)
    }

    /// The file that stands for the device.
    pub fn image(&self) -> PathBuf {
        self.target.join(IMAGE_NAME)
    }

    /// Blocks that were lost in power cuts so far.
    pub fn lost_blocks(&self) -> u64 {
        self.lost_blocks
    }

    fn start(&mut self) -> Result<()> {
        self.lives += 1;
        let mut command = Command::new(&self.program);
        command.arg(&self.medium).arg(&self.target);
        command.arg(format!("--seed={}", self.lives)).arg(format!("--destage={}", self.destage_percent));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).process_group(0);
        let mut child = command.spawn().context("starting the test disk")?;
        let orders = child.stdin.take().context("the disk's orders")?;
        let answers = BufReader::new(child.stdout.take().context("the disk's answers")?);
        let process = self.process.insert(Process { child, orders, answers });
        process.await_answer()?;
        if self.forgets_flushes { self.forget_flushes() } else { Ok(()) }
    }

    /// From now on, also after a power cut, the disk acknowledges flushes and forgets them.
    pub fn forget_flushes(&mut self) -> Result<()> {
        self.forgets_flushes = true;
        let process = self.process()?;
        writeln!(process.orders, "{FORGET_FLUSHES}")?;
        process.await_answer()
    }

    /// From now on until its next life the disk answers EIO to every write, or to every flush.
    pub fn fail(&mut self, what: cache::Failing) -> Result<()> {
        let order = match what {
            cache::Failing::Writes => FAIL_WRITES,
            cache::Failing::Flushes => FAIL_FLUSHES,
        };
        let process = self.process()?;
        writeln!(process.orders, "{order}")?;
        process.await_answer()
    }

    /// Has the disk stop itself once it has taken `changes` more writes or discards, with the last one unanswered.
    pub fn stop_after(&mut self, changes: u64) -> Result<()> {
        // No answer: it may stop before it could give one.
        writeln!(self.process()?.orders, "{STOP_AFTER} {changes}").context("ordering the disk to stop")
    }

    fn process(&mut self) -> Result<&mut Process> {
        self.process.as_mut().context("the disk has no power")
    }

    /// The disk's process.
    pub fn pid(&self) -> Result<Pid> {
        Ok(Pid::from_child(&self.process.as_ref().context("the disk has no power")?.child))
    }

    /// Takes the disk's power: its cache is gone. The mount stays, dead.
    pub fn kill(&mut self) -> Result<()> {
        if let Some(mut process) = self.process.take() {
            process.child.kill()?;
            process.child.wait()?;
        }
        Ok(())
    }

    /// Takes the power, if it is still there, and gives it back.
    pub fn restart(&mut self) -> Result<()> {
        self.kill()?;
        let gauge = std::fs::read(cache::gauge_of(&self.medium))?;
        self.lost_blocks += gauge.try_into().map_or(0, u64::from_le_bytes);
        self.clear_mount()?;
        self.start()
    }

    fn clear_mount(&self) -> Result<()> {
        rustix::mount::unmount(&self.target, UnmountFlags::DETACH)
            .with_context(|| format!("unmounting {}", self.target.display()))
    }
}

impl Process {
    fn await_answer(&mut self) -> Result<()> {
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        ensure!(line.trim_end() == ANSWER, "the test disk failed; see its message above");
        Ok(())
    }
}

impl Drop for TestDisk {
    fn drop(&mut self) {
        let _ = self.kill();
        let _ = self.clear_mount();
    }
}
