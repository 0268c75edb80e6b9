//! Counters against the kernel's at the size of a test.

use xtests::small::{cannot_mount, options};

fn compare(words: &str) {
    if !cannot_mount() {
        xtests::counters::run(&options(words)).unwrap_or_else(|why| panic!("{why:#}"));
    }
}

#[test]
fn counters_agree_with_a_loop_devices_statistics() {
    compare("--backing loop --size-mib 128 --times 0.5");
}

#[test]
fn counters_agree_with_what_the_process_wrote() {
    compare("--backing file --size-mib 128 --times 0.5");
}
