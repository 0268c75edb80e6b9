//! The outcome of a check.

use serde::Serialize;
use serde::ser::Serializer;

use super::finding::{Finding, Severity};

/// Exit statuses of fsck(8).
pub const STATUS_CLEAN: u8 = 0;
pub const STATUS_ERRORS: u8 = 4;
pub const STATUS_OPERATIONAL: u8 = 8;

/// What a check saw and found.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    #[serde(serialize_with = "with_lines")]
    pub findings: Vec<Finding>,
    /// Findings beyond `CheckOptions::findings_max`.
    pub findings_dropped: u64,
    /// The image was unmounted cleanly: no log had to be replayed.
    pub clean: bool,
    /// Operations replayed (in memory) on top of the checkpoint.
    pub replayed: u64,
    pub checked_bytes: u64,
    pub nodes: u64,
    pub files: u64,
    pub directories: u64,
    pub live_blocks: u64,
    errors: u64,
    #[serde(skip)]
    findings_max: usize,
}

/// A finding as programs read it: its fields, and its line and severity.
#[derive(Serialize)]
struct Line<'a> {
    severity: Severity,
    message: String,
    #[serde(flatten)]
    finding: &'a Finding,
}

fn with_lines<S: Serializer>(findings: &[Finding], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(findings.iter().map(|finding| Line {
        severity: finding.severity(),
        message: finding.to_string(),
        finding,
    }))
}

impl Report {
    pub(crate) fn new(findings_max: usize) -> Self {
        Self { findings_max, ..Self::default() }
    }

    pub(crate) fn add(&mut self, finding: Finding) {
        self.errors += u64::from(finding.severity() == Severity::Error);
        if self.findings.len() < self.findings_max {
            self.findings.push(finding);
        } else {
            self.findings_dropped += 1;
        }
    }

    /// Findings that are errors, the dropped ones included.
    pub fn errors(&self) -> u64 {
        self.errors
    }

    /// The exit status of fsck(8).
    pub fn status(&self) -> u8 {
        if self.errors == 0 { STATUS_CLEAN } else { STATUS_ERRORS }
    }
}
