//! Trees of source files and of objects: cloned, built, unpacked, and compared with where they came from.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use gleanfs::cli::bench::process::{command, installed, run as run_program};

use crate::{program, skip};

pub(super) fn git(target: &Path) -> Result<()> {
    let source = program::workspace();
    if !installed("git") || !source.join(".git").exists() {
        skip("git: not installed, or the source is no repository");
        return Ok(());
    }
    let clone = target.join("clone");
    // A repository of another owner is git's business, not ours.
    let git = || {
        let mut git = command("git");
        git.args(["-c", "safe.directory=*"]);
        git
    };
    run_program(git().args(["clone", "--quiet", "--no-local"]).arg(source).arg(&clone))?;
    run_program(git().arg("-C").arg(&clone).args(["fsck", "--full", "--strict"]))?;
    let changed = run_program(git().arg("-C").arg(&clone).args(["status", "--porcelain"]))?;
    ensure!(changed.is_empty(), "the checkout differs: {}", String::from_utf8_lossy(&changed));
    run_program(git().arg("-C").arg(&clone).args(["gc", "--quiet"]))?;
    run_program(git().arg("-C").arg(&clone).args(["fsck", "--full", "--strict"]))?;
    println!("git: cloned, checked, repacked, checked again");
    Ok(())
}

pub(super) fn cargo(target: &Path) -> Result<()> {
    let source = target.join("source");
    copy_workspace(program::workspace(), &source)?;
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = Command::new(cargo);
    build.args(["build", "--quiet", "-p", "gleanfs"]).current_dir(&source);
    run_program(build.env("CARGO_TARGET_DIR", source.join("target")))?;
    run_program(Command::new(source.join("target/debug/gleanfs")).arg("--version"))?;
    println!("cargo: built gleanfs in the mount, and it runs");
    Ok(())
}

/// Copies a cargo workspace without what was built in it, into a directory that is not there yet.
pub(crate) fn copy_workspace(workspace: &Path, into: &Path) -> Result<()> {
    std::fs::create_dir(into)?;
    let mut pack = command("tar");
    pack.arg("-C").arg(workspace).args(["--exclude=./target", "--exclude=./.git", "-cf", "-", "."]);
    pipe_into_tar(pack, into)
}

pub(super) fn tar(target: &Path, tree: Option<&Path>) -> Result<()> {
    let tree = match tree {
        Some(tree) => tree.to_owned(),
        None => large_tree()?,
    };
    let copy = target.join("copy");
    std::fs::create_dir(&copy)?;
    let mut pack = command("tar");
    pack.arg("-C").arg(&tree).args(["-cf", "-", "."]);
    pipe_into_tar(pack, &copy)?;
    run_program(command("diff").args(["-r", "--no-dereference"]).arg(&tree).arg(&copy))?;
    let files =
        run_program(command("find").arg(&copy).args(["-type", "f"]))?.iter().filter(|byte| **byte == b'\n').count();
    println!("tar: {} unpacked, {files} files, no difference", tree.display());
    Ok(())
}

/// The sources of all crates that were ever built here, or Rust's own libraries where there are none.
fn large_tree() -> Result<PathBuf> {
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cargo")));
    if let Some(sources) = home.map(|home| home.join("registry/src")).filter(|sources| sources.is_dir()) {
        return Ok(sources);
    }
    let output = run_program(Command::new("rustc").args(["--print", "sysroot"]))?;
    Ok(PathBuf::from(String::from_utf8(output)?.trim()).join("lib"))
}

fn pipe_into_tar(mut pack: Command, into: &Path) -> Result<()> {
    let mut packing = pack.stdout(Stdio::piped()).spawn().context("tar")?;
    let out = packing.stdout.take().context("tar's output")?;
    let unpacked = command("tar").arg("-C").arg(into).args(["-xf", "-"]).stdin(out).status()?;
    ensure!(packing.wait()?.success() && unpacked.success(), "tar failed; see its message above");
    Ok(())
}
