//! The two processes of a mount with `-o supervise`: the one that keeps it, and the daemons that it starts, which are this program
//! under a hidden subcommand.
//!
//! A daemon is told of its mount in the words of the command line, since every version understands these.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::assemble;
use super::daemon::{Ready, let_go_of_terminal};
use super::failure::{About, Failure, Result};
use super::mount::{MountRequest, log_to_stderr};
use super::options::MountOptions;
use crate::supervisor::{self, Link, Supervised};

/// The hidden subcommand: `daemon SOURCE TARGET OPTIONS foreground|detached`, a supervisor on the standard input.
pub const DAEMON: &str = "daemon";
const FOREGROUND: &str = "foreground";
const DETACHED: &str = "detached";

/// Has daemons serve the mount, and returns when it is over.
pub fn keep(request: &MountRequest, lists: &[String], deaths_max: u32, ready: Ready) -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        return Err(Failure::new("supervise: only root's mounts can be kept; leave it out"));
    }
    let arguments = arguments(request, lists);
    let unprivileged = request.options.run_as.is_some();
    supervisor::run(Supervised { arguments, deaths_max: deaths_max as usize, unprivileged, ready })
        .map_err(|e| Failure::new(format_args!("{e:#}")))
}

fn arguments(request: &MountRequest, lists: &[String]) -> Vec<OsString> {
    let options = &request.options;
    let mut words = lists.to_vec();
    // Daemons start in another directory, and later words win.
    for (name, file) in [("model", &options.model), ("watch", &options.watch), ("library", &options.library)] {
        words.extend(file.as_ref().map(|file| format!("{name}={}", file.display())));
    }
    let manner = if request.foreground { FOREGROUND } else { DETACHED };
    vec![
        DAEMON.into(),
        request.source.clone().into(),
        request.target.clone().into(),
        words.join(",").into(),
        manner.into(),
    ]
}

/// A daemon's whole life.
pub fn serve(arguments: &[OsString]) -> ExitCode {
    let outcome = Link::from_stdin().about("the supervisor").and_then(|link| serve_linked(arguments, link));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            tracing::error!("{failure}");
            ExitCode::from(failure.status)
        }
    }
}

fn serve_linked(arguments: &[OsString], link: Link) -> Result<()> {
    let request = match read(arguments) {
        Ok(request) => request,
        Err(failure) => {
            let _ = link.failed(&failure.message);
            return Err(failure);
        }
    };
    let detached = !request.foreground;
    if request.foreground {
        log_to_stderr();
    }
    let ready = move || {
        if detached {
            // Its standard streams are the terminal's only if it is the first.
            let _ = let_go_of_terminal();
        }
    };
    assemble::serve(&request, Box::new(ready), Some(link))
}

fn read(arguments: &[OsString]) -> Result<MountRequest> {
    let [source, target, words, manner] = arguments else {
        return Err(Failure::new("the supervisor is of another version: it says this mount in other words"));
    };
    let (source, target) = (PathBuf::from(source), PathBuf::from(target));
    // They were examined when the mount was made; what only another version knows is passed over.
    let options = MountOptions::parse_known([words.to_string_lossy().as_ref()])?;
    Ok(MountRequest { source, target, options, foreground: Path::new(manner) == Path::new(FOREGROUND) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_daemon_is_told_what_the_command_line_said() {
        let lists = ["ro,cache=64M".to_owned(), "model=m.onnx".to_owned()];
        let mut options = MountOptions::parse(lists.iter().map(String::as_str)).unwrap();
        options.model = Some("/there/m.onnx".into());
        let request = MountRequest { source: "/img".into(), target: "/mnt".into(), options, foreground: true };
        let arguments = arguments(&request, &lists);
        assert_eq!(arguments[0], DAEMON);
        assert_eq!(read(&arguments[1..]).unwrap(), request);
        assert!(read(&arguments).is_err());
    }
}
