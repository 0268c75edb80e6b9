//! A million files in one directory, and a mount of many terabytes: `cargo run --release -p xtests --bin many -- --files 1000000`.

use clap::Parser;

/// Create, list, look up and remove a great many files in one directory; mounts must stay prompt
#[derive(Parser)]
struct Line {
    #[command(flatten)]
    options: xtests::many::Options,
}

fn main() -> std::process::ExitCode {
    let options = Line::parse().options;
    xtests::campaign("many", || xtests::many::run(&options))
}
