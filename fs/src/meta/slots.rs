//! Superblock slots: two fixed blocks, or on a device of only sequential zones a log in two zones.
//!
//! The only place that overwrites or resets anything that a mount may still need, and only after the next slot is durable. A slot that the device does not give
//! is another matter than one that was torn: it may be the newest, and whoever took an older one for it would go over what the newest needs.

use std::sync::Arc;

use crate::device::aligned::AlignedBuf;
use crate::device::{Device, Zone, ZoneKind};
use crate::error::{Error, Result};
use crate::format::DecodeError;
use crate::format::superblock::{Checkpoint, Identity, SLOTS, Superblock};
use crate::types::{BlockAddr, SegNo};

/// Where superblocks are written.
pub struct Slots {
    device: Arc<dyn Device>,
    /// Zones 0 and 1 are sequential: slots are appended there in turn.
    appended: bool,
    /// Zone in use, if appended.
    zone: u32,
}

impl Slots {
    pub fn new(device: Arc<dyn Device>) -> Result<Self> {
        let appended = device.geometry().zoned && device.zone(0)?.kind == ZoneKind::Sequential;
        Ok(Self { device, appended, zone: 0 })
    }

    /// The first segment that is not the superblock's.
    pub fn first_segment(&self) -> SegNo {
        SegNo(if self.appended { 2 } else { 1 })
    }

    /// The newest valid superblock. Errors say what is there instead, or that the device does not say.
    pub fn read(&mut self) -> Result<Superblock> {
        let mut newest: Option<(Superblock, u32)> = None;
        let mut why = Error::Decode(DecodeError::BadMagic { what: "superblock", found: 0 });
        for (place, zone) in self.places()? {
            for addr in place {
                match self.read_at(addr) {
                    Ok(sb) => {
                        if newest.as_ref().is_none_or(|(n, _)| n.checkpoint.sequence < sb.checkpoint.sequence) {
                            newest = Some((sb, zone));
                        }
                        break;
                    }
                    // "Wrong version" and "damaged" tell more than "nothing there".
                    Err(Error::Decode(DecodeError::BadMagic { .. })) => {}
                    Err(e @ Error::Device(_)) => return Err(e),
                    Err(e) => why = e,
                }
            }
        }
        let (superblock, zone) = newest.ok_or(why)?;
        self.zone = zone;
        Ok(superblock)
    }

    /// Blocks in the order in which they are to be tried, for each place where slots are written, with its zone. In a zone the newest is the last whole one: what
    /// follows it was torn, or went wrong in another way.
    fn places(&self) -> Result<Vec<(Vec<BlockAddr>, u32)>> {
        if !self.appended {
            return Ok(SLOTS.iter().map(|addr| (vec![*addr], 0)).collect());
        }
        let mut places = Vec::new();
        for zone in 0..2 {
            let report = self.device.zone(zone)?;
            let blocks = (0..written_blocks(&report)).rev().map(|n| report.start.offset(u64::from(n)));
            places.push((blocks.collect(), zone));
        }
        Ok(places)
    }

    /// Blocks that may hold the newest superblock, each with its zone.
    pub(crate) fn candidates(&self) -> Result<Vec<(BlockAddr, u32)>> {
        if !self.appended {
            return Ok(SLOTS.iter().map(|addr| (*addr, 0)).collect());
        }
        let mut found = Vec::new();
        for zone in 0..2 {
            let report = self.device.zone(zone)?;
            let written = written_blocks(&report);
            // The newest is the last whole one; one torn write may follow it.
            found.extend((written.saturating_sub(2)..written).map(|n| (report.start.offset(u64::from(n)), zone)));
        }
        Ok(found)
    }

    fn read_at(&self, addr: BlockAddr) -> Result<Superblock> {
        let mut block = AlignedBuf::new(1);
        self.device.read(addr, &mut block)?;
        Ok(Superblock::decode(&block)?)
    }

    /// Writes a superblock; durable after the next flush. This is the commit point of a checkpoint. What goes wrong once is tried again.
    pub fn write(&mut self, superblock: &Superblock) -> Result<()> {
        let block = AlignedBuf::copy_of(&superblock.encode());
        let slot = SLOTS[(superblock.checkpoint.sequence % 2) as usize];
        let addr = if self.appended { self.next_appended()? } else { slot };
        let Err(e) = self.device.write(addr, &block) else { return Ok(()) };
        tracing::warn!("{e}; the superblock is written again");
        let addr = if self.appended { self.next_appended()? } else { slot };
        Ok(self.device.write(addr, &block)?)
    }

    /// Writes down once more what the image is, where nothing else is ever written: for a repair that finds no slot. What never changes of
    /// it is right for ever. Not where slots are appended: there older ones are left.
    pub fn write_copy(&self, identity: &Identity) -> Result<()> {
        if !self.appended {
            let copy = Superblock { identity: identity.clone(), checkpoint: Checkpoint::default() };
            self.device.write(copy_address(identity.segment_blocks), &AlignedBuf::copy_of(&copy.encode()))?;
        }
        Ok(())
    }

    /// Room in the zone in use, or the other zone, emptied: the newest slot, in the full zone, is durable by then.
    fn next_appended(&mut self) -> Result<BlockAddr> {
        let zone = self.device.zone(self.zone)?;
        let written = written_blocks(&zone);
        if written < zone.capacity_blocks {
            return Ok(zone.start.offset(u64::from(written)));
        }
        self.zone = 1 - self.zone;
        self.device.reset(self.zone)?;
        Ok(self.device.zone(self.zone)?.start)
    }
}

/// The last block of the superblock's segment.
pub(crate) fn copy_address(segment_blocks: u32) -> BlockAddr {
    BlockAddr(u64::from(segment_blocks) - 1)
}

/// What the image on `device` is, if it can be told without the slots: from the copy, or from a slot that was appended long ago.
pub(crate) fn identity_copy(device: &dyn Device, first_segment: SegNo) -> Result<Option<Identity>> {
    let mut newest: Option<Superblock> = None;
    let mut places = vec![copy_address(device.geometry().zone_blocks)];
    if first_segment != SegNo(1) {
        places.clear();
        for zone in 0..first_segment.0 {
            let report = device.zone(zone)?;
            places.extend((0..written_blocks(&report)).map(|n| report.start.offset(u64::from(n))));
        }
    }
    for addr in places {
        let mut block = AlignedBuf::new(1);
        let read = device.read(addr, &mut block).is_ok();
        if let Some(found) = Superblock::decode(&block).ok().filter(|_| read)
            && newest.as_ref().is_none_or(|n| n.checkpoint.sequence <= found.checkpoint.sequence)
        {
            newest = Some(found);
        }
    }
    Ok(newest.map(|superblock| superblock.identity))
}

fn written_blocks(zone: &Zone) -> u32 {
    zone.write_pointer.unwrap_or(zone.capacity_blocks).min(zone.capacity_blocks)
}
