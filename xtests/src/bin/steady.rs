//! Overwrites a nearly full filesystem for a long time: `cargo run -p xtests --bin steady -- --size-mib 1024 --backing zoned`.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::ensure;
use clap::Parser;
use xtests::steady::{self, probe};

/// Overwrite a nearly full filesystem at random; no error, no long stall, no lost byte
#[derive(Parser)]
struct Line {
    #[command(flatten)]
    options: steady::Options,
    /// Longest stall, less the longest latency of the backing store
    #[arg(long, default_value_t = 1000)]
    stall_max_ms: u64,
    /// Be the probe of these two directories
    #[arg(long, hide = true, num_args = 2)]
    probe: Vec<PathBuf>,
}

fn main() -> ExitCode {
    let line = Line::parse();
    if let Some(code) = probe::if_asked(&line.probe) {
        return code;
    }
    xtests::campaign("steady", || {
        let outcome = steady::run(&line.options, probe::command)?;
        outcome.print();
        let (stall_ms, most) = (outcome.stall_us() / 1000, line.stall_max_ms);
        ensure!(stall_ms <= most, "a stall of {stall_ms} ms; at most {most} ms are allowed");
        Ok(())
    })
}
