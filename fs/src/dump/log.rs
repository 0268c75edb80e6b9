//! Segments, their chunks, and the log after the checkpoint.

use std::io::Write;

use crate::device::Device;
use crate::error::Error;
use crate::format::superblock::{Identity, Superblock};
use crate::log::scan::{FoundChunk, SegmentScan};
use crate::log::segments::SegmentState;
use crate::meta::roll_forward::segment_capacity;
use crate::meta::volume::Volume;
use crate::types::{BlockAddr, SegNo};

use super::{Result, show};

/// One line per segment that was ever used.
pub(super) fn segments(volume: &Volume, out: &mut impl Write) -> Result<()> {
    let table: Vec<_> = volume.log.lock().segments.iter().map(|(seg, s)| (seg, *s)).collect();
    for (seg, s) in table {
        let state = match s.state {
            SegmentState::Free => "free",
            SegmentState::Open => "open",
            SegmentState::Sealed => "sealed",
            SegmentState::Prefree => "prefree",
            SegmentState::Bad => "bad",
        };
        write!(out, "segment {seg} {state}")?;
        if s.state != SegmentState::Free {
            let clocks = format!("opened {} sealed {} invalidated {}", s.opened, s.sealed, s.invalidated);
            write!(out, " head {} live {} {clocks}", s.head, s.live)?;
        }
        writeln!(out)?;
    }
    Ok(())
}

/// The chunks of one segment with their records.
pub(super) fn segment(device: &dyn Device, identity: &Identity, seg: SegNo, out: &mut impl Write) -> Result<()> {
    if seg < identity.first_segment || seg.0 >= identity.segments {
        let (first, last) = (identity.first_segment, identity.segments - 1);
        return Err(Error::Refused(format!("there is no segment {seg}: the log has {first} to {last}")).into());
    }
    let mut scan = scan(device, identity, seg, 0)?;
    while let Some(found) = scan.next_chunk()? {
        chunk(&found, out)?;
    }
    writeln!(out, "no further chunk at block {} of the segment", scan.position())?;
    Ok(())
}

/// The chunks that roll-forward would read.
pub(super) fn log(device: &dyn Device, superblock: &Superblock, out: &mut impl Write) -> Result<()> {
    let Superblock { identity, checkpoint } = superblock;
    writeln!(out, "after operation {} in epoch {}", checkpoint.lsn, checkpoint.epoch)?;
    if checkpoint.clean {
        writeln!(out, "nothing was logged: the image is clean")?;
        return Ok(());
    }
    for point in &checkpoint.scan {
        let scan = scan(device, identity, point.segment, point.next)?.of_generation(point.generation);
        tail(scan, checkpoint.epoch, 0, out)?;
    }
    for seg in &checkpoint.allocation {
        tail(scan(device, identity, *seg, 0)?, checkpoint.epoch, checkpoint.next_generation, out)?;
    }
    Ok(())
}

fn tail(mut scan: SegmentScan<'_>, epoch: u64, first_generation: u64, out: &mut impl Write) -> Result<()> {
    while let Some(found) = scan.next_chunk()? {
        if found.header.epoch != epoch || found.header.generation < first_generation {
            break;
        }
        chunk(&found, out)?;
    }
    Ok(())
}

fn scan<'a>(device: &'a dyn Device, identity: &Identity, seg: SegNo, from: u32) -> Result<SegmentScan<'a>> {
    let start = BlockAddr(u64::from(seg.0) * u64::from(identity.segment_blocks));
    let capacity = segment_capacity(device, identity.first_segment)?;
    Ok(SegmentScan::new(device, identity.fsid, seg, start, from, capacity))
}

fn chunk(found: &FoundChunk, out: &mut impl Write) -> Result<()> {
    let h = &found.header;
    writeln!(
        out,
        "chunk at block {}: head {} epoch {} generation {} operations {}..={} flushed {} clock {} blocks {} payload {}",
        h.addr,
        h.head,
        h.epoch,
        h.generation,
        h.lsn_first,
        h.lsn_last,
        h.flushed,
        h.write_clock,
        h.blocks(),
        h.payload_blocks,
    )?;
    for record in &found.records {
        writeln!(out, "    {}", show::record(record))?;
    }
    Ok(())
}
