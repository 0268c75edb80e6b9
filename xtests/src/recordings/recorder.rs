//! `gleanfs ctl MNT record` beside a load: what the filesystem tells of its writes goes into a file until the load has ended.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use gleanfs::cli::bench::process::{check_interrupt, unblock_signals};
use rustix::process::{Pid, Signal, kill_process};

use crate::volume::Volume;

const READY_MAX: Duration = Duration::from_secs(10);
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// The recording process. Dropped, it is gone.
pub(super) struct Recorder(Option<Child>);

impl Recorder {
    /// Returns once the recording is under way. A file that an earlier run left is replaced.
    pub(super) fn start(volume: &Volume, into: &Path) -> Result<Self> {
        if into.exists() {
            std::fs::remove_file(into).with_context(|| into.display().to_string())?;
        }
        let mut record = Command::new(volume.program());
        record.arg("ctl").arg(volume.target()).arg("record").arg(into);
        // A terminal's interrupt must not end it before the load.
        record.process_group(0).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = unblock_signals(&mut record).spawn();
        let mut recorder = Self(Some(child.context("starting the recording")?));
        recorder.await_file(into)?;
        Ok(recorder)
    }

    /// It is ready when its file is there; nothing else tells.
    fn await_file(&mut self, file: &Path) -> Result<()> {
        let begun = Instant::now();
        while !file.exists() {
            check_interrupt()?;
            let child = self.0.as_mut().expect("taken only at the end");
            if child.try_wait()?.is_some() {
                let output = self.0.take().expect("just seen").wait_with_output()?;
                bail!("the recording did not start: {}", String::from_utf8_lossy(&output.stderr).trim());
            }
            ensure!(begun.elapsed() < READY_MAX, "the recording made no file in {READY_MAX:?}");
            std::thread::sleep(LOOK_EVERY);
        }
        Ok(())
    }

    /// Ends the recording; what it counted.
    pub(super) fn end(mut self) -> Result<String> {
        let child = self.0.take().expect("taken only here");
        interrupt(&child);
        let output = child.wait_with_output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "the recording failed: {}: {}", output.status, said.trim());
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }
}

fn interrupt(child: &Child) {
    let _ = kill_process(Pid::from_child(child), Signal::INT);
}

impl Drop for Recorder {
    fn drop(&mut self) {
        if let Some(mut child) = self.0.take() {
            // What it has is not wanted any more.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
