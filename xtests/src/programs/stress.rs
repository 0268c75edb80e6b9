//! stress-ng: its stressors for filesystems that work below a directory, each for some seconds, with its own verification.

use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, Result, bail, ensure};
use gleanfs::cli::bench::process::{check_interrupt, command, installed};

use crate::skip;

/// Of the class `filesystem` those that work on files below `--temp-path`; the others need devices, other filesystems or pseudo files.
const STRESSORS: [&str; 38] = [
    "access",
    "chattr",
    "chdir",
    "chmod",
    "chown",
    "copy-file",
    "dentry",
    "dir",
    "dirdeep",
    "dirmany",
    "dnotify",
    "fallocate",
    "fcntl",
    "fiemap",
    "file-ioctl",
    "filename",
    "flock",
    "fpunch",
    "fsize",
    "fstat",
    "getdent",
    "handle",
    "hdd",
    "inode-flags",
    "inotify",
    "io",
    "iomix",
    "lease",
    "link",
    "locka",
    "lockf",
    "lockofd",
    "mknod",
    "open",
    "rename",
    "symlink",
    "utime",
    "xattr",
];

/// Exit statuses of stress-ng(1).
const RESOURCES: i32 = 3;
const NOT_IMPLEMENTED: i32 = 4;

pub(super) fn run(target: &Path, secs: u32, only: &[String]) -> Result<()> {
    if !installed("stress-ng") {
        skip("stress-ng: not installed");
        return Ok(());
    }
    let chosen: Vec<&str> =
        if only.is_empty() { STRESSORS.to_vec() } else { only.iter().map(String::as_str).collect() };
    let (mut passed, mut failed) = (0, Vec::new());
    for stressor in chosen {
        check_interrupt()?;
        match stress(target, secs, stressor)? {
            Outcome::Passed => passed += 1,
            Outcome::Unusable(why) => skip(format_args!("stress-ng {stressor}: {why}")),
            Outcome::Failed(said) => failed.push(format!("{stressor}: {said}")),
        }
    }
    println!("stress-ng: {passed} stressors ran {secs} s each and found nothing, {} failed", failed.len());
    ensure!(failed.is_empty(), "{}", failed.join("\n"));
    ensure!(passed > 0, "stress-ng ran no stressor");
    Ok(())
}

enum Outcome {
    Passed,
    Unusable(&'static str),
    Failed(String),
}

fn stress(target: &Path, secs: u32, stressor: &str) -> Result<Outcome> {
    let mut stress = command("stress-ng");
    stress.arg(format!("--{stressor}")).arg("2").arg("--temp-path").arg(target);
    stress.args(["--verify", "--timeout", &format!("{secs}s"), "--hdd-bytes", "64m"]);
    let output = stress.stdin(Stdio::null()).output().context("stress-ng")?;
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    let told: Vec<&str> =
        said.lines().filter(|line| line.contains("fail:") || line.contains("error:")).take(3).collect();
    Ok(match output.status.code() {
        Some(0) => Outcome::Passed,
        Some(RESOURCES) => Outcome::Unusable("it found too few resources"),
        Some(NOT_IMPLEMENTED) => Outcome::Unusable("it is not implemented here"),
        Some(_) => Outcome::Failed(told.join("; ")),
        None => bail!("stress-ng {stressor}: {}", output.status),
    })
}
