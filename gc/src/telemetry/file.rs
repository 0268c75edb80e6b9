//! Events in a file: a header of 64 bytes, then events one after the other (`event` has their bytes).
//!
//! Header, little-endian: magic `GLEANTEL`, version (4 bytes), bytes of an event (4), blocks of a segment (4), log heads for data (4), write clock at
//! the beginning (8), zeros.

use std::io::{self, Write};

use flate2::Compression;
use flate2::write::GzEncoder;

use super::event::{EVENT_BYTES, Event};

pub const MAGIC: &[u8; 8] = b"GLEANTEL";
/// As many as an event has, so that a file is a sequence of equal records.
pub const HEADER_BYTES: usize = EVENT_BYTES;
const VERSION: u32 = 1;

/// What a recording is of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Header {
    pub segment_blocks: u32,
    pub heads: u32,
    /// Write clock when the recording began.
    pub clock: u64,
}

/// Bytes that are no header of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FileError {
    #[error("not a recording of gleanfs")]
    Magic,
    #[error("a recording of version {0}, which this program does not know")]
    Version(u32),
}

impl Header {
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[..8].copy_from_slice(MAGIC);
        let words = [VERSION, EVENT_BYTES as u32, self.segment_blocks, self.heads];
        for (at, word) in bytes[8..].chunks_exact_mut(4).zip(words) {
            at.copy_from_slice(&word.to_le_bytes());
        }
        bytes[24..32].copy_from_slice(&self.clock.to_le_bytes());
        bytes
    }

    pub fn decode(bytes: &[u8; HEADER_BYTES]) -> Result<Self, FileError> {
        let word = |at: usize| u32::from_le_bytes(std::array::from_fn(|n| bytes[at + n]));
        if &bytes[..8] != MAGIC {
            return Err(FileError::Magic);
        }
        if (word(8), word(12)) != (VERSION, EVENT_BYTES as u32) {
            return Err(FileError::Version(word(8)));
        }
        let clock = u64::from_le_bytes(std::array::from_fn(|n| bytes[24 + n]));
        Ok(Self { segment_blocks: word(16), heads: word(20), clock })
    }
}

/// Writes a recording.
#[derive(Debug)]
pub struct Writer<W: Write> {
    out: Out<W>,
}

#[derive(Debug)]
enum Out<W: Write> {
    Plain(W),
    Compressed(GzEncoder<W>),
}

impl<W: Write> Writer<W> {
    /// Begins with the header. With gzip it takes a tenth of the room, and several times the processor.
    pub fn new(out: W, compressed: bool, header: &Header) -> io::Result<Self> {
        let out = match compressed {
            true => Out::Compressed(GzEncoder::new(out, Compression::fast())),
            false => Out::Plain(out),
        };
        let mut writer = Self { out };
        writer.event(&header.encode())?;
        Ok(writer)
    }

    pub fn event(&mut self, event: &[u8; EVENT_BYTES]) -> io::Result<()> {
        match &mut self.out {
            Out::Plain(out) => out.write_all(event),
            Out::Compressed(out) => out.write_all(event),
        }
    }

    /// That some are missing.
    pub fn lost(&mut self, events: u64) -> io::Result<()> {
        if events == 0 { Ok(()) } else { self.event(&Event::Lost(events).encode()) }
    }

    /// Hands everything on, and gives back what it was written to.
    pub fn finish(self) -> io::Result<W> {
        match self.out {
            Out::Plain(mut out) => out.flush().map(|()| out),
            Out::Compressed(out) => out.finish(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::event::tests::write;
    use super::*;

    #[test]
    fn a_file_is_a_sequence_of_records_of_one_size() -> io::Result<()> {
        let header = Header { segment_blocks: 256, heads: 6, clock: 1 << 40 };
        let mut writer = Writer::new(Vec::new(), false, &header)?;
        writer.event(&write(3).encode())?;
        writer.lost(0)?;
        writer.lost(9)?;
        let bytes = writer.finish()?;
        let records: Vec<[u8; 64]> = bytes.chunks(64).map(|r| r.try_into().expect("whole records")).collect();
        assert_eq!(Header::decode(&records[0]), Ok(header));
        let events: Vec<_> = records[1..].iter().map(Event::decode).collect();
        assert_eq!(events, [Ok(write(3)), Ok(Event::Lost(9))]);
        Ok(())
    }

    #[test]
    fn other_files_are_told_apart() {
        let mut bytes = Header::default().encode();
        bytes[8] = 9;
        assert_eq!(Header::decode(&bytes), Err(FileError::Version(9)));
        bytes[0] = b'X';
        assert_eq!(Header::decode(&bytes), Err(FileError::Magic));
    }
}
