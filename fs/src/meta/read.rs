//! Reading file data: from the log's buffers or the device, every block verified.

use crate::device::DeviceError;
use crate::device::aligned::{AlignedBuf, is_aligned};
use crate::error::{Error, Result};
use crate::format::value::ExtentKind;
use crate::types::{BLOCK_SIZE, BlockAddr, Ino};

use super::apply::{Mapped, overlapping};
use super::volume::Volume;

/// Times that a block may move under a reader before damage is suspected.
const MOVES_MAX: u32 = 64;

/// What a read of one extent met.
enum Outcome {
    Good,
    /// The bytes are not those that the mapping promises: it was moved meanwhile, or they are damaged.
    Mismatch {
        addr: BlockAddr,
        stored: u32,
        computed: u32,
    },
    /// The device does not give them: they were moved meanwhile away from what it refuses, or they are lost.
    Unread {
        addr: BlockAddr,
        why: DeviceError,
    },
}

impl Volume {
    /// Reads `buf.len()` bytes (whole blocks) of file data from block `first` on, verified; holes and unwritten extents read as zeros.
    /// The caller deals with the file's size. `buf` aligned to a block spares a copy.
    pub fn read(&self, ino: Ino, first: u64, buf: &mut [u8]) -> Result<()> {
        debug_assert!(buf.len().is_multiple_of(BLOCK_SIZE));
        if !is_aligned(buf) {
            let mut aligned = AlignedBuf::new(buf.len() / BLOCK_SIZE);
            self.read(ino, first, &mut aligned)?;
            buf.copy_from_slice(&aligned);
            return Ok(());
        }
        let end = first + (buf.len() / BLOCK_SIZE) as u64;
        let mut next = first;
        let mut moves = 0;
        while next < end {
            let extents = self.view(|view| overlapping(view, ino, next, end))?;
            let from = (next - first) as usize * BLOCK_SIZE;
            match self.read_extents(ino, &extents, next, end, &mut buf[from..])? {
                None => return Ok(()),
                // Everything before it is read; look the rest up again.
                Some((at, mismatch)) => {
                    let same = self.view(|view| overlapping(view, ino, at, at + 1))?;
                    moves += 1;
                    if same.first().is_some_and(|m| stands_at(m, at, &mismatch)) || moves > MOVES_MAX {
                        return Err(damaged(ino, at, mismatch));
                    }
                    next = at;
                }
            }
        }
        Ok(())
    }

    /// Reads `next..end`; the first block whose bytes do not fit its mapping ends it.
    fn read_extents(
        &self,
        ino: Ino,
        extents: &[Mapped],
        next: u64,
        end: u64,
        buf: &mut [u8],
    ) -> Result<Option<(u64, Outcome)>> {
        let mut filled = next;
        let part = |from: u64, to: u64| (from - next) as usize * BLOCK_SIZE..(to - next) as usize * BLOCK_SIZE;
        for mapped in extents {
            let (from, to) = (mapped.first.max(next), mapped.end().min(end));
            buf[part(filled, from)].fill(0);
            filled = to;
            let target = &mut buf[part(from, to)];
            match mapped.extent.kind {
                ExtentKind::Unwritten => target.fill(0),
                ExtentKind::Lost => {
                    let why = format!("block {from} of inode {ino} could not be read when it was moved");
                    return Err(Error::Damaged { what: "file data", addr: BlockAddr::NONE, why });
                }
                ExtentKind::Data => {
                    if let Some((block, mismatch)) = self.read_data(mapped, from, target)? {
                        return Ok(Some((block, mismatch)));
                    }
                }
            }
        }
        buf[part(filled, end)].fill(0);
        Ok(None)
    }

    /// Reads blocks of one extent from file block `from` on. Returns the first bad block.
    fn read_data(&self, mapped: &Mapped, from: u64, buf: &mut [u8]) -> Result<Option<(u64, Outcome)>> {
        let skip = (from - mapped.first) as usize;
        let addr = mapped.extent.addr.offset(skip as u64);
        match self.read_verified(addr, &mapped.extent.crcs[skip..], buf)? {
            Outcome::Good => Ok(None),
            Outcome::Mismatch { addr: bad, stored, computed } => {
                Ok(Some((from + (bad.0 - addr.0), Outcome::Mismatch { addr: bad, stored, computed })))
            }
            unread @ Outcome::Unread { .. } => Ok(Some((from, unread))),
        }
    }

    fn read_verified(&self, addr: BlockAddr, crcs: &[u32], buf: &mut [u8]) -> Result<Outcome> {
        // In flight first: a chunk leaves the buffers only once the device has it.
        if !self.log.read_in_flight(addr, buf)
            && let Err(why) = self.log.device.read(addr, buf)
        {
            return Ok(Outcome::Unread { addr, why });
        }
        for (n, (block, stored)) in buf.chunks_exact(BLOCK_SIZE).zip(crcs).enumerate() {
            let computed = crc32fast::hash(block);
            if computed != *stored {
                return Ok(Outcome::Mismatch { addr: addr.offset(n as u64), stored: *stored, computed });
            }
        }
        Ok(Outcome::Good)
    }

    /// Reads blocks that stand at `addr` and verifies them against `crcs`; false if they differ. For the cleaner and fsck.
    pub(crate) fn read_at(&self, addr: BlockAddr, crcs: &[u32], buf: &mut [u8]) -> Result<bool> {
        match self.read_verified(addr, crcs, buf)? {
            Outcome::Good => Ok(true),
            Outcome::Mismatch { .. } => Ok(false),
            Outcome::Unread { why, .. } => Err(why.into()),
        }
    }
}

fn stands_at(mapped: &Mapped, block: u64, outcome: &Outcome) -> bool {
    let skip = block - mapped.first;
    let stands = |addr: BlockAddr| mapped.extent.kind == ExtentKind::Data && mapped.extent.addr.offset(skip) == addr;
    match outcome {
        Outcome::Good => false,
        Outcome::Mismatch { addr, stored, .. } => {
            stands(*addr) && mapped.extent.crcs.get(skip as usize) == Some(stored)
        }
        Outcome::Unread { addr, .. } => stands(*addr),
    }
}

fn damaged(ino: Ino, block: u64, outcome: Outcome) -> Error {
    match outcome {
        Outcome::Mismatch { addr, stored, computed } => {
            let why = format!("block {block} of inode {ino}: checksum {stored:#010x}, computed {computed:#010x}");
            Error::Damaged { what: "file data", addr, why }
        }
        Outcome::Unread { why, .. } => why.into(),
        Outcome::Good => unreachable!("what was read is no damage"),
    }
}
