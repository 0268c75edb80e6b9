//! Has every operation of a device fail in turn: `cargo run -p xtests --release --bin faults`.

use std::process::ExitCode;

use clap::Parser;
use xtests::faults;

/// Every operation of a device fails in turn, and every zone; nothing promised may be lost
#[derive(Parser)]
struct Line {
    #[command(flatten)]
    options: faults::Options,
}

fn main() -> ExitCode {
    let line = Line::parse();
    xtests::campaign("faults", || faults::campaign(&line.options))
}
