//! The campaign at the size of a test: it passes on what is right, and finds, shrinks and replays what is not.

use clap::Parser;
use xtests::campaign::{self, Options};

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    options: Options,
}

/// Runs it with these arguments; the failure, if there was one.
fn run(arguments: &str) -> Result<(), String> {
    let line = Line::parse_from(["campaign"].into_iter().chain(arguments.split_whitespace()));
    campaign::run(&line.options).map_err(|why| format!("{why:#}"))
}

#[test]
fn seeds_of_lists_pass() {
    run("--only crash,model --seeds 2 --jobs 2").unwrap();
}

#[test]
fn schedules_with_everything_in_them_pass() {
    run("--only chaos --seeds 60 --jobs 2").unwrap();
}

#[test]
fn a_workload_can_be_run_alone() {
    run("--length 2 --workload 12345").unwrap();
    let none = run("--length 1 --workload 100000000").expect_err("there are not so many");
    assert!(none.contains("there are "), "{none}");
}

#[test]
fn a_device_that_lies_is_found_by_every_kind_that_cuts_the_power() {
    for only in ["crash --seeds 1", "chaos --seeds 3", "ace --length 1 --seeds 1"] {
        let why =
            run(&format!("--only {only} --lie --failures-max 1 --jobs 1")).expect_err("synced operations were lost");
        assert!(why.contains("there was a failure"), "{why}");
    }
}
