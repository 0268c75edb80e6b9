//! The executables that campaigns need: gleanfs itself and test suites that are published as crates.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

/// The directory of this build's profile (`target/debug` or `target/release`), and whether a test asks.
fn profile() -> Result<(PathBuf, bool)> {
    let me = std::env::current_exe().context("finding this program")?;
    let directory = me.parent().context("this program has no directory")?;
    match directory.file_name() {
        Some(name) if name == "deps" => Ok((directory.parent().context("deps stands alone")?.to_owned(), true)),
        _ => Ok((directory.to_owned(), false)),
    }
}

/// The gleanfs executable of the same target directory and profile. Built first if it is missing, and brought up to
/// date when a campaign was started by `cargo run`; a test trusts `cargo test --workspace` to have built it.
pub fn gleanfs() -> Result<PathBuf> {
    executable("gleanfs", "gleanfs")
}

/// Another program of this crate, found and built the same way.
pub fn own(name: &str) -> Result<PathBuf> {
    executable(env!("CARGO_PKG_NAME"), name)
}

fn executable(package: &str, name: &str) -> Result<PathBuf> {
    let (profile, is_test) = profile()?;
    let program = profile.join(name);
    let cargo = std::env::var_os("CARGO");
    if program.exists() && (is_test || cargo.is_none()) {
        return Ok(program);
    }
    let Some(cargo) = cargo else { bail!("{}: not there; run cargo build -p {package}", program.display()) };
    let mut build = Command::new(cargo);
    build.args(["build", "--quiet", "-p", package, "--bin", name]).current_dir(env!("CARGO_MANIFEST_DIR"));
    build.env("CARGO_TARGET_DIR", profile.parent().context("a profile has a target directory")?);
    if profile.file_name().is_some_and(|name| name == "release") {
        build.arg("--release");
    }
    ensure!(build.status().context("cargo")?.success(), "building {name} failed");
    ensure!(program.exists(), "{}: not there after a build", program.display());
    Ok(program)
}

/// The program `name` of crate `name`, installed below the target directory if it is not there yet.
pub fn suite(name: &str, version: &str) -> Result<PathBuf> {
    let (profile, _) = profile()?;
    let root = profile.parent().context("a profile has a target directory")?.join("xtests-tools");
    let program = root.join("bin").join(name);
    if program.exists() {
        return Ok(program);
    }
    println!("installing {name} {version} into {}", root.display());
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut install = Command::new(cargo);
    install.args(["install", name, "--version", version, "--locked", "--quiet", "--root"]).arg(&root);
    install.env("CARGO_TARGET_DIR", root.join("build"));
    ensure!(install.status().context("cargo")?.success(), "cargo install {name} failed; is crates.io reachable?");
    Ok(program)
}

/// The top of the source tree.
pub fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate lies in the workspace")
}

/// Links in /sbin by which mount(8) finds our helpers; those that were there stay. Gone when dropped.
#[derive(Debug, Default)]
pub struct HelperLinks(Vec<PathBuf>);

impl HelperLinks {
    pub fn install(program: &Path) -> Result<Self> {
        let mut links = Self::default();
        for name in ["mount.gleanfs", "mount.fuse.gleanfs", "umount.fuse.gleanfs", "fsck.fuse.gleanfs"] {
            let link = Path::new("/sbin").join(name);
            match std::os::unix::fs::symlink(program, &link) {
                Ok(()) => links.0.push(link),
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error).with_context(|| link.display().to_string()),
            }
        }
        Ok(links)
    }
}

impl Drop for HelperLinks {
    fn drop(&mut self) {
        for link in &self.0 {
            let _ = std::fs::remove_file(link);
        }
    }
}
