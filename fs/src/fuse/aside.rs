//! The one thread that may wait for the kernel.
//!
//! Asking the kernel to write pages out, or to look whether it still holds an inode, can make it wait for our answers. A session
//! thread that asked could be the one that should answer; this thread never answers requests of its own.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{Builder, JoinHandle};

use super::kernel::KernelLine;

type Errand = Box<dyn FnOnce(&KernelLine) + Send>;

/// Where session threads leave their errands. The thread ends when this is dropped and all errands are run.
pub(super) struct Aside {
    errands: Sender<Errand>,
}

impl Aside {
    /// Starts the thread.
    pub(super) fn start(line: Arc<KernelLine>) -> io::Result<(Self, JoinHandle<()>)> {
        let (errands, inbox): (_, Receiver<Errand>) = channel();
        let run = move || inbox.into_iter().for_each(|errand| errand(&line));
        let thread = Builder::new().name("fuse-aside".into()).spawn(run)?;
        Ok((Self { errands }, thread))
    }

    /// Has `errand` run after those before it. It is dropped if the thread died (a reply inside then answers `EIO`).
    pub(super) fn run(&self, errand: impl FnOnce(&KernelLine) + Send + 'static) {
        if self.errands.send(Box::new(errand)).is_err() {
            tracing::error!("the thread that speaks to the kernel is gone");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    #[test]
    fn errands_run_in_order_and_all_of_them_before_the_thread_ends() {
        let (aside, thread) = Aside::start(Arc::default()).unwrap();
        let (done, results) = channel();
        for i in 0..100 {
            let done = done.clone();
            aside.run(move |_| done.send(i).unwrap());
        }
        drop((aside, done));
        thread.join().unwrap();
        assert_eq!(results.into_iter().collect::<Vec<_>>(), (0..100).collect::<Vec<_>>());
    }
}
