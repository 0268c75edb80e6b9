//! The process of a test disk; campaigns start it (`--backing testdisk`).

use std::process::ExitCode;

use clap::Parser;
use xtests::testdisk::server;

/// Serve a file as a disk whose write cache is lost when this process is killed
#[derive(Parser)]
struct Line {
    #[command(flatten)]
    options: server::Options,
}

fn main() -> ExitCode {
    match server::main(&Line::parse().options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("testdisk: {why:#}");
            ExitCode::FAILURE
        }
    }
}
