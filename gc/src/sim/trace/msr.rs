//! Traces of the servers of Microsoft Research Cambridge: `Timestamp,Hostname,DiskNumber,Type,Offset,Size,ResponseTime`.
//!
//! Time in Windows filetime (100 ns since 1601), type `Read` or `Write`, offset and size in bytes (source: the README of the traces at
//! SNIA, which came with Narayanan et al., FAST 2008). Disk `d` of the `h`th host to appear, from 0, is volume `65536 h + d`.

use super::error::Fault;
use super::format::Parser;
use super::lines::{no_operation, number, values};
use super::names::Names;
use super::{Action, Request};

#[derive(Debug, Default)]
pub(super) struct Msr {
    hosts: Names,
}

impl Parser for Msr {
    fn parse(&mut self, line: &[u8]) -> Result<Option<Request>, Fault> {
        let [time, host, disk, operation, offset, size, _] = values(line)?;
        let disk: u16 = number("DiskNumber", disk)?;
        Ok(Some(Request {
            time_us: number::<u64>("Timestamp", time)? / 10,
            action: match operation {
                _ if operation.eq_ignore_ascii_case("read") => Action::Read,
                _ if operation.eq_ignore_ascii_case("write") => Action::Write,
                _ => return Err(no_operation(operation)),
            },
            volume: self.hosts.number(host) << 16 | u64::from(disk),
            offset_bytes: number("Offset", offset)?,
            len_bytes: number("Size", size)?,
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
            time_us: 12_816_637_200_306_162,
            action: Action::Read,
            volume: 1,
            offset_bytes: 383_496_192,
            len_bytes: 32_768,
            kind: Default::default(),
        };
        let second = Request { time_us: 12_816_637_201_364_840, action: Action::Write, volume: 65_536, ..first };
        assert_eq!(samples::requests(samples::MSR), [first, second]);
    }
}
