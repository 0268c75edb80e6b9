//! What trainer and daemon say to each other, over a socket: one JSON value per line; after a line that announces a model, its bytes.

use serde::{Deserialize, Serialize};

use super::exam::Exam;
use super::trainer::Findings;

/// A line is no longer than this.
pub const LINE_BYTES_MAX: usize = 4096;

/// What the trainer says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Line {
    Report(Report),
    Offer(ModelFollows),
    Withdraw,
}

/// A model that was better; so many bytes of ONNX come after the line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelFollows {
    pub number: u64,
    pub bytes: usize,
}

/// How learning goes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    pub fits: u64,
    /// Writes that the last fit was made from.
    pub samples: u64,
    /// Milliseconds of processor that the last fit took.
    pub fit_cpu_ms: u64,
    /// Events that came, and that were lost because there was no room in the ring.
    pub events: u64,
    pub lost: u64,
    /// Cost of the newest candidate over the rule's, on writes after its fit; `None` as long as there are too few.
    pub candidate_of_rule: Option<f64>,
    pub candidate_of_model: Option<f64>,
    /// Cost of the learned model in charge over the rule's.
    pub in_charge_of_rule: Option<f64>,
    /// Writes that the candidate was examined on.
    pub examples: u64,
}

impl Report {
    pub(super) fn of(findings: &Findings) -> Self {
        let ratio = |exam: Option<Exam>| exam.map(|exam| exam.ratio);
        Self {
            fits: findings.fits,
            samples: findings.samples as u64,
            candidate_of_rule: ratio(findings.candidate),
            candidate_of_model: ratio(findings.candidate_of_model),
            in_charge_of_rule: ratio(findings.in_charge),
            examples: findings.candidate.map_or(0, |exam| exam.examples as u64),
            ..Self::default()
        }
    }
}

/// What the daemon answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// The offer of this number is in charge.
    Taken(u64),
    Refused(u64),
    /// What is in charge is not the trainer's any more.
    TakenBack,
}
