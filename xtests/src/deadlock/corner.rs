//! What each trial does, as long as it lasts: limits that stand, and a thread that goes on and on at the worker or the daemon.

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use gleanfs::control::{Client, Status};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tempfile::TempDir;

use super::guard::{Guard, Undo};
use super::limits::{Cgroup, Hog, lower_dirty_limits};
use super::misled::Misled;
use super::{Options, Trial};
use crate::volume::{Setup, Volume};
use crate::workers::advice::{Advice, RECOVERY_SECS, Worker};
use crate::workers::files::Files;
use crate::workers::starvation::{Burner, missing_program, starve};
use crate::{load, skip};

/// How long a process is kept stopped, and runs before the next stop.
pub(super) const HOLD: Duration = Duration::from_millis(1500);
/// Between two blows to a worker.
const PAUSE: Duration = Duration::from_millis(50);
/// What daemon and workers are given to come up with, more than they need; then it is taken back to what they have and a little more, in MiB. The
/// node cache is as small as can be.
const DAEMON_MIB: u64 = 128;
const DAEMON_ROOM_MIB: u64 = 16;
/// What the kernel counts ahead for each processor.
const WORKER_ROOM_MIB: u64 = 1;
const SMALL_CACHE: &str = "cache=16M";

/// A corner that stands until it is left; what was taken from the machine is given back when it is dropped.
pub(super) struct Corner<'a> {
    trial: Trial,
    options: &'a Options,
    me: &'a dyn Fn() -> Result<Command>,
    torment: Option<Torment>,
    misled: Option<(Misled, Option<Status>)>,
    hog: Option<Hog>,
    cgroups: Vec<Cgroup>,
    /// Last, since it undoes what the others stand on.
    guard: Guard,
}

impl<'a> Corner<'a> {
    /// Mounts in it what has to be in it from the start.
    pub(super) fn mount(
        trial: Trial,
        options: &'a Options,
        me: &'a dyn Fn() -> Result<Command>,
    ) -> Result<(Self, Volume)> {
        let guard = Guard::start(me()?)?;
        let misled = trial.misdeed().map(Misled::prepare).transpose()?;
        let misled = misled.map(|misled| (misled, None));
        let mut corner = Self { trial, options, me, torment: None, misled, hog: None, cgroups: Vec::new(), guard };
        let mut setup = options.setup.with(trial.fullness().map_or("", |(_, words)| words));
        if trial.has(Trial::DaemonCgroup) || trial.has(Trial::SharedCgroup) {
            setup = setup.with(SMALL_CACHE);
        }
        setup.program = corner.misled.as_ref().map(|(misled, _)| misled.program().to_owned());
        let volume = corner.mount_within(&setup)?;
        if corner.misled.is_some() {
            Misled::make_room(volume.target())?;
        }
        Ok((corner, volume))
    }

    /// Memory belongs to the cgroup that a process was in when it took it, so the daemon is started in its own.
    fn mount_within(&mut self, setup: &Setup) -> Result<Volume> {
        if !self.trial.has(Trial::DaemonCgroup) && !self.trial.has(Trial::SharedCgroup) {
            return setup.make();
        }
        let cgroup = Cgroup::make(&mut self.guard, "daemon", self.options.cgroup_mib + DAEMON_MIB)?;
        cgroup.take_in(std::process::id())?;
        let volume = setup.make();
        cgroup.send_home(std::process::id())?;
        self.cgroups.push(cgroup);
        volume
    }

    /// Everything else. Of this process itself the last: what it starts is where it is.
    pub(super) fn enter(&mut self, volume: &Volume) -> Result<()> {
        let (trial, options) = (self.trial, self.options);
        let advice = Advice::of(volume.target())?;
        let room = if trial.has(Trial::SharedCgroup) { options.cgroup_mib } else { DAEMON_ROOM_MIB };
        // That of the daemon, if it has one.
        self.cgroups.iter().try_for_each(|cgroup| cgroup.tighten(room))?;
        if trial.has(Trial::WorkerCgroup) {
            let cgroup = Cgroup::make(&mut self.guard, "worker", options.cgroup_mib)?;
            restart_within(&cgroup, &advice)?;
            self.cgroups.push(cgroup);
        }
        if trial.has(Trial::LittleMemory) {
            self.hog = Some(Hog::start((self.me)()?, options.leave_mib)?);
        }
        if trial.has(Trial::DirtyLimits) {
            lower_dirty_limits(&mut self.guard)?;
        }
        if let Some((misled, before)) = &mut self.misled {
            *before = Some(advice.status()?);
            misled.begin(volume.target())?;
        }
        self.torment = Torment::start(trial, volume, &mut self.guard)?;
        if trial.has(Trial::ClientCgroup) {
            self.cgroups.push(Cgroup::make(&mut self.guard, "client", options.cgroup_mib)?);
        }
        if trial.has(Trial::ClientCgroup) || trial.has(Trial::SharedCgroup) {
            self.cgroups.last().expect("just made").take_in(std::process::id())?;
            // Pages belong to where they were first touched, so what was written before is to be touched anew.
            forget_pages(volume)?;
        }
        Ok(())
    }

    /// While it is still mounted: a line about what was done.
    pub(super) fn told(&self, volume: &Volume) -> Result<String> {
        let mut told = Vec::new();
        if let Some((misled, Some(before))) = &self.misled {
            told.push(misled.told(before, &Advice::of(volume.target())?.status()?)?);
        }
        if let Some(torment) = &self.torment {
            told.push(torment.told()?);
        }
        told.extend(self.cgroups.iter().map(Cgroup::told));
        Ok(if told.is_empty() { "limits stood all the time".into() } else { told.join(", ") })
    }

    /// Undoes it. What misled workers have left on the mount is to be verified.
    pub(super) fn leave(mut self) -> Result<Option<Misled>> {
        self.torment.take().map_or(Ok(()), Torment::end)?;
        let misled = self.misled.take().map(|(misled, _)| misled);
        misled.as_ref().map_or(Ok(()), Misled::end)?;
        Ok(misled)
    }
}

fn forget_pages(volume: &Volume) -> Result<()> {
    let data = std::fs::File::open(volume.target().join(load::NAME))?;
    Ok(rustix::fs::fadvise(&data, 0, None, rustix::fs::Advice::DontNeed)?)
}

/// New workers, whose memory is all in `cgroup`, because the daemon was there when it started them; and then no more than they have.
fn restart_within(cgroup: &Cgroup, advice: &Advice) -> Result<()> {
    let daemon = Client::connect(advice.target())?.daemon_pid().as_raw_nonzero().get() as u32;
    let old: Vec<Option<u32>> = workers(advice).iter().map(|worker| Some(worker.pid)).collect();
    cgroup.take_in(daemon)?;
    kill_workers(advice)?;
    let came = advice.await_status(Duration::from_secs(RECOVERY_SECS), "with new workers", |status| {
        let both = [&status.advisor, &status.victim_advisor];
        both.iter().all(|advisor| advisor.worker == "ready" && !old.contains(&advisor.worker_pid))
    });
    cgroup.send_home(daemon)?;
    came.and_then(|_| cgroup.tighten(WORKER_ROOM_MIB))
}

/// The workers that there are now.
fn workers(advice: &Advice) -> Vec<Worker> {
    [advice.worker(), advice.worker_for_victims()].into_iter().flatten().collect()
}

/// A thread that does something again and again.
struct Torment {
    thread: JoinHandle<()>,
    stop: Arc<AtomicBool>,
    blows: Arc<AtomicU64>,
    what: &'static str,
}

impl Torment {
    fn start(trial: Trial, volume: &Volume, guard: &mut Guard) -> Result<Option<Self>> {
        let target: PathBuf = volume.target().into();
        let advice = Advice::of(&target)?;
        let (what, mut blow): (_, Box<dyn FnMut() -> Result<u64> + Send>) = match trial {
            Trial::WorkerStopped => ("stops of a worker", Box::new(move || stop_workers(&advice))),
            Trial::WorkerKilled => ("kills of a worker", Box::new(move || kill_workers(&advice))),
            Trial::WorkerSwapped => ("swaps of models", swapping(advice)?),
            Trial::WorkerStarved => match missing_program() {
                Some(program) => {
                    skip(format_args!("starving a worker needs {program}"));
                    return Ok(None);
                }
                None => ("starvings of a worker", starving(advice)?),
            },
            Trial::DaemonStopped => {
                let pid = Client::connect(&target)?.daemon_pid();
                guard.before(&Undo::Continue { pid: pid.as_raw_nonzero().get() })?;
                ("stops of the daemon", Box::new(move || stop_daemon(pid)))
            }
            _ => return Ok(None),
        };
        let (stop, blows) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (ended, counted) = (Arc::clone(&stop), Arc::clone(&blows));
        let thread = std::thread::spawn(move || {
            while !ended.load(Ordering::Relaxed) {
                // Once the mount is gone there is nobody to ask.
                counted.fetch_add(blow().unwrap_or_default(), Ordering::Relaxed);
                std::thread::sleep(PAUSE);
            }
        });
        Ok(Some(Self { thread, stop, blows, what }))
    }

    fn told(&self) -> Result<String> {
        let blows = self.blows.load(Ordering::Relaxed);
        ensure!(blows > 0, "there were no {}", self.what);
        Ok(format!("{blows} {}", self.what))
    }

    fn end(self) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| anyhow::anyhow!("{}: the tormentor has panicked", self.what))
    }
}

fn stop_workers(advice: &Advice) -> Result<u64> {
    let workers = workers(advice);
    let stopped = workers.iter().filter(|worker| worker.signal(Signal::STOP).is_ok()).count();
    std::thread::sleep(HOLD);
    // One that was replaced for its silence is gone.
    workers.iter().for_each(|worker| drop(worker.signal(Signal::CONT)));
    Ok(stopped as u64)
}

fn kill_workers(advice: &Advice) -> Result<u64> {
    Ok(workers(advice).iter().filter(|worker| worker.signal(Signal::KILL).is_ok()).count() as u64)
}

fn swapping(advice: Advice) -> Result<Box<dyn FnMut() -> Result<u64> + Send>> {
    let directory = TempDir::new()?;
    let files = Files::make(directory.path())?;
    let mut turn = 0;
    Ok(Box::new(move || {
        let _kept = &directory;
        turn += 1;
        advice.use_model(&files.good[turn % 2]).map_err(anyhow::Error::msg).map(|()| 1)
    }))
}

fn starving(advice: Advice) -> Result<Box<dyn FnMut() -> Result<u64> + Send>> {
    let burners = [Burner::start()?, Burner::start()?];
    Ok(Box::new(move || {
        let _kept = &burners;
        Ok(workers(&advice).iter().filter(|worker| starve(worker).is_ok()).count() as u64)
    }))
}

fn stop_daemon(pid: Pid) -> Result<u64> {
    let daemon = pidfd_open(pid, PidfdFlags::empty())?;
    pidfd_send_signal(&daemon, Signal::STOP)?;
    std::thread::sleep(HOLD);
    pidfd_send_signal(&daemon, Signal::CONT).context("letting the daemon go on")?;
    std::thread::sleep(HOLD);
    Ok(1)
}
