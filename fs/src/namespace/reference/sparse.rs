//! File contents of the reference: written blocks one by one, promised ones as ranges, everything else a hole.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use crate::types::BLOCK_SIZE;

const BLOCK: u64 = BLOCK_SIZE as u64;

/// Bytes copied at a time.
const COPY_BYTES: u64 = 1 << 20;

type Block = [u8; BLOCK_SIZE];

/// Bytes of a file. Bytes of written blocks past `size` are zeros, and no written block begins at or past it.
#[derive(Clone, Debug, Default)]
pub(super) struct Sparse {
    size: u64,
    written: BTreeMap<u64, Arc<Block>>,
    promised: Ranges,
}

impl Sparse {
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// Written and promised blocks.
    pub(super) fn blocks(&self) -> u64 {
        self.written.len() as u64 + self.promised.total()
    }

    pub(super) fn read(&self, offset: u64, buf: &mut [u8]) -> usize {
        let len = (self.size.saturating_sub(offset)).min(buf.len() as u64) as usize;
        for (block, within, piece) in pieces(offset, len) {
            match self.written.get(&block) {
                Some(bytes) => buf[piece].copy_from_slice(&bytes[within]),
                None => buf[piece].fill(0),
            }
        }
        len
    }

    pub(super) fn write(&mut self, offset: u64, data: &[u8]) {
        for (block, within, piece) in pieces(offset, data.len()) {
            self.promised.remove(block..block + 1);
            let bytes = self.written.entry(block).or_insert_with(|| Arc::new([0; BLOCK_SIZE]));
            Arc::make_mut(bytes)[within].copy_from_slice(&data[piece]);
        }
        self.size = self.size.max(offset + data.len() as u64);
    }

    /// Sets the size. Shrinking, or staying, drops every block past the end.
    pub(super) fn truncate(&mut self, size: u64) {
        if size <= self.size {
            self.clear_bytes(size, size.next_multiple_of(BLOCK));
            self.discard(size.div_ceil(BLOCK)..u64::MAX);
        }
        self.size = size;
    }

    /// Grows the file, without touching any block.
    pub(super) fn grow(&mut self, size: u64) {
        self.size = self.size.max(size);
    }

    /// Promises every block that the bytes touch and that is not written.
    pub(super) fn promise(&mut self, bytes: Range<u64>) {
        let blocks = bytes.start / BLOCK..bytes.end.div_ceil(BLOCK);
        self.promised.insert(blocks.clone());
        for (&block, _) in self.written.range(blocks) {
            self.promised.remove(block..block + 1);
        }
    }

    /// Makes whole blocks within `bytes` a hole and zeroes what is left at both ends.
    pub(super) fn punch(&mut self, bytes: Range<u64>) {
        let whole = bytes.start.div_ceil(BLOCK)..bytes.end / BLOCK;
        if whole.start > whole.end {
            return self.clear_bytes(bytes.start, bytes.end);
        }
        self.clear_bytes(bytes.start, whole.start * BLOCK);
        self.clear_bytes(whole.end * BLOCK, bytes.end);
        self.discard(whole);
    }

    /// Copies `len` bytes that are there from `from_offset` of `source` on; holes stay holes.
    pub(super) fn copy(&mut self, source: &Self, from_offset: u64, to_offset: u64, len: u64) {
        let (mut at, end) = (from_offset, from_offset + len);
        while at < end {
            let to = to_offset + (at - from_offset);
            let data = source.next_data(at).unwrap_or(end).min(end);
            if data > at {
                self.punch(to..to + (data - at));
                at = data;
                continue;
            }
            let mut bytes = vec![0; (source.next_hole(at).min(end).min(at + COPY_BYTES) - at) as usize];
            source.read(at, &mut bytes);
            self.write(to, &bytes);
            at += bytes.len() as u64;
        }
        self.grow(to_offset + len);
    }

    /// First written byte at or after `offset`, before the end.
    pub(super) fn next_data(&self, offset: u64) -> Option<u64> {
        let (&block, _) = self.written.range(offset / BLOCK..).next()?;
        Some((block * BLOCK).max(offset))
    }

    /// First byte of a hole at or after `offset`; the end of the file counts as one.
    pub(super) fn next_hole(&self, offset: u64) -> u64 {
        let mut block = offset / BLOCK;
        while self.written.contains_key(&block) {
            block += 1;
        }
        (block * BLOCK).max(offset).min(self.size)
    }

    /// Zeroes bytes of at most one block, if it is written.
    fn clear_bytes(&mut self, from: u64, to: u64) {
        if from < to
            && let Some(bytes) = self.written.get_mut(&(from / BLOCK))
        {
            let within = (from % BLOCK) as usize;
            Arc::make_mut(bytes)[within..within + (to - from) as usize].fill(0);
        }
    }

    fn discard(&mut self, blocks: Range<u64>) {
        if blocks.is_empty() {
            return;
        }
        let mut tail = self.written.split_off(&blocks.start);
        self.written.append(&mut tail.split_off(&blocks.end));
        self.promised.remove(blocks);
    }
}

/// Cuts `len` bytes from `offset` on at block borders: block, bytes within it, bytes within the buffer.
fn pieces(offset: u64, len: usize) -> impl Iterator<Item = (u64, Range<usize>, Range<usize>)> {
    let mut done = 0usize;
    std::iter::from_fn(move || {
        if done == len {
            return None;
        }
        let at = offset + done as u64;
        let within = (at % BLOCK) as usize;
        let count = (BLOCK_SIZE - within).min(len - done);
        let piece = done..done + count;
        done += count;
        Some((at / BLOCK, within..within + count, piece))
    })
}

/// A set of block numbers as disjoint ranges: start -> end.
#[derive(Clone, Debug, Default)]
struct Ranges(BTreeMap<u64, u64>);

impl Ranges {
    fn total(&self) -> u64 {
        self.0.iter().map(|(start, end)| end - start).sum()
    }

    fn insert(&mut self, range: Range<u64>) {
        if !range.is_empty() {
            self.remove(range.clone());
            self.0.insert(range.start, range.end);
        }
    }

    fn remove(&mut self, range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        if let Some((&start, &end)) = self.0.range(..range.start).next_back()
            && end > range.start
        {
            self.0.insert(start, range.start);
            if end > range.end {
                self.0.insert(range.end, end);
            }
        }
        let inside: Vec<(u64, u64)> = self.0.range(range.clone()).map(|(&s, &e)| (s, e)).collect();
        for (start, end) in inside {
            self.0.remove(&start);
            if end > range.end {
                self.0.insert(range.end, end);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_reads_back_between_zeros() {
        let mut file = Sparse::default();
        file.write(5000, b"hello");
        let mut buf = [0xff; 5010];
        assert_eq!(file.read(0, &mut buf), 5005);
        assert!(buf[..5000].iter().all(|b| *b == 0));
        assert_eq!(&buf[5000..5005], b"hello");
        assert_eq!(file.blocks(), 1);
        assert_eq!((file.next_data(0), file.next_hole(0), file.next_hole(4097)), (Some(4096), 0, 5005));
    }

    #[test]
    fn bytes_cut_off_do_not_come_back() {
        let mut file = Sparse::default();
        file.write(0, &[7; 9000]);
        file.truncate(100);
        file.truncate(9000);
        let mut buf = vec![1; 9000];
        assert_eq!(file.read(0, &mut buf), 9000);
        assert!(buf[..100].iter().all(|b| *b == 7) && buf[100..].iter().all(|b| *b == 0));
    }

    #[test]
    fn punching_frees_whole_blocks_and_zeroes_the_rest() {
        let mut file = Sparse::default();
        file.write(0, &[7; 5 * 4096]);
        file.punch(100..3 * 4096 + 1);
        assert_eq!(file.blocks(), 3);
        let mut buf = vec![1; 5 * 4096];
        file.read(0, &mut buf);
        let zeros = buf.iter().filter(|b| **b == 0).count();
        assert_eq!(zeros, 3 * 4096 + 1 - 100);
        file.punch(4 * 4096 + 5..4 * 4096 + 9);
        assert_eq!(file.blocks(), 3);
    }

    #[test]
    fn a_copy_keeps_holes() {
        let (mut source, mut file) = (Sparse::default(), Sparse::default());
        source.write(2 * 4096, &[3; 4096]);
        source.promise(3 * 4096..5 * 4096);
        source.truncate(1 << 40);
        file.write(0, &[7; 6 * 4096]);
        file.copy(&source, 4096, 4096, (1 << 40) - 4096);
        assert_eq!((file.size(), file.blocks()), (1 << 40, 2));
        assert_eq!((file.next_hole(0), file.next_data(4096), file.next_data(3 * 4096)), (4096, Some(8192), None));
    }

    #[test]
    fn promised_blocks_are_counted_once_and_are_holes() {
        let mut file = Sparse::default();
        file.write(4096, &[1; 4096]);
        file.promise(0..4 * 4096);
        file.promise(2 * 4096..1 << 40);
        assert_eq!(file.blocks(), 1 << 28);
        assert_eq!((file.size(), file.next_hole(0)), (8192, 0));
        file.write(0, b"x");
        assert_eq!(file.blocks(), 1 << 28);
        file.punch(0..8 * 4096);
        assert_eq!(file.blocks(), (1 << 28) - 8);
        file.truncate(10);
        assert_eq!(file.blocks(), 0);
    }
}
