//! The real filesystem, on a device in memory, under the model-based and the crash trial, with the cleaner at work.

use gleanfs::trial::crash::CrashTrial;
use gleanfs::trial::mix::Mix;
use gleanfs::trial::model::ModelTrial;
use gleanfs::trial::on_memory::OnMemory;

const COMMAND: &str = "cargo test -p gleanfs --test real";

#[test]
fn it_answers_like_the_reference() {
    ModelTrial { command: COMMAND, mix: Mix::everything(), seeds: 10, operations: 600 }.run(&OnMemory::default());
}

#[test]
fn a_crash_leaves_a_prefix_with_all_that_was_synced() {
    CrashTrial { command: COMMAND, mix: Mix::crash(), seeds: 4, operations: 120, cuts_max: 80, record_blocks: 1 }
        .run(&OnMemory::default());
}
