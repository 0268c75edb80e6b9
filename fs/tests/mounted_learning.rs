//! Telemetry and learning on a real mount: what is recorded, and a trainer that learns from it.
//!
//! Needs root and `/dev/fuse`, and for learning the ONNX Runtime library, which is fetched; without them the tests say so and are skipped.

mod common;

use std::fs;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use common::{Mount, Scratch, can_mount, gleanfs, said};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// Whatever a test waits for has come long before.
const PATIENCE: Duration = Duration::from_secs(120);

fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let since = Instant::now();
    while !done() {
        assert!(since.elapsed() < PATIENCE, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or(0)
}

/// A recording under way; ended when dropped.
struct Recorder(Child);

impl Recorder {
    fn start(mount: &Mount, file: &str) -> Self {
        let before = mount.status()["telemetry"].as_array().unwrap().len();
        let words = ["ctl", mount.path().to_str().unwrap(), "record", file];
        let child = gleanfs(&words).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let recorder = Self(child);
        wait_until("the recording", || mount.status()["telemetry"].as_array().unwrap().len() > before);
        recorder
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.0), signal).unwrap();
    }

    /// What it says in the end.
    fn ended(mut self) -> String {
        let status = self.0.wait().unwrap();
        let mut text = String::new();
        std::io::Read::read_to_string(self.0.stdout.as_mut().unwrap(), &mut text).unwrap();
        assert!(status.success(), "{status}: {text}");
        text
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Writes a file in blocks that reach the filesystem one by one.
fn write(path: &Path, blocks: usize) {
    fs::write(path, vec![7; blocks * 4096]).unwrap();
}

fn report(words: &[&str]) -> Value {
    serde_json::from_str(&said(words)).unwrap()
}

#[test]
fn a_recording_holds_what_happened_and_is_a_trace() {
    if !can_mount() {
        return;
    }
    let scratch = Scratch::new();
    let image = scratch.image("image", "64M");
    let mount = scratch.mount(image.to_str().unwrap(), "mnt", "writeback=off,trust=fallback");
    let (plain, packed) = (scratch.name("plain"), scratch.name("packed.gz"));
    let (first, second) = (Recorder::start(&mount, &plain), Recorder::start(&mount, &packed));
    for n in 0..64 {
        write(&mount.path().join(format!("{n}.log")), 16);
        if n >= 8 {
            fs::remove_file(mount.path().join(format!("{}.log", n - 8))).unwrap();
        }
    }
    wait_until("the removed files' room", || {
        let taps = mount.status()["telemetry"].clone();
        number(&taps[0]["events"]) >= 64 + 56
    });
    first.signal(Signal::INT);
    let line = first.ended();
    assert!(line.contains("events written to") && line.contains(" 0 lost"), "{line}");
    // Of the other one the end of the mount is the end.
    drop(mount);
    second.ended();
    let replayed = |file: &str| {
        report(&["sim", "--trace", file, "--segment=32K", "--policy=greedy/none", "--score=100%", "--json"])
    };
    let (of_plain, of_packed) = (replayed(&plain), replayed(&packed));
    assert_eq!(of_plain["tables"][0]["scored_blocks"], 1024);
    assert_eq!(of_plain["tables"][0]["rows"][0]["moved_blocks"], of_packed["tables"][0]["rows"][0]["moved_blocks"]);
    // Space is given back in the background, so a few more files than there are names may have been there at once.
    let live_blocks = number(&of_plain["tables"][0]["live_blocks"]);
    assert!((9 * 16..32 * 16).contains(&live_blocks), "removed files are discards: {live_blocks}");
}

#[test]
fn a_recording_that_cannot_be_is_one_line_and_changes_nothing() {
    if !can_mount() {
        return;
    }
    let scratch = Scratch::new();
    let image = scratch.image("image", "64M");
    let mount = scratch.mount(image.to_str().unwrap(), "mnt", "trust=fallback");
    let refused = |file: &Path, part: &str| {
        let output =
            gleanfs(&["ctl", mount.path().to_str().unwrap(), "record", file.to_str().unwrap()]).output().unwrap();
        let line = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && line.contains(part) && line.trim_end().lines().count() == 1, "{line}");
    };
    refused(&mount.path().join("itself"), "lies on the mount");
    assert!(!mount.path().join("itself").exists());
    refused(&scratch.path("no/such/folder"), "No such file");
    fs::write(scratch.path("there"), "precious").unwrap();
    refused(&scratch.path("there"), "exists");
    assert_eq!(fs::read(scratch.path("there")).unwrap(), b"precious");
    assert_eq!(mount.status()["telemetry"].as_array().unwrap().len(), 0);
    let cut = scratch.path("cut");
    let recorder = Recorder::start(&mount, cut.to_str().unwrap());
    write(&mount.path().join("file"), 4);
    recorder.signal(Signal::TERM);
    recorder.ended();
    let whole = fs::read(&cut).unwrap();
    fs::write(&cut, &whole[..whole.len() - 10]).unwrap();
    let output = gleanfs(&["sim", "--trace", cut.to_str().unwrap()]).output().unwrap();
    let line = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && line.contains("the file ends within it"), "{line}");
}

/// Whether there is a library that runs models; fetches it.
fn has_library() -> bool {
    let fetched = gleanfs(&["model", "fetch"]).output().unwrap();
    if !fetched.status.success() {
        eprintln!("skipped: {}", String::from_utf8_lossy(&fetched.stderr));
    }
    fetched.status.success()
}

/// Files of two kinds: what is temporary dies young, what is not stays long. No rule that knows blocks alone can tell new ones apart.
fn work(mount: &Mount, round: usize) {
    const TEMPORARY: usize = 8;
    const KEPT: usize = 400;
    write(&mount.path().join(format!("{round}.tmp")), 16);
    if round >= TEMPORARY {
        fs::remove_file(mount.path().join(format!("{}.tmp", round - TEMPORARY))).unwrap();
    }
    if round.is_multiple_of(2) {
        let kept = round / 2;
        write(&mount.path().join(format!("{kept}.dat")), 16);
        if kept >= KEPT {
            fs::remove_file(mount.path().join(format!("{}.dat", kept - KEPT))).unwrap();
        }
    }
}

fn work_until(mount: &Mount, from: usize, what: &str, mut done: impl FnMut(&Value) -> bool) -> usize {
    let since = Instant::now();
    let mut round = from;
    loop {
        (0..64).for_each(|n| work(mount, round + n));
        round += 64;
        let learning = mount.status()["learning"].clone();
        if done(&learning) {
            return round;
        }
        assert!(since.elapsed() < PATIENCE, "waited in vain for {what}: {learning}");
    }
}

#[test]
fn what_a_trainer_has_learnt_takes_over_and_its_death_costs_nothing() {
    if !can_mount() || !has_library() {
        return;
    }
    let scratch = Scratch::new();
    let image = scratch.image("image", "64M");
    let mount = scratch.mount(image.to_str().unwrap(), "mnt", "writeback=off,learn=on");
    let round = work_until(&mount, 0, "a model to be taken", |learning| number(&learning["taken"]) > 0);
    let status = mount.status();
    assert!(status["advisor"]["model"].as_str().unwrap().starts_with("learned-"), "{}", status["advisor"]);
    assert!(status["learning"]["candidate_of_rule"].as_f64().unwrap() < 0.97, "{}", status["learning"]);
    let trainer = status["learning"]["trainer_pid"].as_i64().unwrap() as i32;
    let nice = rustix::process::getpriority_process(Pid::from_raw(trainer)).unwrap();
    assert_eq!(nice, 19, "it works when nobody else does");
    kill_process(Pid::from_raw(trainer).unwrap(), Signal::KILL).unwrap();
    let restarted = |learning: &Value| {
        number(&learning["trainer_restarts"]) > 0
            && learning["trainer_pid"].as_i64().is_some_and(|pid| pid != i64::from(trainer))
    };
    let round = work_until(&mount, round, "another trainer", restarted);
    let fits = number(&mount.status()["learning"]["fits"]);
    work_until(&mount, round, "what it learns", |learning| number(&learning["fits"]) != fits);
    drop(mount);
    said(&["fsck", image.to_str().unwrap()]);
}

#[test]
fn in_shadow_nothing_is_taken() {
    if !can_mount() || !has_library() {
        return;
    }
    let scratch = Scratch::new();
    let image = scratch.image("image", "64M");
    let mount = scratch.mount(image.to_str().unwrap(), "mnt", "writeback=off,learn=shadow");
    work_until(&mount, 0, "an offer", |learning| number(&learning["offered"]) > 0);
    let status = mount.status();
    assert_eq!((&status["learning"]["taken"], &status["learning"]["mode"]), (&0.into(), &"shadow".into()));
    assert!(status["advisor"]["model"].as_str().unwrap().contains("shipped"), "{}", status["advisor"]);
}
