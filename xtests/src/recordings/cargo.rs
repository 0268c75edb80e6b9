//! cargo: a workspace that is edited and built again, with its objects, libraries, executables and incremental state on the mount.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use gleanfs::cli::bench::process::run;

use super::{Load, Place};
use crate::programs::sources::copy_workspace;
use crate::random::Random;

/// Dependencies are built as quickly as may be, whatever the workspace says, and edited crates with all that debuggers want.
const PROFILE: [(&str, &str); 4] =
    [("opt-level", "0"), ("debug", "2"), ("package.\"*\".opt-level", "0"), ("package.\"*\".debug", "0")];

/// How much incremental state and the executables of a build under way add to a first build, in percent of the filesystem's fill.
const GROWTH_PERCENT: u64 = 6;

pub(super) struct Cargo<'a> {
    place: Place<'a>,
    workspace: &'a Path,
    random: Random,
    /// What may be edited.
    sources: Vec<PathBuf>,
}

/// A workspace whose dependencies are not in cargo's cache cannot be built offline.
pub(super) fn lacks(workspace: &Path) -> Option<String> {
    let mut ask = cargo();
    // It wants the packages of this platform alone, as a build does.
    ask.args(["tree", "--workspace", "--edges=normal,build", "--offline", "--quiet"]).current_dir(workspace);
    run(&mut ask).err().map(|why| format!("{}: {why}", workspace.display()))
}

fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

impl<'a> Cargo<'a> {
    pub(super) fn new(place: Place<'a>, workspace: &'a Path) -> Self {
        let random = Random::new(place.seed);
        Self { place, workspace, random, sources: Vec::new() }
    }

    fn copy(&self) -> PathBuf {
        self.place.target.join("workspace")
    }

    fn build(&self) -> Result<()> {
        let copy = self.copy();
        let mut build = cargo();
        build.args(["build", "--workspace", "--offline", "--quiet"]).current_dir(&copy);
        for (key, value) in PROFILE {
            build.arg("--config").arg(format!("profile.dev.{key}={value}"));
        }
        run(build.env("CARGO_TARGET_DIR", copy.join("target")).env("CARGO_INCREMENTAL", "1"))?;
        Ok(())
    }

    /// Makes a source one line longer, so that the places of all that follows change, as when people edit.
    fn edit(&mut self) -> Result<()> {
        let source = &self.sources[self.random.below(self.sources.len() as u64) as usize];
        let text = std::fs::read(source)?;
        let number = self.random.below(1 << 32);
        std::fs::write(source, [format!("// Edited: {number}.\n").as_bytes(), &text].concat())
            .with_context(|| source.display().to_string())
    }

    /// Files that nobody touches, as there are on every disk, up to what the filesystem shall hold.
    fn top_up(&mut self) -> Result<()> {
        const FILE_BYTES: u64 = 1 << 20;
        let directory = self.place.target.join("archive");
        std::fs::create_dir(&directory)?;
        let space = rustix::fs::statvfs(self.place.target)?;
        let used = (space.f_blocks - space.f_bfree) * space.f_frsize;
        let missing = (self.place.live_bytes * (100 - GROWTH_PERCENT) / 100).saturating_sub(used);
        for number in 0..missing / FILE_BYTES {
            let bytes: Vec<u8> = (0..FILE_BYTES / 8).flat_map(|_| self.random.draw().to_le_bytes()).collect();
            File::create_new(directory.join(number.to_string()))?.write_all(&bytes)?;
        }
        println!("cargo: built; {} MiB of other files beside it", missing >> 20);
        Ok(())
    }
}

impl Load for Cargo<'_> {
    fn fill(&mut self) -> Result<()> {
        let copy = self.copy();
        copy_workspace(self.workspace, &copy)?;
        find_sources(&copy, false, &mut self.sources)?;
        self.sources.sort();
        ensure!(!self.sources.is_empty(), "{}: no source to edit", self.workspace.display());
        self.build()?;
        self.top_up()
    }

    fn round(&mut self) -> Result<()> {
        self.edit()?;
        self.build()
    }
}

/// The Rust sources of all crates: what lies below a directory `src`.
fn find_sources(directory: &Path, in_crate: bool, found: &mut Vec<PathBuf>) -> Result<()> {
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        let path = entry.path();
        if entry.file_type()?.is_dir() {
            find_sources(&path, in_crate || entry.file_name() == "src", found)?;
        } else if in_crate && path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    Ok(())
}
