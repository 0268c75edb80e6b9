//! Has every operation of a device fail in turn: `cargo run -p xtests --release --bin faults`.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use xtests::faults;

/// Every operation of a device fails in turn, and every zone; nothing promised may be lost
#[derive(Parser)]
struct Line {
    #[command(flatten)]
    options: faults::Options,
    #[command(subcommand)]
    instead: Option<Instead>,
}

/// What else can be run
#[derive(Subcommand)]
enum Instead {
    /// Mounts on a disk that holds operations up for seconds, under fio
    Late(faults::delays::Options),
}

fn main() -> ExitCode {
    let line = Line::parse();
    xtests::campaign("faults", || match &line.instead {
        None => faults::campaign(&line.options),
        Some(Instead::Late(options)) => {
            let held = faults::delays::late_disk(options)?;
            println!("held up: {} reads, {} writes, {} flushes; no error", held.reads, held.writes, held.flushes);
            Ok(())
        }
    })
}
