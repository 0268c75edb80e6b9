//! What daemon and worker say to each other: the words of the shared region, batches and answers.
//!
//! Bottom layer of the advisor: offsets, limits and plain values, no I/O. Both sides are the same
//! executable started twice, so the layout has a version only to catch an executable that was
//! replaced between two starts. All words are native-endian and naturally aligned.

use serde::Serialize;

/// Largest number of rows in one batch.
pub const ROWS_MAX: usize = 1024;
/// Largest number of features in a row.
pub const FEATURES_MAX: usize = 64;
/// Slots in each ring, and so the most batches in flight: an answer always finds a free slot.
pub const SLOTS: usize = 8;

pub(crate) const MAGIC: u64 = u64::from_le_bytes(*b"gleanadv");
pub(crate) const VERSION: u32 = 1;

/// Offsets of the header's words. The daemon writes the first group before the worker exists; the
/// worker writes the second; each ring has one position word of its consumer.
pub(crate) mod header {
    pub const MAGIC: usize = 0;
    pub const VERSION: usize = 8;
    pub const ROWS_MAX: usize = 12;
    pub const FEATURES_MAX: usize = 16;
    pub const SLOTS: usize = 20;
    pub const TOTAL: usize = 24;

    pub const STATE: usize = 64;
    pub const SANDBOX: usize = 68;
    pub const LOCKED_BYTES: usize = 72;
    pub const WARMUP_US: usize = 80;
    pub const LIBRARY_VERSION: usize = 96;
    pub const LIBRARY_VERSION_BYTES: usize = 32;
    pub const MESSAGE: usize = 128;
    pub const MESSAGE_BYTES: usize = 256;

    pub const DATASET_TAIL: usize = 512;
    pub const ANSWER_TAIL: usize = 576;
}

pub(crate) const HEADER_BYTES: usize = 4096;

/// Offsets inside a slot of the dataset ring.
pub(crate) mod dataset_slot {
    use super::{FEATURES_MAX, ROWS_MAX};
    pub const SEQ: usize = 0;
    pub const TICKET: usize = 8;
    pub const GENERATION: usize = 16;
    pub const ROWS: usize = 24;
    pub const FEATURES: usize = 28;
    pub const VALUES: usize = 64;
    pub const BYTES: usize = VALUES + ROWS_MAX * FEATURES_MAX * 4;
}

/// Offsets inside a slot of the recommendation ring.
pub(crate) mod answer_slot {
    use super::ROWS_MAX;
    pub const SEQ: usize = 0;
    pub const TICKET: usize = 8;
    pub const GENERATION: usize = 16;
    pub const ROWS: usize = 24;
    pub const FAULT: usize = 28;
    pub const RUN_NS: usize = 32;
    pub const DONE_NS: usize = 40;
    pub const VALUES: usize = 64;
    pub const BYTES: usize = VALUES + ROWS_MAX * 4;
}

pub(crate) const DATASET_BASE: usize = HEADER_BYTES;
pub(crate) const ANSWER_BASE: usize = DATASET_BASE + SLOTS * dataset_slot::BYTES;
/// Size of the shared region, a whole number of pages.
pub(crate) const REGION_BYTES: usize = (ANSWER_BASE + SLOTS * answer_slot::BYTES).next_multiple_of(4096);

const _: () = assert!(dataset_slot::BYTES.is_multiple_of(64) && answer_slot::BYTES.is_multiple_of(64));
const _: () = assert!(header::MESSAGE + header::MESSAGE_BYTES <= header::DATASET_TAIL);

/// What a model recommends: one value per row, whose meaning follows from the kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ModelKind {
    /// A row is a write or a live block, the value its expected residual lifetime.
    Placement,
    /// A row is a sealed segment, the value its worth as a victim.
    Victim,
}

impl ModelKind {
    /// The word used in a model's `gleanfs.kind`.
    pub fn name(self) -> &'static str {
        match self {
            ModelKind::Placement => "placement",
            ModelKind::Victim => "victim",
        }
    }

    /// The kind called `name`, if there is one.
    pub fn from_name(name: &str) -> Option<ModelKind> {
        [ModelKind::Placement, ModelKind::Victim].into_iter().find(|kind| kind.name() == name)
    }
}

/// A dataset to ask about. `values` is row-major and holds *all* features that the daemon knows, in
/// the order of [`super::Rules::known`]; each model is handed the columns that it declares.
#[derive(Debug, Clone, Copy)]
pub struct Batch<'a> {
    /// Version of the state that the rows describe; comes back with the answer.
    pub generation: u64,
    pub kind: ModelKind,
    /// 1 ..= [`ROWS_MAX`].
    pub rows: usize,
    pub values: &'a [f32],
}

/// A recommendation: one finite value per row of the batch with the same generation.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Answer {
    pub generation: u64,
    pub values: Vec<f32>,
    /// From the post to the answer's completion, as far as the daemon can vouch for it.
    pub latency_us: u64,
    /// Time that the worker says the model ran; for show only.
    pub run_ns: u64,
    /// Which of the models tried since the start answered; grows with every swap.
    pub model_serial: u64,
}

impl Answer {
    /// An answer that can be filled again and again without allocation.
    pub fn with_capacity() -> Answer {
        Answer { values: Vec::with_capacity(ROWS_MAX), ..Answer::default() }
    }
}

/// Where a worker says it is. It is the worker's word: good for waiting and for show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WorkerState {
    Starting,
    Ready,
    /// For a reason that lies in the machine or the library.
    Failed,
    /// For a reason that lies in the model.
    Refused,
}

impl WorkerState {
    pub(crate) fn code(self) -> u32 {
        match self {
            WorkerState::Starting => 0,
            WorkerState::Ready => 1,
            WorkerState::Failed => 2,
            WorkerState::Refused => 3,
        }
    }

    /// Anything unknown counts as failed.
    pub(crate) fn from_code(code: u32) -> WorkerState {
        match code {
            0 => WorkerState::Starting,
            1 => WorkerState::Ready,
            3 => WorkerState::Refused,
            _ => WorkerState::Failed,
        }
    }
}

/// What the sandbox of a worker consists of, as bits.
pub(crate) mod sandbox_bits {
    pub const LANDLOCK_FULL: u32 = 1;
    pub const LANDLOCK_PARTIAL: u32 = 2;
    pub const SECCOMP: u32 = 4;
}

/// Fault codes of an answer that carries no values.
pub(crate) mod fault {
    pub const NONE: u32 = 0;
    pub const RUN_FAILED: u32 = 1;
    pub const NOT_FINITE: u32 = 2;
    pub const BAD_BATCH: u32 = 3;
}

/// CLOCK_MONOTONIC in nanoseconds: the one clock that both processes read.
pub(crate) fn monotonic_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    (now.tv_sec as u64).saturating_mul(1_000_000_000).saturating_add(now.tv_nsec as u64)
}
