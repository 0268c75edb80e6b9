//! Lets the advisor's worker fail in every way under load: `cargo run --release -p xtests --bin workers -- --rounds 10`.

use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::Context;
use clap::Parser;
use xtests::{steady, workers};

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
    if let [target, beside] = line.probe.as_slice() {
        return match steady::probe::main(target, beside) {
            Ok(()) => ExitCode::SUCCESS,
            Err(why) => {
                eprintln!("probe: {why:#}");
                ExitCode::FAILURE
            }
        };
    }
    xtests::campaign("workers", || {
        workers::run(&line.options, || {
            let mut me = Command::new(std::env::current_exe().context("finding this program")?);
            me.arg("--probe");
            Ok(me)
        })
    })
}
