//! Compares gleanfs' counters with the kernel's: `cargo run --release -p xtests --bin counters -- --size-mib 1024`.

use clap::Parser;
use xtests::counters;

/// Overwrite a nearly full filesystem; its counters must agree with the kernel's and the client's
#[derive(Parser)]
struct Line {
    #[command(flatten)]
    options: counters::Options,
}

fn main() -> std::process::ExitCode {
    let options = Line::parse().options;
    xtests::campaign("counters", || counters::run(&options))
}
