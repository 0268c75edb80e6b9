//! Chunks that a zone refused are written elsewhere, so that one bad zone does not end a mount.
//!
//! What such a chunk holds is committed and mapped, and nothing of it is durable. So its records are written anew with the addresses of another place, under the
//! same LSNs, and what is mapped is moved with them, in memory and as one step under the volume's state lock. Replay sees one chunk, and never that there
//! was another place. The segment is condemned; what was written to it before stays there.
//!
//! Zones only: there a head has one chunk on its way. On another device later chunks of the segment may be written already, behind a gap at which a scan would
//! end, so that a write which fails twice ends writing altogether.

use std::sync::{Arc, Weak};

use crate::error::{Error, Result};
use crate::format::chunk::{
    CHUNK_BLOCKS_MAX, ChunkHeader, Record, SUMMARY_MAX, decode_summary, encode_operation, overflow_blocks,
};
use crate::format::edit::Edit;
use crate::format::value::ExtentKind;
use crate::types::{BLOCK_SIZE, BlockAddr, Lsn};

use super::buffer::ChunkBuf;
use super::heads::{OpenSegment, Pending, Purpose};
use super::{Inner, Log};

/// Places that are tried for a chunk before writing ends.
const DETOURS_MAX: u8 = 3;

/// Who can change what is mapped: the volume.
pub(crate) trait Detours: Send + Sync {
    /// Takes a chunk elsewhere. Called with no lock held.
    fn detour(&self, refused: &Refused) -> Result<()>;
}

/// A chunk that was sealed and that its zone did not take.
pub(crate) struct Refused {
    serial: u64,
    chunk: Arc<ChunkBuf>,
    header: ChunkHeader,
    operations: Vec<(Lsn, Vec<Edit>)>,
}

/// Where it goes.
struct Place {
    open: OpenSegment,
    start: BlockAddr,
    summary: Vec<u8>,
    overflow: u32,
}

impl Refused {
    pub(super) fn new(serial: u64, chunk: Arc<ChunkBuf>, header: ChunkHeader) -> Result<Self> {
        // SAFETY: the caller has sealed it.
        let bytes = unsafe { chunk.sealed(header.blocks()) };
        let overflow = &bytes[(1 + header.payload_blocks as usize) * BLOCK_SIZE..];
        let records = decode_summary(&header, &bytes[..BLOCK_SIZE], overflow)?;
        let operations = records.into_iter().filter_map(|record| match record {
            Record::Operation { lsn, edits } => Some((lsn, edits)),
            // Those of the node head, which checkpoints write.
            Record::Node { .. } | Record::Page { .. } => None,
        });
        Ok(Self { serial, operations: operations.collect(), chunk, header })
    }

    /// The address that a block of the chunk has once its payload begins at `payload`; other addresses stay.
    fn shifted(&self, addr: BlockAddr, payload: BlockAddr) -> BlockAddr {
        let first = self.header.payload(0);
        match addr.0.checked_sub(first.0) {
            Some(n) if n < u64::from(self.header.payload_blocks) => payload.offset(n),
            _ => addr,
        }
    }

    /// The operations as they are with the payload at `payload`.
    fn summary_at(&self, payload: BlockAddr) -> Vec<u8> {
        let mut summary = Vec::new();
        for (lsn, edits) in &self.operations {
            let mut edits = edits.clone();
            for edit in &mut edits {
                match edit {
                    Edit::Map { extent, .. } if extent.kind == ExtentKind::Data => {
                        extent.addr = self.shifted(extent.addr, payload);
                    }
                    Edit::Move { new, .. } => *new = self.shifted(*new, payload),
                    _ => {}
                }
            }
            encode_operation(*lsn, &edits, &mut summary);
        }
        summary
    }

    /// Edits that move what is still mapped in the chunk to where its payload begins at `payload`.
    pub(crate) fn moves_to(&self, payload: BlockAddr) -> Vec<Edit> {
        let edits = self.operations.iter().flat_map(|(_, edits)| edits);
        edits.filter_map(|edit| self.move_to(edit, payload)).collect()
    }

    fn move_to(&self, edit: &Edit, payload: BlockAddr) -> Option<Edit> {
        let (ino, first, old, crcs) = match edit {
            Edit::Map { ino, first, extent } if extent.kind == ExtentKind::Data => {
                (*ino, *first, extent.addr, extent.crcs.iter().copied().collect())
            }
            Edit::Move { ino, first, new, crcs, .. } => (*ino, *first, *new, crcs.clone()),
            _ => return None,
        };
        Some(Edit::Move { ino, first, old, new: self.shifted(old, payload), crcs })
    }
}

impl Log {
    /// Names who takes refused chunks elsewhere. Without anybody a refused chunk ends writing.
    pub(crate) fn set_detours(&self, detours: Weak<dyn Detours>) {
        // A second cleaner of the same volume names the same volume.
        let _ = self.detours.set(detours);
    }

    /// Has a refused chunk written elsewhere.
    pub(super) fn detour(&self, serial: u64, chunk: Arc<ChunkBuf>, header: ChunkHeader) -> Result<()> {
        let detours = self.detours.get().and_then(Weak::upgrade);
        let detours = detours.ok_or_else(|| Error::Refused("nobody takes it elsewhere".into()))?;
        detours.detour(&Refused::new(serial, chunk, header)?)
    }

    /// Gives the refused chunk another place and returns where its payload begins there. The caller holds the state lock, moves what is mapped before it gives
    /// that back, and then calls [`Log::go_on`].
    pub(crate) fn take_elsewhere(&self, refused: &Refused) -> Result<BlockAddr> {
        let mut inner = self.lock();
        inner.check()?;
        let head = usize::from(refused.header.head);
        if let Some(open) = inner.heads.heads[head].open {
            self.close(&mut inner, open);
        }
        let place = self.place_for(&mut inner, refused)?;
        let (payload, open) = (place.start.offset(1), place.open);
        let next = open.next + 1 + refused.header.payload_blocks + place.overflow;
        let fresh = ChunkBuf::new(place.start, self.kept.as_ref());
        inner.heads.readdress(refused.serial, |pending| refused.enter(pending, place, fresh))?;
        self.keep_readdressed(refused.serial, &inner.heads.pending[refused.serial]);
        inner.heads.heads[head].segment = Some(OpenSegment { next, ..open });
        inner.heads.heads[head].queue.push_back(refused.serial);
        inner.detours += 1;
        Ok(payload)
    }

    /// Tells memory that outlives the process of a chunk that is complete where it is now.
    fn keep_readdressed(&self, serial: u64, pending: &Pending) {
        if let Some(kept) = pending.chunk.kept() {
            self.begin_kept(serial, pending);
            kept.payload(pending.payload);
            kept.close(pending.overflow);
            kept.record(0, &pending.summary);
        }
    }

    /// The chunk's first place behind what its head has written to a segment that is not refused.
    fn place_for(&self, inner: &mut Inner, refused: &Refused) -> Result<Place> {
        let head = refused.header.head;
        for _ in 0..2 {
            let usable = inner.heads.heads[usize::from(head)].segment.filter(|s| !inner.segments.is_refused(s.seg));
            let open = match usable {
                Some(open) => open,
                None => {
                    self.close_segment(inner, head);
                    self.open_segment(inner, head, Purpose::Cleaner).ok_or(Error::NoSpace)?
                }
            };
            let start = self.address(open.seg, open.next);
            let summary = refused.summary_at(start.offset(1));
            let overflow = overflow_blocks(summary.len());
            let blocks = 1 + refused.header.payload_blocks + overflow;
            if summary.len() <= SUMMARY_MAX && blocks <= CHUNK_BLOCKS_MAX.min(open.capacity - open.next) {
                return Ok(Place { open, start, summary, overflow });
            }
            self.close_segment(inner, head);
        }
        Err(Error::NoSpace)
    }

    /// The refused chunk may be written where it is now.
    pub(crate) fn go_on(&self, refused: &Refused) {
        let mut inner = self.lock();
        let head = refused.header.head;
        inner.heads.heads[usize::from(head)].writing -= 1;
        let seg = self.place(refused.header.addr).0;
        self.seal_if_done(&mut inner, seg);
        self.dispatch(&mut inner, head);
    }
}

impl Refused {
    /// Makes `pending` what is to be written at `place`.
    fn enter(&self, pending: &mut Pending, place: Place, fresh: ChunkBuf) -> Result<()> {
        if pending.detours == DETOURS_MAX {
            return Err(Error::Refused(format!("{DETOURS_MAX} other places were refused as well")));
        }
        let payload = self.header.payload_blocks;
        // SAFETY: the one is sealed, and nobody changes it; nobody else has the other yet.
        unsafe {
            let sealed = self.chunk.sealed(1 + payload);
            fresh.payload_mut(0, payload).copy_from_slice(&sealed[BLOCK_SIZE..]);
        }
        if let Some(kept) = pending.chunk.kept() {
            kept.done();
        }
        pending.chunk = Arc::new(fresh);
        pending.seg = place.open.seg;
        pending.generation = place.open.generation;
        pending.summary = place.summary;
        pending.overflow = place.overflow;
        pending.detours += 1;
        Ok(())
    }
}
