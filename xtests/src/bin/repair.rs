//! Measures checks and repairs: `cargo run --release -p xtests --bin repair -- --files 1000000`.

use clap::Parser;
use xtests::repair;

/// Time and peak memory of fsck and of repairs with and without superblock slots, tables and index
#[derive(Parser)]
struct Line {
    #[command(flatten)]
    options: repair::Options,
}

fn main() -> std::process::ExitCode {
    let options = Line::parse().options;
    xtests::campaign("repair", || repair::run(&options))
}
