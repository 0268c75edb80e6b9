//! Runs pjdfstest on a fresh mount: `cargo run -p xtests --bin pjdfstest [-- WORDS]`.

use clap::Parser;

/// Run pjdfstest on a fresh mount; fail on anything that is not a listed exception
#[derive(Parser)]
struct Line {
    #[command(flatten)]
    options: xtests::pjdfstest::Options,
}

fn main() -> std::process::ExitCode {
    let options = Line::parse().options;
    xtests::campaign("pjdfstest", || xtests::pjdfstest::run(&options))
}
