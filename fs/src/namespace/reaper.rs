//! The thread that does what [`super::orphans`] lists, one bounded record at a time, and the queue before it.
//!
//! The queue is in memory and only says what may be done now; the lists on the medium say what must be done at last. So
//! a lost queue costs nothing but space until the next mount, which queues all that is listed.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Instant;

use parking_lot::{Condvar, Mutex};

use crate::error::{Error, Result};
use crate::meta::volume::Volume;
use crate::meta::witness::unwitnessed;
use crate::types::Ino;

use super::orphans::{self, Task};

/// From this length of the queue on, those who add to it help to shorten it: memory stays bounded.
const QUEUE_LEN_HIGH: usize = 64 * 1024;

#[derive(Debug, Default)]
struct Queue {
    /// Inodes without names that somebody may still use.
    in_use: HashSet<Ino>,
    tasks: VecDeque<Task>,
    /// Tasks of which some thread does a step.
    in_hand: usize,
    /// Steps that were done.
    steps: u64,
    stopped: bool,
}

impl Queue {
    fn take(&mut self) -> Option<Task> {
        let task = self.tasks.pop_front()?;
        self.in_hand += 1;
        Some(task)
    }

    /// Leaves inodes without names to their users.
    fn keep_nameless(&mut self) {
        let in_use = &mut self.in_use;
        self.tasks.retain(|task| match *task {
            Task::Free(ino) => {
                in_use.insert(ino);
                false
            }
            Task::Trim(_) => true,
        });
    }
}

/// Who does the work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reaping {
    /// A thread, as soon as there is some.
    Background,
    /// The same, on a mount that another daemon served before: what has lost its last name may still be in use.
    Inherited,
    /// Nobody but [`Reaper::reap`]: for tests that must replay exactly.
    OnDemand,
}

struct Shared {
    volume: Arc<Volume>,
    queue: Mutex<Queue>,
    wake: Condvar,
    /// A step was done, or there is one to do.
    moved: Condvar,
}

/// The reaper; dropping it stops the thread after its present step.
pub struct Reaper {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Reaper {
    /// Has the thread end after its present step.
    pub fn stop(&self) {
        self.shared.queue.lock().stopped = true;
        self.shared.wake.notify_all();
    }

    /// Queues what the medium lists, unless the mount is read-only.
    pub fn start(volume: Arc<Volume>, reaping: Reaping) -> Result<Self> {
        let writable = volume.writable().is_ok();
        let tasks = if writable { listed(&volume)? } else { VecDeque::new() };
        let mut queue = Queue { tasks, ..Queue::default() };
        if reaping == Reaping::Inherited {
            queue.keep_nameless();
        }
        let shared = Arc::new(Shared { volume, queue: Mutex::new(queue), wake: Condvar::new(), moved: Condvar::new() });
        let thread = match reaping {
            Reaping::Background | Reaping::Inherited if writable => Some(spawn(Arc::clone(&shared))?),
            _ => None,
        };
        Ok(Self { shared, thread })
    }

    /// The inode lost its last name; its users keep it.
    pub fn unlinked(&self, ino: Ino) {
        self.shared.queue.lock().in_use.insert(ino);
    }

    /// Inodes that have lost their last name and that somebody may still use.
    pub fn nameless(&self) -> Vec<Ino> {
        self.shared.queue.lock().in_use.iter().copied().collect()
    }

    /// Nobody uses the inode any more.
    pub fn forgotten(&self, ino: Ino) {
        let was_unlinked = self.shared.queue.lock().in_use.remove(&ino);
        if was_unlinked {
            self.enqueue(Task::Free(ino));
        }
    }

    /// The file has blocks beyond its size.
    pub fn truncated(&self, ino: Ino) {
        self.enqueue(Task::Trim(ino));
    }

    fn enqueue(&self, task: Task) {
        let len = {
            let mut queue = self.shared.queue.lock();
            queue.tasks.push_back(task);
            queue.tasks.len()
        };
        self.shared.wake.notify_one();
        self.shared.moved.notify_all();
        if len > QUEUE_LEN_HIGH
            && let Err(error) = self.reap(2)
        {
            tracing::warn!("freeing space is put off to the next mount: {error}");
        }
    }

    /// Does at most `steps_max` steps; the number done, 0 if nothing is queued.
    pub fn reap(&self, steps_max: usize) -> Result<usize> {
        for step in 0..steps_max {
            let Some(task) = self.shared.queue.lock().take() else { return Ok(step) };
            self.shared.step(task)?;
        }
        Ok(steps_max)
    }

    /// Steps that were done so far, by whomever.
    pub fn steps(&self) -> u64 {
        self.shared.queue.lock().steps
    }

    /// Waits until there is more room than after `steps` steps, or something to be freed: another thread may have it in hand, and the kernel forgets an inode
    /// only after it has told whoever removed it that it is gone. False if nothing of that comes until `deadline`.
    pub fn await_more(&self, steps: u64, deadline: Instant) -> bool {
        let mut queue = self.shared.queue.lock();
        while queue.steps == steps && queue.tasks.is_empty() {
            if !self.is_expected(&queue) || self.shared.moved.wait_until(&mut queue, deadline).timed_out() {
                return false;
            }
        }
        true
    }

    /// Whether something may soon be freed, or be there to be freed.
    pub fn expects_more(&self) -> bool {
        self.is_expected(&self.shared.queue.lock())
    }

    fn is_expected(&self, queue: &Queue) -> bool {
        self.thread.is_some() && (queue.in_hand > 0 || !queue.in_use.is_empty())
    }

    /// Unmaps all that lies beyond the file's size, here and now.
    pub fn trim_now(&self, ino: Ino) -> Result<()> {
        while !self.shared.volume.transact(|view| orphans::plan_step(view, Task::Trim(ino)))? {}
        Ok(())
    }
}

impl Shared {
    /// One step of a task, which goes back to the head of the queue if it has more or must wait for room. A task that fails is left to the
    /// next mount.
    fn step(&self, task: Task) -> Result<()> {
        let done = unwitnessed(|| self.volume.transact(|view| orphans::plan_step(view, task)));
        let mut queue = self.queue.lock();
        if matches!(done, Ok(false) | Err(Error::MustWait)) {
            queue.tasks.push_front(task);
        }
        queue.in_hand -= 1;
        queue.steps += u64::from(done.is_ok());
        drop(queue);
        self.moved.notify_all();
        done.map(drop)
    }

    fn next(&self) -> Option<Task> {
        let mut queue = self.queue.lock();
        loop {
            if queue.stopped {
                return None;
            }
            match queue.take() {
                Some(task) => return Some(task),
                None => self.wake.wait(&mut queue),
            }
        }
    }
}

/// All that the medium lists.
fn listed(volume: &Volume) -> Result<VecDeque<Task>> {
    let mut tasks = VecDeque::new();
    loop {
        let page = volume.view(|view| orphans::list(view, tasks.back().copied()))?;
        if page.is_empty() {
            return Ok(tasks);
        }
        tasks.extend(page);
    }
}

fn spawn(shared: Arc<Shared>) -> Result<JoinHandle<()>> {
    let work = move || {
        while let Some(task) = shared.next() {
            if let Err(error) = shared.step(task) {
                tracing::warn!("freeing space is put off to the next mount: {error}");
            }
        }
    };
    let thread = std::thread::Builder::new().name("reaper".into()).spawn(work);
    thread.map_err(|error| Error::Refused(format!("cannot start the thread that frees deleted files: {error}")))
}

impl Drop for Reaper {
    fn drop(&mut self) {
        self.stop();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the reaper thread panicked");
        }
    }
}
