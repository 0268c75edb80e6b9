//! The download of the pinned wheel with `python3 -m pip`, its check and its unpacking.
//!
//! Everything happens in a temporary folder of the cache. `pip` checks the hash that the
//! requirements file carries, and we check it again, because what we load is on us.

use std::fs;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::cache::{Entry, Workshop};
use super::pins::{Pin, VERSION};
use super::{Progress, Stage, sha256_file};

/// A download that takes longer is given up.
const PATIENCE: Duration = Duration::from_secs(300);

/// Downloads, checks, unpacks and installs; answers with the library's path or one line.
pub(super) fn fetch(pin: &Pin, entry: &Entry, progress: &mut dyn FnMut(Progress)) -> Result<PathBuf, String> {
    let workshop = entry.workshop().map_err(|e| format!("{}: {e}", entry.root.display()))?;
    let wheel = download(pin, &workshop, progress)?;
    let mut tell = |stage| progress(Progress { stage, bytes_done: pin.bytes, bytes_total: pin.bytes });
    tell(Stage::Verifying);
    let found = sha256_file(&wheel).map_err(|e| e.to_string())?;
    if found != pin.sha256 {
        return Err(format!("the wheel's sha256 is {found}, not {}", pin.sha256));
    }
    tell(Stage::Unpacking);
    let library = unpack(&wheel, &workshop)?;
    entry.install(&workshop, &library).map_err(|e| format!("{}: {e}", entry.root.display()))
}

fn download(pin: &Pin, workshop: &Workshop, progress: &mut dyn FnMut(Progress)) -> Result<PathBuf, String> {
    let requirements = workshop.path.join("requirements.txt");
    let line = format!("onnxruntime=={VERSION} --hash=sha256:{}\n", pin.sha256);
    fs::write(&requirements, line).map_err(|e| e.to_string())?;
    let wheels = workshop.path.join("wheels");
    let mut pip = python(workshop)?;
    pip.args(["-m", "pip", "download", "--require-hashes", "--no-deps", "--only-binary", ":all:"])
        .args(["--python-version", "3.11", "--implementation", "cp", "--abi", "cp311"])
        .args(pin.platforms.iter().flat_map(|platform| ["--platform", platform]))
        .args(["--no-input", "--no-cache-dir", "--progress-bar", "off", "--timeout", "15", "--retries", "1"])
        .arg("--requirement")
        .arg(&requirements)
        .arg("--dest")
        .arg(&wheels);
    run(pip, workshop, &mut |bytes| {
        let bytes_done = bytes.min(pin.bytes);
        progress(Progress { stage: Stage::Downloading, bytes_done, bytes_total: pin.bytes });
    })?;
    only_file(&wheels, |name| name.ends_with(".whl"))
}

/// Unpacks the wheel (a zip file) and finds the library in it.
fn unpack(wheel: &Path, workshop: &Workshop) -> Result<PathBuf, String> {
    let tree = workshop.path.join("tree");
    let mut zip = python(workshop)?;
    zip.args(["-m", "zipfile", "-e"]).arg(wheel).arg(&tree);
    run(zip, workshop, &mut |_| ())?;
    only_file(&tree.join("onnxruntime/capi"), |name| name.starts_with("libonnxruntime.so"))
}

fn python(workshop: &Workshop) -> Result<Command, String> {
    let log = fs::File::create(workshop.path.join("log")).map_err(|e| e.to_string())?;
    let mut command = Command::new("python3");
    command
        .current_dir(&workshop.path)
        .env("TMPDIR", &workshop.path)
        .env("PIP_DISABLE_PIP_VERSION_CHECK", "1")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log);
    Ok(command)
}

/// Runs to the end, reporting the bytes in the workshop ten times a second.
fn run(mut command: Command, workshop: &Workshop, tick: &mut dyn FnMut(u64)) -> Result<(), String> {
    let mut child = command.spawn().map_err(|e| match e.kind() {
        std::io::ErrorKind::NotFound => "python3 is not installed".to_owned(),
        _ => format!("python3: {e}"),
    })?;
    let outcome = wait(&mut child, workshop, tick);
    if outcome.is_err() {
        // It may have ended meanwhile; either way it must be reaped.
        let _ = child.kill();
        let _ = child.wait();
    }
    outcome
}

fn wait(child: &mut Child, workshop: &Workshop, tick: &mut dyn FnMut(u64)) -> Result<(), String> {
    let pid = Pid::from_child(child);
    let pidfd = pidfd_open(pid, PidfdFlags::empty()).map_err(|e| format!("python3: {e}"))?;
    let since = Instant::now();
    loop {
        let mut fds = [PollFd::from_borrowed_fd(pidfd.as_fd(), PollFlags::IN)];
        let tenth = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
        // An interrupted wait is only a shorter one.
        let _ = poll(&mut fds, Some(&tenth));
        match child.try_wait().map_err(|e| format!("python3: {e}"))? {
            Some(status) if status.success() => return Ok(()),
            Some(_) => return Err(complaint(&workshop.path.join("log"))),
            None if since.elapsed() > PATIENCE => {
                return Err(format!("no end after {} seconds", PATIENCE.as_secs()));
            }
            None => tick(workshop.bytes()),
        }
    }
}

/// The line of the log that says best what went wrong.
fn complaint(log: &Path) -> String {
    let text = fs::read(log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    if text.contains("Retrying (") {
        return "the package index cannot be reached".into();
    }
    let lines = || text.lines().map(str::trim).filter(|line| !line.is_empty());
    let line = lines().rfind(|line| line.starts_with("ERROR:")).or_else(|| lines().next_back());
    match line {
        Some(line) => line.trim_start_matches("ERROR:").trim().chars().take(200).collect(),
        None => "python3 failed without a word".into(),
    }
}

fn only_file(dir: &Path, wanted: impl Fn(&str) -> bool) -> Result<PathBuf, String> {
    let entries = fs::read_dir(dir).map_err(|e| format!("nothing was unpacked: {e}"))?;
    let mut found =
        entries.flatten().filter(|entry| entry.file_name().to_str().is_some_and(&wanted)).map(|entry| entry.path());
    match (found.next(), found.next()) {
        (Some(path), None) => Ok(path),
        (None, _) => Err("the wheel does not hold what it should".into()),
        (Some(_), Some(_)) => Err("the wheel holds more than it should".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_complaint_is_one_line() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        fs::write(&log, "WARNING: slow\nERROR: No matching distribution\nhint: x\n").unwrap();
        assert_eq!(complaint(&log), "No matching distribution");
        fs::write(&log, "/usr/bin/python3: No module named pip\n\n").unwrap();
        assert_eq!(complaint(&log), "/usr/bin/python3: No module named pip");
        fs::write(&log, "WARNING: Retrying (Retry(total=0)) after connection broken\nERROR: No matching\n").unwrap();
        assert_eq!(complaint(&log), "the package index cannot be reached");
        assert_eq!(complaint(&dir.path().join("gone")), "python3 failed without a word");
    }
}
