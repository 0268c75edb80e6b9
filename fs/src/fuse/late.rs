//! Threads for requests that must wait: for room in the log, or for a flush behind other flushes.
//!
//! Session threads try without waiting and leave the rest here, so that a stat is answered while every writer waits. Two lanes, so that what
//! gives space back does not stand behind writers that wait for it. The queues are as long as the kernel has requests
//! under way: its background limit, and one for each thread that waits in a system call. A job holds a copy of its request; that is
//! the one case in which written bytes are copied twice.

use std::io;
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};

use crossbeam_channel::{Receiver, Sender, unbounded};

use super::front::Front;
use crate::error::Result;

type Job = Box<dyn FnOnce(&Front) + Send>;
type Synced = Box<dyn FnOnce(&Result<()>) + Send>;

/// What a request that waits for room is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lane {
    /// Contents: what takes room.
    Contents,
    /// Names and attributes, and what gives room back.
    Names,
}

/// Threads of each lane.
const LANE_THREADS: usize = 2;

/// Where session threads leave requests that must wait. The threads end when this is dropped and everything is done. What is left to threads that
/// died is dropped (a reply inside then answers `EIO`).
pub(super) struct Late {
    contents: Sender<Job>,
    names: Sender<Job>,
    syncs: Sender<Synced>,
}

impl Late {
    /// Starts the threads.
    pub(super) fn start(front: &Arc<Front>) -> io::Result<(Self, Vec<JoinHandle<()>>)> {
        let (contents, contents_inbox) = unbounded();
        let (names, names_inbox) = unbounded();
        let (syncs, syncs_inbox) = unbounded();
        let mut threads = Vec::new();
        for (name, inbox) in [("fuse-contents", contents_inbox), ("fuse-names", names_inbox)] {
            for _ in 0..LANE_THREADS {
                let (front, inbox) = (Arc::clone(front), inbox.clone());
                threads.push(Builder::new().name(name.into()).spawn(move || do_jobs(&front, inbox))?);
            }
        }
        let front = Arc::clone(front);
        threads.push(Builder::new().name("fuse-syncs".into()).spawn(move || do_syncs(&front, syncs_inbox))?);
        Ok((Self { contents, names, syncs }, threads))
    }

    /// Has a thread of the lane do `job` after those before it.
    pub(super) fn run(&self, lane: Lane, job: impl FnOnce(&Front) + Send + 'static) {
        let lane = match lane {
            Lane::Contents => &self.contents,
            Lane::Names => &self.names,
        };
        if lane.send(Box::new(job)).is_err() {
            tracing::error!("the threads for requests that must wait are gone");
        }
    }

    /// Makes everything accepted so far durable, in one go for all who ask meanwhile, then calls `done`.
    pub(super) fn sync(&self, done: impl FnOnce(&Result<()>) + Send + 'static) {
        if self.syncs.send(Box::new(done)).is_err() {
            tracing::error!("the thread for syncs that must wait is gone");
        }
    }
}

fn do_jobs(front: &Front, inbox: Receiver<Job>) {
    inbox.into_iter().for_each(|job| job(front));
}

fn do_syncs(front: &Front, inbox: Receiver<Synced>) {
    while let Ok(first) = inbox.recv() {
        let others: Vec<Synced> = inbox.try_iter().collect();
        let outcome = front.ns.sync();
        first(&outcome);
        others.into_iter().for_each(|done| done(&outcome));
    }
}
