//! What a process on the path of writeback asks of the kernel (design, rules 2, 3 and 6). All of it is best effort: the argument that no
//! deadlock exists holds without it, and status shows what was granted.

use std::fs;

/// `PR_SET_IO_FLUSHER` and `PR_GET_IO_FLUSHER` of `linux/prctl.h`.
const PR_SET_IO_FLUSHER: i32 = 57;
const PR_GET_IO_FLUSHER: i32 = 58;

/// What was granted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Protection {
    /// Allocations of this process do not start writeback of their own.
    pub io_flusher: bool,
    /// All memory, also that to come, is locked.
    pub memory_locked: bool,
    pub oom_score_adj: i32,
}

/// A panic ends the daemon: a broken invariant must not go on to the medium, and the log brings back all that was acknowledged.
pub fn abort_on_panic() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        report(info);
        std::process::abort();
    }));
}

/// Asks for everything. Before the first thread is started: threads inherit it.
pub fn enter() -> Protection {
    // SAFETY: plain integers; the call changes only flags of this thread.
    let io_flusher =
        unsafe { libc::prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0) == 0 && libc::prctl(PR_GET_IO_FLUSHER, 0, 0, 0, 0) == 1 };
    if !io_flusher {
        tracing::warn!("PR_SET_IO_FLUSHER was refused (it needs CAP_SYS_RESOURCE); going on without it");
    }
    // Refused without CAP_SYS_RESOURCE where it would lower the value; then the old one stays.
    let _ = fs::write("/proc/self/oom_score_adj", "-1000");
    Protection { io_flusher, memory_locked: lock_memory(), oom_score_adj: oom_score_adj() }
}

/// Locks what is mapped now and later as it is touched, so that a large and mostly unused mapping costs nothing.
fn lock_memory() -> bool {
    const MCL_ONFAULT: i32 = 4;
    // SAFETY: no memory is passed; the call only changes how the kernel treats our pages.
    unsafe { libc::mlockall(libc::MCL_CURRENT | libc::MCL_FUTURE | MCL_ONFAULT) == 0 }
}

/// For a daemon that is about to give its privileges up: lifts the limit that then holds for locked memory, or unlocks all, since beyond the limit
/// not even a page could be mapped. Whether it stays locked.
pub fn keep_memory_locked() -> bool {
    let all = libc::rlimit { rlim_cur: libc::RLIM_INFINITY, rlim_max: libc::RLIM_INFINITY };
    // SAFETY: a plain structure that is only read.
    if unsafe { libc::setrlimit(libc::RLIMIT_MEMLOCK, &raw const all) } == 0 {
        return true;
    }
    tracing::warn!("the limit of locked memory cannot be lifted (it needs CAP_SYS_RESOURCE); memory is not locked");
    // SAFETY: no memory is passed; the call only changes how the kernel treats our pages.
    unsafe { libc::munlockall() };
    false
}

fn oom_score_adj() -> i32 {
    let text = fs::read_to_string("/proc/self/oom_score_adj").unwrap_or_default();
    text.trim().parse().unwrap_or_default()
}

/// A line of `/proc/self/status` in bytes, such as `VmRSS`.
pub fn process_bytes(field: &str) -> u64 {
    let text = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    let kib: u64 = line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0);
    kib << 10
}
