//! SCSI commands of virtual disks, as CloudPhysics recorded them: fixed little-endian records without a header.
//!
//! Two layouts are in use; the high byte of the version field says which (source: `vscsi.h` of the public libCacheSim).
//!
//! | version | bytes | fields |
//! |---|---|---|
//! | 1 | 32 | sequence u32, length in bytes u32, scatter-gather count u32, command u16, version u16, sector u64, time in us u64 |
//! | 2 | 40 | command u16, version u16, sequence u32, length in bytes u32, scatter-gather count u32, sector u64, time in us u64, response time u64 |
//!
//! A file is one disk: volume 0.

use super::error::Fault;
use super::format::Parser;
use super::lines::sectors_bytes;
use super::{Action, Request};

/// READ (6), (10), (12) and (16), of the SCSI block commands.
const READS: [u16; 4] = [0x08, 0x28, 0xa8, 0x88];
/// WRITE (6), (10), (12), (16), and WRITE AND VERIFY (10), (12), (16).
const WRITES: [u16; 7] = [0x0a, 0x2a, 0xaa, 0x8a, 0x2e, 0xae, 0x8e];
/// Records that a file must show to be told by its content, if it has as many.
const SHOWN: usize = 4;

/// Which layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    One = 1,
    Two = 2,
}

impl Version {
    pub(super) fn record_bytes(self) -> usize {
        match self {
            Self::One => 32,
            Self::Two => 40,
        }
    }

    /// Offsets of length, command, version, sector and time.
    fn offsets(self) -> [usize; 5] {
        match self {
            Self::One => [4, 12, 14, 16, 24],
            Self::Two => [8, 0, 2, 16, 24],
        }
    }
}

/// The version of a file that begins like this, if its first records agree on one.
pub(super) fn version_of(head: &[u8]) -> Option<Version> {
    [Version::One, Version::Two].into_iter().find(|&version| {
        let mut records = head.chunks_exact(version.record_bytes()).take(SHOWN).peekable();
        records.peek().is_some() && records.all(|record| Vscsi(version).parse(record).is_ok())
    })
}

/// Parser of one layout.
#[derive(Debug)]
pub(super) struct Vscsi(pub(super) Version);

impl Parser for Vscsi {
    fn parse(&mut self, record: &[u8]) -> Result<Option<Request>, Fault> {
        let [length, command, version, sector, time] = self.0.offsets();
        let found = le::<2>(record, version) as u16;
        if found >> 8 != self.0 as u16 {
            return Err(Fault::Version(found));
        }
        let action = match le::<2>(record, command) as u16 {
            command if READS.contains(&command) => Action::Read,
            command if WRITES.contains(&command) => Action::Write,
            _ => return Ok(None),
        };
        Ok(Some(Request {
            time_us: le::<8>(record, time),
            action,
            volume: 0,
            offset_bytes: sectors_bytes(le::<8>(record, sector))?,
            len_bytes: le::<4>(record, length),
            kind: Default::default(),
        }))
    }
}

/// An integer of `N` bytes; what lies beyond the record counts as 0.
fn le<const N: usize>(record: &[u8], at: usize) -> u64 {
    record.iter().skip(at).take(N).rev().fold(0, |value, &byte| value << 8 | u64::from(byte))
}

#[cfg(test)]
mod tests {
    use super::super::samples;
    use super::*;

    #[test]
    fn both_layouts_are_read_exactly() {
        let first = Request {
            time_us: 0x0102_0304_0506,
            action: Action::Write,
            volume: 0,
            offset_bytes: 1007 * 512,
            len_bytes: 4096,
            kind: Default::default(),
        };
        let second = Request { time_us: 0x0102_0304_0507, action: Action::Read, len_bytes: 512, ..first };
        assert_eq!(samples::requests(samples::VSCSI_1), [first, second]);
        assert_eq!(samples::requests(samples::VSCSI_2), [first, second]);
    }

    #[test]
    fn other_commands_are_passed_over_and_other_versions_are_faults() {
        let mut record = samples::VSCSI_1[..32].to_vec();
        record[12] = 0x35;
        assert_eq!(Vscsi(Version::One).parse(&record), Ok(None));
        record[15] = 3;
        assert_eq!(Vscsi(Version::One).parse(&record), Err(Fault::Version(0x0300)));
        record[15] = 1;
        record[12] = 0x2a;
        record[16..24].fill(0xff);
        assert_eq!(Vscsi(Version::One).parse(&record), Err(Fault::Range));
    }
}
