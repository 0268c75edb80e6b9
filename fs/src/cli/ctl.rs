//! `gleanfs ctl`: talks to the daemon of a mount.

use std::path::{Path, PathBuf};

use clap::{Subcommand, ValueEnum};

use super::failure::{About, Failure, Result};
use crate::control::client::ClientError;
use crate::control::{Client, Request, Response};

mod record;
mod render;
mod scrub;

/// Ask a mounted gleanfs for its state, or tell it what to do.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  gleanfs ctl /mnt status             counters and states, for people
  gleanfs ctl /mnt status --json      the same for programs
  gleanfs ctl /mnt sync               returns when all that was accepted is durable
  gleanfs ctl /mnt gc off             no background cleaning, as for a measurement
  gleanfs ctl /mnt policy greedy      another fallback policy from the next decision on
  gleanfs ctl /mnt scrub              read and verify everything, in the background and politely
  gleanfs ctl /mnt scrub start --wait the same with a status: 0 if all is sound, 4 if something is damaged
  gleanfs ctl /mnt upgrade            this very program takes a supervised mount over from the one that serves it
  gleanfs ctl /mnt record run.tel.gz  what placement and cleaner see, choose and bring about, until ^C: a trace for gleanfs sim

Root and the user who mounted may do this.")]
pub struct Args {
    /// Where the filesystem is mounted
    mount_point: PathBuf,
    #[command(subcommand)]
    what: What,
}

#[derive(Clone, Debug, Subcommand)]
enum What {
    /// Make everything accepted so far durable
    Sync,
    /// Show the state of the mount
    Status {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Background cleaning: switch it, or clean now
    Gc { what: Gc },
    /// Choose the policy that decides when no model does
    Policy { name: String },
    /// Read and verify everything on the mount, in the background
    Scrub(scrub::Args),
    /// Have another version of the program serve the mount; files stay open, and programs see a pause
    Upgrade {
        /// The program that is to serve [this one]
        #[arg(long, value_name = "PATH")]
        executable: Option<PathBuf>,
    },
    /// Record what is written, moved, removed and cleaned
    Record(record::Args),
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Gc {
    On,
    Off,
    Run,
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        Self::new(error)
    }
}

pub fn run(arguments: &Args) -> Result<()> {
    if let What::Record(what) = &arguments.what {
        return record::run(&arguments.mount_point, what);
    }
    if let What::Scrub(what) = &arguments.what {
        return scrub::run(&arguments.mount_point, what);
    }
    let mut client = Client::connect(&arguments.mount_point)?;
    let request = match &arguments.what {
        What::Sync => Request::Sync,
        What::Status { .. } => Request::Status,
        What::Gc { what: Gc::Run } => Request::GcRun,
        What::Gc { what } => Request::Gc { on: matches!(what, Gc::On) },
        What::Policy { name } => Request::Policy { name: name.clone() },
        What::Upgrade { executable } => Request::Upgrade { executable: absolute_program(executable.as_deref())? },
        What::Record(_) | What::Scrub(_) => unreachable!("they have conversations of their own"),
    };
    let response = client.ask(&request)?;
    match (&arguments.what, response) {
        (What::Status { json: true }, Response::Status(status)) => {
            println!("{}", serde_json::to_string_pretty(&status).map_err(Failure::new)?);
        }
        (_, Response::Status(status)) => print!("{}", render::text(&status)),
        (_, Response::Done(line)) if line.is_empty() => {}
        (_, Response::Done(line)) => println!("{line}"),
        (_, other) => return Err(unexpected(&other)),
    }
    Ok(())
}

/// The program named, or this one.
fn absolute_program(named: Option<&Path>) -> Result<PathBuf> {
    match named {
        Some(path) => path.canonicalize().about(path.display()),
        None => std::env::current_exe().about("finding this program"),
    }
}

/// The daemon is of another version and answers what was not asked.
pub fn unexpected(response: &Response) -> Failure {
    Failure::new(format_args!("the daemon answers {response:?}; is it of another version?"))
}
