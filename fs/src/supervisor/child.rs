//! A daemon as its supervisor sees it: a process, a line to it, and what comes of them.

use std::ffi::OsString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitStatus};
use std::time::Instant;

use anyhow::{Context, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};

use super::channel::Channel;
use super::message::{Begin, Word};
use super::program::Program;
use crate::fuse::signals::Signals;

/// A daemon's name among processes, whatever file it was started from.
const PROGRAM_NAME: &str = "gleanfs";

/// A daemon that was started.
pub(super) struct Child {
    process: std::process::Child,
    ending: OwnedFd,
    /// `None` once it has said all.
    channel: Option<Channel>,
}

/// What is heard of a daemon.
#[derive(Debug)]
pub(super) enum Heard {
    Word(Word, Option<OwnedFd>),
    Ended(ExitStatus),
    /// It let its time go by, and was ended.
    Nothing,
}

impl Child {
    /// Starts `program` and tells it how to begin.
    pub(super) fn start(
        program: &Program,
        arguments: &[OsString],
        begin: &Begin,
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<Self> {
        let (channel, theirs) = Channel::pair()?;
        let process = Command::new(program.path())
            .arg0(PROGRAM_NAME)
            .args(arguments)
            .stdin(theirs)
            .spawn()
            .with_context(|| format!("starting {}", program.name().display()))?;
        // A program that ended at once is heard of by its end.
        let _ = channel.send(begin, descriptors);
        let ending = pidfd_open(Pid::from_child(&process), PidfdFlags::empty())?;
        Ok(Self { process, ending, channel: Some(channel) })
    }

    pub(super) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// The next word, or the daemon's end when it has said all. Signals that would end us go to the daemon, whose end is ours. A daemon that
    /// says nothing until `deadline` is ended.
    pub(super) fn hear(&mut self, signals: &Signals, deadline: Option<Instant>) -> Result<Heard> {
        loop {
            let (ended, signalled, word) = self.listen(signals, deadline)?;
            if word {
                // A daemon that died before it heard us leaves an error; it said nothing, as one does that closes its end.
                match self.channel.as_ref().map(Channel::receive) {
                    Some(Ok(Some((word, descriptors)))) => {
                        return Ok(Heard::Word(word, descriptors.into_iter().next()));
                    }
                    _ => self.channel = None,
                }
            } else if ended {
                return Ok(Heard::Ended(self.process.wait()?));
            } else if signalled {
                signals.wait()?;
                let _ = kill_process(Pid::from_child(&self.process), Signal::TERM);
            } else if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
                self.process.kill()?;
                self.process.wait()?;
                return Ok(Heard::Nothing);
            }
        }
    }

    /// Waits until the daemon has ended, a signal has come, or there is a word.
    fn listen(&self, signals: &Signals, deadline: Option<Instant>) -> Result<(bool, bool, bool)> {
        let of = |source| PollFd::from_borrowed_fd(source, PollFlags::IN);
        let mut heard = vec![of(self.ending.as_fd()), of(signals.as_fd())];
        heard.extend(self.channel.as_ref().map(|channel| of(channel.as_fd())));
        let patience = deadline.map(|deadline| {
            let left = deadline.saturating_duration_since(Instant::now());
            Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) }
        });
        rustix::io::retry_on_intr(|| poll(&mut heard, patience.as_ref()))?;
        let is_heard = |at: usize| heard.get(at).is_some_and(|source| !source.revents().is_empty());
        Ok((is_heard(0), is_heard(1), is_heard(2)))
    }
}
