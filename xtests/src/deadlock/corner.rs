//! What each trial does, as long as it lasts: limits that stand, and a thread that goes on and on at the worker or the daemon.

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result};
use gleanfs::control::Client;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tempfile::TempDir;

use super::limits::{Cgroup, DirtyLimits, Hog};
use super::{Options, Trial};
use crate::skip;
use crate::volume::Volume;
use crate::workers::advice::{Advice, Worker};
use crate::workers::files::Files;
use crate::workers::starvation::{Burner, missing_program, starve};

/// How long a process is kept stopped, and runs before the next stop.
const HOLD: Duration = Duration::from_millis(1500);
/// Between two blows to a worker.
const PAUSE: Duration = Duration::from_millis(50);
/// The daemon's own memory beside its cache, and then little.
const DAEMON_MIB: u64 = 256 + 96;

/// A corner that stands until it is left.
pub(super) struct Corner {
    _dirty: Option<DirtyLimits>,
    _hog: Option<Hog>,
    _cgroups: Vec<Cgroup>,
    torment: Option<Torment>,
}

impl Corner {
    pub(super) fn enter(
        trial: Trial,
        options: &Options,
        volume: &Volume,
        me: &dyn Fn() -> Result<Command>,
    ) -> Result<Self> {
        let all = trial == Trial::AllAtOnce;
        let mut cgroups = Vec::new();
        if all || trial == Trial::ClientCgroup {
            cgroups.push(confined("client", options.cgroup_mib, &[std::process::id()])?);
        }
        if all || trial == Trial::DaemonCgroup {
            let daemon = Client::connect(volume.target())?.daemon_pid().as_raw_nonzero().get() as u32;
            cgroups.push(confined("daemon", options.cgroup_mib + DAEMON_MIB, &[daemon])?);
        }
        if all || trial == Trial::WorkerCgroup {
            let workers = workers(&Advice::of(volume.target())?);
            let pids: Vec<u32> = workers.iter().map(|worker| worker.pid).collect();
            cgroups.push(confined("worker", options.cgroup_mib, &pids)?);
        }
        let dirty = (all || trial == Trial::DirtyLimits).then(DirtyLimits::lowest).transpose()?;
        let hungry = all || trial == Trial::LittleMemory;
        let hog = hungry.then(|| Hog::start(me()?, options.leave_mib)).transpose()?;
        let torment = Torment::start(trial, volume)?;
        Ok(Self { _dirty: dirty, _hog: hog, _cgroups: cgroups, torment })
    }

    /// Undoes it; a line about what was done.
    pub(super) fn leave(mut self) -> Result<String> {
        self.torment.take().map_or(Ok("limits stood all the time".into()), Torment::end)
    }
}

fn confined(name: &str, mib: u64, pids: &[u32]) -> Result<Cgroup> {
    let cgroup = Cgroup::make(name, mib)?;
    pids.iter().try_for_each(|pid| cgroup.take_in(*pid))?;
    Ok(cgroup)
}

/// The workers that there are now.
fn workers(advice: &Advice) -> Vec<Worker> {
    [advice.worker(), advice.worker_for_victims()].into_iter().flatten().collect()
}

/// A thread that does something again and again.
struct Torment {
    thread: JoinHandle<Result<u64>>,
    stop: Arc<AtomicBool>,
    what: &'static str,
}

impl Torment {
    fn start(trial: Trial, volume: &Volume) -> Result<Option<Self>> {
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
                ("stops of the daemon", Box::new(move || stop_daemon(pid)))
            }
            _ => return Ok(None),
        };
        let stop = Arc::new(AtomicBool::new(false));
        let ended = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut blows = 0;
            while !ended.load(Ordering::Relaxed) {
                // Once the mount is gone there is nobody to ask.
                blows += blow().unwrap_or_default();
                std::thread::sleep(PAUSE);
            }
            Ok(blows)
        });
        Ok(Some(Self { thread, stop, what }))
    }

    fn end(self) -> Result<String> {
        self.stop.store(true, Ordering::Relaxed);
        let blows = self.thread.join().expect("the tormentor does not panic")?;
        anyhow::ensure!(blows > 0, "there were no {}", self.what);
        Ok(format!("{blows} {}", self.what))
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
