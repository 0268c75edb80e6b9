//! The workers of the advisor's tests: the real one, and three that misbehave after they are ready.

use std::ffi::OsString;
use std::os::fd::BorrowedFd;
use std::sync::atomic::Ordering;

use gleanfs_gc::advisor::{Hooks, Plain, Region, worker_main};

/// The tests' own batches are small, those of the probe are not.
const SMALL: usize = 16;

/// Becomes the worker of this role.
pub fn play(role: &str, words: Vec<OsString>) -> ! {
    if role == "advisor-daemon" {
        crate::be_a_daemon();
    }
    let hooks: &mut dyn Hooks = match role {
        "advisor-nan" => &mut Nan,
        "advisor-scribble" => &mut Scribble { region: second_mapping(&words), seed: 1 },
        "advisor-reach" => &mut Reach { errnos: Vec::new() },
        _ => &mut Plain,
    };
    worker_main(words.into_iter(), hooks)
}

struct Nan;

impl Hooks for Nan {
    fn answered(&mut self, values: &mut [f32]) {
        if values.len() <= SMALL {
            values[0] = f32::NAN;
        }
    }
}

/// Writes pseudo-random words all over the shared region.
struct Scribble {
    region: Region,
    seed: u64,
}

impl Scribble {
    fn random(&mut self) -> u64 {
        self.seed ^= self.seed << 13;
        self.seed ^= self.seed >> 7;
        self.seed ^= self.seed << 17;
        self.seed
    }
}

impl Hooks for Scribble {
    fn answered(&mut self, values: &mut [f32]) {
        if values.len() > SMALL {
            return;
        }
        let words = self.region.bytes() / 8;
        for i in 0..200_000 {
            // Every second one hits the header or the recommendation ring, where it hurts most.
            let at = self.random() as usize % words;
            let at = if i % 2 == 0 { at } else { [at % 512, words - 1 - at % 4096][i / 2 % 2] };
            let word = if i % 3 == 0 { self.random() % 16 } else { self.random() };
            self.region.u64(at * 8).store(word, Ordering::Relaxed);
        }
    }
}

fn second_mapping(words: &[OsString]) -> Region {
    let fd = words[0].to_str().unwrap().parse().unwrap();
    // SAFETY: the descriptor was inherited and is open; it is only duplicated.
    let fd = unsafe { BorrowedFd::borrow_raw(fd) }.try_clone_to_owned().unwrap();
    Region::open(fd).unwrap()
}

/// What a worker tries, and how: answers 0 or an errno.
type Reaching = (&'static str, fn() -> i32);

/// Things that a confined worker must not be able to do.
pub const REACHES: [Reaching; 16] = [
    ("open a file", || errno(std::fs::File::open("/etc/passwd"))),
    ("create a file", || errno(std::fs::write("/tmp/gleanfs-escaped", b"x"))),
    ("list the current folder", || errno(std::fs::read_dir("."))),
    ("open a socket", || errno(std::net::UdpSocket::bind("127.0.0.1:0"))),
    ("start a program", || errno(std::process::Command::new("/bin/true").status())),
    ("signal its parent", || {
        // SAFETY: signal 0 only asks whether a signal could be sent.
        let sent = unsafe { libc::kill(libc::getppid(), 0) };
        outcome(sent.into())
    }),
    ("open a Unix socket", || {
        // SAFETY: integers alone.
        outcome(unsafe { libc::socket(libc::AF_UNIX, libc::SOCK_STREAM, 0) }.into())
    }),
    ("fork", || {
        // SAFETY: a child, if there were one, ends at once.
        match unsafe { libc::syscall(libc::SYS_clone, libc::SIGCHLD, 0, 0, 0, 0) } {
            // SAFETY: ends the child without a word.
            0 => unsafe { libc::_exit(0) },
            pid => outcome(pid),
        }
    }),
    ("become another program", || {
        let (path, none) = (c"/bin/true", std::ptr::null::<*const libc::c_char>());
        // SAFETY: a constant string and two empty lists.
        outcome(unsafe { libc::syscall(libc::SYS_execve, path.as_ptr(), none, none) })
    }),
    ("trace its parent", || {
        // SAFETY: no memory is passed.
        outcome(unsafe { libc::syscall(libc::SYS_ptrace, libc::PTRACE_SEIZE, libc::getppid(), 0, 0) })
    }),
    ("get hold of its parent", || {
        // SAFETY: integers alone.
        outcome(unsafe { libc::syscall(libc::SYS_pidfd_open, libc::getppid(), 0) })
    }),
    ("read its parent's memory", || {
        // SAFETY: no piece is named, so nothing is read.
        outcome(unsafe { libc::syscall(libc::SYS_process_vm_readv, libc::getppid(), 0, 0, 0, 0, 0) })
    }),
    ("make a file to map", || {
        // SAFETY: a constant string.
        outcome(unsafe { libc::syscall(libc::SYS_memfd_create, c"file".as_ptr(), 0) })
    }),
    ("map memory for code", || {
        let (rights, flags) = (libc::PROT_READ | libc::PROT_EXEC, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        // SAFETY: a new mapping where the kernel likes.
        outcome(unsafe { libc::syscall(libc::SYS_mmap, 0, 4096, rights, flags, -1, 0) })
    }),
    ("queue system calls", || {
        // SAFETY: a null pointer, which the kernel refuses if it comes so far.
        outcome(unsafe { libc::syscall(libc::SYS_io_uring_setup, 1, 0) })
    }),
    ("mount something", || {
        let (nothing, at) = (c"none", c"/");
        // SAFETY: constant strings.
        let done = unsafe { libc::mount(nothing.as_ptr(), at.as_ptr(), c"tmpfs".as_ptr(), 0, std::ptr::null()) };
        outcome(done.into())
    }),
];

/// What the system call said: 0 or an errno.
fn outcome(returned: libc::c_long) -> i32 {
    if returned >= 0 { 0 } else { errno::<()>(Err(std::io::Error::last_os_error())) }
}

fn errno<T>(outcome: std::io::Result<T>) -> i32 {
    outcome.err().map_or(0, |e| e.raw_os_error().unwrap_or(-1))
}

/// Tries all of them once confined, and answers with what came of it.
struct Reach {
    errnos: Vec<i32>,
}

impl Hooks for Reach {
    fn confined(&mut self) {
        self.errnos = REACHES.iter().map(|(_, reach)| reach()).collect();
    }

    fn answered(&mut self, values: &mut [f32]) {
        if values.len() <= SMALL {
            values.iter_mut().zip(&self.errnos).for_each(|(value, &errno)| *value = errno as f32);
        }
    }
}
