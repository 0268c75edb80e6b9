//! Runs real programs on a fresh mount: `cargo run -p xtests --bin programs -- --only git,sqlite`.

use clap::Parser;

/// Run git, cargo, SQLite, tar, fio and stress-ng on fresh mounts
#[derive(Parser)]
struct Line {
    #[command(flatten)]
    options: xtests::programs::Options,
}

fn main() -> std::process::ExitCode {
    let mut options = Line::parse().options;
    // A build of gleanfs and its dependencies needs some gigabytes.
    options.setup.size_mib = options.setup.size_mib.max(4096);
    xtests::campaign("programs", || xtests::programs::run(&options))
}
