//! The memory that daemon and worker share: its header, and floats and texts in it.
//!
//! Below the rings. The other side may write anything anywhere at any time ([`Words`]).

use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering;

use super::protocol::{FEATURES_MAX, MAGIC, REGION_BYTES, ROWS_MAX, SLOTS, VERSION, header};
use crate::words::{SharedWords, Words};

/// A mapping of the shared region.
pub struct Region<W = Words>(W);

impl<W> std::ops::Deref for Region<W> {
    type Target = W;

    fn deref(&self) -> &W {
        &self.0
    }
}

impl Region {
    /// Makes, seals and maps a fresh region with its header written.
    pub fn create() -> io::Result<Region> {
        let region = Region(Words::create(c"gleanfs-advisor", REGION_BYTES)?);
        region.u64(header::MAGIC).store(MAGIC, Ordering::Relaxed);
        region.u64(header::TOTAL).store(REGION_BYTES as u64, Ordering::Relaxed);
        for (offset, value) in Region::sizes() {
            region.u32(offset).store(value, Ordering::Relaxed);
        }
        Ok(region)
    }

    /// Maps the region behind an inherited descriptor, after checking that it is one.
    pub fn open(fd: OwnedFd) -> Result<Region, String> {
        let region = Region(Words::open(fd, REGION_BYTES)?);
        let same = region.u64(header::MAGIC).load(Ordering::Relaxed) == MAGIC
            && Region::sizes().iter().all(|&(offset, value)| region.u32(offset).load(Ordering::Relaxed) == value);
        if same { Ok(region) } else { Err("shared region: made by another version of this program".into()) }
    }

    fn sizes() -> [(usize, u32); 4] {
        [
            (header::VERSION, VERSION),
            (header::ROWS_MAX, ROWS_MAX as u32),
            (header::FEATURES_MAX, FEATURES_MAX as u32),
            (header::SLOTS, SLOTS as u32),
        ]
    }

    /// Copies a zero-terminated text out; what is not printable ASCII becomes `?`.
    pub(crate) fn load_text(&self, offset: usize, bytes_max: usize) -> String {
        (0..bytes_max)
            .map(|i| self.u8(offset + i).load(Ordering::Relaxed))
            .take_while(|&b| b != 0)
            .map(|b| if (0x20..0x7f).contains(&b) { b as char } else { '?' })
            .collect()
    }

    /// Writes a text, cut to fit with its terminating zero.
    pub(crate) fn store_text(&self, offset: usize, bytes_max: usize, text: &str) {
        let bytes = text.as_bytes();
        for i in 0..bytes_max {
            let byte = if i + 1 < bytes_max { bytes.get(i).copied().unwrap_or(0) } else { 0 };
            self.u8(offset + i).store(byte, Ordering::Relaxed);
        }
    }
}

impl<W: SharedWords> Region<W> {
    /// A region in memory of another kind, for tests.
    #[cfg(test)]
    pub(crate) fn over(words: W) -> Self {
        Self(words)
    }

    /// Copies `into.len()` floats out, each read once.
    pub(crate) fn load_f32s(&self, offset: usize, into: &mut [f32]) {
        for (i, value) in into.iter_mut().enumerate() {
            *value = f32::from_bits(self.0.load_u32(offset + 4 * i, Ordering::Relaxed));
        }
    }

    /// Writes floats one after the other.
    pub(crate) fn store_f32s(&self, offset: usize, from: impl Iterator<Item = f32>) {
        for (i, value) in from.enumerate() {
            self.0.store_u32(offset + 4 * i, value.to_bits(), Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::words::sealed_copy;

    #[test]
    fn a_region_is_recognized() {
        let region = Region::create().unwrap();
        let copy = || region.fd().try_clone_to_owned().unwrap();
        let second = Region::open(copy()).unwrap();
        second.u32(header::STATE).store(7, Ordering::Relaxed);
        assert_eq!(region.u32(header::STATE).load(Ordering::Relaxed), 7);
        region.u32(header::VERSION).store(99, Ordering::Relaxed);
        assert!(Region::open(copy()).is_err());
        assert!(Region::open(sealed_copy(b"not a region").unwrap()).is_err());
    }

    #[test]
    fn text_is_cut_and_cleaned() {
        let region = Region::create().unwrap();
        region.store_text(header::MESSAGE, 8, "long message");
        assert_eq!(region.load_text(header::MESSAGE, 8), "long me");
        region.store_text(header::MESSAGE, 8, "a\x1b\nb");
        assert_eq!(region.load_text(header::MESSAGE, 8), "a??b");
    }
}
