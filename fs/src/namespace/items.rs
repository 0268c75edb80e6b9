//! Inode items: reading them from a view, their file types, and what stat(2) shows of them.

use crate::error::{Error, Result};
use crate::format::DecodeError;
use crate::format::key::Key;
use crate::format::value::{Inode, Value};
use crate::meta::view::View;
use crate::types::{BLOCK_SIZE, Ino};

use super::api::Attr;
use super::data::FILE_SIZE_MAX;

/// The bits of a mode that chmod(2) sets.
pub const PERM_BITS: u32 = 0o7777;
/// Bytes that `st_size` counts for an entry of a directory.
const DIR_ENTRY_BYTES: u64 = 64;

/// The type bits of a mode.
pub fn file_type(mode: u32) -> u32 {
    mode & libc::S_IFMT
}

pub fn is_dir(mode: u32) -> bool {
    file_type(mode) == libc::S_IFDIR
}

pub fn is_regular(mode: u32) -> bool {
    file_type(mode) == libc::S_IFREG
}

pub fn is_symlink(mode: u32) -> bool {
    file_type(mode) == libc::S_IFLNK
}

/// The `DT_*` that belongs to a mode (`IFTODT` of `dirent.h`).
pub fn dtype(mode: u32) -> u8 {
    (file_type(mode) >> 12) as u8
}

/// The error for an item whose value is not of its key's kind, or which contradicts its neighbours.
pub fn misfit(what: &'static str, ino: Ino) -> Error {
    Error::Decode(DecodeError::BadValue { what, value: ino.0 })
}

/// The inode, if it exists.
pub fn find(view: &dyn View, ino: Ino) -> Result<Option<Inode>> {
    match view.get(&Key::inode(ino))? {
        // No call makes a file that long, and sums with its size must not overflow.
        Some(Value::Inode(inode)) if inode.size > FILE_SIZE_MAX => Err(misfit("size", ino)),
        Some(Value::Inode(inode)) => Ok(Some(*inode)),
        None => Ok(None),
        Some(_) => Err(misfit("inode", ino)),
    }
}

/// The inode; `Stale` if there is none.
pub fn get(view: &dyn View, ino: Ino) -> Result<Inode> {
    find(view, ino)?.ok_or(Error::Stale)
}

/// The inode of a directory; `NotADirectory` for any other.
pub fn directory(view: &dyn View, ino: Ino) -> Result<Inode> {
    let inode = get(view, ino)?;
    if is_dir(inode.mode) { Ok(inode) } else { Err(Error::NotADirectory) }
}

/// The inode of a regular file; `IsADirectory` or `Invalid` for others.
pub fn regular(view: &dyn View, ino: Ino) -> Result<Inode> {
    let inode = get(view, ino)?;
    match file_type(inode.mode) {
        libc::S_IFREG => Ok(inode),
        libc::S_IFDIR => Err(Error::IsADirectory),
        _ => Err(Error::Invalid),
    }
}

/// What stat(2) shows.
pub fn attr(ino: Ino, inode: &Inode) -> Attr {
    let size = match is_dir(inode.mode) {
        true => (inode.size.saturating_mul(DIR_ENTRY_BYTES)).max(BLOCK_SIZE as u64),
        false => inode.size,
    };
    Attr {
        ino,
        generation: inode.generation,
        mode: inode.mode,
        nlink: inode.nlink,
        uid: inode.uid,
        gid: inode.gid,
        rdev: inode.rdev,
        size,
        sectors: inode.blocks.saturating_mul(BLOCK_SIZE as u64 / 512),
        atime: inode.atime,
        mtime: inode.mtime,
        ctime: inode.ctime,
        btime: inode.btime,
        flags: inode.flags,
    }
}
