//! Where the command line meets the filesystem: the only file of `cli` that calls its layers.
//!
//! Each function takes what the command line has checked and answers with plain data, so that the commands
//! need not know how a volume is put together.

use std::path::Path;

use super::daemon::Ready;
use super::dump::What;
use super::failure::{Failure, Result};
use super::fsck::{Findings, Repair};
use super::mkfs::MkfsOptions;
use super::mount::MountRequest;

fn without_core(path: &Path) -> Failure {
    Failure::new(format_args!("{}: this build has no filesystem core; use a complete build", path.display()))
}

/// Makes an empty filesystem. Answers with a line about what was made (size, segments, room for users, UUID).
pub fn format(path: &Path, _options: &MkfsOptions) -> Result<String> {
    Err(without_core(path))
}

/// Mounts and serves until the mount ends; calls `mounted` once requests are answered. Returns after the last
/// checkpoint is durable.
pub fn serve(request: &MountRequest, _mounted: Ready) -> Result<()> {
    Err(without_core(&request.source))
}

/// Reads and verifies everything; `progress` is called with bytes done and bytes in all.
pub fn check(path: &Path, _repair: Repair, _progress: &mut dyn FnMut(u64, u64)) -> Result<Findings> {
    Err(without_core(path))
}

/// A structure of an image, as text for people.
pub fn dump(path: &Path, _what: &What) -> Result<String> {
    Err(without_core(path))
}
