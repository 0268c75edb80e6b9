//! Turning into a daemon: the parent returns only once the child has mounted, or with the line that says why not.
//!
//! Must run before any thread is started, since fork(2) copies only the calling one. The child's only way to
//! speak before it lets go of the terminal is a pipe to the parent.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::sync::{Arc, Mutex, PoisonError};

use super::failure::{About, Failure, Result};

/// What the child says through the pipe once it is ready. Anything else is a status byte and an error line.
const READY: &[u8] = b"\0";

/// To be called once requests are answered.
pub type Ready = Box<dyn FnOnce() + Send>;

/// Runs `serve` in a child process that has no terminal. Returns in the parent alone: `Ok` when the child has called the function that
/// `serve` is given, or the failure with which `serve` returned before.
pub fn detached(serve: impl FnOnce(Ready) -> Result<()>) -> Result<()> {
    let (from_child, to_parent) = std::io::pipe().about("making a pipe")?;
    // SAFETY: the caller has started no thread, so the child is a complete copy of this process.
    match unsafe { libc::fork() } {
        -1 => Err(std::io::Error::last_os_error()).about("starting the daemon"),
        0 => {
            drop(from_child);
            be_child(serve, File::from(std::os::fd::OwnedFd::from(to_parent)))
        }
        _ => {
            drop(to_parent);
            await_child(from_child)
        }
    }
}

fn await_child(mut from_child: impl Read) -> Result<()> {
    let mut said = Vec::new();
    from_child.read_to_end(&mut said).about("waiting for the daemon")?;
    match said.as_slice() {
        READY => Ok(()),
        [] => Err(Failure::new("the daemon died before it had mounted; run with --foreground to see why")),
        [status, line @ ..] => Err(Failure::with_status(String::from_utf8_lossy(line), *status)),
    }
}

fn be_child(serve: impl FnOnce(Ready) -> Result<()>, to_parent: File) -> ! {
    // The last copy must go with the answer: the parent reads until the pipe is closed.
    let to_parent = Arc::new(Mutex::new(Some(to_parent)));
    let for_ready = Arc::clone(&to_parent);
    let ready = Box::new(move || {
        // From here on nobody listens: errors go to the log and to `ctl status`.
        let _ = let_go_of_terminal();
        answer(&for_ready, READY);
    });
    let outcome = rustix::process::setsid().about("setsid").and_then(|_| serve(ready));
    let status = match outcome {
        Ok(()) => 0,
        Err(failure) => {
            answer(&to_parent, &[&[failure.status], failure.message.as_bytes()].concat());
            failure.status
        }
    };
    std::process::exit(i32::from(status))
}

/// Answers the parent once; later answers have nobody to read them.
fn answer(to_parent: &Mutex<Option<File>>, bytes: &[u8]) {
    if let Some(mut pipe) = to_parent.lock().unwrap_or_else(PoisonError::into_inner).take() {
        let _ = pipe.write_all(bytes);
    }
}

/// Has the standard streams read and write nothing, and the working directory be in nobody's way.
pub fn let_go_of_terminal() -> std::io::Result<()> {
    std::env::set_current_dir("/")?;
    let null = OpenOptions::new().read(true).write(true).open("/dev/null")?;
    for standard in 0..=2 {
        // SAFETY: both are descriptors of this process; nothing holds the standard ones as owned.
        if unsafe { libc::dup2(null.as_raw_fd(), standard) } < 0 {
            return Err(std::io::Error::last_os_error());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parent_reads_readiness_failure_and_death() {
        assert_eq!(await_child(READY), Ok(()));
        let said = [&[32u8][..], b"disk.img: no superblock"].concat();
        assert_eq!(await_child(said.as_slice()), Err(Failure::with_status("disk.img: no superblock", 32)));
        assert!(await_child(&b""[..]).unwrap_err().message.contains("died"));
    }
}
