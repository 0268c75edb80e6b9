//! `gleanfs fsck`: reads and verifies a whole image; exit statuses are those of fsck(8).

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::assemble;
use super::failure::{Failure, Result};
use crate::fsck::Report;

/// The check itself could not be done.
pub const STATUS_OPERATION: u8 = 8;
/// Wrong usage.
pub const STATUS_USAGE: u8 = 16;

/// Read and verify everything; report what is wrong and where.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Exit status, as of fsck(8): 0 clean, 4 errors, 8 could not check, 16 wrong usage.
Nothing is ever written: the log of an image that was not unmounted is replayed in memory, and by the next mount for good.

Examples:
  gleanfs fsck disk.img
  gleanfs fsck --json disk.img | jq .findings
  gleanfs fsck --metadata-only /dev/sdb")]
pub struct Args {
    /// Device, image file or zoned image
    path: PathBuf,
    /// Leave out file data; verify the metadata only
    #[arg(long)]
    metadata_only: bool,
    /// Accepted as fsck(8) gives them; there is nothing that they change
    #[arg(short = 'n', visible_short_aliases = ['a', 'p', 'y'])]
    _manner: bool,
    /// Print the findings as JSON
    #[arg(long)]
    json: bool,
    /// Show progress on stderr [default: if it is a terminal]
    #[arg(short = 'C', long)]
    progress: bool,
}

/// How to run one check, whoever asks for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Manner {
    pub metadata_only: bool,
    pub json: bool,
    pub progress: bool,
}

pub fn run(arguments: &Args) -> Result<ExitCode> {
    let progress = arguments.progress || std::io::stderr().is_terminal();
    check(&arguments.path, Manner { metadata_only: arguments.metadata_only, json: arguments.json, progress })
}

/// Checks the image at `path` and prints what was found.
pub fn check(path: &Path, manner: Manner) -> Result<ExitCode> {
    let shown = path.display();
    let source = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    if let Ok(mounts) = crate::control::mounts::of(&source)
        && let Some(mount) = mounts.iter().find(|mount| !mount.read_only)
    {
        let target = mount.target.display();
        let why = format!("{shown}: mounted at {target}; unmount it first");
        return Err(Failure::with_status(why, STATUS_OPERATION));
    }
    let found = {
        let mut bar = Bar { shown: manner.progress, percent: None };
        assemble::check(path, !manner.metadata_only, &mut |done, all| bar.show(done, all))
    };
    let found = found.map_err(|failure| failure.status(STATUS_OPERATION))?;
    let text = if manner.json { json(&found)? } else { lines(path, &found) };
    print!("{text}");
    Ok(ExitCode::from(found.status()))
}

fn json(found: &Report) -> Result<String> {
    serde_json::to_string_pretty(found).map(|text| text + "\n").map_err(Failure::new)
}

fn lines(path: &Path, found: &Report) -> String {
    let mut text = String::new();
    for finding in &found.findings {
        text += &format!("{}: {finding}\n", finding.kind());
    }
    let verdict = match found.errors() {
        0 if found.clean => "clean".to_owned(),
        0 => format!("clean after {} operations of the log", found.replayed),
        errors => format!("{errors} errors"),
    };
    let size = super::size::Size(found.checked_bytes);
    let (files, directories) = (found.files, found.directories);
    text + &format!("{}: {verdict}; {files} files, {directories} directories, {size} verified\n", path.display())
}

/// One line on stderr that is written over and gone at the end.
struct Bar {
    shown: bool,
    percent: Option<u64>,
}

impl Bar {
    fn show(&mut self, done: u64, all: u64) {
        let percent = (100 * u128::from(done)).checked_div(u128::from(all)).unwrap_or(0) as u64;
        if self.shown && self.percent != Some(percent) {
            self.percent = Some(percent);
            let _ = write!(std::io::stderr(), "\rchecking {percent} %");
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        if self.percent.is_some() {
            let _ = write!(std::io::stderr(), "\r              \r");
        }
    }
}
