//! gleanfs's own telemetry, as `gleanfs ctl MNT record FILE` writes it ([`crate::telemetry`] has the bytes). A file is a volume, by its inode
//! number; what its name says of it comes along. Only what users wrote and removed counts: what the cleaner did is for the simulator to do anew.

use super::error::Fault;
use super::format::Parser;
use super::{Action, BLOCK_BYTES, Request};
use crate::telemetry::{Event, HEADER_BYTES, Header, MAGIC};

/// Bytes of a record; the header is one.
pub(super) const RECORD_BYTES: usize = HEADER_BYTES;

pub(super) fn is_recording(head: &[u8]) -> bool {
    head.starts_with(MAGIC)
}

/// The parser, which begins with the header.
#[derive(Debug, Default)]
pub(super) struct Gleanfs {
    begun: bool,
}

impl Parser for Gleanfs {
    fn parse(&mut self, record: &[u8]) -> Result<Option<Request>, Fault> {
        let bytes = record.try_into().map_err(|_| Fault::Recording("it is not whole".into()))?;
        if !std::mem::replace(&mut self.begun, true) {
            Header::decode(bytes).map_err(|e| Fault::Recording(e.to_string()))?;
            return Ok(None);
        }
        let request = |action, ino, kind, first: u64, blocks: u64| {
            let bytes = |blocks: u64| blocks.checked_mul(BLOCK_BYTES).ok_or(Fault::Range);
            let (offset_bytes, len_bytes) = (bytes(first)?, bytes(blocks)?);
            Ok(Some(Request { time_us: 0, action, volume: ino, offset_bytes, len_bytes, kind }))
        };
        match Event::decode(bytes).map_err(|e| Fault::Recording(e.to_string()))? {
            Event::Write(w, _) => request(Action::Write, w.ino, w.kind, w.first_block, w.blocks.into()),
            Event::Discard(d) => request(Action::Discard, d.ino, d.kind, d.first_block, d.blocks),
            Event::Move(..) | Event::Victim { .. } | Event::Lost(_) => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples;
    use super::*;
    use crate::features::FileKind;

    #[test]
    fn writes_and_discards_are_read_with_their_files() {
        let kind = FileKind { suffix: 3, dir: 4 };
        let write =
            Request { time_us: 0, action: Action::Write, volume: 9, offset_bytes: 8192, len_bytes: 12_288, kind };
        let discard = Request { action: Action::Discard, ..write };
        assert_eq!(samples::requests(samples::GLEANFS), [write, discard]);
    }
}
