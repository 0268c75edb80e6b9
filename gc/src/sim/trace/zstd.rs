//! Zstandard data of any number of frames (RFC 8878), as `zstd`, `pzstd` and `cat` make them.

use std::error::Error;
use std::io::{self, BufRead, Read};

use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

/// The longest window that `zstd -d` takes without being asked.
const WINDOW_BYTES_MAX: u64 = 1 << 27;

/// Whether data that begins like this is Zstandard: a frame, or one to be skipped.
pub(super) fn is_magic(magic: [u8; 4]) -> bool {
    matches!(u32::from_le_bytes(magic), 0xfd2f_b528 | 0x184d_2a50..=0x184d_2a5f)
}

/// Decompresses frame after frame; data cut short is an error of the kind `UnexpectedEof`.
pub(super) struct Frames<R> {
    source: R,
    decoder: FrameDecoder,
    in_frame: bool,
}

impl<R: BufRead> Frames<R> {
    pub(super) fn new(source: R) -> Self {
        let mut decoder = FrameDecoder::new();
        decoder.set_max_window_size(WINDOW_BYTES_MAX);
        Self { source, decoder, in_frame: false }
    }

    fn begin(&mut self) -> io::Result<()> {
        match self.decoder.init(&mut self.source) {
            Ok(()) => self.in_frame = true,
            Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame { length, .. })) => {
                let length = u64::from(length);
                if io::copy(&mut (&mut self.source).take(length), &mut io::sink())? < length {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
            }
            Err(error) => return Err(io_error(error)),
        }
        Ok(())
    }

    fn end(&mut self) -> io::Result<()> {
        self.in_frame = false;
        let stored = self.decoder.get_checksum_from_data();
        if stored.is_some() && stored != self.decoder.get_calculated_checksum() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "wrong checksum"));
        }
        Ok(())
    }
}

impl<R: BufRead> Read for Frames<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        while !buf.is_empty() {
            if !self.in_frame {
                if self.source.fill_buf()?.is_empty() {
                    break;
                }
                self.begin()?;
            } else if self.decoder.can_collect() > 0 {
                return self.decoder.read(buf);
            } else if self.decoder.is_finished() {
                self.end()?;
            } else {
                self.decoder.decode_blocks(&mut self.source, BlockDecodingStrategy::UptoBlocks(1)).map_err(io_error)?;
            }
        }
        Ok(0)
    }
}

/// Keeps apart what was cut from what is damaged: the decoder tells it only in the depth of its error.
fn io_error(error: FrameDecoderError) -> io::Error {
    let mut cause: Option<&(dyn Error + 'static)> = Some(&error);
    while let Some(e) = cause {
        if e.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::UnexpectedEof) {
            return io::ErrorKind::UnexpectedEof.into();
        }
        cause = e.source();
    }
    io::Error::new(io::ErrorKind::InvalidData, error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use ruzstd::encoding::{CompressionLevel, compress_to_vec};

    fn read(data: &[u8]) -> io::Result<Vec<u8>> {
        let mut all = Vec::new();
        Frames::new(data).read_to_end(&mut all).map(|_| all)
    }

    #[test]
    fn frames_follow_each_other_and_some_are_skipped() {
        let frame = |text: &str| compress_to_vec(text.as_bytes(), CompressionLevel::Fastest);
        let skipped = [0x51, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3];
        let data = [&skipped[..], &frame("one "), &frame(""), &skipped, &frame("two")].concat();
        assert_eq!(read(&data).ok().as_deref(), Some(&b"one two"[..]));
    }

    #[test]
    fn a_cut_at_any_place_is_told_from_damage() {
        let text: String = (0..20_000).map(|i: u32| format!("{}\n", i.wrapping_mul(2_654_435_761))).collect();
        let data = compress_to_vec(text.as_bytes(), CompressionLevel::Fastest);
        assert_eq!(read(&data).ok().as_deref(), Some(text.as_bytes()));
        for len in (1..data.len()).step_by(997).chain([data.len() - 1]) {
            let kind = read(&data[..len]).map_err(|e| e.kind()).map(|found| found.len());
            assert_eq!(kind, Err(io::ErrorKind::UnexpectedEof), "cut at {len} of {}", data.len());
        }
        let mut damaged = data.clone();
        let last = damaged.len() - 1;
        damaged[last] ^= 1;
        assert_eq!(read(&damaged).map_err(|e| e.kind()).map(|found| found.len()), Err(io::ErrorKind::InvalidData));
    }
}
