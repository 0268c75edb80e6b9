//! Traces of Alibaba's block store: `device_id,opcode,offset,length,timestamp`.
//!
//! Opcode `R` or `W`, offset and length in bytes, time in microseconds (source: the README of the public alibaba/block-traces).

use super::error::Fault;
use super::format::Parser;
use super::lines::{no_operation, number, values};
use super::{Action, Request};

#[derive(Debug)]
pub(super) struct Alibaba;

impl Parser for Alibaba {
    fn parse(&mut self, line: &[u8]) -> Result<Option<Request>, Fault> {
        let [volume, operation, offset, length, time] = values(line)?;
        Ok(Some(Request {
            time_us: number("timestamp", time)?,
            action: match operation {
                "R" => Action::Read,
                "W" => Action::Write,
                _ => return Err(no_operation(operation)),
            },
            volume: number("device_id", volume)?,
            offset_bytes: number("offset", offset)?,
            len_bytes: number("length", length)?,
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
            time_us: 1_577_808_144_360_767,
            action: Action::Write,
            volume: 419,
            offset_bytes: 8_792_731_648,
            len_bytes: 16_384,
            kind: Default::default(),
        };
        let second = Request { time_us: 1_577_808_144_360_800, action: Action::Read, volume: 725, ..first };
        assert_eq!(samples::requests(samples::ALIBABA), [first, second]);
    }
}
