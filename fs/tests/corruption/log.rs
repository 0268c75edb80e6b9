//! Damage in the log after the checkpoint: what later chunks know to have been flushed must not be cut off without a word.

use std::sync::Arc;

use gleanfs::device::{AlignedBuf, Device, MemoryDevice};
use gleanfs::format::chunk::ChunkHeader;
use gleanfs::fsck::{CheckOptions, Finding, check};
use gleanfs::meta::volume::{Volume, VolumeOptions};
use gleanfs::namespace::api::{Caller, Namespace, NewInode, NewKind};
use gleanfs::namespace::{Filesystem, Reaping};
use gleanfs::trial::Subject;
use gleanfs::trial::on_memory::OnMemory;
use gleanfs::types::{BLOCK_SIZE, BlockAddr, Ino};

const SHAPE: OnMemory = OnMemory {
    segments: 100,
    segment_blocks: 64,
    zoned: None,
    cache_bytes: 1 << 20,
    checkpoint_every: 0,
    clean_every: 0,
    flushes_lost: false,
    unruly: None,
};

fn open(device: &Arc<MemoryDevice>) -> gleanfs::error::Result<Arc<Volume>> {
    let options = VolumeOptions { heads: Some(1), ..VolumeOptions::of_tool(false, 1 << 20) };
    Ok(Arc::new(Volume::open(device.clone(), options)?))
}

/// A file of five blocks, each of them synced before the next one was written; and the chunks of the log, oldest first.
fn synced_block_by_block() -> (Arc<MemoryDevice>, Vec<BlockAddr>) {
    let device = SHAPE.format().unwrap();
    let volume = open(&device).unwrap();
    assert!(volume.log().prepare(4).unwrap());
    let clock = Box::new(gleanfs::format::value::Time::default);
    let filesystem = Filesystem::with_clock(Arc::clone(&volume), clock, Reaping::OnDemand).unwrap();
    let who = Caller { uid: 0, gid: 0, pid: 1 };
    let before = volume.last_lsn();
    let new = NewInode { kind: NewKind::File, perm: 0o600, umask: 0 };
    let ino = filesystem.create(&who, Ino::ROOT, b"file", &new).unwrap().ino;
    for block in 0..5u64 {
        filesystem.write(ino, block * BLOCK_SIZE as u64, &[7; BLOCK_SIZE], false).unwrap();
        filesystem.sync().unwrap();
    }
    let mut chunks = Vec::new();
    let mut block = AlignedBuf::new(1);
    for addr in (0..device.geometry().total_blocks).map(BlockAddr) {
        device.read(addr, &mut block).unwrap();
        if let Ok(header) = ChunkHeader::decode(&block, volume.identity().fsid, addr)
            && header.lsn_first > before
        {
            chunks.push((header.lsn_first, addr));
        }
    }
    chunks.sort();
    (Arc::new(device.snapshot()), chunks.into_iter().map(|(_, addr)| addr).collect())
}

#[test]
fn a_damaged_chunk_is_missed_if_a_later_one_knows_that_it_was_flushed() {
    let (device, chunks) = synced_block_by_block();
    assert_eq!(chunks.len(), 5);
    for addr in &chunks[..4] {
        for harm in [|block: &mut [u8; BLOCK_SIZE]| block[20] ^= 1, |block: &mut [u8; BLOCK_SIZE]| block.fill(0)] {
            let damaged = Arc::new(device.snapshot());
            damaged.tamper(*addr, harm);
            let why = open(&damaged).expect_err("synced writes are cut off").to_string();
            assert!(why.contains("is missing, though everything up to"), "{why}");
            let report = check(damaged, &CheckOptions::default(), &mut |_, _| {}).unwrap();
            assert!(report.findings.iter().any(|f| matches!(f, Finding::NotMountable { .. })), "{:?}", report.findings);
        }
    }
}

/// Nobody has written since that would know better: this is what a torn write looks like.
#[test]
fn a_damaged_last_chunk_is_taken_for_the_torn_tail() {
    let (device, chunks) = synced_block_by_block();
    device.tamper(*chunks.last().unwrap(), |block| block.fill(0));
    let filesystem = SHAPE.mount(&device, gleanfs::trial::TrialClock::default().clock()).unwrap().filesystem;
    let ino = filesystem.lookup(Ino::ROOT, b"file").unwrap();
    assert_eq!(ino.size, 4 * BLOCK_SIZE as u64);
}
