//! Replaces and kills the daemon of a supervised mount under load: `cargo run -p xtests --bin upgrade -- --fio`.

use std::process::ExitCode;

use clap::Parser;
use xtests::upgrade;

/// Replace and kill the daemon of a supervised mount; clients may see a pause, and no error
#[derive(Parser)]
struct Line {
    #[command(flatten)]
    options: upgrade::Options,
}

fn main() -> ExitCode {
    let line = Line::parse();
    xtests::campaign("upgrade", || upgrade::run(&line.options))
}
