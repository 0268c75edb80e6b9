//! Taking memory away: the kernel's limits of dirty pages, a process that eats all there is, and memory cgroups of either version. The
//! [`Guard`] is told of each before it is done, and takes it back.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};
use rustix::process::Signal;

use super::guard::{Guard, Undo};

const VM: &str = "/proc/sys/vm";
const CGROUPS: &str = "/sys/fs/cgroup";
const PAGE: u64 = 4096;

/// Sets the limits of dirty pages to the least that the kernel takes.
pub(super) fn lower_dirty_limits(guard: &mut Guard) -> Result<()> {
    // Setting one of a pair makes the other zero, so the one that is not zero is what stands.
    for pair in [["dirty_background_bytes", "dirty_background_ratio"], ["dirty_bytes", "dirty_ratio"]] {
        for name in pair {
            let path = Path::new(VM).join(name);
            let value = std::fs::read_to_string(&path)?.trim().to_owned();
            if value != "0" {
                guard.before(&Undo::Write { path, value })?;
            }
        }
    }
    std::fs::write(Path::new(VM).join("dirty_background_bytes"), PAGE.to_string())?;
    std::fs::write(Path::new(VM).join("dirty_bytes"), (2 * PAGE).to_string())?;
    Ok(())
}

/// A process that holds memory until it is ended, or whoever started it is gone.
pub(super) struct Hog(Child);

impl Hog {
    /// Takes all but `leave_mib` of what is available, and waits until it has it. It is the first to go where that was too much.
    pub(super) fn start(mut me: Command, leave_mib: u64) -> Result<Self> {
        let mib = available_mib()?.saturating_sub(leave_mib);
        let child = me.args(["--hog", &mib.to_string()]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let mut hog = Self(child);
        hog.0.stdout.take().context("the hog's word")?.read_exact(&mut [0]).context("the hog ended")?;
        Ok(hog)
    }
}

impl Drop for Hog {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn available_mib() -> Result<u64> {
    let text = std::fs::read_to_string("/proc/meminfo")?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:")).context("MemAvailable")?;
    let kib: u64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kib >> 10)
}

/// The hog's life: holds `mib` MiB, says so, and keeps them until its standard input ends.
pub fn hog(mib: u64) -> Result<()> {
    std::fs::write("/proc/self/oom_score_adj", "1000")?;
    // A trial that is killed while memory is still being taken must not leave that to run on.
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    // Soon there, before others want what it was told to take; then it sleeps.
    let _ = rustix::process::setpriority_process(None, -20);
    let held = vec![1u8; (mib << 20) as usize];
    print!(".");
    std::io::Write::flush(&mut std::io::stdout())?;
    std::io::stdin().read_to_end(&mut Vec::new())?;
    drop(held);
    Ok(())
}

/// The two versions of the memory controller, and what they call things.
struct Controller {
    root: PathBuf,
    limit: &'static str,
    usage: &'static str,
    /// The line of /proc/self/cgroup that names a process's place (cgroups(7)).
    place: &'static str,
}

impl Controller {
    fn find() -> Result<Self> {
        let controllers = Path::new(CGROUPS).join("cgroup.controllers");
        if std::fs::read_to_string(controllers).is_ok_and(|text| text.contains("memory")) {
            std::fs::write(Path::new(CGROUPS).join("cgroup.subtree_control"), "+memory")?;
            return Ok(Self { root: CGROUPS.into(), limit: "memory.max", usage: "memory.current", place: "0::" });
        }
        let root = Path::new(CGROUPS).join("memory");
        Ok(Self { root, limit: "memory.limit_in_bytes", usage: "memory.usage_in_bytes", place: ":memory:" })
    }

    /// Where this process is now.
    fn home(&self) -> Result<PathBuf> {
        let text = std::fs::read_to_string("/proc/self/cgroup")?;
        let place = text.lines().find_map(|line| line.split_once(self.place)).context("no cgroup of memory")?.1;
        Ok(self.root.join(place.trim_start_matches('/')))
    }
}

/// A memory cgroup.
pub(super) struct Cgroup {
    controller: Controller,
    home: PathBuf,
    path: PathBuf,
}

impl Cgroup {
    /// One with at most `mib` MiB. Made while this process is still where it belongs.
    pub(super) fn make(guard: &mut Guard, name: &str, mib: u64) -> Result<Self> {
        let controller = Controller::find()?;
        let home = controller.home()?;
        let path = controller.root.join(format!("gleanfs-{name}-{}", std::process::id()));
        guard.before(&Undo::Disband { cgroup: path.clone(), home: home.clone() })?;
        std::fs::create_dir(&path).with_context(|| path.display().to_string())?;
        let cgroup = Self { controller, home, path };
        cgroup.limit(mib << 20)?;
        Ok(cgroup)
    }

    fn limit(&self, bytes: u64) -> Result<()> {
        let limit = self.path.join(self.controller.limit);
        std::fs::write(&limit, bytes.to_string()).with_context(|| format!("{bytes} to {}", limit.display()))
    }

    /// Leaves those in it `mib` MiB beyond what they have.
    pub(super) fn tighten(&self, mib: u64) -> Result<()> {
        let usage: u64 = std::fs::read_to_string(self.path.join(self.controller.usage))?.trim().parse()?;
        self.limit(usage + (mib << 20))
    }

    pub(super) fn take_in(&self, pid: u32) -> Result<()> {
        put(&self.path, pid)
    }

    pub(super) fn send_home(&self, pid: u32) -> Result<()> {
        put(&self.home, pid)
    }

    /// How high the limit is and how often somebody met it.
    pub(super) fn told(&self) -> String {
        let limit = std::fs::read_to_string(self.path.join(self.controller.limit)).unwrap_or_default();
        let mib = limit.trim().parse::<u64>().unwrap_or_default() >> 20;
        format!("limit of {mib} MiB met {} times", self.met())
    }

    fn met(&self) -> u64 {
        let first = std::fs::read_to_string(self.path.join("memory.failcnt")).ok();
        let second = || {
            let events = std::fs::read_to_string(self.path.join("memory.events")).ok()?;
            events.lines().find_map(|line| line.strip_prefix("max ").map(str::to_owned))
        };
        first.or_else(second).and_then(|text| text.trim().parse().ok()).unwrap_or_default()
    }
}

fn put(cgroup: &Path, pid: u32) -> Result<()> {
    std::fs::write(cgroup.join("cgroup.procs"), pid.to_string())
        .with_context(|| format!("moving process {pid} to {}", cgroup.display()))
}
