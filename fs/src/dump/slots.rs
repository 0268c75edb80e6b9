//! The superblock slots and the checkpoint.

use std::io::Write;
use std::sync::Arc;

use crate::device::Device;
use crate::device::aligned::AlignedBuf;
use crate::format::superblock::{Checkpoint, Identity, Superblock};
use crate::meta::slots::Slots;

use super::{Result, show};

/// Every slot, and which of them counts.
pub(super) fn superblock(device: &Arc<dyn Device>, out: &mut impl Write) -> Result<()> {
    let mut slots = Slots::new(Arc::clone(device))?;
    let newest = slots.read().ok();
    for (addr, _) in slots.candidates()? {
        let mut block = AlignedBuf::new(1);
        write!(out, "slot at block {addr}: ")?;
        if let Err(e) = device.read(addr, &mut block) {
            writeln!(out, "{e}")?;
            continue;
        }
        match Superblock::decode(&block) {
            Ok(s) if newest.as_ref() == Some(&s) => {
                writeln!(out, "checkpoint {} (this one counts)", s.checkpoint.sequence)?
            }
            Ok(s) => writeln!(out, "checkpoint {}", s.checkpoint.sequence)?,
            Err(e) => writeln!(out, "{e}")?,
        }
    }
    match newest {
        Some(s) => identity(&s.identity, out),
        None => Ok(()),
    }
}

fn identity(i: &Identity, out: &mut impl Write) -> Result<()> {
    let f = i.features;
    writeln!(out, "uuid {}", uuid::Uuid::from_bytes(i.uuid))?;
    writeln!(out, "label \"{}\"", i.label.escape_debug())?;
    writeln!(
        out,
        "features compatible {:#x} read-only compatible {:#x} incompatible {:#x}",
        f.compatible, f.read_only_compatible, f.incompatible
    )?;
    writeln!(out, "segment blocks {} segments {} first {}", i.segment_blocks, i.segments, i.first_segment)?;
    writeln!(out, "capacity {} blocks", i.capacity_blocks)?;
    writeln!(out, "made at {}", i.made_at_secs)?;
    Ok(())
}

/// The newest checkpoint.
pub(super) fn checkpoint(c: &Checkpoint, out: &mut impl Write) -> Result<()> {
    writeln!(out, "sequence {} epoch {} lsn {} clean {}", c.sequence, c.epoch, c.lsn, c.clean)?;
    if let Some(durable) = c.extended {
        writeln!(out, "extended: the log is durable up to {durable}")?;
    }
    writeln!(out, "write clock {} frontier {}", c.write_clock, c.frontier)?;
    writeln!(out, "next node {} inode {} generation {}", c.next_node, c.next_ino, c.next_generation)?;
    writeln!(out, "node table {}", show::block_ref(c.node_table))?;
    writeln!(out, "segment table {}", show::block_ref(c.segment_table))?;
    writeln!(
        out,
        "blocks: data {} promised {} nodes {} table pages {}",
        c.data_blocks, c.promised_blocks, c.node_blocks, c.table_blocks
    )?;
    writeln!(out, "bytes: user {} device {}", c.user_bytes, c.device_bytes)?;
    for p in &c.heads {
        writeln!(out, "goes on: {}", show::position(p))?;
    }
    for p in &c.scan {
        writeln!(out, "scan: {}", show::position(p))?;
    }
    let list: Vec<String> = c.allocation.iter().map(ToString::to_string).collect();
    writeln!(out, "allocation ({}): {}", list.len(), list.join(" "))?;
    Ok(())
}
