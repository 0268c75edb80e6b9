//! A daemon that dies takes nothing with it that was accepted, as long as somebody holds the memory of its chunks.
//!
//! More of it: `GLEANFS_SEEDS=1000 cargo test --release -p gleanfs --test kept`; `GLEANFS_SEED=N` for one seed.

use std::sync::Arc;

use gleanfs::device::memory::{Fault, FaultOp, Remains};
use gleanfs::device::{Device, MemoryDevice};
use gleanfs::log::KeptMemory;
use gleanfs::trial::client::{Slots, apply};
use gleanfs::trial::compare::Tree;
use gleanfs::trial::mix::Mix;
use gleanfs::trial::on_memory::{Mounted, OnMemory};
use gleanfs::trial::ops::Operation;
use gleanfs::trial::random::Random;
use gleanfs::trial::{Exactness, Subject, TrialClock, seeds};

const SEEDS: u64 = 24;
const LIVES: u64 = 4;
const OPERATIONS: u64 = 120;
const EXACT: Exactness = Exactness { times: true, sectors: true };

fn subject(seed: u64) -> OnMemory {
    let small =
        OnMemory { segments: 96, segment_blocks: 64, clean_every: 2, checkpoint_every: 61, ..OnMemory::default() };
    let unruly = OnMemory { unruly: (seed % 4 == 1).then_some(seed), ..small };
    if seed.is_multiple_of(3) { unruly.on_zones() } else { unruly }
}

/// Uses the filesystem until its daemon dies: between two operations, or when a write to the device has come some way.
fn use_until_death(subject: &OnMemory, device: &MemoryDevice, mounted: &Mounted, clock: &TrialClock, seed: u64) {
    let random = &mut Random::new(seed);
    if random.one_in(2) {
        let left = Remains::Blocks(random.within(0..4) as u32);
        device.plant(Fault::forever(FaultOp::Write, random.within(0..12)).leaving(left));
    }
    let mut slots = Slots::default();
    let count = random.within(1..OPERATIONS) as usize;
    for (step, operation) in Mix::everything().generate(seed, count).iter().enumerate() {
        if matches!(operation, Operation::Remount) {
            continue;
        }
        clock.tick();
        apply(&mounted.filesystem, &mut slots, operation, EXACT);
        if mounted.volume.writable().is_err() || subject.background(mounted, step).is_err() {
            break;
        }
    }
}

#[test]
fn what_was_accepted_outlives_the_process() {
    let mut unwritten = 0;
    for seed in seeds(SEEDS) {
        println!("replay with: GLEANFS_SEED={seed} cargo test -p gleanfs --test kept");
        unwritten += live_and_die(&subject(seed), seed);
    }
    assert!(unwritten > 0, "every daemon had written everything when it died");
}

/// Several daemons of one mount, one after the other. Returns how often there was something to take over.
fn live_and_die(subject: &OnMemory, seed: u64) -> u64 {
    let clock = TrialClock::default();
    let memory = KeptMemory::create().unwrap();
    let map = || Some(KeptMemory::map(&memory).unwrap());
    let mut device = subject.format().unwrap();
    let mut mounted = subject.mount_with(&device, clock.clock(), map()).unwrap();
    let mut unwritten = 0;
    for life in 0..LIVES {
        use_until_death(subject, &device, &mounted, &clock, seed * LIVES + life);
        // What it had written stands in the host's cache, which knows nothing of the death.
        let after = Arc::new(device.snapshot());
        let plain = subject.mount(&Arc::new(after.snapshot()), clock.clock()).map(|plain| plain.volume.last_lsn());
        let next = subject.mount_with(&after, clock.clock(), map()).unwrap();
        assert_eq!(next.volume.last_lsn(), mounted.volume.last_lsn(), "life {life} of seed {seed}");
        unwritten += u64::from(plain.is_ok_and(|without| without < mounted.volume.last_lsn()));
        let [before, now] = [&mounted, &next].map(|of| Tree::read(&of.filesystem, EXACT).unwrap());
        assert_eq!(before.difference(&now, ["dead one's", "next one's"]), None, "life {life} of seed {seed}");
        (device, mounted) = (after, next);
    }
    subject.unmount(&device, mounted).unwrap();
    subject.check(&device).unwrap();
    unwritten
}

#[test]
fn chunks_of_another_mount_are_left_alone() {
    let subject = OnMemory::small();
    let clock = TrialClock::default();
    let memory = KeptMemory::create().unwrap();
    let map = || Some(KeptMemory::map(&memory).unwrap());
    let device = subject.format().unwrap();
    let first = subject.mount_with(&device, clock.clock(), map()).unwrap();
    use_until_death(&subject, &device, &first, &clock, 3);
    // Somebody else mounts the image, writes, and unmounts it.
    let between = Arc::new(device.snapshot());
    let second = subject.mount(&between, clock.clock()).unwrap();
    use_until_death(&subject, &between, &second, &clock, 5);
    between.clear_faults();
    second.volume.writable().expect("a seed without a fault");
    subject.unmount(&between, second).unwrap();
    let before = subject.mount(&Arc::new(between.snapshot()), clock.clock()).unwrap();
    let writes = between.traffic().writes;
    let third = subject.mount_with(&between, clock.clock(), map()).unwrap();
    assert!(between.traffic().writes > writes);
    let [before, now] = [&before, &third].map(|of| Tree::read(&of.filesystem, EXACT).unwrap());
    assert_eq!(before.difference(&now, ["image", "mount"]), None);
    subject.unmount(&between, third).unwrap();
    subject.check(&between).unwrap();
}
