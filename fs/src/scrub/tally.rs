//! What a pass has seen and found.

use serde::{Deserialize, Serialize};

use crate::fsck::{Finding, Owner, Severity};
use crate::types::BlockAddr;

/// Findings that are kept: enough to act on, few enough for a status.
const FINDINGS_MAX: usize = 100;

/// Whether a pass is under way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// There was none since the mount.
    #[default]
    Never,
    Running,
    /// The next start goes on where it ended.
    Stopped,
    Done,
    /// It could not go on.
    Failed,
}

/// A finding as it is handed on: its kind, its place in a few words, and a line for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    pub kind: String,
    pub place: String,
    pub message: String,
}

/// What a pass has seen so far, as plain data.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    pub state: State,
    /// What is being read: `superblock`, `nodes`, `segments`, `data`, `end`.
    pub stage: String,
    pub read_bytes: u64,
    /// About what is live; a pass ends near it.
    pub live_bytes: u64,
    pub slots: u64,
    pub pages: u64,
    pub nodes: u64,
    pub data_blocks: u64,
    /// Blocks that had moved or gone when they were read: no damage.
    pub moved_blocks: u64,
    /// Blocks that cannot be read or are not what they ought to be.
    pub bad_blocks: u64,
    /// Blocks of metadata among them that memory still held whole: the next checkpoint writes them anew.
    pub renewed_blocks: u64,
    /// Blocks of files that were lost before, when the cleaner could not read them.
    pub lost_blocks: u64,
    pub findings: Vec<Found>,
    /// Findings beyond those that are kept.
    pub findings_dropped: u64,
    /// Why the pass could not go on.
    pub failure: Option<String>,
}

impl Summary {
    /// Whether the pass found all that it read whole.
    pub fn is_sound(&self) -> bool {
        self.bad_blocks == 0 && self.lost_blocks == 0
    }
}

/// Who is told of each block that a pass verifies, found whole or not.
pub type VisitFn = Box<dyn FnMut(Owner, BlockAddr) + Send>;

/// The books of a pass.
#[derive(Default)]
pub struct Tally {
    pub summary: Summary,
    pub findings: Vec<Finding>,
    pub visit: Option<VisitFn>,
}

impl Tally {
    pub(super) fn visited(&mut self, owner: Owner, addr: BlockAddr) {
        if let Some(visit) = &mut self.visit {
            visit(owner, addr);
        }
    }

    /// Books a finding and says so in the log.
    pub(super) fn add(&mut self, finding: Finding) {
        self.summary.bad_blocks += u64::from(finding.severity() == Severity::Error);
        if self.findings.len() == FINDINGS_MAX {
            self.summary.findings_dropped += 1;
            return;
        }
        tracing::error!("scrub: {finding}");
        if self.findings.len() + 1 == FINDINGS_MAX {
            tracing::error!("scrub: what else it finds is only counted");
        }
        let (kind, place, message) = (finding.kind(), finding.place(), finding.to_string());
        self.summary.findings.push(Found { kind, place, message });
        self.findings.push(finding);
    }
}
