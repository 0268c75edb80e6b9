//! The worker's failures at the size of a test; the program `workers` runs them at full size.

use std::process::Command;

use clap::{Args, Parser};
use xtests::{skip, unmountable, workers};

#[derive(Parser)]
struct Line<T: Args> {
    #[command(flatten)]
    options: T,
}

/// Stalls and trust are for the program, on a quiet machine: here the worker fails at once.
fn fail(which: &str) {
    if let Some(why) = unmountable() {
        return skip(why);
    }
    let words = format!("test --only {which} --rounds 2 --hold-ms 1200 --warm-secs 0 --times 0.1 --size-mib 128");
    let options: workers::Options = Line::parse_from(words.split(' ')).options;
    let probe = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_workers"));
        command.arg("--probe");
        Ok(command)
    };
    workers::run(&options, probe).unwrap_or_else(|why| panic!("{why:#}"));
}

#[test]
fn a_worker_that_is_killed_or_stopped_costs_no_operation() {
    fail("killed,stopped");
}

#[test]
fn files_that_are_no_models_change_nothing() {
    fail("refused");
}

#[test]
fn models_take_turns_under_load() {
    fail("swapped");
}

#[test]
fn a_mount_without_a_library_works_and_one_with_a_bad_library_recovers() {
    fail("no-library,bad-library");
}
