//! Logs of a trace replayer: `time,latency,operation,size,offset` and perhaps more columns.
//!
//! Time in ms, latency in us, operation 0 write or 1 read (the reverse of other formats), size and offset in bytes (source: the README
//! of the public huaicheng/replayer). Volumes of Tencent's block store are also published in this shape. A file is one disk: volume 0.

use super::error::Fault;
use super::format::Parser;
use super::lines::{decimal_us, no_operation, number, values};
use super::{Action, Request};

/// All lines have as many columns as the first, so that one cut short is seen.
#[derive(Debug, Default)]
pub(super) struct Replayer {
    columns: usize,
}

impl Parser for Replayer {
    fn parse(&mut self, line: &[u8]) -> Result<Option<Request>, Fault> {
        let [time, latency, operation, size, offset] = values(line)?;
        decimal_us("latency", latency, 1)?;
        let found = line.split(|&b| b == b',').count();
        if found < self.columns {
            return Err(Fault::Fields { needed: self.columns, found });
        }
        let request = Request {
            time_us: decimal_us("time", time, 1000)?,
            action: match operation {
                "0" => Action::Write,
                "1" => Action::Read,
                _ => return Err(no_operation(operation)),
            },
            volume: 0,
            offset_bytes: number("offset", offset)?,
            len_bytes: number("size", size)?,
            kind: Default::default(),
        };
        if self.columns == 0 {
            self.columns = found;
        }
        Ok(Some(request))
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples;
    use super::*;

    #[test]
    fn a_sample_is_read_exactly() {
        let first = Request {
            time_us: 500,
            action: Action::Read,
            volume: 0,
            offset_bytes: 4_923_392,
            len_bytes: 4096,
            kind: Default::default(),
        };
        let second = Request {
            time_us: 147_000_000,
            action: Action::Write,
            offset_bytes: 2_809_856,
            len_bytes: 69_632,
            ..first
        };
        assert_eq!(samples::requests(samples::REPLAYER), [first, second]);
    }

    #[test]
    fn a_line_of_fewer_columns_than_the_first_is_a_fault() {
        let mut replayer = Replayer::default();
        assert!(replayer.parse(b"0.5,120,1,4096,0,0.091,4096").is_ok());
        assert_eq!(replayer.parse(b"0.6,120,1,4096,40"), Err(Fault::Fields { needed: 7, found: 5 }));
    }
}
