//! The text that blkparse prints of a blktrace by default (source: "DEFAULT OUTPUT" in blkparse(1)).
//!
//! An event is `major,minor cpu sequence seconds pid action rwbs`, then for requests `sector + sectors [process]`. Only requests as they
//! enter the queue (action `Q`) count; `D` in rwbs is a discard. Events end with a summary, which is passed over. The device
//! `major,minor` is volume `2^20 major + minor`, as the kernel numbers it.

use super::error::Fault;
use super::format::Parser;
use super::lines::{decimal_us, first_fields, number, sectors_bytes, text};
use super::{Action, Request};

const MINOR_BITS: u32 = 20;

#[derive(Debug, Default)]
pub(super) struct Blkparse {
    in_summary: bool,
}

impl Parser for Blkparse {
    fn parse(&mut self, line: &[u8]) -> Result<Option<Request>, Fault> {
        let line = text(line)?;
        self.in_summary |= line.starts_with("CPU") || line.starts_with("Total");
        if self.in_summary {
            return Ok(None);
        }
        let mut fields = line.split_ascii_whitespace();
        let volume = fields.next().and_then(device).ok_or(Fault::Event)?;
        let [_, _, time, _, action] = first_fields(&mut fields)?;
        let time_us = decimal_us("time", time, 1_000_000)?;
        if action != "Q" {
            return Ok(None);
        }
        let [rwbs, sector] = first_fields(&mut fields)?;
        let Some(action) = action_of(rwbs) else { return Ok(None) };
        // A request without data, as a flush, names the process here, and a command passed through has its bytes after a length.
        if sector.starts_with('[') {
            return Ok(None);
        }
        let [plus] = first_fields(&mut fields)?;
        if plus != "+" {
            return Ok(None);
        }
        let [sectors] = first_fields(&mut fields)?;
        let offset_bytes = sectors_bytes(number("sector", sector)?)?;
        let len_bytes = sectors_bytes(number("count of sectors", sectors)?)?;
        Ok(Some(Request { time_us, action, volume, offset_bytes, len_bytes, kind: Default::default() }))
    }
}

fn device(field: &str) -> Option<u64> {
    let (major, minor) = field.split_once(',')?;
    let (major, minor): (u32, u32) = (major.parse().ok()?, minor.parse().ok()?);
    Some(u64::from(major) << MINOR_BITS | u64::from(minor))
}

fn action_of(rwbs: &str) -> Option<Action> {
    if rwbs.contains('D') {
        Some(Action::Discard)
    } else if rwbs.contains('W') {
        Some(Action::Write)
    } else {
        rwbs.contains('R').then_some(Action::Read)
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples;
    use super::*;

    #[test]
    fn a_sample_is_read_exactly() {
        let write = Request {
            time_us: 1,
            action: Action::Write,
            volume: 8 << 20,
            offset_bytes: 223_490 * 512,
            len_bytes: 8 * 512,
            kind: Default::default(),
        };
        let discard = Request { time_us: 2_000_001, action: Action::Discard, volume: 259 << 20 | 1, ..write };
        let read = Request { time_us: 2_000_002, action: Action::Read, ..write };
        assert_eq!(samples::requests(samples::BLKPARSE), [write, discard, read]);
    }

    #[test]
    fn events_cut_short_and_other_lines_are_faults() {
        let mut blkparse = Blkparse::default();
        assert_eq!(blkparse.parse(b"8,0 3 11 0.009 697"), Err(Fault::Fields { needed: 5, found: 4 }));
        assert_eq!(blkparse.parse(b"8,0 3 11 0.009 697 Q W 2234"), Err(Fault::Fields { needed: 1, found: 0 }));
        assert_eq!(blkparse.parse(b"hello"), Err(Fault::Event));
    }
}
