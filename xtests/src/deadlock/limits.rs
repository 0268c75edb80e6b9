//! Taking memory away: the kernel's limits of dirty pages, a process that eats all there is, and memory cgroups of either version. All of
//! it is given back when it is dropped.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};

const VM: &str = "/proc/sys/vm";
const CGROUPS: &str = "/sys/fs/cgroup";
const PAGE: u64 = 4096;

/// The limits of dirty pages at the least that the kernel takes.
pub(super) struct DirtyLimits(Vec<(PathBuf, String)>);

impl DirtyLimits {
    pub(super) fn lowest() -> Result<Self> {
        let mut before = Vec::new();
        // Setting one of a pair makes the other zero, so the one that is not zero is what stands.
        for pair in [["dirty_background_bytes", "dirty_background_ratio"], ["dirty_bytes", "dirty_ratio"]] {
            for name in pair {
                let path = Path::new(VM).join(name);
                let value = std::fs::read_to_string(&path)?.trim().to_owned();
                if value != "0" {
                    before.push((path, value));
                }
            }
        }
        let limits = Self(before);
        std::fs::write(Path::new(VM).join("dirty_background_bytes"), PAGE.to_string())?;
        std::fs::write(Path::new(VM).join("dirty_bytes"), (2 * PAGE).to_string())?;
        Ok(limits)
    }
}

impl Drop for DirtyLimits {
    fn drop(&mut self) {
        for (path, value) in &self.0 {
            if let Err(e) = std::fs::write(path, value) {
                eprintln!("{} could not be set back to {value}: {e}", path.display());
            }
        }
    }
}

/// A process that holds memory until it is ended.
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
    let held = vec![1u8; (mib << 20) as usize];
    print!(".");
    std::io::Write::flush(&mut std::io::stdout())?;
    std::io::stdin().read_to_end(&mut Vec::new())?;
    drop(held);
    Ok(())
}

/// A memory cgroup; whoever is still in it goes back to the root when it is dropped.
pub(super) struct Cgroup {
    parent: PathBuf,
    path: PathBuf,
}

impl Cgroup {
    /// One with at most `mib` MiB, where the memory controller is: in version 2's tree or in version 1's own.
    pub(super) fn make(name: &str, mib: u64) -> Result<Self> {
        let controllers = Path::new(CGROUPS).join("cgroup.controllers");
        let is_second = std::fs::read_to_string(controllers).is_ok_and(|text| text.contains("memory"));
        let (parent, limit) = if is_second {
            std::fs::write(Path::new(CGROUPS).join("cgroup.subtree_control"), "+memory")?;
            (PathBuf::from(CGROUPS), "memory.max")
        } else {
            (Path::new(CGROUPS).join("memory"), "memory.limit_in_bytes")
        };
        let path = parent.join(format!("gleanfs-{name}-{}", std::process::id()));
        std::fs::create_dir(&path).with_context(|| path.display().to_string())?;
        let cgroup = Self { parent, path };
        std::fs::write(cgroup.path.join(limit), (mib << 20).to_string())?;
        Ok(cgroup)
    }

    pub(super) fn take_in(&self, pid: u32) -> Result<()> {
        std::fs::write(self.path.join("cgroup.procs"), pid.to_string())
            .with_context(|| format!("moving process {pid} to {}", self.path.display()))
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let inside = std::fs::read_to_string(self.path.join("cgroup.procs")).unwrap_or_default();
        for pid in inside.lines() {
            let _ = std::fs::write(self.parent.join("cgroup.procs"), pid);
        }
        if let Err(e) = std::fs::remove_dir(&self.path) {
            eprintln!("{} stays: {e}", self.path.display());
        }
    }
}
