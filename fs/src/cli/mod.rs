//! The command line: one subcommand per file, and the names under which mount(8), fsck(8) and umount(8) call us.
//!
//! The topmost layer. Everything here parses, checks and prints; what it takes to make, mount, check or show an image is
//! called in one place, [`assemble`]. An error is one line on stderr: what, where, what to do.

pub mod assemble;
pub mod bench;

pub mod completions;
pub mod ctl;
pub mod daemon;
pub mod demo;
pub mod dump;
pub mod failure;
pub mod fsck;
pub mod grow;
pub mod helper;
pub mod mkfs;
pub mod model;
pub mod mount;
pub mod options;
pub mod progress;
pub mod recognize;
pub mod sim;
pub mod size;
mod supervised;
pub mod tune;
pub mod umount;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::proxy::learner::TRAINER;
use failure::{Failure, Result};

/// A copy-on-write log-structured filesystem in user space whose cleaner asks an ONNX model.
#[derive(Debug, Parser)]
#[command(name = "gleanfs", version, max_term_width = 100, arg_required_else_help = true, after_help = EXAMPLES)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  gleanfs demo                              see all of it at work
  gleanfs mkfs --size 16G disk.img          make an image file
  gleanfs mount disk.img /mnt               mount it; returns once it is mounted
  gleanfs ctl /mnt status                   see what the cleaner does
  gleanfs umount /mnt                       returns when all is durable
  gleanfs fsck disk.img                     read and verify everything
  gleanfs sim --trace disk.csv.gz           what each policy would make of a recorded load

Installed (or linked) as mkfs.gleanfs, mount.gleanfs, fsck.gleanfs and umount.fuse.gleanfs the program
behaves as those helpers must, so mount -t gleanfs, fsck -t gleanfs and /etc/fstab work.";

/// The hidden subcommand under which a daemon starts the process that runs its model.
const ADVISOR: &str = "advisor";

#[derive(Debug, Subcommand)]
enum Command {
    Mkfs(mkfs::Args),
    Mount(mount::Args),
    Umount(umount::Args),
    Fsck(fsck::Args),
    Grow(grow::Args),
    Tune(tune::Args),
    Dump(dump::Args),
    Ctl(ctl::Args),
    Model(model::Args),
    Sim(sim::Args),
    Bench(bench::Args),
    Demo(demo::Args),
    Completions(completions::Args),
}

/// Parses the process's arguments, runs the command, reports its failure.
pub fn main() -> ExitCode {
    restore_sigpipe();
    let arguments: Vec<OsString> = std::env::args_os().collect();
    if arguments.get(1).is_some_and(|word| word == ADVISOR) {
        assemble::advise(arguments.into_iter().skip(2));
    }
    if arguments.get(1).is_some_and(|word| word == supervised::DAEMON) {
        return supervised::serve(&arguments[2..]);
    }
    if arguments.get(1).is_some_and(|word| word == TRAINER) {
        assemble::train(arguments.into_iter().skip(2));
    }
    let helper = arguments.first().and_then(helper::Helper::from_argv0);
    let outcome = match helper {
        Some(helper) => helper.run(&arguments[1..]),
        None => match Cli::try_parse_from(&arguments) {
            Ok(cli) => run(cli.command),
            Err(told) => return tell(&told),
        },
    };
    outcome.unwrap_or_else(|failure| {
        eprintln!("gleanfs: {failure}");
        ExitCode::from(failure.status)
    })
}

fn run(command: Command) -> Result<ExitCode> {
    match command {
        Command::Mkfs(arguments) => mkfs::run(&arguments).map(|()| ExitCode::SUCCESS),
        Command::Mount(arguments) => mount::run(&arguments).map(|()| ExitCode::SUCCESS),
        Command::Umount(arguments) => umount::run(&arguments).map(|()| ExitCode::SUCCESS),
        Command::Fsck(arguments) => fsck::run(&arguments),
        Command::Grow(arguments) => grow::run(&arguments).map(|()| ExitCode::SUCCESS),
        Command::Tune(arguments) => tune::run(&arguments).map(|()| ExitCode::SUCCESS),
        Command::Dump(arguments) => dump::run(&arguments).map(|()| ExitCode::SUCCESS),
        Command::Ctl(arguments) => ctl::run(&arguments).map(|()| ExitCode::SUCCESS),
        Command::Model(arguments) => model::run(&arguments).map(|()| ExitCode::SUCCESS),
        Command::Sim(arguments) => sim::run(&arguments).map(|()| ExitCode::SUCCESS),
        Command::Bench(arguments) => bench::run(&arguments).map(|()| ExitCode::SUCCESS),
        Command::Demo(arguments) => demo::run(&arguments).map(|()| ExitCode::SUCCESS),
        Command::Completions(arguments) => completions::run(&arguments).map(|()| ExitCode::SUCCESS),
    }
}

/// Help and version go out as they are; a wrong command line becomes our one line and fsck(8)'s or the common status.
fn tell(told: &clap::Error) -> ExitCode {
    use clap::error::ErrorKind;
    if !told.use_stderr() || told.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        let _ = told.print();
        return ExitCode::from(u8::from(told.use_stderr()));
    }
    let failure = usage(told);
    eprintln!("gleanfs: {failure}");
    ExitCode::from(failure.status)
}

/// clap's first paragraph without its decoration, and where to read on.
fn usage(told: &clap::Error) -> Failure {
    let text = told.render().to_string();
    let first = text.split("\n\n").next().unwrap_or_default();
    let words = first.trim_start_matches("error: ").split_whitespace().collect::<Vec<_>>().join(" ");
    let command = std::env::args().nth(1).filter(|word| is_command(word));
    let status = if command.as_deref() == Some("fsck") { fsck::STATUS_USAGE } else { 1 };
    let see = command.map_or_else(String::new, |command| format!("{command} "));
    Failure::with_status(format_args!("{words}; see gleanfs {see}--help"), status)
}

fn is_command(word: &str) -> bool {
    use clap::CommandFactory;
    Cli::command().get_subcommands().any(|command| command.get_name() == word)
}

/// A reader that has seen enough (`gleanfs dump ... | head`) ends us silently, as it does other programs.
fn restore_sigpipe() {
    // SAFETY: called first thing in a process with one thread; SIG_DFL is a valid disposition.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_teaches_by_example() {
        for command in Cli::command().get_subcommands() {
            let help = command.clone().render_long_help().to_string();
            assert!(help.contains("Example"), "{}", command.get_name());
        }
    }

    #[test]
    fn a_wrong_command_line_is_one_line() {
        let told = Cli::try_parse_from(["gleanfs", "mkfs", "--size", "lots", "x"]).unwrap_err();
        let message = usage(&told).message;
        assert!(!message.contains('\n') && message.contains("'lots' is not a size"), "{message}");
    }
}
