//! The daemon's end of the line to its supervisor.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};

use super::channel::Channel;
use super::message::{Begin, Word};
use crate::fuse::Connection;
use crate::log::KeptMemory;
use crate::meta::witness::Witness;

/// What a daemon was given to begin with, and where its words go.
#[derive(Debug)]
pub struct Link {
    channel: Channel,
    /// Daemons of this mount that died before.
    pub deaths: u32,
    /// Daemons of this mount that made way for another.
    pub upgrades: u32,
    pub witness: Option<Arc<Witness>>,
    /// Chunks that the daemon before has left, and room for ours.
    pub chunks: Arc<KeptMemory>,
    /// A mount that stands already.
    pub connection: Option<Connection>,
}

impl Link {
    /// The line that the supervisor left at the standard input, which reads nothing from then on. To be called before there are threads.
    pub fn from_stdin() -> Result<Self> {
        let end = take_stdin().context("taking the line to the supervisor")?;
        Self::begin(Channel::from_inherited(end))
    }

    fn begin(channel: Channel) -> Result<Self> {
        let begin = channel.receive::<Begin>().context("listening to the supervisor")?;
        let (begin, descriptors) = begin.context("the supervisor is gone")?;
        let mut descriptors = descriptors.into_iter();
        let mut memory = || descriptors.next().context("the supervisor sent no memory");
        let witness = Some(Arc::new(Witness::map(memory()?).context("mapping the witness's memory")?));
        let chunks = KeptMemory::map(memory()?).context("mapping the chunks' memory")?;
        let connection = match begin.terms {
            None => None,
            Some(terms) => {
                Some(Connection { terms, device: descriptors.next().context("a mount without a descriptor")? })
            }
        };
        Ok(Self { channel, deaths: begin.deaths, upgrades: begin.upgrades, witness, chunks, connection })
    }

    /// Requests are answered over `connection`, which is new if it `is_new`.
    pub fn serving(&self, connection: &Connection, is_new: bool) -> io::Result<()> {
        let word = Word::Serving { terms: connection.terms, version: env!("CARGO_PKG_VERSION").into() };
        let device = [connection.device.as_fd()];
        self.channel.send(&word, if is_new { &device } else { &[] })
    }

    /// The connection that we were given is to end.
    pub fn cut(&self) -> io::Result<()> {
        self.channel.send(&Word::Cut, &[])
    }

    /// Makes way for `executable`, which `client` asked for.
    pub fn replace(&self, executable: &Path, client: &UnixStream) -> io::Result<()> {
        self.channel.send(&Word::Replace { executable: executable.into() }, &[client.as_fd()])
    }

    /// The daemon ends without having served.
    pub fn failed(&self, line: &str) -> io::Result<()> {
        self.channel.send(&Word::Failed { line: line.into() }, &[])
    }

    /// Whether there still is a supervisor.
    pub fn is_watched(&self) -> bool {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        let mut line = [PollFd::new(&self.channel, PollFlags::empty())];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        poll(&mut line, Some(&now)).is_ok() && !line[0].revents().contains(PollFlags::HUP)
    }
}

fn take_stdin() -> io::Result<OwnedFd> {
    let end = io::stdin().as_fd().try_clone_to_owned()?;
    let null = File::open("/dev/null")?;
    // SAFETY: both are open descriptors; the standard input is nobody's own.
    if unsafe { libc::dup2(null.as_raw_fd(), libc::STDIN_FILENO) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(end)
}
