//! The bytes of a trace: decompressed if need be, with a look at how they begin.

use std::io::{self, BufRead, BufReader, Cursor, Read};

use flate2::bufread::MultiGzDecoder;

use super::zstd;

const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];
/// Bytes that are looked at to tell a format.
const HEAD_BYTES: u64 = 4096;
const BUFFER_BYTES: usize = 64 << 10;
/// Where a tar archive says that it is one.
const TAR_MAGIC_AT: usize = 257;

/// What decompresses it, and what an error calls it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Compression {
    None,
    Gzip,
    Zstd,
}

impl Compression {
    pub(super) fn what(self) -> &'static str {
        match self {
            Self::None => "file",
            Self::Gzip => "gzip data",
            Self::Zstd => "zstd data",
        }
    }
}

/// A trace's bytes as they were before compression.
pub(super) struct Input {
    pub(super) compression: Compression,
    /// How it begins: [`HEAD_BYTES`], or all of it. Still to be read from `bytes`.
    pub(super) head: Vec<u8>,
    pub(super) bytes: BufReader<AfterHead>,
}

impl Input {
    /// Fails if not one byte can be had.
    pub(super) fn new(source: impl Read + Send + 'static) -> io::Result<Self> {
        let mut source = BufReader::with_capacity(BUFFER_BYTES, source);
        let mut magic = Vec::new();
        (&mut source).take(4).read_to_end(&mut magic)?;
        let compression = if magic.starts_with(&GZIP_MAGIC) {
            Compression::Gzip
        } else if <[u8; 4]>::try_from(magic.as_slice()).is_ok_and(zstd::is_magic) {
            Compression::Zstd
        } else {
            Compression::None
        };
        let whole = BufReader::with_capacity(BUFFER_BYTES, Cursor::new(magic).chain(source));
        let mut rest: Box<dyn Read + Send> = match compression {
            Compression::None => Box::new(whole),
            Compression::Gzip => Box::new(MultiGzDecoder::new(whole)),
            Compression::Zstd => Box::new(zstd::Frames::new(whole)),
        };
        let mut head = Vec::new();
        let error = (&mut rest).take(HEAD_BYTES).read_to_end(&mut head).err();
        match error {
            Some(error) if head.is_empty() => Err(error),
            error => {
                let bytes = AfterHead { head: Cursor::new(head.clone()), error, rest };
                Ok(Self { compression, head, bytes: BufReader::with_capacity(BUFFER_BYTES, bytes) })
            }
        }
    }

    /// The next line with its end, at most `bytes_max` of it; `line` is empty at the end.
    pub(super) fn read_line(&mut self, line: &mut Vec<u8>, bytes_max: u64) -> io::Result<()> {
        line.clear();
        (&mut self.bytes).take(bytes_max).read_until(b'\n', line).map(|_| ())
    }

    /// The next `len` bytes, or fewer at the end.
    pub(super) fn read_record(&mut self, record: &mut Vec<u8>, len: usize) -> io::Result<()> {
        record.resize(len, 0);
        let mut filled = 0;
        while filled < len {
            match self.bytes.read(&mut record[filled..]) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        record.truncate(filled);
        Ok(())
    }
}

/// Whether bytes that begin like this are a tar archive (POSIX ustar).
pub(super) fn is_tar(head: &[u8]) -> bool {
    head.get(TAR_MAGIC_AT..).is_some_and(|rest| rest.starts_with(b"ustar"))
}

/// The head, then the error that cut it short if there was one, then the rest.
pub(super) struct AfterHead {
    head: Cursor<Vec<u8>>,
    error: Option<io::Error>,
    rest: Box<dyn Read + Send>,
}

impl Read for AfterHead {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self.head.read(buf)? {
            0 if !buf.is_empty() => self.error.take().map_or_else(|| self.rest.read(buf), Err),
            read => Ok(read),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_head_is_a_look_and_not_a_read() -> io::Result<()> {
        let text: Vec<u8> = (0..10_000u32).map(|i| b'a' + (i % 26) as u8).collect();
        let mut input = Input::new(Cursor::new(text.clone()))?;
        assert_eq!((input.compression, input.head.len()), (Compression::None, 4096));
        let mut all = Vec::new();
        input.bytes.read_to_end(&mut all)?;
        assert_eq!(all, text);
        Ok(())
    }

    #[test]
    fn short_files_are_no_special_case() -> io::Result<()> {
        for len in 0..6 {
            let input = Input::new(Cursor::new(vec![b'x'; len]))?;
            assert_eq!(input.head.len(), len);
        }
        Ok(())
    }
}
