//! sync(2) and syncfs(2) in the middle of it: each in a process of its own, again and again. One that does not end is what this is all about.

use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use gleanfs::cli::bench::process::command;

const LOOK_EVERY: Duration = Duration::from_millis(20);

/// The ones under way, and how long others took.
pub(super) struct Syncs {
    target: PathBuf,
    most: Duration,
    running: Vec<(Kind, Instant, Child)>,
    longest: [Duration; 2],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    All,
    One,
}

impl Syncs {
    pub(super) fn new(target: &Path, most: Duration) -> Self {
        Self { target: target.into(), most, running: Vec::new(), longest: [Duration::ZERO; 2] }
    }

    /// Looks at those under way, and starts one of each kind when all have ended.
    pub(super) fn go_on(&mut self) -> Result<()> {
        self.look()?;
        if self.running.is_empty() {
            for kind in [Kind::All, Kind::One] {
                let mut sync = command("sync");
                if kind == Kind::One {
                    sync.arg("-f").arg(&self.target);
                }
                self.running.push((kind, Instant::now(), sync.stdin(Stdio::null()).spawn()?));
            }
        }
        Ok(())
    }

    /// Waits for the last ones. The longest sync and the longest syncfs, as far as looks once a second tell.
    pub(super) fn end(mut self) -> Result<[Duration; 2]> {
        while !self.running.is_empty() {
            std::thread::sleep(LOOK_EVERY);
            self.look()?;
        }
        Ok(self.longest)
    }

    fn look(&mut self) -> Result<()> {
        for (kind, begun, mut child) in std::mem::take(&mut self.running) {
            match child.try_wait()? {
                Some(status) => {
                    ensure!(status.success(), "sync failed: {status}");
                    let longest = &mut self.longest[kind as usize];
                    *longest = begun.elapsed().max(*longest);
                }
                None => {
                    ensure!(begun.elapsed() <= self.most, "a sync has hung for {:?}", self.most);
                    self.running.push((kind, begun, child));
                }
            }
        }
        Ok(())
    }
}
