//! What a test needs to run a campaign small: options from words, and reasons not to run at all.

use std::process::Command;

use clap::{Args, Parser};

use crate::{program, skip, unmountable};

#[derive(Parser)]
struct Line<T: Args> {
    #[command(flatten)]
    options: T,
}

/// The options that a campaign's program would read from these words.
pub fn options<T: Args>(words: &str) -> T {
    Line::parse_from(std::iter::once("test").chain(words.split_whitespace())).options
}

/// True, with the reason said, where nothing can be mounted.
pub fn cannot_mount() -> bool {
    unmountable().is_some_and(|why| {
        skip(why);
        true
    })
}

/// True, with the reason said, where a suite cannot be installed.
pub fn lacks_suite(name: &str, version: &str) -> bool {
    program::suite(name, version).is_err_and(|why| {
        skip(format_args!("{why:#}"));
        true
    })
}

/// A program of this crate, in the role of a campaign's second process.
pub fn second_process(program: &str, role: &str) -> Command {
    let mut command = Command::new(program);
    command.arg(role);
    command
}
