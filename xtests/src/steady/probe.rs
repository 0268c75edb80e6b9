//! A client of its own process that asks the simplest things over and over and remembers the longest wait.
//!
//! One request at a time, so the longest request is also the longest gap without a completion. A second thread does
//! the same to the backing store beside the image: what that one takes is not the filesystem's fault.

use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::{Deserialize, Serialize};

use crate::block::BLOCK;

/// Longest waits in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Longest {
    pub rounds: u64,
    /// A 4 KiB write and its fsync.
    pub write_us: u64,
    pub stat_us: u64,
    pub read_us: u64,
    /// What one in a thousand of all requests took longer than.
    pub p999_us: u64,
    /// A durable 4 KiB write to the backing store.
    pub backing_us: u64,
}

/// A round every so often, so that the probe sees the load and is not itself one.
const PACE: Duration = Duration::from_millis(20);

/// This program in the probe's role; what follows are the two directories.
pub fn command() -> anyhow::Result<Command> {
    let mut me = Command::new(std::env::current_exe().context("finding this program")?);
    me.arg("--probe");
    Ok(me)
}

/// [`main`] as a program ends, if `directories` are the probe's two.
pub fn if_asked(directories: &[PathBuf]) -> Option<ExitCode> {
    let [target, beside] = directories else { return None };
    Some(match main(target, beside) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("probe: {why:#}");
            ExitCode::FAILURE
        }
    })
}

/// Probes `target` and, beside it, `beside`, until stdin ends; prints a [`Longest`] as JSON.
pub fn main(target: &Path, beside: &Path) -> anyhow::Result<()> {
    static DONE: AtomicBool = AtomicBool::new(false);
    let path = beside.join("probe");
    let backing = std::thread::spawn(move || probe_backing(&path, &DONE));
    let mut longest = probe_target(target)?;
    DONE.store(true, Ordering::Relaxed);
    longest.backing_us = backing.join().expect("the backing probe does not panic")?;
    println!("{}", serde_json::to_string(&longest)?);
    Ok(())
}

fn probe_target(target: &Path) -> std::io::Result<Longest> {
    let path = target.join("probe");
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&path)?;
    let mut block = vec![0u8; BLOCK];
    let (mut longest, mut all) = (Longest::default(), Vec::new());
    while !stdin_ends_within(PACE)? {
        longest.rounds += 1;
        block.fill(longest.rounds as u8);
        all.push(time(&mut longest.write_us, || {
            file.write_all_at(&block, 0)?;
            file.sync_all()
        })?);
        all.push(time(&mut longest.stat_us, || std::fs::metadata(&path).map(drop))?);
        // Dropped from the page cache, so that the read reaches the filesystem.
        rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed)?;
        let mut back = vec![0u8; BLOCK];
        all.push(time(&mut longest.read_us, || file.read_exact_at(&mut back, 0))?);
        if back != block {
            return Err(std::io::Error::other("the probe read what it did not write"));
        }
    }
    all.sort_unstable();
    longest.p999_us = all.get(all.len() * 999 / 1000).copied().unwrap_or_default();
    Ok(longest)
}

fn probe_backing(path: &Path, done: &AtomicBool) -> std::io::Result<u64> {
    let file = OpenOptions::new().write(true).create(true).truncate(true).custom_flags(libc::O_DSYNC).open(path)?;
    let block = vec![1u8; BLOCK];
    let mut longest = 0;
    while !done.load(Ordering::Relaxed) {
        time(&mut longest, || file.write_all_at(&block, 0))?;
        std::thread::sleep(PACE);
    }
    Ok(longest)
}

/// How long `work` took, in microseconds.
fn time(longest: &mut u64, work: impl FnOnce() -> std::io::Result<()>) -> std::io::Result<u64> {
    let begun = Instant::now();
    work()?;
    let took = begun.elapsed().as_micros() as u64;
    *longest = (*longest).max(took);
    Ok(took)
}

/// Waits for the pace to pass; true once the other end of stdin is closed.
fn stdin_ends_within(pace: Duration) -> std::io::Result<bool> {
    let stdin = File::from(rustix::io::fcntl_dupfd_cloexec(std::io::stdin().as_fd(), 3)?);
    let wait = Timespec { tv_sec: 0, tv_nsec: pace.subsec_nanos().into() };
    match poll(&mut [PollFd::from_borrowed_fd(stdin.as_fd(), PollFlags::IN)], Some(&wait)) {
        Ok(0) | Err(rustix::io::Errno::INTR) => Ok(false),
        Ok(_) => Ok((&stdin).read(&mut [0; 16])? == 0),
        Err(error) => Err(error.into()),
    }
}
