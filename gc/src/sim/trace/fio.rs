//! I/O logs of fio, versions 2 and 3, as `write_iolog` makes them (source: "Trace file format" in fio's HOWTO, and its `iolog.c`).
//!
//! The first line names the version. Then follow `file action` or `file action offset length`, in version 3 with a time in us before
//! them; offset and length in bytes. Version 2 has no times: waits are passed over. Files are numbered by first appearance.

use super::error::Fault;
use super::format::Parser;
use super::lines::{first_fields, no_operation, number, text};
use super::names::Names;
use super::{Action, Request};

/// Actions that move no data.
const PASSED_OVER: [&str; 9] =
    ["add", "open", "close", "unlink", "wait", "sync", "datasync", "sync_file_range", "syncfs"];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    Two,
    Three,
}

#[derive(Debug, Default)]
pub(super) struct Fio {
    version: Option<Version>,
    files: Names,
}

impl Parser for Fio {
    fn parse(&mut self, line: &[u8]) -> Result<Option<Request>, Fault> {
        let line = text(line)?;
        let Some(version) = self.version else {
            self.version = Some(version_of(line).ok_or(Fault::FioHeader)?);
            return Ok(None);
        };
        let mut fields = line.split_ascii_whitespace();
        let time_us = match version {
            Version::Two => 0,
            Version::Three => number("timestamp", fields.next().unwrap_or_default())?,
        };
        let [file, action] = first_fields(&mut fields)?;
        let action = match action {
            "read" => Action::Read,
            "write" => Action::Write,
            "trim" => Action::Discard,
            other if PASSED_OVER.contains(&other) => return Ok(None),
            other => return Err(no_operation(other)),
        };
        let [offset, length] = first_fields(&mut fields)?;
        Ok(Some(Request {
            time_us,
            action,
            volume: self.files.number(file),
            offset_bytes: number("offset", offset)?,
            len_bytes: number("length", length)?,
            kind: Default::default(),
        }))
    }
}

fn version_of(line: &str) -> Option<Version> {
    match line {
        "fio version 2 iolog" => Some(Version::Two),
        "fio version 3 iolog" => Some(Version::Three),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples;
    use super::*;

    #[test]
    fn samples_of_both_versions_are_read_exactly() {
        let write = Request {
            time_us: 878,
            action: Action::Write,
            volume: 0,
            offset_bytes: 8192,
            len_bytes: 16_384,
            kind: Default::default(),
        };
        let read = Request {
            time_us: 888,
            action: Action::Read,
            volume: 1,
            offset_bytes: 0,
            len_bytes: 512,
            kind: Default::default(),
        };
        let trim = Request { time_us: 891, action: Action::Discard, ..write };
        assert_eq!(samples::requests(samples::FIO_3), [write, read, trim]);
        let untimed = [write, read, trim].map(|r| Request { time_us: 0, ..r });
        assert_eq!(samples::requests(samples::FIO_2), untimed);
    }

    #[test]
    fn lines_that_are_none_are_faults() {
        let mut fio = Fio::default();
        assert_eq!(fio.parse(b"fio version 1 iolog"), Err(Fault::FioHeader));
        assert_eq!(fio.parse(b"fio version 2 iolog"), Ok(None));
        assert_eq!(fio.parse(b"/dev/a"), Err(Fault::Fields { needed: 2, found: 1 }));
        assert_eq!(fio.parse(b"/dev/a write 5"), Err(Fault::Fields { needed: 2, found: 1 }));
        assert_eq!(fio.parse(b"/dev/a erase 5 5"), Err(Fault::Operation("erase".to_owned())));
    }
}
