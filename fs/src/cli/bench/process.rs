//! Running other programs so that an interrupt ends them, and so that what was set up is always taken down.
//!
//! SIGINT, SIGTERM and SIGHUP are taken by one thread, which ends the programs under way; everything else then fails with
//! [`INTERRUPTED`] and the guards on the stack clean up. Programs get a process group of their own, so that a
//! terminal's interrupt reaches us alone and daemons live until their guard ends them.

use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, Once, PoisonError};

use rustix::process::{Pid, Signal, kill_process};

use crate::cli::failure::{About, Failure, Result};
use crate::fuse::umount::while_busy;

/// What commands fail with after an interrupt.
pub const INTERRUPTED: &str = "interrupted; everything set up has been taken down";

static STOP: AtomicBool = AtomicBool::new(false);
static RUNNING: Mutex<Vec<Pid>> = Mutex::new(Vec::new());

/// From now on interrupts end programs instead of this process. Call it before other threads are started.
pub fn take_interrupts() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let set = block_signals();
        std::thread::spawn(move || {
            loop {
                let mut signal = 0;
                // SAFETY: both pointers are valid for the call.
                if unsafe { libc::sigwait(&set, &mut signal) } == 0 {
                    STOP.store(true, Ordering::SeqCst);
                    for pid in running().iter() {
                        let _ = kill_process(*pid, Signal::TERM);
                    }
                }
            }
        });
    });
}

fn block_signals() -> libc::sigset_t {
    // SAFETY: an all-zero sigset_t is made a valid one by sigemptyset; the pointers are valid for the calls.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut set);
        for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
            libc::sigaddset(&mut set, signal);
        }
        libc::pthread_sigmask(libc::SIG_BLOCK, &set, std::ptr::null_mut());
        set
    }
}

fn running() -> std::sync::MutexGuard<'static, Vec<Pid>> {
    RUNNING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Fails once an interrupt has come.
pub fn check_interrupt() -> Result<()> {
    if STOP.load(Ordering::SeqCst) { Err(Failure::new(INTERRUPTED)) } else { Ok(()) }
}

/// Has the program start with no signal blocked. It would inherit our mask, and what [`take_interrupts`] blocks could not end it.
pub fn unblock_signals(command: &mut Command) -> &mut Command {
    // SAFETY: between fork and exec only async-signal-safe functions are called, on memory of the child's own.
    unsafe {
        command.pre_exec(|| {
            let mut none: libc::sigset_t = std::mem::zeroed();
            libc::sigemptyset(&mut none);
            match libc::pthread_sigmask(libc::SIG_SETMASK, &none, std::ptr::null_mut()) {
                0 => Ok(()),
                error => Err(std::io::Error::from_raw_os_error(error)),
            }
        })
    }
}

/// Runs a program to its end; its standard output. An interrupt ends it.
pub fn run(command: &mut Command) -> Result<Vec<u8>> {
    check_interrupt()?;
    let name = name_of(command);
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    let child = unblock_signals(child).spawn().about(&name)?;
    let pid = Pid::from_child(&child);
    running().push(pid);
    let output = child.wait_with_output();
    running().retain(|other| *other != pid);
    check_interrupt()?;
    finished(&name, &output.about(&name)?)
}

/// Runs a program that takes something down: interrupts do not stop it.
pub fn run_always(command: &mut Command) -> Result<Vec<u8>> {
    let name = name_of(command);
    let output = command.stdin(Stdio::null()).process_group(0).output().about(&name)?;
    finished(&name, &output)
}

/// Runs a program that unmounts, for a moment again while it finds the mount in use.
pub fn run_umount(command: &mut Command) -> Result<Vec<u8>> {
    while_busy(|| run_always(command), |failure| failure.message.contains("busy"))
}

fn finished(name: &str, output: &std::process::Output) -> Result<Vec<u8>> {
    if output.status.success() {
        return Ok(output.stdout.clone());
    }
    let said = [output.stderr.as_slice(), output.stdout.as_slice()].concat();
    let said = String::from_utf8_lossy(&said);
    let lines: Vec<&str> = said.lines().filter(|line| !line.trim().is_empty()).take(1).collect();
    Err(Failure::new(format_args!("{name}: {}: {}", output.status, lines.join("; "))))
}

/// Starts a program that keeps running and that the caller ends.
pub fn start(command: &mut Command) -> Result<Child> {
    check_interrupt()?;
    let name = name_of(command);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
    unblock_signals(command).spawn().about(name)
}

fn name_of(command: &Command) -> String {
    std::path::Path::new(command.get_program()).file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Whether `program` is found where root's programs are.
pub fn installed(program: &str) -> bool {
    let path = std::env::var("PATH").unwrap_or_default();
    path.split(':')
        .chain(["/usr/sbin", "/sbin", "/usr/local/sbin"])
        .any(|dir| std::path::Path::new(dir).join(program).is_file())
}

/// A command that also finds programs of the administrator.
pub fn command(program: &str) -> Command {
    let mut command = Command::new(program);
    let path = std::env::var("PATH").unwrap_or_default();
    command.env("PATH", format!("{path}:/usr/local/sbin:/usr/sbin:/sbin"));
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_end_by_the_signals_that_are_blocked_here() {
        block_signals();
        let failure = run(command("sh").args(["-c", "kill -TERM $$"])).unwrap_err();
        assert!(failure.message.contains("signal: 15"), "{failure}");
    }

    #[test]
    fn output_is_returned_and_failure_says_why() {
        assert_eq!(run(command("sh").args(["-c", "echo out"])).unwrap(), b"out\n");
        let failure = run(command("sh").args(["-c", "echo no room >&2; exit 3"])).unwrap_err();
        assert!(failure.message.contains("sh: exit status: 3: no room"), "{failure}");
        assert!(run(&mut command("no-such-program")).is_err());
        assert!(installed("sh") && !installed("no-such-program"));
    }
}
