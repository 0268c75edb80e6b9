//! What the device refuses: writes that are tried again where that is safe, and segments that it will not take any more.
//!
//! A write that failed has promised nothing, so the same bytes may be written to the same place once more. A flush is another matter: after one that
//! failed nobody knows what was lost, and the next one may say that all is well (see [`Log::flush_once`]). After a failed write a zone is reported again, since
//! its pointer may be anywhere behind where it was.

use std::io;

use crate::device::aligned::AlignedBuf;
use crate::device::{DeviceError, Result as DeviceResult};
use crate::error::{Error, Result};
use crate::types::{BLOCK_SIZE, BlockAddr, SegNo};

use super::Log;

impl Log {
    /// Writes to the device; what it refuses is tried once more, from where it got to.
    pub(crate) fn put(&self, addr: BlockAddr, bytes: &[u8]) -> DeviceResult<()> {
        let Err(refusal) = self.device.write(addr, bytes) else { return Ok(()) };
        let blocks = (bytes.len() / BLOCK_SIZE) as u32;
        let Some(done) = self.arrived(addr, bytes) else { return Err(refusal) };
        tracing::warn!("{refusal}; {done} of {blocks} blocks have arrived, and the rest is tried again");
        if done == blocks {
            return Ok(());
        }
        self.device.write(addr.offset(u64::from(done)), &bytes[done as usize * BLOCK_SIZE..])
    }

    /// Blocks of a failed write after which it can go on. `None`: it cannot, here.
    fn arrived(&self, addr: BlockAddr, bytes: &[u8]) -> Option<u32> {
        let (seg, from) = self.place(addr);
        let zone = self.device.zone(seg.0).ok()?;
        let Some(pointer) = zone.write_pointer else { return Some(0) };
        let done = pointer.checked_sub(from).filter(|_| !zone.condition.has_failed())?;
        let expected = bytes.get(..done as usize * BLOCK_SIZE)?;
        if done > 0 {
            let mut found = AlignedBuf::new(done as usize);
            self.device.read(addr, &mut found).ok().filter(|()| found[..] == *expected)?;
        }
        Some(done)
    }

    /// Takes a segment out of use for good. What is live in it stays where it is.
    pub(crate) fn condemn(&self, seg: SegNo, why: &impl std::fmt::Display) {
        tracing::error!("segment {seg} is taken out of use: {why}");
        self.lock().segments.condemn(seg);
    }

    /// Empties a zone; the device may have to be told twice. Other devices need not be told at all: what stands there is not taken for anything new.
    pub(crate) fn empty(&self, seg: SegNo) -> DeviceResult<()> {
        match self.device.reset(seg.0) {
            Err(e) if self.shape.zoned => {
                tracing::warn!("{e}; it is tried again");
                self.device.reset(seg.0)
            }
            Err(e) => {
                tracing::warn!("the room of segment {seg} is not given back to the host: {e}");
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }

    /// Reserves the medium's room of a free segment; a zone that a crash left written is emptied first.
    pub(crate) fn make_ready(&self, seg: SegNo) -> Result<()> {
        let zone = self.device.zone(seg.0)?;
        if zone.condition.has_failed() {
            let why = io::Error::other(format!("the zone is {:?}", zone.condition));
            return Err(DeviceError::new("open", zone.start, u64::from(zone.size_blocks), why).into());
        }
        if zone.write_pointer.is_some_and(|pointer| pointer != 0) {
            self.empty(seg)?;
        }
        Ok(self.device.reserve(seg.0)?)
    }

    /// Whether the device will not take `seg`, as opposed to having no room or no luck at the moment.
    pub(crate) fn is_beyond_use(&self, seg: SegNo) -> bool {
        let report = self.device.zone(seg.0);
        report.is_ok_and(|z| z.condition.has_failed() || z.write_pointer.is_some_and(|pointer| pointer != 0))
    }

    /// Reserves the medium's room for segments about to be opened, so that `keep` are prepared or being prepared by somebody. No lock is held over it.
    /// Returns false if there is none left to prepare.
    pub fn prepare(&self, keep: usize) -> Result<bool> {
        self.prepare_while(|heads| heads.prepared.len() + heads.preparing.len() < keep, super::heads::Heads::claim)
    }

    /// The same for a checkpoint that opens up to `segments`, which may take what is kept for it.
    pub(crate) fn prepare_for_checkpoint(&self, segments: usize) -> Result<()> {
        let claim = super::heads::Heads::claim_any;
        self.prepare_while(|heads| heads.prepared.len() < segments, claim).map(drop)
    }

    fn prepare_while(
        &self,
        wanted: impl Fn(&super::heads::Heads) -> bool,
        claim: impl Fn(&mut super::heads::Heads) -> Option<SegNo>,
    ) -> Result<bool> {
        loop {
            let seg = {
                let mut inner = self.lock();
                let heads = &mut inner.heads;
                if !wanted(heads) {
                    return Ok(true);
                }
                // I1: one thread alone makes a segment ready. Another one, late, would empty a zone that is being written by then.
                match claim(heads) {
                    Some(seg) => seg,
                    None => return Ok(!(heads.prepared.is_empty() && heads.preparing.is_empty())),
                }
            };
            let made = self.make_ready(seg);
            let is_lost = made.is_err() && self.is_beyond_use(seg);
            if let Err(e) = &made
                && is_lost
            {
                self.condemn(seg, e);
            }
            self.lock().heads.settle_claim(seg, made.is_ok(), is_lost);
            self.changed.notify_all();
            if !is_lost {
                made?;
            }
        }
    }
}

/// Whether another place on the device may do where this one did not.
pub(crate) fn is_of_the_place(error: &Error) -> bool {
    matches!(error, Error::Device(e) if e.source.raw_os_error() != Some(libc::ENOSPC))
}
