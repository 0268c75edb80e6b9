//! Exhaustive crash workloads over a small tree, in the spirit of ACE (Mohan et al., "Finding Crash-Consistency Bugs with Bounded
//! Black-Box Crash Testing", OSDI 2018).
//!
//! **The bounds.** The tree (`pool`): a file of two blocks and a half with an extended attribute, which is open; a directory with a
//! file of a block and a bit; an empty directory; three names that are free. The operations: those of ACE as they reach a daemon
//! (creat, mkdir, symlink, mknod, link, unlink, rmdir, rename and exchange, writes behind the end, over a block, inside one and across
//! several, truncation in both directions, fallocate, punching and zeroing, setxattr and removexattr) and chmod, chown, utimes and
//! copying; direct and mapped writes come as writes. Sequences of one and of two operations that succeed. After each operation nothing, sync, a checkpoint, or
//! fsync or fdatasync of each path that an operation so far has named or the directory that it is in, as far as it is there. That makes [`COUNTS`].
//!
//! **What is demanded** is more than POSIX does: after a power cut the state is that after a prefix of the operations, with all
//! that a persistence point followed (I6). The cut comes at the end of the workload, since the workload that ends earlier is
//! one of its own; what survives is drawn from the workload's number. Those of one operation are cut at each write as well. Then:
//! fsck, mount, compare, a new file made durable, another cut, and once more.

mod pool;
mod run;
mod workloads;

pub use run::{Ace, Found};
pub use workloads::{Action, Workloads};

/// Workloads of one and of two operations.
pub const COUNTS: [u64; 2] = [469, 258_479];
