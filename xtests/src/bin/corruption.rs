//! Damages every block of small images: `cargo run -p xtests --release --bin corruption -- --seeds 4`.

use std::process::ExitCode;

use clap::Parser;
use xtests::corruption;

/// Damage every block of small images in memory; it must be found, named and contained
#[derive(Parser)]
struct Line {
    #[command(flatten)]
    options: corruption::Options,
}

fn main() -> ExitCode {
    let line = Line::parse();
    xtests::campaign("corruption", || corruption::run(&line.options))
}
