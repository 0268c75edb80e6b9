//! What the worker does to itself before it is confined: signals, limits, priority and memory.
//!
//! All of it is best effort except that the worker must not outlive its parent.

use std::ffi::CString;
use std::hint::black_box;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::mm::{MlockAllFlags, mlockall};
use rustix::process::{Pid, Resource, Rlimit, Signal, getppid, set_parent_process_death_signal, setrlimit};

/// Address space that a worker may use, model and library included.
const ADDRESS_SPACE_MAX: u64 = 1 << 30;

/// Dies with the parent; false if the parent is dead already.
pub(crate) fn die_with(parent: i32) -> bool {
    set_parent_process_death_signal(Some(Signal::KILL)).is_ok()
        && getppid().map(Pid::as_raw_nonzero).is_some_and(|pid| pid.get() == parent)
}

/// Becomes this user, who may end it then as root may; nothing where it is root's no more. The signal of the parent's death has to be asked for again.
pub(crate) fn become_user((uid, gid): (u32, u32)) -> std::io::Result<()> {
    if !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let done = |returned: i32| if returned == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) };
    // SAFETY: no list of groups, and integers. These functions of libc change every thread, unlike the bare system calls.
    unsafe {
        done(libc::setgroups(0, std::ptr::null()))?;
        done(libc::setresgid(gid, gid, gid))?;
        done(libc::setresuid(uid, uid, uid))
    }
}

/// Easy to kill when memory is short, a little ahead of the crowd for the processor, no core dumps
/// (they would be file writes), bounded address space.
pub(crate) fn limit_itself() {
    let _ = std::fs::write("/proc/self/oom_score_adj", "800");
    let _ = rustix::process::setpriority_process(None, -5);
    limit_resources(ADDRESS_SPACE_MAX);
}

/// The first to be killed when memory is short, the last to get the processor; no core dumps, no file writes, bounded address space.
pub(crate) fn stand_back(address_space: u64) {
    let _ = std::fs::write("/proc/self/oom_score_adj", "1000");
    let _ = rustix::process::setpriority_process(None, 19);
    limit_resources(address_space);
}

fn limit_resources(address_space: u64) {
    let limit = |resource, max: u64| {
        let _ = setrlimit(resource, Rlimit { current: Some(max), maximum: Some(max) });
    };
    limit(Resource::Core, 0);
    limit(Resource::Fsize, 0);
    limit(Resource::As, address_space);
}

/// Closes every descriptor above the standard ones but these.
pub(crate) fn close_others(keep: &[i32]) {
    let mut keep = keep.to_vec();
    keep.sort_unstable();
    let mut from = 3u32;
    for fd in keep {
        let fd = fd as u32;
        if from < fd {
            close_range(from, fd - 1);
        }
        from = fd + 1;
    }
    close_range(from, u32::MAX);
}

fn close_range(first: u32, last: u32) {
    // Kernels before 5.9 lack the call; the daemon's descriptors are close-on-exec anyway.
    // SAFETY: no descriptor in the range is owned by anything in this freshly started process.
    unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
}

/// Goes to an empty folder that no name leads to, so that no relative path can mean anything.
pub(crate) fn enter_nowhere() {
    for base in ["/dev/shm", "/run", "/tmp"] {
        let dir = Path::new(base).join(format!("gleanfs-advisor-{}", std::process::id()));
        if std::fs::create_dir(&dir).is_err() {
            continue;
        }
        let entered = std::env::set_current_dir(&dir).is_ok();
        let _ = std::fs::remove_dir(&dir);
        if entered {
            return;
        }
    }
    // Without such a folder, the root: the sandbox closes it.
    let _ = std::env::set_current_dir("/");
}

/// Makes the allocator keep what it once had, then gives it `bytes` of touched memory.
pub(crate) fn reserve_heap(bytes: usize) {
    #[cfg(target_env = "gnu")]
    // SAFETY: mallopt only sets parameters; one thread runs.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
        libc::mallopt(libc::M_MMAP_THRESHOLD, 32 << 20);
        libc::mallopt(libc::M_TRIM_THRESHOLD, i32::MAX);
    }
    const PIECE: usize = 1 << 20;
    let pieces: Vec<Vec<u8>> = (0..bytes / PIECE).map(|_| vec![1u8; PIECE]).collect();
    black_box(&pieces);
}

/// Locks what there is and what will come; false if the limit on locked memory forbids it.
pub(crate) fn lock_memory() -> bool {
    mlockall(MlockAllFlags::CURRENT | MlockAllFlags::FUTURE).is_ok()
}

/// Bytes of this process that are locked in memory.
pub(crate) fn locked_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    status
        .lines()
        .find_map(|line| line.strip_prefix("VmLck:"))
        .and_then(|rest| rest.trim().strip_suffix(" kB"))
        .and_then(|kib| kib.trim().parse::<u64>().ok())
        .unwrap_or(0)
        * 1024
}

/// Sets a variable of the environment while there is one thread.
pub(crate) fn set_variable(name: &str, value: &str) {
    let (Ok(name), Ok(value)) = (CString::new(name), CString::new(Path::new(value).as_os_str().as_bytes())) else {
        return;
    };
    // SAFETY: called before any thread is started; setenv copies both strings.
    unsafe { libc::setenv(name.as_ptr(), value.as_ptr(), 1) };
}
