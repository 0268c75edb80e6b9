//! The requests of a trace, one after the other, whatever its format and compression.
//!
//! Invariants: a request that is given out lies within `2^63` bytes, and a write is at most [`WRITE_BYTES_MAX`] long, so that a damaged
//! file cannot ask for all memory. After an error nothing follows.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use super::error::{Fault, Place, TraceError};
use super::format::{Format, Framing, Parser};
use super::input::{Input, is_tar};
use super::{Action, Request, lines};

/// Longest write that is believed.
pub(super) const WRITE_BYTES_MAX: u64 = 1 << 32;
/// Longest line that is read.
const LINE_BYTES_MAX: u64 = 64 << 10;

/// A trace that is being read.
pub struct Requests {
    file: String,
    format: Format,
    input: Input,
    framing: Framing,
    parser: Box<dyn Parser>,
    record: Vec<u8>,
    /// Records begun.
    number: u64,
    ended: bool,
}

impl Requests {
    /// Opens a trace; without a `format` its content tells it.
    pub fn open(path: &Path, format: Option<Format>) -> Result<Self, TraceError> {
        let file = path.display().to_string();
        let source = File::open(path).map_err(|source| TraceError::Open { file: file.clone(), source })?;
        Self::new(file, source, format)
    }

    /// Reads a trace from anywhere; `file` is what errors call it.
    pub fn new(file: String, source: impl Read + Send + 'static, format: Option<Format>) -> Result<Self, TraceError> {
        let input = match Input::new(source) {
            Ok(input) if input.head.is_empty() => return Err(TraceError::Empty { file }),
            Ok(input) if is_tar(&input.head) => return Err(TraceError::Archive { file }),
            Ok(input) => input,
            Err(error) => return Err(at_start(file, error)),
        };
        let Some(format) = format.or_else(|| Format::of(&input.head)) else {
            return Err(TraceError::UnknownFormat { file });
        };
        let (framing, parser) = format.parser(&input.head);
        Ok(Self { file, format, input, framing, parser, record: Vec::new(), number: 0, ended: false })
    }

    /// What errors call the file.
    pub fn file(&self) -> &str {
        &self.file
    }

    pub fn format(&self) -> Format {
        self.format
    }

    /// The next request, or `None` at the end.
    fn read(&mut self) -> Result<Option<Request>, TraceError> {
        loop {
            self.number += 1;
            self.read_record()?;
            if self.record.is_empty() {
                return Ok(None);
            }
            match self.parse() {
                Ok(None) => {}
                Ok(request) => return Ok(request),
                Err(fault) => return Err(self.faulty(fault)),
            }
        }
    }

    fn read_record(&mut self) -> Result<(), TraceError> {
        let read = match self.framing {
            Framing::Lines => self.input.read_line(&mut self.record, LINE_BYTES_MAX),
            Framing::Records(len) => self.input.read_record(&mut self.record, len),
        };
        read.map_err(|source| unreadable(self.file.clone(), self.place(), self.input.compression.what(), source))
    }

    fn parse(&mut self) -> Result<Option<Request>, Fault> {
        let request = match self.framing {
            Framing::Records(_) => self.parser.parse(&self.record)?,
            Framing::Lines => {
                let line = lines::trimmed(&self.record);
                let names_columns = self.number == 1 && self.format.may_have_header() && lines::is_header(line);
                if line.is_empty() || names_columns { None } else { self.parser.parse(line)? }
            }
        };
        request.map(believed).transpose()
    }

    /// A record that makes no sense and is not whole was cut.
    fn faulty(&self, fault: Fault) -> TraceError {
        let whole = match self.framing {
            Framing::Records(len) => self.record.len() == len,
            Framing::Lines => self.record.ends_with(b"\n"),
        };
        let (file, place) = (self.file.clone(), self.place());
        if self.record.len() as u64 >= LINE_BYTES_MAX && !whole {
            TraceError::Malformed { file, place, format: self.format, fault: Fault::LongLine(LINE_BYTES_MAX) }
        } else if whole {
            TraceError::Malformed { file, place, format: self.format, fault }
        } else {
            TraceError::Truncated { file, place, what: "file" }
        }
    }

    fn place(&self) -> Place {
        match self.framing {
            Framing::Lines => Place::Line(self.number),
            Framing::Records(_) => Place::Record(self.number),
        }
    }
}

impl Iterator for Requests {
    type Item = Result<Request, TraceError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let next = self.read().transpose();
        self.ended = !matches!(next, Some(Ok(_)));
        next
    }
}

fn believed(request: Request) -> Result<Request, Fault> {
    let end = request.offset_bytes.checked_add(request.len_bytes);
    if end.is_none_or(|end| end > i64::MAX as u64) {
        Err(Fault::Range)
    } else if request.action == Action::Write && request.len_bytes > WRITE_BYTES_MAX {
        Err(Fault::Length(request.len_bytes))
    } else {
        Ok(request)
    }
}

/// Before anything is decompressed no other name for the data is known.
fn at_start(file: String, source: io::Error) -> TraceError {
    match unreadable(file, Place::Start, "compressed data", source) {
        TraceError::Truncated { file, what, .. } => TraceError::Stub { file, what },
        other => other,
    }
}

fn unreadable(file: String, place: Place, what: &'static str, source: io::Error) -> TraceError {
    match source.kind() {
        io::ErrorKind::UnexpectedEof => TraceError::Truncated { file, place, what },
        io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput => {
            TraceError::Damaged { file, place, what, why: source.to_string() }
        }
        _ => TraceError::Read { file, place, source },
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::write::GzEncoder;
    use ruzstd::encoding::{CompressionLevel, compress_to_vec};

    use super::super::samples;
    use super::*;

    const FORMATS: &str = "vscsi, tencent, replayer, alibaba, msr, fio, blkparse, gleanfs";

    fn gzip(data: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(data).and_then(|()| encoder.finish()).unwrap_or_else(|error| panic!("{error}"))
    }

    fn zstd(data: &[u8]) -> Vec<u8> {
        compress_to_vec(data, CompressionLevel::Fastest)
    }

    fn wrong(trace: &[u8], format: Option<Format>) -> String {
        samples::read(trace, format).expect_err("a bad trace")
    }

    /// Lines of which no two are alike, more than either decompressor keeps back.
    fn long_table() -> Vec<u8> {
        let line = |i: u32| format!("419,W,{},4096,{i}\n", u64::from(i.wrapping_mul(2_654_435_761)) << 12);
        (0..50_000).map(line).collect::<String>().into_bytes()
    }

    #[test]
    fn compressed_traces_read_the_same() {
        for (format, sample) in samples::ALL {
            let expected = samples::requests(sample);
            assert_eq!(samples::requests(&gzip(sample)), expected, "{format}");
            assert_eq!(samples::requests(&zstd(sample)), expected, "{format}");
            assert_eq!(samples::read(sample, Some(format)), Ok(expected), "{format}");
        }
    }

    #[test]
    fn compressed_parts_follow_each_other() {
        let parts = [gzip(samples::ALIBABA), gzip(samples::ALIBABA)].concat();
        assert_eq!(samples::requests(&parts).len(), 4);
    }

    #[test]
    fn a_file_that_is_no_trace_is_one_line() {
        assert_eq!(wrong(b"", None), "t: is empty; name a file that holds a trace");
        assert_eq!(wrong(&gzip(b""), None), "t: is empty; name a file that holds a trace");
        let unknown = format!("t: its format cannot be told from its content; name it with --format: {FORMATS}");
        assert_eq!(wrong(b"hello\n", None), unknown);
        let mut tar = vec![0; 512];
        tar[257..262].copy_from_slice(b"ustar");
        assert_eq!(wrong(&gzip(&tar), None), "t: is a tar archive; unpack it and name one of its files");
        let missing = Requests::open(Path::new("/no/such/trace"), None).err().map(|e| e.to_string());
        let expected = "/no/such/trace: cannot be opened: No such file or directory (os error 2)";
        assert_eq!(missing.as_deref(), Some(expected));
    }

    #[test]
    fn bad_lines_are_named() {
        let cases = [
            ("419,W,1,2\n", "line 3: 4 fields instead of 5"),
            ("419,W,x,2,3\n", "line 3: the offset is \"x\", which is no number that fits"),
            ("419,X,1,2,3\n", "line 3: the operation is \"X\", which is none of this format"),
            ("\n419,W,9223372036854775807,1,3\n", "line 4: the request reaches beyond any volume"),
            ("419,W,0,4294967297,3\n", "line 3: a write of 4294967297 bytes is longer than any device takes"),
        ];
        for (line, what) in cases {
            let expected = format!("t, {what} (read as alibaba); mend it, or name its format with --format: {FORMATS}");
            assert_eq!(wrong(&[samples::ALIBABA, line.as_bytes()].concat(), None), expected);
        }
    }

    #[test]
    fn lines_without_an_end_are_not_read_for_ever() {
        let long = vec![b'1'; 100_000];
        let expected = "t, line 1: the line is longer than 65536 bytes (read as msr); mend it";
        assert!(wrong(&long, Some(Format::Msr)).starts_with(expected));
    }

    #[test]
    fn bad_records_are_named() {
        let mut record = samples::VSCSI_1.to_vec();
        record[32 + 15] = 7;
        let expected = format!(
            "t, record 2: the record's version is 0x0700 (read as vscsi); mend it, or name its format with --format: {FORMATS}"
        );
        assert_eq!(wrong(&record, Some(Format::Vscsi)), expected);
    }

    #[test]
    fn cut_files_are_told_from_bad_ones() {
        let get = "get the whole file, or limit the requests to those before";
        let cut = |place: &str, what: &str| format!("t, {place}: the {what} ends within it; {get}");
        assert_eq!(wrong(&samples::VSCSI_1[..40], None), cut("record 2", "file"));
        assert_eq!(wrong(&samples::ALIBABA[..50], None), cut("line 2", "file"));
        assert_eq!(wrong(&samples::MSR[..samples::MSR.len() - 7], None), cut("line 2", "file"));
        let whole_but_for_its_end = &samples::ALIBABA[..samples::ALIBABA.len() - 1];
        assert_eq!(samples::requests(whole_but_for_its_end).len(), 2);
    }

    #[test]
    fn cut_compressed_data_is_named_with_the_line() {
        for (data, what) in [(gzip(&long_table()), "gzip data"), (zstd(&long_table()), "zstd data")] {
            let cut = wrong(&data[..data.len() - 9], None);
            assert!(cut.starts_with("t, line ") && cut.contains(&format!(": the {what} ends within it; ")), "{cut}");
            let header = wrong(&data[..5], None);
            assert_eq!(header, "t: the compressed data ends before the first request; get the whole file");
        }
    }

    #[test]
    fn damaged_compressed_data_is_named_with_the_line() {
        let mut data = gzip(&long_table());
        let crc = data.len() - 8;
        data[crc] ^= 1;
        let damaged =
            "t, line 50001: the gzip data is damaged (corrupt gzip stream does not have a matching checksum); ";
        assert!(wrong(&data, None).starts_with(damaged), "{}", wrong(&data, None));
    }

    #[test]
    fn nothing_follows_an_error() {
        let bad = [b"419,W,1,2\n", samples::ALIBABA].concat();
        let requests = Requests::new("t".to_owned(), io::Cursor::new(bad), Some(Format::Alibaba));
        assert_eq!(requests.map(Iterator::count).map_err(|e| e.to_string()), Ok(1));
    }
}
