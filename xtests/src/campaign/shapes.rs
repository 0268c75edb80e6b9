//! What filesystem a seed stands for: shape and size of the device, how it is run, and what operations come.

use gleanfs::device::rules::ZonedSpec;
use gleanfs::trial::mix::Mix;
use gleanfs::trial::on_memory::OnMemory;

use super::work::Kind;
use crate::random::Random;

/// A filesystem and the operations on it.
pub(super) struct Shape {
    pub subject: OnMemory,
    pub mix: Mix,
}

/// What `seed` stands for.
pub(super) fn draw(seed: u64, kind: Kind) -> Shape {
    // Not the sequence from which anything else is drawn.
    let mut random = Random::new(seed ^ 0x0073_6861_7065);
    let small = random.below(2) == 0;
    let subject = run(device(&mut random, small), &mut random);
    let unruly = (kind == Kind::Chaos || random.below(4) == 0).then(|| random.draw());
    let subject = OnMemory { unruly, ..subject };
    let everything = if kind == Kind::Crash { Mix::crash() } else { Mix::everything() };
    let mix = match random.below(3) {
        0 => Mix { file_blocks: 300, blocks_max: 100, names: 4, depth: 1, far_one_in: 0, ..everything },
        1 => Mix { names: 40, depth: 2, ..everything },
        _ => everything,
    };
    Shape { subject, mix }
}

/// A device that the trial's files nearly fill, or one with room and many log heads.
fn device(random: &mut Random, small: bool) -> OnMemory {
    let segments = if small { 72 + random.below(8) as u32 } else { 200 + random.below(260) as u32 };
    let segment_blocks = if small { 64 } else { *pick(random, &[64, 128, 256]) };
    let limit = *pick(random, &[None, Some(14), Some(20)]);
    let beyond_capacity = *pick(random, &[0, 1, 4, segment_blocks / 8]);
    let zones = ZonedSpec {
        zones: segments,
        zone_blocks: segment_blocks,
        capacity_blocks: segment_blocks - beyond_capacity,
        // Conventional zones are as large as they are addressed, and the log wants one capacity: behind the slots' there are none then.
        conventional: *pick(random, &[0, 0, if beyond_capacity == 0 { 2 } else { 1 }]),
        open_max: limit,
        active_max: limit,
    };
    let zoned = (random.below(2) == 0).then_some(zones);
    OnMemory { segments, segment_blocks, zoned, ..OnMemory::default() }
}

/// How often it cleans and takes checkpoints, and how much it remembers.
fn run(device: OnMemory, random: &mut Random) -> OnMemory {
    OnMemory {
        cache_bytes: *pick(random, &[16 << 10, 64 << 10, 1 << 20]),
        checkpoint_every: *pick(random, &[0, 0, 11, 37]),
        clean_every: *pick(random, &[1, 1, 2, 5, 0]),
        ..device
    }
}

fn pick<'a, T>(random: &mut Random, items: &'a [T]) -> &'a T {
    &items[random.below(items.len() as u64) as usize]
}
