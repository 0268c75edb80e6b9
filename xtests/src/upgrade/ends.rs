//! How a supervised mount ends: its supervisor is killed, its daemons die too often, it is unmounted in the middle of an upgrade.

use std::os::fd::{AsFd, OwnedFd};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use gleanfs::cli::bench::process::{check_interrupt, run_always};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::volume::{Setup, Volume, await_end};

/// All of them; unmounted in the middle `times` times.
pub(super) fn run(setup: &Setup, times: u32) -> Result<()> {
    without_supervisor(setup).context("a supervisor that is killed")?;
    too_many_deaths(setup).context("daemons that die too often")?;
    unmounted_in_the_middle(setup, times).context("unmounting in the middle of upgrades")?;
    println!("upgrade: supervisor killed, too many deaths, {times} times unmounted in the middle: ended well");
    Ok(())
}

/// The process that keeps the mount.
pub(super) fn supervisor_of(volume: &Volume) -> Result<Pid> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", volume.status()?.pid))?;
    let line = status.lines().find_map(|line| line.strip_prefix("PPid:")).context("no parent")?;
    Pid::from_raw(line.trim().parse()?).context("no parent")
}

/// The daemon goes on alone, says so, and cannot be replaced any more.
fn without_supervisor(setup: &Setup) -> Result<()> {
    let volume = setup.with("supervise").make()?;
    let daemon = volume.status()?.pid;
    let supervisor = pidfd_open(supervisor_of(&volume)?, PidfdFlags::empty())?;
    pidfd_send_signal(&supervisor, Signal::KILL)?;
    await_end(&supervisor)?;
    std::fs::write(volume.target().join("file"), "written").context("the mount is not usable")?;
    ensure!(volume.order(&["upgrade"]).is_err(), "a mount whose supervisor is gone lets its daemon be replaced");
    let status = volume.status()?;
    ensure!(status.pid == daemon && status.supervision.is_some_and(|s| !s.watched), "ctl status does not say so");
    volume.end()
}

/// The mount is given up and dead, and can be cleared away and made anew.
fn too_many_deaths(setup: &Setup) -> Result<()> {
    let mut volume = setup.with("supervise=2").make()?;
    std::fs::write(volume.target().join("file"), "synced")?;
    volume.settle()?;
    let supervisor = pidfd_open(supervisor_of(&volume)?, PidfdFlags::empty())?;
    let mut deaths = 0;
    loop {
        check_interrupt()?;
        ensure!(volume.status()?.supervision.is_some_and(|s| s.deaths == deaths), "deaths are miscounted");
        volume.kill_daemon()?;
        deaths += 1;
        if !is_followed(&volume, &supervisor)? {
            break;
        }
        // Only those of the last minute count, and the machine may be slow.
        ensure!(deaths < 20, "{deaths} deaths were not too many");
    }
    ensure!(deaths > 2, "{deaths} deaths were too many");
    let told = rustix::fs::statvfs(volume.target()).map(drop);
    ensure!(matches!(told, Err(Errno::NOTCONN | Errno::CONNABORTED)), "a mount that was given up answers {told:?}");
    volume.unmount()?;
    volume.mount()?;
    ensure!(std::fs::read_to_string(volume.target().join("file"))? == "synced", "what was synced is gone");
    volume.end()
}

/// Waits until another daemon serves, or the supervisor has given up.
fn is_followed(volume: &Volume, supervisor: &OwnedFd) -> Result<bool> {
    for _ in 0..3000 {
        check_interrupt()?;
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        if poll(&mut [PollFd::from_borrowed_fd(supervisor.as_fd(), PollFlags::IN)], Some(&now))? > 0 {
            return Ok(false);
        }
        if volume.status().is_ok() {
            return Ok(true);
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    anyhow::bail!("the supervisor neither starts a daemon nor gives up")
}

/// Whichever is first, the mount ends, and nothing is lost.
fn unmounted_in_the_middle(setup: &Setup, times: u32) -> Result<()> {
    let mut volume = setup.with("supervise").make()?;
    for round in 0..times {
        check_interrupt()?;
        let name = volume.target().join(format!("file {round}"));
        std::fs::write(&name, "kept")?;
        let supervisor = pidfd_open(supervisor_of(&volume)?, PidfdFlags::empty())?;
        let mut upgrade = Command::new(volume.program());
        upgrade.arg("ctl").arg(volume.target()).arg("upgrade");
        let (unmounted, _) = std::thread::scope(|scope| {
            let upgrade = scope.spawn(move || run_always(&mut upgrade));
            (volume.unmount(), upgrade.join())
        });
        unmounted.with_context(|| format!("round {round}"))?;
        await_end(&supervisor)?;
        volume.fsck()?;
        volume.mount()?;
        ensure!(std::fs::read_to_string(name)? == "kept", "round {round}: what was written is gone");
    }
    volume.end()
}
