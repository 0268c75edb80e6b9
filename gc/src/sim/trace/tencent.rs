//! Traces of Tencent's cloud block store, as SNIA publishes them: `timestamp,offset,size,operation,volume`.
//!
//! Time in seconds, offset and size in sectors of 512 bytes, operation 0 read or 1 write (source: the README of the traces, which
//! came with OSCA, ATC 2020).

use super::error::Fault;
use super::format::Parser;
use super::lines::{no_operation, number, sectors_bytes, values};
use super::{Action, Request};

#[derive(Debug)]
pub(super) struct Tencent;

impl Parser for Tencent {
    fn parse(&mut self, line: &[u8]) -> Result<Option<Request>, Fault> {
        let [time, offset, size, operation, volume] = values(line)?;
        Ok(Some(Request {
            time_us: number::<u64>("timestamp", time)?.saturating_mul(1_000_000),
            action: match operation {
                "0" => Action::Read,
                "1" => Action::Write,
                _ => return Err(no_operation(operation)),
            },
            volume: number("volume", volume)?,
            offset_bytes: sectors_bytes(number("offset", offset)?)?,
            len_bytes: sectors_bytes(number("size", size)?)?,
            kind: Default::default(),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples;
    use super::*;

    #[test]
    fn a_sample_is_read_exactly() {
        let first = Request {
            time_us: 1_538_323_200_000_000,
            action: Action::Write,
            volume: 1063,
            offset_bytes: 12_910_952 * 512,
            len_bytes: 8 * 512,
            kind: Default::default(),
        };
        let second = Request { time_us: 1_538_323_201_000_000, action: Action::Read, volume: 1283, ..first };
        assert_eq!(samples::requests(samples::TENCENT), [first, second]);
    }
}
