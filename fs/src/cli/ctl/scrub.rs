//! `gleanfs ctl MNT scrub`: a background scrub is begun, stopped, waited for and shown.

use std::path::Path;
use std::time::Duration;

use super::super::failure::{Failure, Result};
use super::super::progress::Bar;
use super::super::size::Size;
use super::{render, unexpected};
use crate::control::{Client, Request, Response};
use crate::fsck::STATUS_ERRORS;
use crate::scrub::{State, Summary};

/// How often whoever waits looks. The daemon has other clients to answer meanwhile.
const LOOK_EVERY: Duration = Duration::from_millis(200);

#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: Option<What>,
}

#[derive(Clone, Debug, clap::Subcommand)]
enum What {
    /// Begin a scrub, or go on with one that was stopped [default]
    Start {
        /// Read at most so much a second, whoever else is at work [default: the idle time of the device]
        #[arg(long, value_name = "SIZE")]
        rate: Option<Size>,
        /// Return when it is done; status 4 if anything is damaged
        #[arg(long)]
        wait: bool,
    },
    /// Stop it; the next start goes on where it was
    Stop,
    /// Show how far it is and what it has found
    Status {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

pub fn run(mount_point: &Path, arguments: &Args) -> Result<()> {
    match arguments.what.clone().unwrap_or(What::Start { rate: None, wait: false }) {
        What::Start { rate, wait } => {
            said(mount_point, &Request::ScrubStart { bytes_per_sec: rate.map(|rate| rate.0) })?;
            if wait { verdict(&await_end(mount_point)?) } else { Ok(()) }
        }
        What::Stop => said(mount_point, &Request::ScrubStop),
        What::Status { json: true } => {
            let summary = summary(mount_point)?;
            println!("{}", serde_json::to_string_pretty(&summary).map_err(Failure::new)?);
            Ok(())
        }
        What::Status { json: false } => {
            print!("{}", shown(&summary(mount_point)?));
            Ok(())
        }
    }
}

fn said(mount_point: &Path, request: &Request) -> Result<()> {
    match Client::connect(mount_point)?.ask(request)? {
        Response::Done(line) => println!("{line}"),
        other => return Err(unexpected(&other)),
    }
    Ok(())
}

fn summary(mount_point: &Path) -> Result<Summary> {
    match Client::connect(mount_point)?.ask(&Request::Status)? {
        Response::Status(status) => Ok(status.scrub),
        other => Err(unexpected(&other)),
    }
}

fn shown(summary: &Summary) -> String {
    let mut out = String::new();
    render::scrub(&mut out, summary);
    out
}

fn await_end(mount_point: &Path) -> Result<Summary> {
    let bar = Bar::bytes(0, "scrub");
    loop {
        let summary = summary(mount_point)?;
        if summary.state != State::Running {
            return Ok(summary);
        }
        bar.length(summary.live_bytes.max(summary.read_bytes));
        bar.at(summary.read_bytes);
        std::thread::sleep(LOOK_EVERY);
    }
}

/// Whether the scrub came to its end and found everything whole.
fn verdict(summary: &Summary) -> Result<()> {
    print!("{}", shown(summary));
    match summary.state {
        State::Done if summary.is_sound() => Ok(()),
        State::Done => {
            let (bad, lost) = (summary.bad_blocks, summary.lost_blocks);
            let what =
                format_args!("{bad} blocks are damaged, {lost} were lost before; what they belong to is shown above");
            Err(Failure::with_status(what, STATUS_ERRORS))
        }
        State::Stopped => Err(Failure::new("the scrub was stopped before its end")),
        _ => Err(Failure::new(summary.failure.as_deref().unwrap_or("the scrub did not come to its end"))),
    }
}
