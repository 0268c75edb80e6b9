//! The ioctls that reach a FUSE server: flags of inodes (`chattr`, `lsattr`), generations, trimming, shutting down.
//!
//! The kernel passes a command's argument along as its number declares it (in, out, its size), no further memory.

use super::control::Shutdown;
use super::front::{APPEND_ONLY, Front, IMMUTABLE};
use crate::error::{Error, Result};
use crate::namespace::api::AttrChange;
use crate::types::Ino;

/// Number and direction of a command, without the size of its argument (which differs between the two words of a machine).
const SIZE_MASK: u32 = 0x3fff << 16;
/// `FS_IOC_GETFLAGS`: `_IOR('f', 1, long)`, in truth an int.
const GET_FLAGS: u32 = 0x8000_6601;
/// `FS_IOC_SETFLAGS`: `_IOW('f', 2, long)`, in truth an int.
const SET_FLAGS: u32 = 0x4000_6602;
/// `FS_IOC_GETVERSION`: `_IOR('v', 1, long)`, in truth an int.
const GET_VERSION: u32 = 0x8000_7601;
/// `FS_IOC_FSGETXATTR`: `_IOR('X', 31, struct fsxattr)`.
const GET_FSXATTR: u32 = 0x8000_581f;
/// `FS_IOC_FSSETXATTR`: `_IOW('X', 32, struct fsxattr)`.
const SET_FSXATTR: u32 = 0x4000_5820;
/// `FITRIM`: `_IOWR('X', 121, struct fstrim_range)`.
const TRIM: u32 = 0xc000_5879;
/// `EXT4_IOC_SHUTDOWN`, `XFS_IOC_GOINGDOWN`, ...: `_IOR('X', 125, __u32)`, although it passes the word in.
const GOING_DOWN: u32 = 0x8000_587d;
/// The same as it should have been declared, so that the word arrives: `_IOW('X', 125, __u32)`.
const GOING_DOWN_IN: u32 = 0x4000_587d;

/// Bytes of `struct fsxattr`.
const FSXATTR_BYTES: usize = 28;

const SYNC: u32 = 0x8;
const NODUMP: u32 = 0x40;
const NOATIME: u32 = 0x80;
const DIRSYNC: u32 = 0x1_0000;
/// `FS_*_FL` bits that a user may set here.
const SETTABLE: u32 = SYNC | IMMUTABLE | APPEND_ONLY | NODUMP | NOATIME | DIRSYNC;
/// Pairs of `FS_*_FL` and `FS_XFLAG_*` with the same meaning.
const XFLAGS: [(u32, u32); 5] = [(IMMUTABLE, 0x8), (APPEND_ONLY, 0x10), (SYNC, 0x20), (NOATIME, 0x40), (NODUMP, 0x80)];

/// Runs command `cmd`; the result is the argument as the caller gets it back. `None`: not a command of ours.
///
/// The kernel has checked the right to change flags; `root` decides over what concerns the filesystem as a whole.
pub(super) fn run(front: &Front, root: bool, ino: Ino, cmd: u32, arg: &[u8]) -> Option<Result<Vec<u8>>> {
    Some(match cmd & !SIZE_MASK {
        GET_FLAGS => flags(front, ino).map(|flags| flags.to_ne_bytes().to_vec()),
        SET_FLAGS => word(arg, 0).and_then(|flags| set_flags(front, ino, flags)),
        GET_VERSION => front.ns.getattr(ino).map(|attr| attr.generation.to_ne_bytes().to_vec()),
        GET_FSXATTR => flags(front, ino).map(fsxattr),
        SET_FSXATTR => word(arg, 0).and_then(|xflags| set_xflags(front, ino, xflags)),
        TRIM | GOING_DOWN | GOING_DOWN_IN if !root => Err(Error::NotPermitted),
        TRIM => trim(front, arg),
        GOING_DOWN | GOING_DOWN_IN => going_down(front, arg),
        _ => return None,
    })
}

fn word(arg: &[u8], at: usize) -> Result<u32> {
    let bytes = arg.get(at..at + 4).ok_or(Error::Invalid)?;
    Ok(u32::from_ne_bytes(bytes.try_into().expect("four bytes")))
}

fn long(arg: &[u8], at: usize) -> Result<u64> {
    let bytes = arg.get(at..at + 8).ok_or(Error::Invalid)?;
    Ok(u64::from_ne_bytes(bytes.try_into().expect("eight bytes")))
}

fn flags(front: &Front, ino: Ino) -> Result<u32> {
    Ok(front.ns.getattr(ino)?.flags)
}

fn set_flags(front: &Front, ino: Ino, flags: u32) -> Result<Vec<u8>> {
    if flags & !SETTABLE != 0 {
        return Err(Error::NotSupported);
    }
    let change = AttrChange { flags: Some(flags), ..AttrChange::default() };
    front.setattr(ino, &change)?;
    Ok(Vec::new())
}

fn fsxattr(flags: u32) -> Vec<u8> {
    let xflags = XFLAGS.iter().filter(|(flag, _)| flags & flag != 0).fold(0, |all, (_, xflag)| all | xflag);
    let mut out = vec![0; FSXATTR_BYTES];
    out[..4].copy_from_slice(&xflags.to_ne_bytes());
    out
}

fn set_xflags(front: &Front, ino: Ino, xflags: u32) -> Result<Vec<u8>> {
    if xflags & !XFLAGS.iter().fold(0, |all, (_, xflag)| all | xflag) != 0 {
        return Err(Error::NotSupported);
    }
    let named = XFLAGS.iter().fold(0, |all, (flag, _)| all | flag);
    let kept = flags(front, ino)? & !named;
    let set = XFLAGS.iter().filter(|(_, xflag)| xflags & xflag != 0).fold(0, |all, (flag, _)| all | flag);
    set_flags(front, ino, kept | set)
}

/// `struct fstrim_range` in; the same with the bytes discarded out.
fn trim(front: &Front, arg: &[u8]) -> Result<Vec<u8>> {
    let (offset, len, min_len) = (long(arg, 0)?, long(arg, 8)?, long(arg, 16)?);
    let trimmed = front.control.trim(offset, len, min_len)?;
    let mut out = arg[..24].to_vec();
    out[8..16].copy_from_slice(&trimmed.to_ne_bytes());
    Ok(out)
}

/// The command's number says that the word comes out, so the kernel does not bring it in. Programs that shut a filesystem
/// down test crashes, and mean "save nothing" unless told otherwise.
fn going_down(front: &Front, arg: &[u8]) -> Result<Vec<u8>> {
    let how = match word(arg, 0) {
        Ok(0) => Shutdown::FullSync,
        Ok(1) => Shutdown::LogSync,
        Ok(2) | Err(_) => Shutdown::NoSync,
        Ok(_) => return Err(Error::Invalid),
    };
    front.control.shutdown(how)?;
    Ok(vec![0; 4])
}
