//! Block traces of other machines, read for the simulator.
//!
//! Bytes become requests ([`Requests`]: a file of some [`Format`], compressed or not), requests become a [`Recording`] in memory, and
//! a [`Replay`] of it is a load like any other. A recording never changes, so that many simulations share one. What is wrong with a
//! file is one [`TraceError`], which names the line or record.

mod alibaba;
mod alignment;
mod blkparse;
mod error;
mod fio;
mod format;
mod gleanfs;
mod input;
mod intake;
mod lines;
mod msr;
mod names;
mod numbering;
mod recording;
mod replay;
mod replayer;
mod requests;
#[cfg(test)]
mod samples;
mod tencent;
mod vscsi;
mod zstd;

pub use error::{Fault, Place, TraceError};
pub use format::{Format, NAMES, by_name};
pub use recording::{Options, Recording, Span, Volume};
pub use replay::Replay;
pub use requests::Requests;

use crate::features::FileKind;

/// Traces count in sectors of this size where they do not count in bytes.
pub const SECTOR_BYTES: u64 = 512;
/// The unit of the simulator.
pub const BLOCK_BYTES: u64 = 4096;

/// What a request does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Read,
    Write,
    Discard,
}

/// One request of a trace, in the order of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// Since whatever the trace counts from; 0 throughout if it has no times.
    pub time_us: u64,
    pub action: Action,
    /// The number that the trace gives, or one by first appearance where it gives names.
    pub volume: u64,
    pub offset_bytes: u64,
    pub len_bytes: u64,
    /// What is known of the file that the volume is, if it is one.
    pub kind: FileKind,
}
