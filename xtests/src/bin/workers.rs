//! Lets the advisor's worker fail in every way under load: `cargo run --release -p xtests --bin workers -- --rounds 10`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use xtests::steady::probe;
use xtests::workers;

/// Kill, stop, starve and mislead the advisor's worker while a nearly full filesystem is overwritten; no operation may fail
#[derive(Parser)]
struct Line {
    #[command(flatten)]
    options: workers::Options,
    /// Be the probe of these two directories
    #[arg(long, hide = true, num_args = 2)]
    probe: Vec<PathBuf>,
}

fn main() -> ExitCode {
    let line = Line::parse();
    if let Some(code) = probe::if_asked(&line.probe) {
        return code;
    }
    xtests::campaign("workers", || workers::run(&line.options, probe::command))
}
