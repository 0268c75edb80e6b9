//! A thread that notes once a second what was written, so that write amplification over the last minute is known whenever somebody asks.

use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use super::Core;
use super::stalls::Sample;

const EVERY: Duration = Duration::from_secs(1);

/// The running thread; dropping this ends it.
pub(super) struct Sampling {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Sampling {
    pub(super) fn start(core: &Arc<Core>) -> std::io::Result<Self> {
        let (stop, stopped) = channel();
        let core = Arc::clone(core);
        let run = move || loop {
            let user = core.volume.user_bytes_since_mount();
            let device = core.volume.device().traffic().written_bytes;
            core.namespace.note_written(Sample { user, device });
            match stopped.recv_timeout(EVERY) {
                Err(RecvTimeoutError::Timeout) => {}
                _ => return,
            }
        };
        let thread = std::thread::Builder::new().name("sampling".into()).spawn(run)?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Sampling {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
