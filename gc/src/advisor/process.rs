//! Starting, killing and reaping a worker process, or another one of ours.
//!
//! Daemon's side. `posix_spawn` and not fork: the daemon is large, locked in memory and has threads
//! with direct I/O in flight, so its address space must not be copied. The child gets exactly the
//! descriptors that are meant for it, by number, beside /dev/null as its standard ones; every other descriptor of the
//! daemon is close-on-exec.

use std::ffi::{CString, OsStr, OsString};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::ptr;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions, WaitStatus, pidfd_open, pidfd_send_signal, waitpid};

/// The worker's command line: descriptor numbers and plain values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WorkerArgs {
    pub region: RawFd,
    pub model: RawFd,
    pub wake: RawFd,
    pub done: RawFd,
    /// Process that must be the parent; another one means that the daemon died meanwhile.
    pub parent: i32,
    pub reserve_bytes: usize,
    /// Whom to become.
    pub user: Option<(u32, u32)>,
    pub library: PathBuf,
}

impl WorkerArgs {
    /// Reads the words that [`Start::worker`] gives.
    pub(crate) fn from_words(words: impl Iterator<Item = OsString>) -> Option<WorkerArgs> {
        fn number<N: std::str::FromStr>(word: Option<&OsString>) -> Option<N> {
            word?.to_str()?.parse().ok()
        }
        let words: Vec<OsString> = words.collect();
        let fd = |i| number(words.get(i)).filter(|&fd: &RawFd| fd > 2);
        let args = WorkerArgs {
            region: fd(0)?,
            model: fd(1)?,
            wake: fd(2)?,
            done: fd(3)?,
            parent: number(words.get(4))?,
            reserve_bytes: number(words.get(5))?,
            user: match words.get(6)?.to_str()?.split_once(':') {
                Some((uid, gid)) => Some((uid.parse().ok()?, gid.parse().ok()?)),
                None => None,
            },
            library: words.get(7)?.into(),
        };
        (words.len() == 8).then_some(args)
    }
}

/// What a worker is started with.
pub(crate) struct Start<'a> {
    pub exe: &'a Path,
    /// Arguments before the worker's own: the hidden subcommand.
    pub exe_args: &'a [OsString],
    pub library: &'a Path,
    pub region: BorrowedFd<'a>,
    pub model: BorrowedFd<'a>,
    pub wake: BorrowedFd<'a>,
    pub done: BorrowedFd<'a>,
    pub reserve_bytes: usize,
    pub user: Option<(u32, u32)>,
}

impl Start<'_> {
    /// Starts the worker.
    pub(crate) fn worker(&self) -> io::Result<Child> {
        let user = self.user.map_or_else(|| "-".into(), |(uid, gid)| format!("{uid}:{gid}"));
        let rest = [self.reserve_bytes.to_string().into(), user.into(), self.library.into()];
        Child::start(self.exe, self.exe_args, &[self.region, self.model, self.wake, self.done], &rest)
    }
}

/// A started process of ours; killed and reaped when dropped.
#[derive(Debug)]
pub(crate) struct Child {
    pid: Pid,
    pidfd: OwnedFd,
    ended: Option<String>,
}

impl Child {
    /// Starts `exe`. Its words are `exe_args`, the numbers under which it finds `fds`, that of this process, and `rest`.
    pub(crate) fn start(
        exe: &Path,
        exe_args: &[OsString],
        fds: &[BorrowedFd<'_>],
        rest: &[OsString],
    ) -> io::Result<Child> {
        // Copies above the standard descriptors, which the child's /dev/null would overwrite.
        let copies = fds.iter().map(|fd| rustix::io::fcntl_dupfd_cloexec(fd, 3));
        let fds: Vec<OwnedFd> = copies.collect::<Result<_, _>>()?;
        let parent = rustix::process::getpid().as_raw_nonzero().get();
        let numbers = fds.iter().map(AsRawFd::as_raw_fd).chain([parent]).map(|n| n.to_string().into());
        // Not the name of a link, under which the program might take itself for mkfs.
        let words = std::iter::once("gleanfs".into()).chain(exe_args.iter().cloned());
        let words = words.chain(numbers).chain(rest.iter().cloned()).collect();
        let pid = spawn(exe, words, environment(), &fds)?;
        let pidfd = pidfd_open(pid, PidfdFlags::empty())?;
        Ok(Child { pid, pidfd, ended: None })
    }

    pub(crate) fn pid(&self) -> i32 {
        self.pid.as_raw_nonzero().get()
    }

    /// Readable once it has ended.
    pub(crate) fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// How it ended, if it has.
    pub(crate) fn ended(&mut self) -> Option<&str> {
        if self.ended.is_none() {
            self.ended = match waitpid(Some(self.pid), WaitOptions::NOHANG) {
                Ok(None) | Err(rustix::io::Errno::INTR) => None,
                Ok(Some((_, status))) => Some(describe(status)),
                // Somebody reaped it for us (a SIGCHLD disposition of ignore does).
                Err(_) => Some("ended".into()),
            };
        }
        self.ended.as_deref()
    }

    /// SIGKILL, which a stopped process obeys too.
    pub(crate) fn kill(&self) {
        // The only failure is that it has ended already.
        let _ = pidfd_send_signal(&self.pidfd, Signal::KILL);
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if self.ended().is_none() {
            self.kill();
            // A second is plenty for SIGKILL; a process stuck in the kernel is left to init.
            let second = Timespec { tv_sec: 1, tv_nsec: 0 };
            let _ = poll(&mut [PollFd::from_borrowed_fd(self.pidfd.as_fd(), PollFlags::IN)], Some(&second));
            self.ended();
        }
    }
}

fn describe(status: WaitStatus) -> String {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => format!("exited with status {code}"),
        (None, Some(signal)) => format!("killed by signal {signal}"),
        (None, None) => "ended".into(),
    }
}

/// The little that a worker needs to know of the world.
fn environment() -> Vec<OsString> {
    let mut variables: Vec<OsString> = vec!["ORT_DISABLE_TELEMETRY=1".into(), "HOME=/".into()];
    if let Some(path) = std::env::var_os("LD_LIBRARY_PATH") {
        variables.push([OsStr::new("LD_LIBRARY_PATH="), &path].iter().copied().collect());
    }
    variables
}

fn c_strings(words: Vec<OsString>) -> io::Result<Vec<CString>> {
    Ok(words.into_iter().map(|word| CString::new(word.into_vec())).collect::<Result<_, _>>()?)
}

fn pointers(words: &[CString]) -> Vec<*mut libc::c_char> {
    words.iter().map(|word| word.as_ptr().cast_mut()).chain([ptr::null_mut()]).collect()
}

fn spawn(exe: &Path, words: Vec<OsString>, environment: Vec<OsString>, fds: &[OwnedFd]) -> io::Result<Pid> {
    let exe = CString::new(exe.as_os_str().as_bytes())?;
    let (words, environment) = (c_strings(words)?, c_strings(environment)?);
    let (argv, envp) = (pointers(&words), pointers(&environment));
    let actions = FileActions::new(fds)?;
    let attributes = Attributes::new()?;
    let mut pid: libc::pid_t = 0;
    // SAFETY: all pointers are to live, zero-terminated strings and null-terminated arrays of them;
    // actions and attributes are initialized.
    let code =
        unsafe { libc::posix_spawn(&mut pid, exe.as_ptr(), &actions.0, &attributes.0, argv.as_ptr(), envp.as_ptr()) };
    check(code)?;
    Pid::from_raw(pid).ok_or_else(|| io::Error::other("posix_spawn gave no process"))
}

fn check(code: libc::c_int) -> io::Result<()> {
    if code == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(code)) }
}

struct FileActions(libc::posix_spawn_file_actions_t);

impl FileActions {
    fn new(fds: &[OwnedFd]) -> io::Result<FileActions> {
        let mut actions = MaybeUninit::uninit();
        // SAFETY: `init` initializes what it is given when it answers 0.
        let mut actions = unsafe {
            check(libc::posix_spawn_file_actions_init(actions.as_mut_ptr()))?;
            FileActions(actions.assume_init())
        };
        for standard in 0..3 {
            // SAFETY: initialized above; the path is a static string.
            check(unsafe {
                libc::posix_spawn_file_actions_addopen(&mut actions.0, standard, c"/dev/null".as_ptr(), libc::O_RDWR, 0)
            })?;
        }
        for fd in fds {
            // Duplicating onto itself is how POSIX says "not close-on-exec in the child".
            // SAFETY: initialized above; the descriptor is open.
            check(unsafe { libc::posix_spawn_file_actions_adddup2(&mut actions.0, fd.as_raw_fd(), fd.as_raw_fd()) })?;
        }
        Ok(actions)
    }
}

impl Drop for FileActions {
    fn drop(&mut self) {
        // SAFETY: initialized in `new` and not used again.
        unsafe { libc::posix_spawn_file_actions_destroy(&mut self.0) };
    }
}

struct Attributes(libc::posix_spawnattr_t);

impl Attributes {
    /// No blocked and no ignored signals, and a process group of its own: the terminal's ^C is for
    /// the daemon.
    fn new() -> io::Result<Attributes> {
        let flags = libc::POSIX_SPAWN_SETSIGMASK | libc::POSIX_SPAWN_SETSIGDEF | libc::POSIX_SPAWN_SETPGROUP;
        let mut attributes = MaybeUninit::uninit();
        let (mut none, mut all) = (MaybeUninit::uninit(), MaybeUninit::uninit());
        // SAFETY: each `init`, `sigemptyset` and `sigfillset` initializes what it is given; the
        // setters get initialized values.
        unsafe {
            check(libc::posix_spawnattr_init(attributes.as_mut_ptr()))?;
            let mut attributes = Attributes(attributes.assume_init());
            libc::sigemptyset(none.as_mut_ptr());
            libc::sigfillset(all.as_mut_ptr());
            check(libc::posix_spawnattr_setsigmask(&mut attributes.0, none.as_ptr()))?;
            check(libc::posix_spawnattr_setsigdefault(&mut attributes.0, all.as_ptr()))?;
            check(libc::posix_spawnattr_setpgroup(&mut attributes.0, 0))?;
            check(libc::posix_spawnattr_setflags(&mut attributes.0, flags as libc::c_short))?;
            Ok(attributes)
        }
    }
}

impl Drop for Attributes {
    fn drop(&mut self) {
        // SAFETY: initialized in `new` and not used again.
        unsafe { libc::posix_spawnattr_destroy(&mut self.0) };
    }
}

/// Takes over a descriptor that was inherited by number.
pub(crate) fn inherited(fd: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: the number is only looked at; F_GETFD fails if it is not open.
    rustix::io::fcntl_getfd(unsafe { BorrowedFd::borrow_raw(fd) })?;
    // SAFETY: it is open, was passed to this process for this purpose, and is taken once.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_knows_its_words() {
        let read = |words: &[&str]| WorkerArgs::from_words(words.iter().map(OsString::from));
        let args = WorkerArgs {
            region: 3,
            model: 4,
            wake: 5,
            done: 6,
            parent: 77,
            reserve_bytes: 1 << 20,
            user: Some((1, 2)),
            library: "/a b/lib.so".into(),
        };
        assert_eq!(read(&["3", "4", "5", "6", "77", "1048576", "1:2", "/a b/lib.so"]), Some(args.clone()));
        let nobody = WorkerArgs { user: None, ..args };
        assert_eq!(read(&["3", "4", "5", "6", "77", "1048576", "-", "/a b/lib.so"]), Some(nobody));
        assert_eq!(read(&["3", "4", "5", "6", "77", "1048576", "1:x", "/a b/lib.so"]), None);
        assert_eq!(read(&["4", "5", "6", "77", "1048576", "-", "/a b/lib.so"]), None);
        assert_eq!(read(&["2", "4", "5", "6", "77", "1048576", "-", "/lib.so"]), None);
        assert_eq!(read(&["a", "b"]), None);
    }

    #[test]
    fn a_program_that_is_not_there_is_an_error() {
        let region = crate::advisor::region::Region::create().unwrap();
        let start = Start {
            exe: Path::new("/nonexistent/program"),
            exe_args: &[],
            library: Path::new("/lib.so"),
            region: region.fd(),
            model: region.fd(),
            wake: region.fd(),
            done: region.fd(),
            reserve_bytes: 0,
            user: None,
        };
        assert_eq!(start.worker().unwrap_err().kind(), io::ErrorKind::NotFound);
        let start = Start { exe: Path::new("/bin/false"), ..start };
        let mut worker = start.worker().unwrap();
        poll(&mut [PollFd::from_borrowed_fd(worker.pidfd(), PollFlags::IN)], None).unwrap();
        assert_eq!(worker.ended(), Some("exited with status 1"));
    }
}
