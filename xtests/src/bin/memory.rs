//! Measures the daemon's memory: `cargo run --release -p xtests --bin memory -- --files 1000000`.

use clap::Parser;
use xtests::memory;

/// Many files, a huge image: the daemon's memory must stay within its cache and a constant
#[derive(Parser)]
struct Line {
    #[command(flatten)]
    options: memory::Options,
}

fn main() -> std::process::ExitCode {
    let options = Line::parse().options;
    xtests::campaign("memory", || memory::run(&options))
}
