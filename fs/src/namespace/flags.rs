//! chattr(1) flags: which may be set, what a new inode inherits, and what they forbid.
//!
//! The rules are those of Linux's `may_delete`, `may_create` and `setattr_prepare` (fs/namei.c, fs/attr.c). The kernel
//! cannot apply them for us, because FUSE does not tell it of the flags.

use crate::error::{Error, Result};
use crate::format::value::Inode;

use super::items;

/// `FS_SYNC_FL`
pub const SYNC: u32 = 0x8;
/// `FS_IMMUTABLE_FL`
pub const IMMUTABLE: u32 = 0x10;
/// `FS_APPEND_FL`
pub const APPEND: u32 = 0x20;
/// `FS_NODUMP_FL`
pub const NODUMP: u32 = 0x40;
/// `FS_NOATIME_FL`
pub const NOATIME: u32 = 0x80;
/// `FS_DIRSYNC_FL`
pub const DIRSYNC: u32 = 0x1_0000;

/// Flags that a user may set.
pub const SETTABLE: u32 = SYNC | IMMUTABLE | APPEND | NODUMP | NOATIME | DIRSYNC;

/// The flags that a new inode of type `mode` takes over from its directory (as ext4 does).
pub fn inherited(parent: u32, mode: u32) -> u32 {
    parent
        & match items::file_type(mode) {
            libc::S_IFDIR => SYNC | NODUMP | NOATIME | DIRSYNC,
            libc::S_IFREG => SYNC | NODUMP | NOATIME,
            _ => NODUMP | NOATIME,
        }
}

fn refuse(inode: &Inode, flags: u32) -> Result<()> {
    if inode.flags & flags != 0 { Err(Error::NotPermitted) } else { Ok(()) }
}

/// Whether attributes, xattrs or names of the inode itself may change.
pub fn may_change(inode: &Inode) -> Result<()> {
    refuse(inode, IMMUTABLE | APPEND)
}

/// Whether anything of the inode may change at all.
pub fn may_touch(inode: &Inode) -> Result<()> {
    refuse(inode, IMMUTABLE)
}

/// Whether an entry may be added to the directory; also refuses a directory that was removed.
pub fn may_add(dir: &Inode) -> Result<()> {
    if dir.nlink == 0 {
        return Err(Error::NotFound);
    }
    refuse(dir, IMMUTABLE)
}

/// Whether `victim`'s entry may be taken out of `dir`.
pub fn may_take(dir: &Inode, victim: &Inode) -> Result<()> {
    may_change(dir)?;
    may_change(victim)
}
