//! The process that keeps a mount alive while its daemons come and go.
//!
//! It holds the kernel's descriptor, which keeps the connection, and memory: of what clients may know, and of chunks that are not written. It starts daemons, and waits. It
//! reads no request and opens no image, so there is little in it that could fail, and it has no thread but one.
//! A daemon that ends with the mount ends it too; one that makes way is followed by the program it names, and if that does not come to serve, by
//! this program again; one that dies is followed by its like, unless too many die in a short time, of whom the last is this program.

mod channel;
mod child;
mod link;
mod message;
mod program;

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::control::{Response, server};
use crate::fuse::Connection;
use crate::fuse::signals::Signals;
use crate::log::KeptMemory;
use crate::meta::witness::Witness;
use child::{Child, Heard};
pub use link::Link;
use message::{Begin, Word};
use program::Program;

/// Where words for people go beside the log, which a detached process does not have.
const KERNEL_LOG: &str = "/dev/kmsg";
/// How long a death is held against the daemons that follow.
const DEATHS_WITHIN: Duration = Duration::from_secs(60);
/// Pause before a daemon that follows one death after another; doubled with each, a few times.
const PAUSE_FIRST: Duration = Duration::from_millis(20);
const DOUBLINGS_MAX: u32 = 6;

/// How long a program that was named may take until it serves.
const UPGRADE_MAX: Duration = Duration::from_secs(30);

/// A mount to be kept.
pub struct Supervised {
    /// Arguments that have a program serve the mount, its line to us on the standard input.
    pub arguments: Vec<OsString>,
    /// More deaths within a minute are too many: the next daemon would not live either.
    pub deaths_max: usize,
    /// Daemons give up root's privileges, so only root's programs are started on their word.
    pub unprivileged: bool,
    /// To be called once requests are answered.
    pub ready: Box<dyn FnOnce()>,
}

/// How a daemon's turn ended.
#[derive(Debug)]
enum Turn {
    /// The mount is over, or the daemon left without a word.
    Ended,
    /// It makes way.
    Replaced { executable: PathBuf, client: OwnedFd },
    /// It served, and died.
    Died(String),
    /// It never came to serve.
    Failed(String),
}

/// What a daemon has said in its life.
#[derive(Default)]
struct Said {
    serving: bool,
    failure: Option<String>,
    replace: Option<(PathBuf, OwnedFd)>,
}

impl Said {
    /// What the daemon's end means after this.
    fn turn(self, status: ExitStatus) -> Turn {
        let why = self.failure.unwrap_or_else(|| status.to_string());
        match self.replace {
            Some((executable, client)) if status.success() => Turn::Replaced { executable, client },
            _ if !self.serving => Turn::Failed(why),
            _ if status.success() => Turn::Ended,
            _ => Turn::Died(why),
        }
    }
}

/// An upgrade under way.
struct Upgrade {
    /// Who waits for its outcome, told once a daemon serves, whichever it is.
    client: UnixStream,
    /// Why the program that was named does not.
    refusal: Option<String>,
}

impl Upgrade {
    fn answer(mut self, done: String) {
        let response = self.refusal.map_or(Response::Done(done), Response::Refused);
        // A client that has gone away needs no answer.
        let _ = server::send(&mut self.client, &response);
    }
}

struct Supervisor {
    arguments: Vec<OsString>,
    ready: Option<Box<dyn FnOnce()>>,
    signals: Signals,
    witness: OwnedFd,
    chunks: OwnedFd,
    connection: Option<Connection>,
    upgrade: Option<Upgrade>,
    unprivileged: bool,
    deaths_max: usize,
    deaths: VecDeque<Instant>,
    deaths_ever: u32,
    upgrades: u32,
}

/// Serves the mount by one daemon after the other; returns when it is over, or when there is nothing to be done for it.
pub fn run(supervised: Supervised) -> Result<()> {
    let mut supervisor = Supervisor {
        arguments: supervised.arguments,
        ready: Some(supervised.ready),
        signals: Signals::block().context("blocking signals")?,
        witness: Witness::create().context("making the witness's memory")?,
        chunks: KeptMemory::create().context("making the chunks' memory")?,
        connection: None,
        upgrade: None,
        unprivileged: supervised.unprivileged,
        deaths_max: supervised.deaths_max,
        deaths: VecDeque::new(),
        deaths_ever: 0,
        upgrades: 0,
    };
    supervisor.serve().inspect_err(|error| {
        // Before that whoever mounts is told.
        if supervisor.ready.is_none() {
            tell(&format!("the mount is given up: {error:#}"));
        }
    })
}

impl Supervisor {
    fn serve(&mut self) -> Result<()> {
        let mut program = Program::own();
        loop {
            match self.turn(&program)? {
                Turn::Ended => return Ok(()),
                Turn::Replaced { executable, client } => {
                    self.upgrade = Some(Upgrade { client: client.into(), refusal: None });
                    match Program::named(&executable, self.unprivileged) {
                        Ok(named) => {
                            self.upgrades += 1;
                            program = named;
                        }
                        // Whose program has made way goes on.
                        Err(error) => self.refuse(format!("{}: {error:#}", executable.display())),
                    }
                }
                Turn::Failed(why) if self.is_named() => {
                    self.refuse(format!("{}: {why}; the old program goes on", program.name().display()));
                    program = Program::own();
                }
                Turn::Failed(why) if self.ready.is_some() => bail!(why),
                Turn::Died(why) | Turn::Failed(why) => {
                    if self.is_over() {
                        bail!("the daemon died, and the mount with it: {why}");
                    }
                    tell(&format!("the daemon is gone, another follows: {why}"));
                    if self.count_death(&why)? == Chance::Last {
                        program = Program::own();
                    }
                }
            }
            if self.upgrade.is_some() && self.is_over() {
                // All was made durable before the daemon made way.
                self.refuse("the mount was ended meanwhile".into());
                self.answer(String::new());
                return Ok(());
            }
        }
    }

    /// Whether the mount has ended under us. One that was cut off has not: the next daemon makes it anew, also if the one before died over it.
    fn is_over(&self) -> bool {
        self.connection.as_ref().is_some_and(|connection| !connection.is_alive())
    }

    /// The program that was named does not come to serve.
    fn refuse(&mut self, why: String) {
        if let Some(upgrade) = &mut self.upgrade {
            upgrade.refusal = Some(why);
        }
    }

    /// Tells whoever asked for an upgrade what came of it.
    fn answer(&mut self, done: String) {
        if let Some(upgrade) = self.upgrade.take() {
            upgrade.answer(done);
        }
    }

    /// One daemon's life.
    fn turn(&mut self, program: &Program) -> Result<Turn> {
        let mut child = match self.start(program) {
            Ok(child) => child,
            Err(error) => return Ok(Turn::Failed(format!("{error:#}"))),
        };
        let mut said = Said::default();
        // A foreign program may never say a word, while the mount stands still. Our own may have a long log to replay.
        let deadline = self.is_named().then(|| Instant::now() + UPGRADE_MAX);
        loop {
            match child.hear(&self.signals, deadline.filter(|_| !said.serving))? {
                Heard::Word(word, descriptor) => self.heed(&child, word, descriptor, &mut said),
                Heard::Ended(status) => return Ok(said.turn(status)),
                Heard::Nothing => return Ok(Turn::Failed(format!("not serving within {} s", UPGRADE_MAX.as_secs()))),
            }
        }
    }

    fn heed(&mut self, child: &Child, word: Word, descriptor: Option<OwnedFd>, said: &mut Said) {
        match word {
            Word::Serving { terms, version } => {
                said.serving = true;
                if let Some(device) = descriptor {
                    self.connection = Some(Connection { device, terms });
                }
                if let Some(ready) = self.ready.take() {
                    ready();
                }
                self.answer(format!("process {} of gleanfs {version} serves the mount", child.pid()));
            }
            // Whoever waits for it is told so by the kernel.
            Word::Cut => self.connection = None,
            Word::Replace { executable } => said.replace = descriptor.map(|client| (executable, client)),
            Word::Failed { line } => said.failure = Some(line),
        }
    }

    fn start(&self, program: &Program) -> Result<Child> {
        let connection = self.connection.as_ref();
        let begin = Begin { terms: connection.map(|c| c.terms), deaths: self.deaths_ever, upgrades: self.upgrades };
        let memory = [self.witness.as_fd(), self.chunks.as_fd()];
        let descriptors: Vec<BorrowedFd<'_>> = memory.into_iter().chain(connection.map(|c| c.device.as_fd())).collect();
        Child::start(program, &self.arguments, &begin, &descriptors)
    }

    /// Whether the program to be started is one that somebody has named, and that has not failed yet.
    fn is_named(&self) -> bool {
        self.upgrade.as_ref().is_some_and(|upgrade| upgrade.refusal.is_none())
    }

    /// Gives up, or waits a little where one death follows another.
    fn count_death(&mut self, why: &str) -> Result<Chance> {
        let now = Instant::now();
        self.deaths_ever += 1;
        self.deaths.push_back(now);
        while self.deaths.front().is_some_and(|death| now.duration_since(*death) > DEATHS_WITHIN) {
            self.deaths.pop_front();
        }
        if self.deaths.len() > self.deaths_max {
            bail!("{} daemons died within {} s; the last: {why}", self.deaths.len(), DEATHS_WITHIN.as_secs());
        }
        if let doublings @ 1.. = self.deaths.len() as u32 - 1 {
            std::thread::sleep(PAUSE_FIRST * (1 << doublings.min(DOUBLINGS_MAX)));
        }
        Ok(if self.deaths.len() == self.deaths_max { Chance::Last } else { Chance::More })
    }
}

/// Whether there is another daemon after the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Chance {
    More,
    Last,
}

/// Says `line` where people may find it.
fn tell(line: &str) {
    tracing::error!("{line}");
    if let Ok(mut log) = OpenOptions::new().write(true).open(KERNEL_LOG) {
        // One write is one line. Without the right to it there is nobody else to tell.
        let _ = log.write_all(format!("<3>gleanfs: {line}\n").as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;

    use super::*;

    #[test]
    fn what_a_daemon_has_said_tells_what_its_end_means() {
        let said = |serving, failure: Option<&str>| Said { serving, failure: failure.map(Into::into), replace: None };
        let (well, killed) = (ExitStatus::from_raw(0), ExitStatus::from_raw(libc::SIGKILL));
        assert!(matches!(said(true, None).turn(well), Turn::Ended));
        assert!(matches!(said(true, None).turn(killed), Turn::Died(_)));
        assert!(matches!(said(false, None).turn(well), Turn::Failed(_)));
        assert!(matches!(said(false, Some("no image")).turn(killed), Turn::Failed(why) if why == "no image"));
        let way = || Some(("new".into(), Witness::create().unwrap()));
        let makes_way = |status| Said { replace: way(), ..said(true, None) }.turn(status);
        assert!(
            matches!(makes_way(well), Turn::Replaced { executable, .. } if executable == std::path::Path::new("new"))
        );
        assert!(matches!(makes_way(killed), Turn::Died(_)));
    }
}
