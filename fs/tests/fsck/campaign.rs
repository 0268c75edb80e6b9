//! Damage at random of images that were in real use: mixed operations, the cleaner and extensions of the log, cut or unmounted, on
//! conventional and zoned devices. Blocks are zeroed, flipped, replaced by others and by older versions of themselves.
//!
//! More of it: `GLEANFS_SEEDS=1000 cargo test --release -p gleanfs --test fsck campaign`; `GLEANFS_SEED=N` for one seed.

use std::sync::Arc;

use gleanfs::device::{Device, MemoryDevice};
use gleanfs::trial::client::{Slots, apply};
use gleanfs::trial::mix::Mix;
use gleanfs::trial::on_memory::OnMemory;
use gleanfs::trial::ops::Operation;
use gleanfs::trial::random::Random;
use gleanfs::trial::{Exactness, Subject, TrialClock, seeds};
use gleanfs::types::{BLOCK_SIZE, BlockAddr};

use crate::mending::mended;

const SEEDS: u64 = 16;
const OPERATIONS: usize = 250;

fn subject(seed: u64) -> OnMemory {
    let small =
        OnMemory { segments: 96, segment_blocks: 64, clean_every: 2, checkpoint_every: 31, ..OnMemory::default() };
    match seed % 4 {
        0 => small.on_zones(),
        1 => OnMemory { checkpoint_every: 0, clean_every: 1, ..small },
        _ => small,
    }
}

/// An image after some use, and an older version of it.
fn used(seed: u64) -> (Arc<MemoryDevice>, MemoryDevice) {
    let subject = subject(seed);
    let clock = TrialClock::default();
    let device = subject.format().unwrap();
    let mounted = subject.mount(&device, clock.clock()).unwrap();
    let (mut slots, mut older) = (Slots::default(), device.snapshot());
    for (step, operation) in Mix::everything().generate(seed, OPERATIONS).iter().enumerate() {
        if matches!(operation, Operation::Remount) {
            continue;
        }
        subject.background(&mounted, step).unwrap();
        clock.tick();
        apply(&mounted.filesystem, &mut slots, operation, Exactness { times: true, sectors: true });
        if step == OPERATIONS / 2 {
            older = device.snapshot();
        }
    }
    if seed.is_multiple_of(2) {
        mounted.volume.sync().unwrap();
        return (subject.crash(&device, seed), older);
    }
    subject.unmount(&device, mounted).unwrap();
    (device, older)
}

fn block(device: &MemoryDevice, addr: BlockAddr) -> Vec<u8> {
    let mut block = gleanfs::device::AlignedBuf::new(1);
    let _ = device.read(addr, &mut block);
    block.to_vec()
}

fn damage(device: &MemoryDevice, older: &MemoryDevice, random: &mut Random) {
    let written: Vec<u64> = (0..96 * 64).filter(|n| block(device, BlockAddr(*n)).iter().any(|b| *b != 0)).collect();
    for _ in 0..random.within(1..16) {
        let (addr, other) = (BlockAddr(*random.pick(&written)), BlockAddr(*random.pick(&written)));
        let at = random.within(0..BLOCK_SIZE as u64) as usize;
        let (swapped, old) = (block(device, other), block(older, addr));
        match random.within(0..5) {
            0 => device.tamper(addr, |block| block.fill(0)),
            1 => device.tamper(addr, |block| block[at] ^= 4),
            2 => device.tamper(addr, |block| block.copy_from_slice(&swapped)),
            3 => device.tamper(addr, |block| block.copy_from_slice(&old)),
            _ => device.poison(addr),
        }
    }
}

#[test]
fn damage_of_images_in_use_is_repaired() {
    for seed in seeds(SEEDS) {
        let (device, older) = used(seed);
        println!("replay with: GLEANFS_SEED={seed} cargo test -p gleanfs --test fsck campaign");
        mended(&device);
        damage(&device, &older, &mut Random::new(seed));
        mended(&device);
    }
}
