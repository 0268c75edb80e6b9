//! Lets real programs work on a mount until the cleaner is in steady state:
//! `cargo run --release -p xtests --bin recordings -- --only pgbench --record DIR`.

use clap::Parser;
use xtests::recordings;

/// Run PostgreSQL, cargo, RocksDB and PostMark on nearly full mounts for some minutes each, and record what they write
#[derive(Parser)]
struct Line {
    #[command(flatten)]
    options: recordings::Options,
}

fn main() -> std::process::ExitCode {
    let options = Line::parse().options;
    xtests::campaign("recordings", || recordings::run(&options))
}
