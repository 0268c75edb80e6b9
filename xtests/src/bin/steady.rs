//! Overwrites a nearly full filesystem for a long time: `cargo run -p xtests --bin steady -- --size-mib 1024 --backing zoned`.

use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::{Context, ensure};
use clap::Parser;
use xtests::steady;

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
    if let [target, beside] = line.probe.as_slice() {
        return match steady::probe::main(target, beside) {
            Ok(()) => ExitCode::SUCCESS,
            Err(why) => {
                eprintln!("probe: {why:#}");
                ExitCode::FAILURE
            }
        };
    }
    xtests::campaign("steady", || {
        let outcome = steady::run(&line.options, || {
            let mut me = Command::new(std::env::current_exe().context("finding this program")?);
            me.arg("--probe");
            Ok(me)
        })?;
        outcome.print();
        let (stall_ms, most) = (outcome.stall_us() / 1000, line.stall_max_ms);
        ensure!(stall_ms <= most, "a stall of {stall_ms} ms; at most {most} ms are allowed");
        Ok(())
    })
}
