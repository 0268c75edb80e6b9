//! gleanfs with workers that misbehave, for the deadlock trials; started by these alone.

use std::process::ExitCode;

use xtests::deadlock::standin;

/// The hidden subcommand under which a daemon starts a worker.
const ADVISOR: &str = "advisor";

fn main() -> ExitCode {
    if std::env::args_os().nth(1).is_some_and(|word| word == ADVISOR) {
        standin::worker(std::env::args_os().skip(2));
    }
    gleanfs::cli::main()
}
