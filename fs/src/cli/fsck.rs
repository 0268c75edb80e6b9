//! `gleanfs fsck`: reads and verifies a whole image, and repairs it when asked to; exit statuses are those of fsck(8).

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::assemble;
use super::failure::{Failure, Result};
use super::size::Size;
use crate::fsck::Report;
use crate::repair::{Consent, Outcome, Verdict};

/// The check itself could not be done.
pub const STATUS_OPERATION: u8 = 8;
/// Wrong usage.
pub const STATUS_USAGE: u8 = 16;

/// Errors were corrected.
const STATUS_CORRECTED: u8 = 1;
/// Errors are left.
const STATUS_LEFT: u8 = 4;

/// Read and verify everything; report what is wrong and where; repair it if asked to.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Exit status, as of fsck(8): 0 clean, 1 errors corrected, 4 errors left, 8 could not check, 16 wrong usage.
Without --repair, -y or -a nothing is ever written: the log of an image that was not unmounted is replayed in memory, and by the
next mount for good. --repair alone lists the repairs that it would make. A repair ends with one write, before which the image is what it
was; what has no name left is found in /lost+found, and blocks that are lost give EIO.

Examples:
  gleanfs fsck disk.img
  gleanfs fsck --json disk.img | jq .findings
  gleanfs fsck --metadata-only /dev/sdb
  gleanfs fsck --repair disk.img
  gleanfs fsck --repair --yes disk.img")]
pub struct Args {
    /// Device, image file or zoned image
    path: PathBuf,
    /// Leave out file data; verify the metadata only
    #[arg(long)]
    metadata_only: bool,
    /// List the repairs that what is found calls for; with --yes, make them
    #[arg(long)]
    repair: bool,
    /// Make all repairs, also those that give up what cannot be read
    #[arg(short, long, conflicts_with_all = ["automatic", "no"])]
    yes: bool,
    /// Repair if nothing is lost by it, else change nothing
    #[arg(short = 'a', visible_short_alias = 'p', conflicts_with = "no")]
    automatic: bool,
    /// Change nothing
    #[arg(short, conflicts_with = "yes")]
    no: bool,
    /// Segments of an image that has lost what it is, where mkfs was given their size
    #[arg(long, value_name = "SIZE")]
    segment_size: Option<Size>,
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
    /// What may be repaired; `None`: only check.
    pub consent: Option<Consent>,
    /// Size of a segment in bytes, if nothing else can tell.
    pub segment_bytes: Option<u64>,
}

impl Args {
    fn consent(&self) -> Option<Consent> {
        match self {
            Self { yes: true, .. } => Some(Consent::All),
            Self { automatic: true, .. } => Some(Consent::Safe),
            Self { repair: true, .. } => Some(Consent::DryRun),
            _ => None,
        }
    }
}

pub fn run(arguments: &Args) -> Result<ExitCode> {
    let progress = arguments.progress || std::io::stderr().is_terminal();
    let manner = Manner {
        metadata_only: arguments.metadata_only,
        json: arguments.json,
        progress,
        consent: arguments.consent(),
        segment_bytes: arguments.segment_size.map(|size| size.0),
    };
    check(&arguments.path, manner)
}

/// Checks the image at `path`, repairs what may be, and prints what was found and done.
pub fn check(path: &Path, manner: Manner) -> Result<ExitCode> {
    refuse_mounted(path, manner.consent.is_some())?;
    let mut bar = Bar { shown: manner.progress, pass: 1, percent: None };
    let mut progress = |done, all| bar.show(done, all);
    let operational = |failure: Failure| failure.status(STATUS_OPERATION);
    let Some(consent) = manner.consent else {
        let found = assemble::check(path, !manner.metadata_only, &mut progress).map_err(operational)?;
        drop(bar);
        let text = if manner.json { json(&found)? } else { lines(path, &found) };
        print!("{text}");
        return Ok(ExitCode::from(found.status()));
    };
    let request =
        assemble::RepairRequest { consent, read_data: !manner.metadata_only, segment_bytes: manner.segment_bytes };
    let outcome = assemble::repair(path, &request, &mut progress).map_err(operational)?;
    drop(bar);
    let text = if manner.json { json_of(&outcome)? } else { lines_of(path, &outcome) };
    print!("{text}");
    Ok(ExitCode::from(status(&outcome)))
}

/// A check needs nobody to write meanwhile, a repair nobody to read.
fn refuse_mounted(path: &Path, repair: bool) -> Result<()> {
    let source = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    if let Ok(mounts) = crate::control::mounts::of(&source)
        && let Some(mount) = mounts.iter().find(|mount| repair || !mount.read_only)
    {
        let target = mount.target.display();
        let why = format!("{}: mounted at {target}; unmount it first", path.display());
        return Err(Failure::with_status(why, STATUS_OPERATION));
    }
    Ok(())
}

fn status(outcome: &Outcome) -> u8 {
    match outcome.verdict {
        Verdict::Clean => 0,
        Verdict::Corrected => STATUS_CORRECTED,
        Verdict::Planned | Verdict::NeedsConsent => STATUS_LEFT,
    }
}

fn json_of(outcome: &Outcome) -> Result<String> {
    let mut report = serde_json::to_value(&outcome.before).map_err(Failure::new)?;
    report["repairs"] = serde_json::to_value(&outcome.repairs).map_err(Failure::new)?;
    report["verdict"] = serde_json::to_value(outcome.verdict).map_err(Failure::new)?;
    serde_json::to_string_pretty(&report).map(|text| text + "\n").map_err(Failure::new)
}

fn lines_of(path: &Path, outcome: &Outcome) -> String {
    let mut text = lines(path, &outcome.before);
    for repair in &outcome.repairs {
        text += &format!("repair: {repair}\n");
    }
    let shown = path.display();
    text + &match outcome.verdict {
        Verdict::Clean => String::new(),
        Verdict::Corrected => format!("{shown}: repaired; {} repairs\n", outcome.repairs.len()),
        Verdict::Planned => {
            format!("{shown}: nothing was changed; --yes makes these {} repairs\n", outcome.repairs.len())
        }
        Verdict::NeedsConsent => {
            format!("{shown}: nothing was changed, since something would be given up; fsck --repair --yes does it\n")
        }
    }
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
    let size = Size(found.checked_bytes);
    let (files, directories) = (found.files, found.directories);
    text + &format!("{}: {verdict}; {files} files, {directories} directories, {size} verified\n", path.display())
}

/// One line on stderr that is written over and gone at the end. A repair goes over the image more than once.
struct Bar {
    shown: bool,
    pass: u32,
    percent: Option<u64>,
}

impl Bar {
    fn show(&mut self, done: u64, all: u64) {
        let percent = (100 * u128::from(done)).checked_div(u128::from(all)).unwrap_or(0) as u64;
        if self.shown && self.percent != Some(percent) {
            self.pass += u32::from(self.percent > Some(percent));
            self.percent = Some(percent);
            let _ = write!(std::io::stderr(), "\rpass {}: {percent} % ", self.pass);
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        if self.percent.is_some() {
            let _ = write!(std::io::stderr(), "\r                    \r");
        }
    }
}
