//! `gleanfs fsck`: reads and verifies a whole image; exit statuses are those of fsck(8).

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde::Serialize;

use super::assemble;
use super::failure::{Failure, Result};

/// No errors.
pub const STATUS_CLEAN: u8 = 0;
/// Errors were found and corrected.
pub const STATUS_CORRECTED: u8 = 1;
/// Errors were left uncorrected.
pub const STATUS_ERRORS: u8 = 4;
/// The check itself could not be done.
pub const STATUS_OPERATION: u8 = 8;
/// Wrong usage.
pub const STATUS_USAGE: u8 = 16;

/// Read and verify everything; report what is wrong and where.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Exit status, as of fsck(8): 0 clean, 1 errors corrected, 4 errors left, 8 could not check, 16 wrong usage.

Examples:
  gleanfs fsck disk.img
  gleanfs fsck --json disk.img | jq .findings
  gleanfs fsck -n /dev/sdb        look only, write nothing")]
pub struct Args {
    /// Device, image file or zoned image
    path: PathBuf,
    /// Write nothing, not even what is safe to correct
    #[arg(short = 'n', long)]
    dry_run: bool,
    /// Correct what is safe to correct without asking
    #[arg(short = 'p', long, visible_short_aliases = ['a', 'y'], conflicts_with = "dry_run")]
    repair: bool,
    /// Print the findings as JSON
    #[arg(long)]
    json: bool,
    /// Show progress on stderr [default: if it is a terminal]
    #[arg(short = 'C', long)]
    progress: bool,
}

/// What fsck may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repair {
    Nothing,
    WhatIsSafe,
}

/// How to run one check, whoever asks for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Manner {
    pub repair: Repair,
    pub json: bool,
    pub progress: bool,
}

/// All that a check found.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Findings {
    pub findings: Vec<Finding>,
    pub checked_bytes: u64,
    pub files: u64,
    pub directories: u64,
}

/// One inconsistency.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Finding {
    /// Name of the kind, for programs: `bad_checksum`, `live_count`, ...
    pub kind: String,
    /// Where: block, segment, inode, path as far as known.
    pub place: String,
    /// One line for people.
    pub message: String,
    pub corrected: bool,
}

impl Findings {
    /// The exit status of fsck(8) for these findings.
    pub fn status(&self) -> u8 {
        if self.findings.is_empty() {
            STATUS_CLEAN
        } else if self.findings.iter().all(|finding| finding.corrected) {
            STATUS_CORRECTED
        } else {
            STATUS_ERRORS
        }
    }
}

pub fn run(arguments: &Args) -> Result<ExitCode> {
    let repair = if arguments.repair { Repair::WhatIsSafe } else { Repair::Nothing };
    let progress = arguments.progress || std::io::stderr().is_terminal();
    check(&arguments.path, Manner { repair, json: arguments.json, progress })
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
        assemble::check(path, manner.repair, &mut |done, all| bar.show(done, all))
    };
    let found = found.map_err(|failure| failure.status(STATUS_OPERATION))?;
    let text = if manner.json { json(&found)? } else { lines(path, &found) };
    print!("{text}");
    Ok(ExitCode::from(found.status()))
}

fn json(found: &Findings) -> Result<String> {
    serde_json::to_string_pretty(found).map(|text| text + "\n").map_err(Failure::new)
}

fn lines(path: &Path, found: &Findings) -> String {
    let mut text = String::new();
    for finding in &found.findings {
        let done = if finding.corrected { " (corrected)" } else { "" };
        text += &format!("{}: {}: {}{done}\n", finding.kind, finding.place, finding.message);
    }
    let verdict = match found.status() {
        STATUS_CLEAN => "clean".to_owned(),
        STATUS_CORRECTED => format!("{} errors, all corrected", found.findings.len()),
        _ => format!("{} errors", found.findings.len()),
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

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(corrected: bool) -> Finding {
        Finding { kind: "live_count".into(), place: "segment 7".into(), message: "9 counted, 8 kept".into(), corrected }
    }

    #[test]
    fn the_status_is_that_of_the_worst_finding() {
        let status = |findings: Vec<Finding>| Findings { findings, ..Findings::default() }.status();
        assert_eq!(status(vec![]), 0);
        assert_eq!(status(vec![finding(true), finding(true)]), 1);
        assert_eq!(status(vec![finding(true), finding(false)]), 4);
    }

    #[test]
    fn findings_are_lines_and_json() {
        let found = Findings { findings: vec![finding(true)], checked_bytes: 8192, files: 2, directories: 1 };
        let text = lines(Path::new("disk.img"), &found);
        assert_eq!(
            text,
            "live_count: segment 7: 9 counted, 8 kept (corrected)\n\
             disk.img: 1 errors, all corrected; 2 files, 1 directories, 8K verified\n"
        );
        let value: serde_json::Value = serde_json::from_str(&json(&found).unwrap()).unwrap();
        assert_eq!(value["findings"][0]["kind"], "live_count");
    }
}
