//! PostMark: a pool of small files, of which some are made, read, appended to and removed all the time.
//!
//! It is told to go on for longer than anybody waits, and killed: it would end by removing the whole pool.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use gleanfs::cli::bench::process::{check_interrupt, command, installed, unblock_signals};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::{Load, Place};

const PROGRAM: &str = "postmark";
/// Sizes are drawn evenly between these; appending makes the mean of a pool at work so large, in whole blocks.
const FILE_BYTES: (u64, u64) = (500, 100_000);
const FILE_BYTES_MEAN: u64 = 67_000;
const FILES_PER_DIRECTORY: u64 = 100;
/// What it says once the pool is there.
const FILLED: &str = "Performing transactions";
const ROUND: Duration = Duration::from_secs(5);
const LOOK_EVERY: Timespec = Timespec { tv_sec: 0, tv_nsec: 500_000_000 };

/// Dropped, it is gone.
pub(super) struct Mail<'a> {
    place: Place<'a>,
    process: Option<Child>,
    /// Where it complains. It works on after a failed operation.
    complaints: File,
}

pub(super) fn lacks() -> Option<String> {
    (!installed(PROGRAM)).then(|| format!("{PROGRAM} is not installed"))
}

impl<'a> Mail<'a> {
    pub(super) fn new(place: Place<'a>) -> Result<Self> {
        Ok(Self { place, process: None, complaints: tempfile::tempfile()? })
    }

    fn check(&mut self) -> Result<()> {
        if self.complaints.metadata()?.len() == 0 {
            return Ok(());
        }
        self.complaints.rewind()?;
        let first = BufReader::new(&self.complaints).lines().next().transpose()?;
        bail!("postmark: {}", first.unwrap_or_default())
    }

    fn orders(&self) -> String {
        let files = (self.place.live_bytes / FILE_BYTES_MEAN).max(1);
        let (least, most) = FILE_BYTES;
        [
            format!("set location {}", self.place.target.display()),
            format!("set size {least} {most}"),
            format!("set number {files}"),
            format!("set subdirectories {}", files.div_ceil(FILES_PER_DIRECTORY)),
            format!("set transactions {}", i32::MAX),
            format!("set seed {}", self.place.seed),
            "set read 4096\nset write 4096\nset buffering false\nrun\n".into(),
        ]
        .join("\n")
    }
}

impl Load for Mail<'_> {
    fn fill(&mut self) -> Result<()> {
        check_interrupt()?;
        let told = self.orders();
        let mut postmark = command(PROGRAM);
        postmark.process_group(0).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(self.complaints.try_clone()?);
        let process = unblock_signals(&mut postmark).spawn().context("starting postmark")?;
        let process = self.process.insert(process);
        let mut orders = process.stdin.take().context("postmark's input")?;
        let mut answers = process.stdout.take().context("postmark's output")?;
        orders.write_all(told.as_bytes())?;
        drop(orders);
        let mut said = String::new();
        while !said.contains(FILLED) {
            let mut bytes = [0; 256];
            match answers.read(&mut bytes)? {
                0 => bail!("postmark ended early: {}", said.lines().last().unwrap_or_default()),
                count => said.push_str(&String::from_utf8_lossy(&bytes[..count])),
            }
        }
        // A dot for each tenth is all that it says until it is killed; the pipe has to stay for that.
        self.process.as_mut().expect("started above").stdout = Some(answers);
        Ok(())
    }

    fn round(&mut self) -> Result<()> {
        let process = self.process.as_ref().context("postmark was not started")?;
        let ended = pidfd_open(Pid::from_child(process), PidfdFlags::empty())?;
        let begun = Instant::now();
        while begun.elapsed() < ROUND {
            check_interrupt()?;
            if poll(&mut [PollFd::new(&ended, PollFlags::IN)], Some(&LOOK_EVERY))? > 0 {
                bail!("postmark has ended by itself");
            }
        }
        self.check()
    }

    fn end(&mut self) -> Result<()> {
        if let Some(mut process) = self.process.take() {
            process.kill()?;
            process.wait()?;
        }
        Ok(())
    }
}

impl Drop for Mail<'_> {
    fn drop(&mut self) {
        let _ = self.end();
    }
}
