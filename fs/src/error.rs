//! The crate's one error type. Translation to `errno` happens in `fuse` alone.

use std::any::Any;

use crate::device::DeviceError;
use crate::format::DecodeError;
use crate::types::{BlockAddr, NodeId};

/// Result of an operation of the filesystem.
pub type Result<T> = std::result::Result<T, Error>;

/// Why an operation failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// Bytes on the medium are not what was written there.
    #[error("{what} at block {addr} is damaged: {why}")]
    Damaged { what: &'static str, addr: BlockAddr, why: String },
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// A metadata node is not in memory. Never seen outside `meta`: the operation is planned again once it is.
    #[error("metadata node {0} is not in memory")]
    NodeMiss(NodeId),
    /// The operation would have to wait for room on a thread that may not (see `meta::patience`). Never seen by a user: the operation is
    /// begun again on a thread that may.
    #[error("there is no room at this moment")]
    MustWait,
    /// Some other use of the image stands in the way, or it is not fit for use; a whole sentence for the user.
    #[error("{0}")]
    Refused(String),
    /// The mount went read-only after a failure; the first cause.
    #[error("the filesystem is read-only since: {0}")]
    Latched(String),

    #[error("read-only filesystem")]
    ReadOnly,
    #[error("no space left")]
    NoSpace,
    #[error("no such file or directory")]
    NotFound,
    #[error("file exists")]
    Exists,
    #[error("not a directory")]
    NotADirectory,
    #[error("is a directory")]
    IsADirectory,
    #[error("directory not empty")]
    NotEmpty,
    #[error("file name too long")]
    NameTooLong,
    #[error("file too large")]
    FileTooBig,
    #[error("too many links")]
    TooManyLinks,
    #[error("invalid argument")]
    Invalid,
    #[error("operation not permitted")]
    NotPermitted,
    #[error("no such attribute")]
    NoAttribute,
    #[error("result does not fit the buffer")]
    Range,
    #[error("argument too long")]
    TooLong,
    #[error("no such device or address")]
    NoSuchAddress,
    #[error("operation not supported")]
    NotSupported,
    #[error("stale handle")]
    Stale,
}

/// What a panic that was caught said.
pub fn panic_text(cause: &(dyn Any + Send)) -> &str {
    let text = cause.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| cause.downcast_ref::<&str>().copied()).unwrap_or("an invariant is broken")
}
