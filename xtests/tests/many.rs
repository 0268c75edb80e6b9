//! Many files and much space at the size of a test; the program `many` runs them at full size.

use clap::Parser;
use xtests::{many, skip, unmountable};

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    options: many::Options,
}

/// Times are judged by the program, on a quiet machine.
#[test]
fn a_crowded_directory_lists_each_name_once_and_a_huge_image_mounts() {
    if let Some(why) = unmountable() {
        return skip(why);
    }
    let words = "test --files 4000 --sample 500 --alone --mount-max-ms 60000";
    many::run(&Line::parse_from(words.split(' ')).options).unwrap_or_else(|why| panic!("{why:#}"));
}
