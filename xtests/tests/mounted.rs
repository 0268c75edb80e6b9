//! The campaigns at the size of a test: a real mount, real programs, kills. The programs of this crate run them at full size.

use std::io::Write;

use xtests::small::{cannot_mount, lacks_suite, options, second_process};
use xtests::volume::Setup;
use xtests::{fsx, killloop, pjdfstest, programs, steady};

fn kill(words: &str) {
    if !cannot_mount() {
        killloop::run(&options(words), || Ok(second_process(env!("CARGO_BIN_EXE_killloop"), "--writer")))
            .unwrap_or_else(|why| panic!("{why:#}"));
    }
}

#[test]
fn a_killed_daemon_loses_nothing_that_was_synced() {
    kill("--rounds 4 --size-mib 256");
}

#[test]
fn whoever_is_killed_real_programs_find_what_they_were_promised() {
    kill("--rounds 6 --size-mib 256 --fill 50 --events 600 --kill daemon,worker,both,client --with sqlite,rocksdb,fio");
}

#[test]
fn a_killed_daemon_loses_nothing_on_zones() {
    kill("--rounds 3 --size-mib 512 --backing zoned");
}

/// Stalls are judged by the program, on a quiet machine.
fn overwrite(words: &str) {
    if !cannot_mount() {
        steady::run(&options(words), || Ok(second_process(env!("CARGO_BIN_EXE_steady"), "--probe")))
            .unwrap_or_else(|why| panic!("{why:#}"));
    }
}

#[test]
fn a_nearly_full_filesystem_is_overwritten_without_an_error() {
    overwrite("--size-mib 192 --times 0.5");
}

#[test]
fn pjdfstest_passes() {
    if !cannot_mount() && !lacks_suite("pjdfstest", pjdfstest::VERSION) {
        pjdfstest::run(&options("")).unwrap_or_else(|why| panic!("{why:#}"));
    }
}

#[test]
fn fsx_agrees_while_the_cleaner_works() {
    if !cannot_mount() && !lacks_suite("fsx", fsx::VERSION) {
        fsx::run(&options("--ops 3000 --seeds 1 --size-mib 128")).unwrap_or_else(|why| panic!("{why:#}"));
    }
}

#[test]
fn real_programs_find_their_files() {
    if !cannot_mount() {
        programs::run(&options("--only git,sqlite")).unwrap_or_else(|why| panic!("{why:#}"));
    }
}

/// A small image with small segments: every chunk ends a segment, which is where sealing, counting and giving back meet.
#[test]
fn a_small_filesystem_is_filled_and_emptied_again_and_again() {
    if cannot_mount() {
        return;
    }
    let setup: Setup = options("--size-mib 8");
    let volume = setup.make().unwrap_or_else(|why| panic!("{why:#}"));
    let path = volume.target().join("fill");
    for _ in 0..3 {
        let mut file = std::fs::File::create(&path).expect("an emptied filesystem takes a file");
        let block: Vec<u8> = (0..65_536u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        while file.write_all(&block).and_then(|()| file.sync_data()).is_ok() {}
        drop(file);
        std::fs::remove_file(&path).expect("a full filesystem can be emptied");
    }
    volume.end().unwrap_or_else(|why| panic!("{why:#}"));
}
