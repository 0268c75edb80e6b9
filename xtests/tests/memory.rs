//! The daemon's memory at the size of a test.

use xtests::small::{cannot_mount, options};

#[test]
fn many_files_and_a_huge_image_take_the_cache_and_a_constant() {
    if !cannot_mount() {
        let words = "--files 20000 --images-mib 1024,1048576 --caches-mib 8,64 --constant-mib 64";
        xtests::memory::run(&options(words)).unwrap_or_else(|why| panic!("{why:#}"));
    }
}
