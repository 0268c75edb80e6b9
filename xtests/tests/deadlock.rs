//! The deadlock trials at the size of a test; the program `deadlock` runs all of them at full size, on a machine of its own.

use std::process::Command;

use clap::{Args, Parser};
use xtests::{deadlock, skip, unmountable};

#[derive(Parser)]
struct Line<T: Args> {
    #[command(flatten)]
    options: T,
}

/// Without what is done to the whole machine: other tests run on it. One test, since a cgroup holds all of this process.
#[test]
fn small_cgroups_bad_workers_and_a_stopped_daemon_hang_nothing() {
    if let Some(why) = unmountable() {
        return skip(why);
    }
    let words = "test --seconds 2 --size-mib 64 --mapped-blocks 512 \
        --only full,client-cgroup,daemon-cgroup,worker-killed,worker-hung,worker-starved,worker-writing,daemon-stopped";
    let options: deadlock::Options = Line::parse_from(words.split_whitespace()).options;
    let me = || Ok(Command::new(env!("CARGO_BIN_EXE_deadlock")));
    deadlock::run(&options, me).unwrap_or_else(|why| panic!("{why:#}"));
}
