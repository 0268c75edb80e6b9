//! What the worker can no longer do once its model is loaded: open files, talk to anybody, start
//! anything.
//!
//! Two walls: landlock takes away the filesystem, TCP and signals to others as far as the kernel
//! knows how; the seccomp filter allows a short list of system calls and answers EPERM to the rest,
//! in every thread. Without the filter the worker refuses to work.

use std::collections::BTreeMap;

use landlock::{ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, Ruleset, RulesetAttr, RulesetStatus, Scope};
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, apply_filter_all_threads,
};

use super::protocol::sandbox_bits;

/// Puts up both walls; answers with what stands ([`sandbox_bits`]).
pub(crate) fn enter() -> Result<u32, String> {
    let landlock = match restrict_files() {
        Ok(RulesetStatus::FullyEnforced) => sandbox_bits::LANDLOCK_FULL,
        Ok(RulesetStatus::PartiallyEnforced) => sandbox_bits::LANDLOCK_PARTIAL,
        Ok(RulesetStatus::NotEnforced) | Err(_) => 0,
    };
    let filter = filter().map_err(|e| format!("sandbox: {e}"))?;
    apply_filter_all_threads(&filter).map_err(|e| format!("sandbox: {e}"))?;
    Ok(landlock | sandbox_bits::SECCOMP)
}

/// No path, no port, no peer is allowed: a ruleset that handles all and grants nothing.
fn restrict_files() -> Result<RulesetStatus, landlock::RulesetError> {
    let ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(ABI::V5))?
        .handle_access(AccessNet::from_all(ABI::V5))?
        .scope(Scope::from_all(ABI::V6))?
        .create()?;
    Ok(ruleset.restrict_self()?.ruleset)
}

/// System calls that inference and its allocator need, whatever their arguments.
const ALLOWED: &[libc::c_long] = &[
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_ppoll,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_poll,
    libc::SYS_futex,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_brk,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_rt_sigreturn,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_sigaltstack,
    libc::SYS_restart_syscall,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_getrandom,
    libc::SYS_close,
];

fn filter() -> Result<BpfProgram, BackendError> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = ALLOWED.iter().map(|&call| (call, vec![])).collect();
    // No new code.
    let exec = libc::PROT_EXEC as u64;
    rules.insert(libc::SYS_mmap, vec![argument(2, SeccompCmpOp::MaskedEq(exec), 0)?]);
    rules.insert(libc::SYS_mprotect, vec![argument(2, SeccompCmpOp::MaskedEq(exec), 0)?]);
    // MADV_REMOVE would punch holes into the region that the daemon has mapped and locked.
    rules.insert(libc::SYS_madvise, vec![argument(2, SeccompCmpOp::Ne, libc::MADV_REMOVE as u64)?]);
    // abort() signals itself.
    rules.insert(libc::SYS_tgkill, vec![argument(0, SeccompCmpOp::Eq, u64::from(std::process::id()))?]);
    let refuse = SeccompAction::Errno(libc::EPERM as u32);
    SeccompFilter::new(rules, refuse, SeccompAction::Allow, std::env::consts::ARCH.try_into()?)?.try_into()
}

fn argument(index: u8, op: SeccompCmpOp, value: u64) -> Result<SeccompRule, BackendError> {
    SeccompRule::new(vec![SeccompCondition::new(index, SeccompCmpArgLen::Dword, op, value)?])
}
