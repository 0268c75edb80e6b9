//! Power cuts at the size of a test: the disk under the filesystem loses its write cache together with the daemon.

use xtests::killloop::{self, Verdict};
use xtests::small::{cannot_mount, options, second_process};

fn cut(words: &str) -> anyhow::Result<()> {
    killloop::run(&options(words), || Ok(second_process(env!("CARGO_BIN_EXE_killloop"), "--writer")))
}

#[test]
fn a_power_cut_takes_nothing_that_was_synced() {
    if !cannot_mount() {
        cut("--backing testdisk --rounds 4 --size-mib 192 --events 800").unwrap_or_else(|why| panic!("{why:#}"));
    }
}

/// The filesystem does all it should and the medium keeps nothing: files that were acknowledged are gone, and no more than that.
#[test]
fn a_disk_that_forgets_flushes_is_found_out_by_lost_data() {
    if cannot_mount() {
        return;
    }
    let found = cut("--backing testdisk --lie --destage 0 --rounds 4 --size-mib 128 --fill 30 --events 800");
    let why = found.expect_err("acknowledged data was lost, and nobody noticed");
    assert_eq!(why.downcast_ref::<Verdict>(), Some(&Verdict::Loss), "{why:#}");
}

/// Here some of what was not flushed survives, as after a filesystem that forgot to flush: the tree is torn, or files are gone.
#[test]
fn a_disk_that_forgets_flushes_and_keeps_a_part_is_found_out_too() {
    if cannot_mount() {
        return;
    }
    let found = cut("--backing testdisk --lie --rounds 10 --size-mib 128 --fill 30 --events 800");
    let why = found.expect_err("acknowledged data was lost, and nobody noticed");
    assert!(why.downcast_ref::<Verdict>().is_some(), "{why:#}");
}
