//! The program and what it works on, for tests that run it as its users do.

#![allow(dead_code, reason = "each test uses a part")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

/// The program under test.
pub fn program() -> &'static str {
    env!("CARGO_BIN_EXE_gleanfs")
}

pub fn gleanfs(words: &[&str]) -> Command {
    let mut command = Command::new(program());
    command.args(words);
    command
}

/// Runs the program, demands success, gives what it printed.
#[track_caller]
pub fn said(words: &[&str]) -> String {
    let output = gleanfs(words).output().unwrap();
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// A checksum of a file's contents.
pub fn hash(path: &Path) -> u32 {
    crc32fast::hash(&fs::read(path).unwrap())
}

/// Whether mounting is possible; says why not.
pub fn can_mount() -> bool {
    if let Err(error) = fs::OpenOptions::new().read(true).write(true).open("/dev/fuse") {
        eprintln!("skipped: /dev/fuse: {error}");
        return false;
    }
    // SAFETY: no arguments, no failure.
    if unsafe { libc::geteuid() } != 0 {
        eprintln!("skipped: mounting needs root");
        return false;
    }
    true
}

/// Whether the ONNX Runtime library is there or can be had; says why not.
pub fn can_infer() -> bool {
    let output = gleanfs(&["model", "fetch"]).output().unwrap();
    if !output.status.success() {
        eprintln!("skipped: {}", String::from_utf8_lossy(&output.stderr).trim_end());
    }
    output.status.success()
}

/// A directory for images and mount points.
pub struct Scratch(TempDir);

impl Scratch {
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn name(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    /// A directory, made if it is not there.
    pub fn dir(&self, name: &str) -> String {
        fs::create_dir_all(self.path(name)).unwrap();
        self.name(name)
    }

    /// A new image file.
    pub fn image(&self, name: &str, size: &str) -> PathBuf {
        said(&["mkfs", "-q", "--force", "--size", size, &self.name(name)]);
        self.path(name)
    }

    /// Mounts on a directory of this name.
    #[track_caller]
    pub fn mount(&self, image: &str, name: &str, options: &str) -> Mount {
        let target = self.dir(name);
        said(&["mount", "-o", options, image, &target]);
        Mount { target: target.into() }
    }
}

/// A mount; unmounts when dropped, also by a failing test.
pub struct Mount {
    target: PathBuf,
}

impl Mount {
    pub fn path(&self) -> &Path {
        &self.target
    }

    pub fn status(&self) -> serde_json::Value {
        serde_json::from_str(&said(&["ctl", self.target.to_str().unwrap(), "status", "--json"])).unwrap()
    }

    /// Ends the daemon as a crash does and clears the mount away.
    pub fn kill(self) {
        self.kill_daemon();
    }

    /// Ends the daemon as a crash does; the dead mount stays.
    pub fn kill_daemon(&self) {
        let pid = self.status()["pid"].as_i64().unwrap() as i32;
        let pid = rustix::process::Pid::from_raw(pid).unwrap();
        let process = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).unwrap();
        rustix::process::pidfd_send_signal(&process, rustix::process::Signal::KILL).unwrap();
        let mut ended = [rustix::event::PollFd::new(&process, rustix::event::PollFlags::IN)];
        rustix::event::poll(&mut ended, None).unwrap();
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = gleanfs(&["umount", self.target.to_str().unwrap()]).output();
    }
}
