//! The end of all patience with a trial: where something hangs for good, the daemon is killed, so that everybody who waits for it gets an
//! error, the trial fails with a line, and nothing is left behind.

use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Result, bail};
use rustix::process::{Signal, pidfd_send_signal};

use crate::volume::Volume;

/// Watches over one mount. Dropped without a word, it lets the mount be.
pub(super) struct Patience {
    word: Sender<()>,
    watch: JoinHandle<bool>,
    most: Duration,
}

impl Patience {
    pub(super) fn with(volume: &Volume, most: Duration) -> Result<Self> {
        let daemon = volume.daemon()?;
        let (word, heard) = channel();
        let watch = std::thread::spawn(move || {
            let is_over = heard.recv_timeout(most) == Err(RecvTimeoutError::Timeout);
            if is_over {
                // Said first: whoever stores to a mapping of the mount gets SIGBUS, and that ends this process.
                eprintln!("it hangs after {most:?}: the daemon is killed");
            }
            // It may have ended at the very last moment.
            is_over && pidfd_send_signal(&daemon, Signal::KILL).is_ok()
        });
        Ok(Self { word, watch, most })
    }

    /// `outcome`, unless there is none to speak of because the daemon had to be killed.
    pub(super) fn end<T>(self, outcome: Result<T>) -> Result<T> {
        let _ = self.word.send(());
        if self.watch.join().expect("the watch does not panic") {
            bail!("it hung: the daemon was killed after {:?}", self.most);
        }
        outcome
    }
}
