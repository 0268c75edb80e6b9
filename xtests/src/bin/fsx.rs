//! Runs fsx on a fresh mount: `cargo run -p xtests --bin fsx -- --ops 1000000 --seeds 1,2,3`.

use clap::Parser;

/// Run fsx on a fresh mount, several mixes at several seeds
#[derive(Parser)]
struct Line {
    #[command(flatten)]
    options: xtests::fsx::Options,
}

fn main() -> std::process::ExitCode {
    let options = Line::parse().options;
    xtests::campaign("fsx", || xtests::fsx::run(&options))
}
