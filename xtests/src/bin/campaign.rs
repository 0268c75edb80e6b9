//! The simulator of the whole filesystem, for as long as there is time: `cargo run -p xtests --release --bin campaign -- --hours 8`.

use clap::Parser;

/// Crash, model and exhaustive trials of the filesystem on devices in memory; a failure prints the command that replays it
#[derive(Parser)]
struct Line {
    #[command(flatten)]
    options: xtests::campaign::Options,
}

fn main() -> std::process::ExitCode {
    let options = Line::parse().options;
    xtests::campaign("campaign", || xtests::campaign::run(&options))
}
