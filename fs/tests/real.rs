//! The real filesystem, on a device in memory, under the model-based and the crash trial, with the cleaner at work.

use gleanfs::device::rules::ZonedSpec;
use gleanfs::trial::crash::CrashTrial;
use gleanfs::trial::mix::Mix;
use gleanfs::trial::model::ModelTrial;
use gleanfs::trial::on_memory::OnMemory;

const COMMAND: &str = "cargo test -p gleanfs --test real";

fn model(mix: Mix, seeds: u64, operations: usize) -> ModelTrial<'static> {
    ModelTrial { command: COMMAND, mix, seeds, operations }
}

fn crash(mix: Mix, seeds: u64) -> CrashTrial<'static> {
    // The log may cut a write after any block: what room a chunk has left decides.
    CrashTrial { command: COMMAND, mix, seeds, operations: 120, cuts_max: 80, record_blocks: 1 }
}

/// A strictly zoned device, with capacity below size and few zones open.
fn zoned() -> OnMemory {
    let spec = ZonedSpec {
        zones: 256,
        zone_blocks: 256,
        capacity_blocks: 200,
        conventional: 0,
        open_max: Some(14),
        active_max: Some(14),
    };
    OnMemory { zoned: Some(spec), ..OnMemory::default() }
}

/// A device that the trial's files nearly fill, so that the cleaner is always at work.
fn tight() -> OnMemory {
    OnMemory { segments: 72, segment_blocks: 64, clean_every: 2, checkpoint_every: 11, ..OnMemory::default() }
}

/// The same with no checkpoint but those that room demands: the log is extended again and again, and replay goes through segments that were
/// written twice.
fn extended() -> OnMemory {
    OnMemory { clean_every: 1, checkpoint_every: 0, cache_bytes: 1 << 20, ..tight() }
}

#[test]
fn it_answers_like_the_reference() {
    model(Mix::everything(), 10, 600).run(&OnMemory::default());
}

#[test]
fn contents_are_those_of_the_reference() {
    model(Mix::contents(), 5, 400).run(&OnMemory::default());
}

#[test]
fn large_directories_are_those_of_the_reference() {
    model(Mix::names(400), 2, 3000).run(&OnMemory::default());
}

#[test]
fn it_answers_like_the_reference_on_zones() {
    model(Mix::everything(), 3, 600).run(&zoned());
}

#[test]
fn it_answers_like_the_reference_where_room_is_short() {
    model(Mix::contents(), 4, 600).run(&tight());
}

/// Few and large files.
fn large() -> Mix {
    Mix { file_blocks: 300, blocks_max: 100, names: 4, depth: 1, far_one_in: 0, ..Mix::crash() }
}

#[test]
fn a_crash_where_room_is_short_leaves_a_prefix() {
    crash(large(), 3).run(&tight());
}

#[test]
fn a_crash_in_an_extended_log_leaves_a_prefix() {
    crash(large(), 6).run(&extended());
}

#[test]
fn a_crash_in_an_extended_log_on_zones_leaves_a_prefix() {
    let spec = ZonedSpec {
        zones: 74,
        zone_blocks: 64,
        capacity_blocks: 60,
        conventional: 0,
        open_max: None,
        active_max: None,
    };
    crash(large(), 4).run(&OnMemory { zoned: Some(spec), ..extended() });
}

#[test]
fn a_crash_leaves_a_prefix_with_all_that_was_synced() {
    crash(Mix::crash(), 4).run(&OnMemory::default());
}

#[test]
fn a_crash_without_checkpoints_leaves_a_prefix() {
    crash(Mix::crash(), 2).run(&OnMemory { checkpoint_every: 0, ..OnMemory::default() });
}

#[test]
fn a_crash_on_zones_leaves_a_prefix() {
    crash(Mix::crash(), 12).run(&zoned());
}

#[test]
fn a_device_that_lies_about_flushes_is_found() {
    let liar = OnMemory { flushes_lost: true, ..OnMemory::default() };
    let report = crash(Mix::crash(), 1).try_run(&liar, 1..4, 120, None).expect_err("synced operations were lost");
    assert!(report.contains("replay with: GLEANFS_SEED="), "{report}");
}
