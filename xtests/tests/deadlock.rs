//! The deadlock trials at the size of a test; the program `deadlock` runs all of them at full size, on a machine of its own.

use std::process::Command;

use clap::{Args, Parser};
use xtests::{deadlock, skip, unmountable};

#[derive(Parser)]
struct Line<T: Args> {
    #[command(flatten)]
    options: T,
}

/// Without what is done to the whole machine: other tests run on it.
#[test]
fn small_cgroups_killed_workers_and_a_stopped_daemon_hang_nothing() {
    if let Some(why) = unmountable() {
        return skip(why);
    }
    let words =
        "test --only full,client-cgroup,worker-killed,daemon-stopped --seconds 4 --size-mib 128 --mapped-blocks 1024";
    let options: deadlock::Options = Line::parse_from(words.split(' ')).options;
    let me = || Ok(Command::new(env!("CARGO_BIN_EXE_deadlock")));
    deadlock::run(&options, me).unwrap_or_else(|why| panic!("{why:#}"));
}
