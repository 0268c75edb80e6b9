//! The formats of traces: their names, how one is told from its content, and its parser.

use std::fmt;

use super::error::Fault;
use super::lines;
use super::{Request, alibaba, blkparse, fio, gleanfs, msr, replayer, tencent, vscsi};

/// A format of traces; its file says what it looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Vscsi,
    Tencent,
    Replayer,
    Alibaba,
    Msr,
    Fio,
    Blkparse,
    Gleanfs,
}

/// Names that [`by_name`] knows.
pub const NAMES: [&str; 8] = ["vscsi", "tencent", "replayer", "alibaba", "msr", "fio", "blkparse", "gleanfs"];

/// In the order of [`NAMES`]. Detection asks the narrow formats first.
const ALL: [Format; 8] = [
    Format::Vscsi,
    Format::Tencent,
    Format::Replayer,
    Format::Alibaba,
    Format::Msr,
    Format::Fio,
    Format::Blkparse,
    Format::Gleanfs,
];

/// The format of that name (see [`NAMES`]).
pub fn by_name(name: &str) -> Option<Format> {
    NAMES.iter().position(|&n| n == name).map(|at| ALL[at])
}

/// How a file is cut into records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    Lines,
    /// Records of so many bytes.
    Records(usize),
}

/// What a format makes of its records, in the order of the file.
pub(super) trait Parser: Send {
    /// The request of a record, or `None` if it holds none that counts.
    fn parse(&mut self, record: &[u8]) -> Result<Option<Request>, Fault>;
}

impl Format {
    pub fn name(self) -> &'static str {
        NAMES[self as usize]
    }

    /// The format of a file that begins like this, if it is sure.
    pub(super) fn of(head: &[u8]) -> Option<Self> {
        if vscsi::version_of(head).is_some() {
            return Some(Self::Vscsi);
        }
        if gleanfs::is_recording(head) {
            return Some(Self::Gleanfs);
        }
        let mut lines = head.split_inclusive(|&b| b == b'\n');
        let first = lines.next()?;
        let data = if lines::is_header(first) { lines.next().unwrap_or(first) } else { first };
        ALL.into_iter().find(|format| format.is_text() && format.fits(first, data))
    }

    fn is_text(self) -> bool {
        !matches!(self, Self::Vscsi | Self::Gleanfs)
    }

    /// Whether what it calls volumes are files, whose size it does not hide.
    pub(super) fn is_of_files(self) -> bool {
        self == Self::Gleanfs
    }

    /// Whether the first line of data (in `fio` the line before it) is one of this format and of no other.
    fn fits(self, first: &[u8], data: &[u8]) -> bool {
        let line = if self == Self::Fio { first } else { data };
        let columns = line.split(|&b| b == b',').count();
        let of_this_shape = match self {
            Self::Tencent | Self::Alibaba => columns == 5,
            Self::Replayer => columns >= 5,
            Self::Msr => columns == 7,
            Self::Blkparse => !lines::is_header(first),
            Self::Vscsi | Self::Fio | Self::Gleanfs => true,
        };
        of_this_shape && self.parser(line).1.parse(lines::trimmed(line)).is_ok()
    }

    /// How to read a file that begins like this.
    pub(super) fn parser(self, head: &[u8]) -> (Framing, Box<dyn Parser>) {
        let parser: Box<dyn Parser> = match self {
            Self::Vscsi => {
                let version = vscsi::version_of(head).unwrap_or(vscsi::Version::One);
                return (Framing::Records(version.record_bytes()), Box::new(vscsi::Vscsi(version)));
            }
            Self::Gleanfs => {
                return (Framing::Records(gleanfs::RECORD_BYTES), Box::new(gleanfs::Gleanfs::default()));
            }
            Self::Tencent => Box::new(tencent::Tencent),
            Self::Replayer => Box::new(replayer::Replayer::default()),
            Self::Alibaba => Box::new(alibaba::Alibaba),
            Self::Msr => Box::new(msr::Msr::default()),
            Self::Fio => Box::new(fio::Fio::default()),
            Self::Blkparse => Box::new(blkparse::Blkparse::default()),
        };
        (Framing::Lines, parser)
    }

    /// Whether a first line of column names is passed over.
    pub(super) fn may_have_header(self) -> bool {
        matches!(self, Self::Tencent | Self::Replayer | Self::Alibaba | Self::Msr)
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples;
    use super::*;

    #[test]
    fn every_name_is_known_and_says_itself() {
        for name in NAMES {
            assert_eq!(by_name(name).map(Format::name), Some(name));
        }
        assert!(by_name("best").is_none());
    }

    #[test]
    fn every_sample_is_told_by_its_content() {
        for (format, sample) in samples::ALL {
            assert_eq!(Format::of(sample), Some(format));
        }
        let with_names = b"device_id,opcode,offset,length,timestamp\n419,W,1,2,3\n";
        assert_eq!(Format::of(with_names), Some(Format::Alibaba));
    }

    #[test]
    fn what_is_no_trace_is_of_no_format() {
        for other in
            [&b""[..], b"\n", b"hello\n", b"a,b,c,d,e\n", b"1,2,3,4\n", b"1,2,3,4,5,6\n", &[0; 128], b"\xff\xfe,1,2\n"]
        {
            assert_eq!(Format::of(other), None, "{other:?}");
        }
    }
}
