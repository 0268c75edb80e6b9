//! Reading and writing file contents.
//!
//! The volume reads and writes whole blocks; unaligned edges are read first and written back with what surrounds them.
//! Bytes past the end of the file in its last block are zero on the medium, always: whoever shrinks a file sees to it.

use crate::device::aligned::AlignedBuf;
use crate::error::{Error, Result};
use crate::format::edit::Edit;
use crate::format::value::Extent;
use crate::meta::view::View;
use crate::meta::volume::{Plan, WRITE_BLOCKS_MAX, WriteHint};
use crate::types::{BLOCK_SIZE, Ino};

use super::draft::{Draft, Op};
use super::extents::{block_after, block_of, byte_of};
use super::{Filesystem, attr, items, orphans, xattr};

const BLOCK: u64 = BLOCK_SIZE as u64;
/// Largest size of a file, in bytes: block numbers stay far from overflowing anything.
pub const FILE_SIZE_MAX: u64 = 1 << 60;

/// Bytes of a file that one record writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    pub start: u64,
    pub end: u64,
}

impl Piece {
    pub fn first_block(&self) -> u64 {
        block_of(self.start)
    }

    pub fn blocks(&self) -> u32 {
        (block_after(self.end) - self.first_block()) as u32
    }

    pub fn last_block(&self) -> u64 {
        block_after(self.end) - 1
    }

    /// Bytes of the first block before the piece.
    fn lead(&self) -> usize {
        (self.start % BLOCK) as usize
    }

    /// Bytes of the last block up to the piece's end; 0 if it ends with the block.
    fn trail(&self) -> usize {
        (self.end % BLOCK) as usize
    }
}

/// The first piece of `start..end`, which ends at a block boundary if it is not all; at most [`WRITE_BLOCKS_MAX`] blocks.
pub fn next_piece(start: u64, end: u64) -> Option<Piece> {
    let end = end.min(byte_of(block_of(start) + u64::from(WRITE_BLOCKS_MAX)));
    (start < end).then_some(Piece { start, end })
}

/// The end of `len` bytes from `offset`; `FileTooBig` if no file may have it.
pub fn end_of(offset: u64, len: u64) -> Result<u64> {
    offset.checked_add(len).filter(|end| *end <= FILE_SIZE_MAX).ok_or(Error::FileTooBig)
}

/// The size of a regular file, and whether blocks beyond it wait to be unmapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Survey {
    pub size: u64,
    pub trim_is_due: bool,
}

/// Looks at a regular file before it is written.
pub fn survey(view: &dyn View, ino: Ino) -> Result<Survey> {
    let inode = items::regular(view, ino)?;
    Ok(Survey { size: inode.size, trim_is_due: orphans::trim_is_due(view, ino)? })
}

/// The part of a piece that an extent of `blocks` blocks takes: the log may have room for less than all of it.
fn taken(piece: Piece, blocks: u32) -> Piece {
    Piece { end: piece.end.min(byte_of(piece.first_block() + u64::from(blocks))), ..piece }
}

/// Maps a written piece. Privileges and file capabilities go in the same record, if they must.
pub fn plan_write(
    op: &Op,
    view: &dyn View,
    ino: Ino,
    piece: Piece,
    kill_priv: bool,
    extent: &Extent,
) -> Result<Plan<()>> {
    let inode = items::regular(view, ino)?;
    let mut draft = Draft::new(op, view);
    draft.push(Edit::Map { ino, first: piece.first_block(), extent: extent.clone() });
    let grown = Some(piece.end).filter(|end| *end > inode.size);
    let loses_mode = kill_priv && attr::unprivileged(inode.mode) != inode.mode;
    let loses_capability = xattr::take(&mut draft, ino, xattr::CAPABILITY)?;
    if loses_mode || loses_capability {
        let inode = draft.change(ino)?;
        if loses_mode {
            inode.mode = attr::unprivileged(inode.mode);
        }
        inode.size = grown.unwrap_or(inode.size);
        inode.mtime = op.now;
        inode.ctime = op.now;
    } else {
        draft.push(Edit::Written { ino, size: grown, time: op.now });
    }
    Ok(draft.finish(()))
}

/// The surroundings of an unaligned piece: the contents of its first and its last block.
struct Edges {
    head: Option<AlignedBuf>,
    tail: Option<AlignedBuf>,
}

impl Edges {
    /// Fills the first blocks of a piece, as many as `buf` holds, with `data` and what surrounds it.
    fn fill(&self, piece: &Piece, data: &[u8], buf: &mut [u8]) {
        let lead = piece.lead();
        match &self.head {
            Some(head) => buf[..lead].copy_from_slice(&head[..lead]),
            None => buf[..lead].fill(0),
        }
        let end = buf.len().min(lead + data.len());
        buf[lead..end].copy_from_slice(&data[..end - lead]);
        match &self.tail {
            Some(tail) if end < buf.len() => buf[end..].copy_from_slice(&tail[piece.trail()..]),
            _ => buf[end..].fill(0),
        }
    }
}

impl Filesystem {
    /// Reads one block of a file.
    pub(super) fn read_block(&self, ino: Ino, block: u64) -> Result<AlignedBuf> {
        let mut buf = AlignedBuf::new(1);
        self.volume.read(ino, block, &mut buf)?;
        Ok(buf)
    }

    /// Reads at `offset`; short only at the end of the file.
    pub(super) fn read_at(&self, ino: Ino, offset: u64, buf: &mut [u8]) -> Result<usize> {
        let size = self.volume.view(|view| Ok(items::regular(view, ino)?.size))?;
        let want = size.saturating_sub(offset).min(buf.len() as u64) as usize;
        let mut done = 0;
        while done < want {
            let at = offset + done as u64;
            let skip = (at % BLOCK) as usize;
            // A short last block is read in place too if the buffer has room for all of it.
            let whole = (want - done).next_multiple_of(BLOCK_SIZE).min(buf.len() - done) / BLOCK_SIZE * BLOCK_SIZE;
            if skip == 0 && whole > 0 {
                self.volume.read(ino, block_of(at), &mut buf[done..done + whole])?;
                done = want.min(done + whole);
            } else {
                let block = self.read_block(ino, block_of(at))?;
                let n = (BLOCK_SIZE - skip).min(want - done);
                buf[done..done + n].copy_from_slice(&block[skip..skip + n]);
                done += n;
            }
        }
        Ok(want)
    }

    /// Writes all of `data` under the inode's lock.
    pub(super) fn write_at(&self, ino: Ino, offset: u64, data: &[u8], kill_priv: bool) -> Result<()> {
        self.volume.writable()?;
        let end = end_of(offset, data.len() as u64)?;
        if data.is_empty() {
            return Ok(());
        }
        if offset.is_multiple_of(BLOCK) && end.is_multiple_of(BLOCK) {
            let _shared = self.locks.shared(ino);
            let size = self.volume.view(|view| Ok(items::regular(view, ino)?.size))?;
            if end <= size {
                return self.write_pieces(ino, offset, data, kill_priv, size);
            }
        }
        let _exclusive = self.locks.exclusive(ino);
        let size = self.size_for_mapping(ino, end)?;
        self.write_pieces(ino, offset, data, kill_priv, size)
    }

    /// The file's size, once nothing stands in the way of mapping blocks up to byte `end`. The caller holds the lock exclusively.
    pub(super) fn size_for_mapping(&self, ino: Ino, end: u64) -> Result<u64> {
        let file = self.volume.view(|view| survey(view, ino))?;
        if end > file.size && file.trim_is_due {
            self.reaper.trim_now(ino)?;
        }
        Ok(file.size)
    }

    fn edges(&self, ino: Ino, piece: &Piece, size: u64) -> Result<Edges> {
        let (first, last) = (piece.first_block(), piece.last_block());
        let read = |block| if byte_of(block) < size { self.read_block(ino, block).map(Some) } else { Ok(None) };
        let head = if piece.lead() > 0 { read(first)? } else { None };
        let tail = match piece.trail() {
            0 => None,
            // Past the end of the file there are zeros, which need no reading.
            _ if piece.end >= size => None,
            _ => read(last)?,
        };
        Ok(Edges { head, tail })
    }

    fn write_pieces(&self, ino: Ino, offset: u64, data: &[u8], kill_priv: bool, mut size: u64) -> Result<()> {
        let op = self.op();
        let end = offset + data.len() as u64;
        let mut at = offset;
        while let Some(piece) = next_piece(at, end) {
            let bytes = &data[(piece.start - offset) as usize..(piece.end - offset) as usize];
            let edges = self.edges(ino, &piece, size)?;
            let hint = WriteHint {
                ino,
                first: piece.first_block(),
                blocks: piece.blocks(),
                append: piece.start >= size,
                file_size: size,
            };
            at = self.with_room(|| {
                let fill = |buf: &mut [u8]| edges.fill(&piece, bytes, buf);
                self.volume.write(&hint, fill, |view, extent| {
                    let piece = taken(piece, extent.blocks);
                    let Plan { edits, value: () } = plan_write(&op, view, ino, piece, kill_priv, extent)?;
                    Ok(Plan { edits, value: piece.end })
                })
            })?;
            size = size.max(at);
        }
        Ok(())
    }

    /// Writes one block that was read, changed and is within the file.
    pub(super) fn rewrite_block<T>(
        &self,
        ino: Ino,
        block: u64,
        contents: &[u8],
        size: u64,
        mut plan: impl FnMut(&dyn View, &Extent) -> Result<Plan<T>>,
    ) -> Result<T> {
        let hint = WriteHint { ino, first: block, blocks: 1, append: false, file_size: size };
        self.with_room(|| self.volume.write(&hint, |buf| buf.copy_from_slice(contents), &mut plan))
    }

    /// Zeros the bytes `from..to` of a block that holds data.
    pub(super) fn zero_in_block(&self, ino: Ino, block: u64, from: usize, to: usize, size: u64) -> Result<()> {
        let mut contents = self.read_block(ino, block)?;
        contents[from..to].fill(0);
        let op = self.op();
        self.rewrite_block(ino, block, &contents, size, |_, extent| {
            let map = Edit::Map { ino, first: block, extent: extent.clone() };
            Ok(Plan { edits: vec![map, Edit::Written { ino, size: None, time: op.now }], value: () })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::namespace::api::XattrMode;
    use crate::namespace::testing::{Tree, data_extent, op, op_at};

    #[test]
    fn pieces_cover_a_write_and_break_at_blocks() {
        let end = 100 + 300 * BLOCK;
        let after = |piece: &Piece| next_piece(piece.end, end);
        let all: Vec<Piece> = std::iter::successors(next_piece(100, end), after).collect();
        assert_eq!(all.len(), 3);
        assert_eq!((all[0].start, all[2].end), (100, end));
        assert!(all.windows(2).all(|w| w[0].end == w[1].start && w[0].end.is_multiple_of(BLOCK)));
        assert!(all.iter().all(|piece| piece.blocks() <= WRITE_BLOCKS_MAX));
        assert_eq!(all.iter().map(|piece| piece.blocks()).sum::<u32>(), 301);
        assert_eq!(next_piece(5, 5), None);
        assert_eq!(taken(all[0], 2), Piece { start: 100, end: 2 * BLOCK });
        assert_eq!(taken(all[2], 128), all[2]);
    }

    #[test]
    fn edges_surround_the_data() {
        let piece = Piece { start: 10, end: BLOCK + 20 };
        let block = |byte| Some(AlignedBuf::copy_of(&[byte; BLOCK_SIZE]));
        let data = vec![9; (piece.end - piece.start) as usize];
        let mut buf = vec![7; 2 * BLOCK_SIZE];
        Edges { head: block(1), tail: block(2) }.fill(&piece, &data, &mut buf);
        assert_eq!((buf[9], buf[10], buf[BLOCK_SIZE + 19], buf[BLOCK_SIZE + 20]), (1, 9, 9, 2));
        let mut short = vec![7; BLOCK_SIZE];
        Edges { head: block(1), tail: block(2) }.fill(&piece, &data, &mut short);
        assert_eq!((short[9], short[10], short[BLOCK_SIZE - 1]), (1, 9, 9));
        Edges { head: None, tail: None }.fill(&piece, &data, &mut buf);
        assert_eq!((buf[0], buf[10], buf[BLOCK_SIZE + 20], buf[2 * BLOCK_SIZE - 1]), (0, 9, 0, 0));
    }

    #[test]
    fn a_write_maps_its_extents_in_order_and_grows_the_file() {
        let mut tree = Tree::with_root();
        let file = tree.file(Ino::ROOT, b"f");
        let piece = Piece { start: 5000, end: 20_000 };
        let extent = data_extent(4);
        let later = op_at(800);
        let plan = plan_write(&later, &tree, file, piece, true, &extent).unwrap();
        assert!(plan.edits.iter().all(|edit| !matches!(edit, Edit::Put { .. })), "the inode is not logged whole");
        tree.apply_all(&plan.edits);
        let inode = tree.inode(file);
        assert_eq!((inode.size, inode.blocks, inode.mtime, inode.ctime), (20_000, 4, later.now, later.now));
        assert_eq!(tree.addr(file, 1), Some(extent.addr));
        assert_eq!(tree.addr(file, 4), Some(extent.addr.offset(3)));
        let inside = Piece { start: 4096, end: 8192 };
        tree.commit(|view| plan_write(&op(), view, file, inside, false, &data_extent(1))).unwrap();
        assert_eq!((tree.inode(file).size, tree.inode(file).blocks), (20_000, 4));
    }

    #[test]
    fn a_write_takes_privileges_in_the_same_record() {
        let mut tree = Tree::with_root();
        let file = tree.file(Ino::ROOT, b"f");
        let set = |view: &dyn View| xattr::plan_set(&op(), view, file, xattr::CAPABILITY, b"c", XattrMode::Set);
        tree.commit(set).unwrap();
        tree.edit_inode(file, |inode| inode.mode = libc::S_IFREG | 0o6755);
        let piece = Piece { start: 0, end: 10 };
        let write = |tree: &mut Tree, kill| {
            tree.commit(|view| plan_write(&op_at(801), view, file, piece, kill, &data_extent(1))).unwrap();
        };
        write(&mut tree, false);
        assert_eq!((tree.inode(file).mode & 0o7777, tree.inode(file).xattrs), (0o6755, 0));
        write(&mut tree, true);
        let inode = tree.inode(file);
        assert_eq!((inode.mode & 0o7777, inode.size, inode.mtime), (0o755, 10, op_at(801).now));
        assert!(matches!(plan_write(&op(), &tree, Ino::ROOT, piece, true, &data_extent(1)), Err(Error::IsADirectory)));
    }

    #[test]
    fn no_file_grows_past_the_limit() {
        assert_eq!(end_of(FILE_SIZE_MAX - 1, 1).unwrap(), FILE_SIZE_MAX);
        assert!(matches!(end_of(FILE_SIZE_MAX, 1), Err(Error::FileTooBig)));
        assert!(matches!(end_of(u64::MAX, 2), Err(Error::FileTooBig)));
    }
}
