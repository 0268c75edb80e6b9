use proptest::prelude::*;

use super::*;
use crate::device::{AlignedBuf, ZoneFault};

const BLOCKS: u64 = 40;
const ZONE: u32 = 8;
const SPEC: ZonedSpec =
    ZonedSpec { zones: 5, zone_blocks: 8, capacity_blocks: 6, conventional: 1, open_max: Some(2), active_max: Some(3) };

fn filled(blocks: usize, byte: u8) -> AlignedBuf {
    let mut buf = AlignedBuf::new(blocks);
    buf.fill(byte);
    buf
}

fn contents(device: &MemoryDevice) -> Vec<u8> {
    let mut buf = AlignedBuf::new(device.geometry().address_blocks() as usize);
    device.read(BlockAddr(0), &mut buf).unwrap();
    buf.to_vec()
}

fn block_of(device: &MemoryDevice, addr: u64) -> Vec<u8> {
    let mut buf = AlignedBuf::new(1);
    device.read(BlockAddr(addr), &mut buf).unwrap();
    buf.to_vec()
}

#[derive(Clone, Debug)]
enum Step {
    Write { addr: u64, blocks: usize, byte: u8 },
    Reset { zone: u32 },
    Flush,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (0..BLOCKS, 1usize..6, 1u8..).prop_map(|(addr, blocks, byte)| Step::Write { addr, blocks, byte }),
        1 => (0..BLOCKS as u32 / ZONE).prop_map(|zone| Step::Reset { zone }),
        1 => Just(Step::Flush),
    ];
    prop::collection::vec(step, 0..40)
}

/// A vector that is changed as the device is, and the values that each sector has had since the last flush.
struct Model {
    now: Vec<u8>,
    since_flush: Vec<Vec<u8>>,
}

impl Model {
    fn new() -> Self {
        let sectors = BLOCKS as usize * 8;
        Self { now: vec![0; BLOCKS as usize * BLOCK_SIZE], since_flush: vec![vec![0]; sectors] }
    }

    fn fill(&mut self, addr: u64, blocks: usize, byte: u8) {
        let from = addr as usize * BLOCK_SIZE;
        self.now[from..from + blocks * BLOCK_SIZE].fill(byte);
        for sector in &mut self.since_flush[addr as usize * 8..][..blocks * 8] {
            sector.push(byte);
        }
    }

    fn flush(&mut self) {
        for sector in &mut self.since_flush {
            *sector = vec![*sector.last().unwrap()];
        }
    }

    fn run(&mut self, device: &MemoryDevice, step: &Step) {
        match *step {
            Step::Write { addr, blocks, byte } => {
                let blocks = blocks.min((BLOCKS - addr) as usize);
                device.write(BlockAddr(addr), &filled(blocks, byte)).unwrap();
                self.fill(addr, blocks, byte);
            }
            Step::Reset { zone } => {
                device.reset(zone).unwrap();
                self.fill(u64::from(zone * ZONE), ZONE as usize, 0);
            }
            Step::Flush => {
                device.flush().unwrap();
                self.flush();
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) })]

    #[test]
    fn without_a_crash_it_equals_a_vector(steps in steps()) {
        let device = MemoryDevice::new(BLOCKS, ZONE);
        let mut model = Model::new();
        for step in &steps {
            model.run(&device, step);
        }
        prop_assert!(contents(&device) == model.now);
        prop_assert!(contents(&device.snapshot()) == model.now);
    }

    #[test]
    fn a_crash_keeps_what_was_flushed_and_invents_nothing(steps in steps(), seed: u64) {
        let device = MemoryDevice::new(BLOCKS, ZONE);
        let mut model = Model::new();
        for step in &steps {
            model.run(&device, step);
        }
        let after = device.crash(seed);
        for (sector, values) in contents(&after).chunks(512).zip(&model.since_flush) {
            prop_assert!(sector.iter().all(|b| *b == sector[0]));
            prop_assert!(values.contains(&sector[0]), "{} is none of {values:?}", sector[0]);
        }
        prop_assert!(contents(&device) == model.now, "the crashed device itself changed");
        prop_assert!(contents(&device.crash(seed)) == contents(&after), "a seed has two outcomes");
    }

    #[test]
    fn in_a_sequential_zone_a_prefix_survives(flushed in 0usize..3, sizes in prop::collection::vec(1usize..3, 0..3), seed: u64) {
        let device = MemoryDevice::zoned(SPEC);
        let write = |blocks: usize| {
            let pointer = device.zone(1).unwrap().write_pointer.unwrap();
            let room = blocks.min((SPEC.capacity_blocks - pointer) as usize);
            for _ in 0..room.min(1) {
                let mut buf = AlignedBuf::new(room);
                for (i, block) in buf.chunks_mut(BLOCK_SIZE).enumerate() {
                    block.fill(pointer as u8 + i as u8 + 1);
                }
                device.write(BlockAddr(u64::from(SPEC.zone_blocks + pointer)), &buf).unwrap();
            }
        };
        write(flushed);
        device.flush().unwrap();
        sizes.iter().for_each(|blocks| write(*blocks));
        let before = device.zone(1).unwrap().write_pointer.unwrap() as usize;
        let after = device.crash(seed);
        let pointer = after.zone(1).unwrap().write_pointer.unwrap() as usize;
        prop_assert!((flushed..=before).contains(&pointer), "{pointer} of {flushed}..={before}");
        for at in 0..SPEC.zone_blocks as usize {
            let expected = if at < pointer { at as u8 + 1 } else { 0 };
            prop_assert!(block_of(&after, 8 + at as u64).iter().all(|b| *b == expected));
        }
        after.write(BlockAddr(8 + pointer as u64), &filled(1, 9)).unwrap_or_else(|_| assert_eq!(pointer, 6));
    }
}

#[test]
fn crashes_of_different_seeds_reach_the_extremes_and_tear_writes() {
    let device = MemoryDevice::new(BLOCKS, ZONE);
    device.write(BlockAddr(3), &filled(2, 7)).unwrap();
    let (mut nothing, mut everything, mut torn) = (0, 0, 0);
    for seed in 0..200 {
        let after = contents(&device.crash(seed));
        match after.iter().filter(|b| **b == 7).count() {
            0 => nothing += 1,
            n if n == 2 * BLOCK_SIZE => everything += 1,
            _ => torn += 1,
        }
    }
    assert!(nothing > 10 && everything > 10 && torn > 10, "{nothing} {everything} {torn}");
    device.flush().unwrap();
    assert_eq!(device.unflushed(), 0);
    assert!((0..50).all(|seed| contents(&device.crash(seed)) == contents(&device)));
}

#[test]
fn power_goes_after_the_given_number_of_writes() {
    let device = MemoryDevice::new(BLOCKS, ZONE);
    device.crash_after(2);
    device.write(BlockAddr(0), &filled(1, 1)).unwrap();
    device.flush().unwrap();
    device.write(BlockAddr(1), &filled(1, 2)).unwrap();
    assert!(device.power_is_gone());
    assert!(device.flush().is_err());
    assert!(device.write(BlockAddr(2), &filled(1, 3)).is_err());
    assert!(device.read(BlockAddr(0), &mut AlignedBuf::new(1)).is_err());
    assert!(device.reset(1).is_err() && device.reserve(1).is_err() && device.finish(1).is_err());
    let outcomes: BTreeSet<u8> = (0..100).map(|seed| block_of(&device.crash(seed), 1)[0]).collect();
    assert_eq!(outcomes, BTreeSet::from([0, 2]), "the last write was not flushed");
    let after = device.crash(1);
    assert_eq!((block_of(&after, 0)[0], block_of(&after, 2)[0]), (1, 0));
    after.write(BlockAddr(2), &filled(1, 3)).unwrap();
}

#[test]
fn planted_faults_strike_the_operation_they_are_meant_for() {
    let device = MemoryDevice::new(BLOCKS, ZONE);
    device.plant(Fault::once(FaultOp::Write, 1));
    device.plant(Fault::forever(FaultOp::Reserve, 0).with_errno(Errno::NOSPC));
    let one = filled(1, 1);
    device.write(BlockAddr(0), &one).unwrap();
    assert!(device.write(BlockAddr(1), &one).is_err());
    assert_eq!(block_of(&device, 1)[0], 0);
    device.write(BlockAddr(1), &one).unwrap();
    for _ in 0..2 {
        assert_eq!(device.reserve(0).unwrap_err().source.kind(), io::ErrorKind::StorageFull);
    }
    device.clear_faults();
    device.reserve(0).unwrap();
    assert_eq!((device.traffic().writes, device.traffic().written_bytes), (2, 2 * 4096));
}

#[test]
fn after_a_failed_flush_a_later_one_does_not_save_what_came_before() {
    let mut lost = 0;
    for run in 0..20u64 {
        let device = MemoryDevice::new(BLOCKS, ZONE);
        for _ in 0..run {
            device.plant(Fault::once(FaultOp::Flush, 0));
            assert!(device.flush().is_err());
        }
        device.write(BlockAddr(4), &filled(1, 6)).unwrap();
        device.plant(Fault::once(FaultOp::Flush, 0));
        assert!(device.flush().is_err());
        assert_eq!(block_of(&device, 4), filled(1, 6)[..], "reads still see it");
        device.flush().unwrap();
        lost += u32::from(block_of(&device.crash(0), 4)[..] != filled(1, 6)[..]);
    }
    assert!(lost > 0);
}

#[test]
fn lost_flushes_are_lost_only_when_asked() {
    let device = MemoryDevice::new(BLOCKS, ZONE);
    device.lose_flushes(true);
    device.write(BlockAddr(4), &filled(1, 6)).unwrap();
    device.flush().unwrap();
    assert!((0..50).any(|seed| block_of(&device.crash(seed), 4)[0] == 0));
    device.lose_flushes(false);
    device.flush().unwrap();
    assert!((0..50).all(|seed| block_of(&device.crash(seed), 4)[0] == 6));
}

#[test]
fn bad_blocks_and_bit_rot_stay_until_overwritten() {
    let device = MemoryDevice::new(BLOCKS, ZONE);
    device.write(BlockAddr(0), &filled(3, 1)).unwrap();
    device.poison(BlockAddr(1));
    device.tamper(BlockAddr(2), |block| block[5] ^= 0x80);
    assert!(device.read(BlockAddr(0), &mut AlignedBuf::new(2)).is_err());
    assert_eq!(block_of(&device, 2)[5], 0x81);
    device.flush().unwrap();
    let after = device.crash(0);
    assert!(after.read(BlockAddr(1), &mut AlignedBuf::new(1)).is_err());
    assert_eq!(block_of(&after, 2)[5], 0x81);
    device.write(BlockAddr(1), &filled(1, 2)).unwrap();
    assert_eq!(block_of(&device, 1)[0], 2);
}

#[test]
fn a_zoned_device_is_as_strict_as_hardware() {
    let device = MemoryDevice::zoned(SPEC);
    let fault = |result: Result<()>| {
        let error = result.unwrap_err();
        error.source.get_ref().and_then(|e| e.downcast_ref::<ZoneFault>()).expect("a broken rule").clone()
    };
    let one = filled(1, 1);
    assert!(matches!(fault(device.write(BlockAddr(9), &one)), ZoneFault::OffPointer { .. }));
    assert!(matches!(fault(device.write(BlockAddr(8), &filled(7, 1))), ZoneFault::PastCapacity { .. }));
    for addr in [8, 16, 24] {
        device.write(BlockAddr(addr), &one).unwrap();
    }
    assert_eq!(fault(device.write(BlockAddr(32), &one)), ZoneFault::ActiveLimit { zone: 4, limit: 3 });
    device.finish(1).unwrap();
    device.write(BlockAddr(32), &one).unwrap();
    device.write(BlockAddr(3), &one).unwrap();
    device.reset(1).unwrap();
    device.flush().unwrap();
    let after = device.crash(3);
    let pointers: Vec<_> = (0..5).map(|z| after.zone(z).unwrap().write_pointer).collect();
    assert_eq!(pointers, [None, Some(0), Some(1), Some(1), Some(1)]);
    device.force_condition(2, ZoneCondition::Offline);
    assert_eq!(fault(device.read(BlockAddr(15), &mut AlignedBuf::new(2))), ZoneFault::Offline { zone: 2 });
}

#[test]
fn an_enormous_sparse_device_costs_only_what_is_written() {
    let device = MemoryDevice::new(1 << 32, 512);
    device.write(BlockAddr((1 << 32) - 1), &filled(1, 1)).unwrap();
    assert_eq!(device.stored_blocks(), 1);
    device.reset(device.geometry().zones - 1).unwrap();
    assert_eq!((device.stored_blocks(), device.traffic().resets), (0, 1));
}
