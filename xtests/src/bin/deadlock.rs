//! Looks for a deadlock in every corner: `cargo run --release -p xtests --bin deadlock -- --seconds 60 --gap-ms-max 1000`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use xtests::deadlock;
use xtests::steady::probe;

/// Take memory, dirty limits, workers and the daemon away from a mount under written and mapped load; nothing may hang
#[derive(Parser)]
struct Line {
    #[command(flatten)]
    options: deadlock::Options,
    /// Be the probe of these two directories
    #[arg(long, hide = true, num_args = 2)]
    probe: Vec<PathBuf>,
    /// Be the hog of so many MiB
    #[arg(long, hide = true)]
    hog: Option<u64>,
    /// Be the guard
    #[arg(long, hide = true)]
    guard: bool,
}

fn main() -> ExitCode {
    let line = Line::parse();
    if let Some(code) = probe::if_asked(&line.probe) {
        return code;
    }
    if let Some(mib) = line.hog {
        return xtests::campaign("hog", || deadlock::hog(mib));
    }
    if line.guard {
        // Deaf to interrupts like whoever started it: it ends when that has ended.
        return match deadlock::guard() {
            Ok(()) => ExitCode::SUCCESS,
            Err(why) => {
                eprintln!("guard: {why:#}");
                ExitCode::FAILURE
            }
        };
    }
    let me = || Ok(std::process::Command::new(std::env::current_exe()?));
    xtests::campaign("deadlock", || deadlock::run(&line.options, me))
}
