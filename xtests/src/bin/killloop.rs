//! Kills the daemon in mid-write, again and again: `cargo run -p xtests --bin killloop -- --rounds 100`.

use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::Context;
use clap::Parser;
use xtests::killloop;

/// Kill -9 the daemon in mid-write; what was fsynced must be there each time
#[derive(Parser)]
struct Line {
    #[command(flatten)]
    options: killloop::Options,
    /// Be the writer in this directory
    #[arg(long, hide = true)]
    writer: Option<PathBuf>,
}

fn main() -> ExitCode {
    let line = Line::parse();
    match line.writer {
        Some(directory) => match killloop::writer::main(&directory) {
            Ok(()) => ExitCode::SUCCESS,
            // Expected: the daemon has been killed under us.
            Err(_) => ExitCode::FAILURE,
        },
        None => xtests::campaign("killloop", || {
            killloop::run(&line.options, || {
                let mut me = Command::new(std::env::current_exe().context("finding this program")?);
                me.arg("--writer");
                Ok(me)
            })
        }),
    }
}
