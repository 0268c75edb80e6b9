//! What can be wrong with a trace: one line that says what, where, and what to do.

use std::fmt;
use std::io;

use super::format::{Format, NAMES};

/// Where in a file, counted from 1 and after decompression.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Before its format is known.
    Start,
    Line(u64),
    Record(u64),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Start => f.write_str("at its start"),
            Self::Line(number) => write!(f, "line {number}"),
            Self::Record(number) => write!(f, "record {number}"),
        }
    }
}

/// What is wrong with one line or record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    #[error("{found} fields instead of {needed}")]
    Fields { needed: usize, found: usize },
    #[error("the {field} is {text:?}, which is no number that fits")]
    Number { field: &'static str, text: String },
    #[error("the operation is {0:?}, which is none of this format")]
    Operation(String),
    #[error("the first line is not \"fio version 2 iolog\" or \"fio version 3 iolog\"")]
    FioHeader,
    #[error("neither an event nor part of the summary")]
    Event,
    #[error("the record's version is {0:#06x}")]
    Version(u16),
    #[error("the request reaches beyond any volume")]
    Range,
    #[error("a write of {0} bytes is longer than any device takes")]
    Length(u64),
    #[error("the line is longer than {0} bytes")]
    LongLine(u64),
    #[error("the line is not text")]
    NotText,
    #[error("{0}")]
    Recording(String),
}

/// Why a trace cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    #[error("{file}: cannot be opened: {source}")]
    Open { file: String, source: io::Error },
    #[error("{file}, {place}: cannot be read: {source}")]
    Read { file: String, place: Place, source: io::Error },
    #[error("{file}: is empty; name a file that holds a trace")]
    Empty { file: String },
    #[error("{file}: is a tar archive; unpack it and name one of its files")]
    Archive { file: String },
    #[error("{file}: its format cannot be told from its content; name it with --format: {names}", names = names())]
    UnknownFormat { file: String },
    #[error("{file}, {place}: {fault} (read as {format}); mend it, or name its format with --format: {names}", names = names())]
    Malformed { file: String, place: Place, format: Format, fault: Fault },
    /// `what` ends: the file or its compressed data.
    #[error("{file}, {place}: the {what} ends within it; get the whole file, or limit the requests to those before")]
    Truncated { file: String, place: Place, what: &'static str },
    #[error("{file}: the {what} ends before the first request; get the whole file")]
    Stub { file: String, what: &'static str },
    #[error("{file}, {place}: the {what} is damaged ({why}); get the file again")]
    Damaged { file: String, place: Place, what: &'static str, why: String },
    #[error("{file}: has no write; name another trace")]
    NoWrites { file: String },
    #[error("{file}: has no write to volume {volume}; volumes in it: {known}")]
    NoWritesTo { file: String, volume: u64, known: String },
    #[error("{file}: writes more than 2^32 different blocks; choose one volume or limit the requests")]
    TooLarge { file: String },
}

fn names() -> String {
    NAMES.join(", ")
}
