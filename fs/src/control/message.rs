//! What is said over the control socket: one JSON value per line, each request answered by one response.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::status::Status;

/// A client's question or command.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// Make everything accepted so far durable.
    Sync,
    Status,
    /// Start or stop background cleaning.
    Gc {
        on: bool,
    },
    /// Clean now whatever is worth it; answers with a line that says what was done.
    GcRun,
    /// Take the room of a device that has become larger, or have it become `bytes` long first.
    Grow {
        bytes: Option<u64>,
    },
    /// Begin to read and verify all that is live, or go on with it: at most so many bytes a second, or politely.
    ScrubStart {
        bytes_per_sec: Option<u64>,
    },
    ScrubStop,
    /// Use this fallback policy from the next decision on.
    Policy {
        name: String,
    },
    /// Begin to fill a ring with telemetry; answered by [`Response::Ring`].
    Record,
    /// Stop filling the ring of this number.
    RecordEnd {
        id: u64,
    },
    /// Validate the model in this file (an absolute path, opened by the daemon) and switch to it, in place of the one of its kind.
    ModelUse {
        path: String,
    },
    /// Undo the last such switch: return to the model before.
    ModelRollback,
    ModelList,
    /// Let this program (an absolute path) serve the mount from now on; answered by whoever serves then.
    Upgrade {
        executable: PathBuf,
    },
    /// Answered once the mount has ended and its state is durable, or with the error that prevented it.
    AwaitEnd,
}

impl Request {
    /// Whether others should not have to wait until it is answered. The connection ends with its answer.
    pub fn takes_long(&self) -> bool {
        matches!(self, Self::ModelUse { .. } | Self::ModelRollback | Self::GcRun)
    }
}

/// The daemon's answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Response {
    /// Done; the line says what, and may be empty.
    Done(String),
    /// Not done, nothing changed; one line for people.
    Refused(String),
    Status(Box<Status>),
    Models(Vec<Model>),
    Ring(Ring),
}

/// A ring of telemetry that the daemon fills.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ring {
    pub id: u64,
    /// Descriptor of the daemon's under which it is found in `/proc`.
    pub fd: i32,
    /// What a file that holds its events says of the mount.
    pub segment_blocks: u32,
    pub heads: u32,
    pub clock: u64,
}

/// A model that a mount knows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Model {
    pub name: String,
    /// `placement` or `victim`.
    pub kind: String,
    /// SHA-256 of the file, in hexadecimal.
    pub sha256: String,
    pub role: ModelRole,
}

/// What a model does on a mount.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ModelRole {
    Active,
    /// Runs beside the active one, nothing applied.
    Shadow,
    /// Kept for rollback.
    Previous,
}
