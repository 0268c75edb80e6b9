//! The same loads on mounts that decide in different ways: fixed rules, models, learning:
//! `cargo run --release -p xtests --bin policies -- --size-mib 4096 --seeds 1,2,3`.

use clap::Parser;
use xtests::policies;

/// Compare rules, models and learning on real mounts under fio, by what the kernel says was written
#[derive(Parser)]
struct Line {
    #[command(flatten)]
    options: policies::Options,
}

fn main() -> std::process::ExitCode {
    let options = Line::parse().options;
    xtests::campaign("policies", || policies::run(&options))
}
