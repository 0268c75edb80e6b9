//! Operations of a trial: plain data that names files by path or by an open slot, so that any part of a list still makes sense,
//! and each prints on one line.

use std::fmt;

use super::random::Random;
use crate::namespace::api::{AttrChange, Fallocate, RenameMode, Seek, SetTime, XattrMode};
use crate::types::BLOCK_SIZE;

/// Slots in which files are kept open.
pub const SLOTS: usize = 4;

/// A name of the small universe.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name(pub u16);

impl Name {
    /// Longer than a name may be.
    pub const TOO_LONG: Self = Self(u16::MAX);

    pub fn bytes(self) -> Vec<u8> {
        match self.0 {
            n @ 0..4 => vec![b'a' + n as u8],
            4 => vec![b'l'; 255],
            5 => vec![0xff, 0xfe, b' ', b'\n'],
            u16::MAX => vec![b'L'; 256],
            n => format!("name-{n}").into_bytes(),
        }
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            4 => write!(f, "<255 l>"),
            5 => write!(f, "<not utf-8>"),
            u16::MAX => write!(f, "<256 L>"),
            _ => write!(f, "{}", String::from_utf8_lossy(&self.bytes())),
        }
    }
}

/// A file: by path from the root, or from what is open in a slot.
#[derive(Clone, PartialEq, Eq)]
pub struct Target {
    pub slot: Option<u8>,
    pub path: Vec<Name>,
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(slot) = self.slot {
            write!(f, "#{slot}")?;
        }
        if self.path.is_empty() && self.slot.is_none() {
            write!(f, "/")?;
        }
        self.path.iter().try_for_each(|name| write!(f, "/{name:?}"))
    }
}

/// A name in a directory, there or not.
#[derive(Clone, PartialEq, Eq)]
pub struct Place {
    pub dir: Target,
    pub name: Name,
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let root = self.dir.path.is_empty() && self.dir.slot.is_none();
        if root { write!(f, "/{:?}", self.name) } else { write!(f, "{:?}/{:?}", self.dir, self.name) }
    }
}

/// Who asks, as uid and gid alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct User(pub u32);

/// What [`Operation::Create`] makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum New {
    File,
    Directory,
    /// The length of the target.
    Symlink(u16),
    Fifo,
    Device(u32),
}

/// Contents, made from a seed; seed 0 is zeros.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Payload {
    pub seed: u64,
    pub len: u64,
}

impl Payload {
    pub fn bytes(self) -> Vec<u8> {
        let mut bytes = vec![0; self.len as usize];
        if self.seed != 0 {
            Random::new(self.seed).fill(&mut bytes);
        }
        bytes
    }
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}*{:x}", self.len, self.seed)
    }
}

/// Names of extended attributes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum XattrName {
    User(u8),
    /// 255 bytes.
    Long,
    AccessList,
    DefaultList,
}

impl XattrName {
    pub fn bytes(self) -> Vec<u8> {
        match self {
            Self::User(n) => format!("user.x{n}").into_bytes(),
            Self::Long => [&b"trusted."[..], &[b'l'; 247]].concat(),
            Self::AccessList => b"system.posix_acl_access".to_vec(),
            Self::DefaultList => b"system.posix_acl_default".to_vec(),
        }
    }

    /// The value that a payload stands for; for lists a valid one, of permissions taken from the seed.
    pub fn value(self, payload: Payload) -> Vec<u8> {
        match self {
            Self::User(_) | Self::Long => payload.bytes(),
            Self::AccessList | Self::DefaultList => access_list(payload.seed),
        }
    }
}

/// Owner, user 1000, group, mask, others; without user and mask once in eight.
fn access_list(seed: u64) -> Vec<u8> {
    let perm = |entry: u32| (seed >> (3 * entry) & 7) as u16;
    let none = u32::MAX;
    let full =
        [(1u16, perm(0), none), (2, perm(1), 1000), (4, perm(2), none), (16, perm(3), none), (32, perm(4), none)];
    let minimal = seed >> 15 & 7 == 0;
    let kept = full.iter().filter(|(tag, _, _)| !(minimal && (*tag == 2 || *tag == 16)));
    let entries =
        kept.flat_map(|(tag, perm, id)| [&tag.to_le_bytes()[..], &perm.to_le_bytes(), &id.to_le_bytes()].concat());
    2u32.to_le_bytes().into_iter().chain(entries).collect()
}

/// Something that changes while a directory is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Disturbance {
    /// A file of this name is made,
    pub create: Name,
    /// and this name is unlinked.
    pub unlink: Name,
}

/// One operation.
#[derive(Clone, PartialEq, Eq)]
pub enum Operation {
    Create {
        at: Place,
        new: New,
        perm: u32,
        umask: u32,
        user: User,
    },
    Link {
        target: Target,
        at: Place,
    },
    Unlink {
        at: Place,
    },
    Rmdir {
        at: Place,
    },
    Rename {
        from: Place,
        to: Place,
        mode: RenameMode,
    },
    /// Keeps the file open in a slot; what was open there is closed.
    Open {
        target: Target,
        slot: u8,
    },
    Close {
        slot: u8,
    },
    Write {
        target: Target,
        offset: u64,
        payload: Payload,
        kill_priv: bool,
    },
    Read {
        target: Target,
        offset: u64,
        len: u64,
    },
    SetAttr {
        target: Target,
        user: User,
        change: AttrChange,
    },
    Fallocate {
        target: Target,
        offset: u64,
        len: u64,
        mode: Fallocate,
    },
    Seek {
        target: Target,
        offset: u64,
        whence: Seek,
    },
    Copy {
        from: Target,
        from_offset: u64,
        to: Target,
        to_offset: u64,
        len: u64,
    },
    Fsync {
        target: Target,
        data_only: bool,
    },
    Sync,
    SetXattr {
        target: Target,
        name: XattrName,
        payload: Payload,
        mode: XattrMode,
    },
    GetXattr {
        target: Target,
        name: XattrName,
    },
    ListXattr {
        target: Target,
    },
    RemoveXattr {
        target: Target,
        name: XattrName,
    },
    /// Reads a directory `chunk` entries at a time.
    Readdir {
        target: Target,
        chunk: u8,
        plus: bool,
        disturbance: Option<Disturbance>,
    },
    Readlink {
        target: Target,
    },
    Stat {
        target: Target,
    },
    TouchAtime {
        target: Target,
    },
    /// Unmount and mount.
    Remount,
}

impl Operation {
    /// Makes durable what was accepted before it.
    pub fn is_sync(&self) -> bool {
        matches!(self, Self::Fsync { .. } | Self::Sync | Self::Remount)
    }

    /// May be in effect in part after a crash, block by block: more than one log record. A write is one record up to
    /// `record_blocks` touched blocks; fallocate and copying are several, truncation is one.
    pub fn may_be_split(&self, record_blocks: u64) -> bool {
        match self {
            Self::Write { offset, payload, .. } => touched_blocks(*offset, payload.len) > record_blocks,
            Self::Fallocate { .. } | Self::Copy { .. } => true,
            _ => false,
        }
    }
}

/// Blocks that a range of bytes touches.
pub fn touched_blocks(offset: u64, len: u64) -> u64 {
    let block = BLOCK_SIZE as u64;
    (offset + len).div_ceil(block) - offset / block
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Create { at, new, perm, umask, user } => {
                write!(f, "create {at:?} {new:?} {perm:04o} umask {umask:03o} by {}", user.0)
            }
            Self::Link { target, at } => write!(f, "link {target:?} to {at:?}"),
            Self::Unlink { at } => write!(f, "unlink {at:?}"),
            Self::Rmdir { at } => write!(f, "rmdir {at:?}"),
            Self::Rename { from, to, mode } => write!(f, "rename {from:?} to {to:?} {mode:?}"),
            Self::Open { target, slot } => write!(f, "open {target:?} as #{slot}"),
            Self::Close { slot } => write!(f, "close #{slot}"),
            Self::Write { target, offset, payload, kill_priv } => {
                write!(f, "write {target:?} at {offset} {payload:?}{}", if *kill_priv { " kill_priv" } else { "" })
            }
            Self::Read { target, offset, len } => write!(f, "read {target:?} at {offset} {len}"),
            Self::SetAttr { target, user, change } => write!(f, "setattr {target:?} {} by {}", Changes(change), user.0),
            Self::Fallocate { target, offset, len, mode } => {
                write!(f, "fallocate {target:?} at {offset} {len} {mode:?}")
            }
            Self::Seek { target, offset, whence } => write!(f, "seek {target:?} from {offset} {whence:?}"),
            Self::Copy { from, from_offset, to, to_offset, len } => {
                write!(f, "copy {from:?} at {from_offset} to {to:?} at {to_offset} {len}")
            }
            Self::Fsync { target, data_only } => write!(f, "fsync {target:?} data_only={data_only}"),
            Self::Sync => write!(f, "sync"),
            Self::SetXattr { target, name, payload, mode } => {
                write!(f, "setxattr {target:?} {name:?} {payload:?} {mode:?}")
            }
            Self::GetXattr { target, name } => write!(f, "getxattr {target:?} {name:?}"),
            Self::ListXattr { target } => write!(f, "listxattr {target:?}"),
            Self::RemoveXattr { target, name } => write!(f, "removexattr {target:?} {name:?}"),
            Self::Readdir { target, chunk, plus, disturbance } => {
                write!(f, "readdir {target:?} by {chunk} plus={plus}")?;
                disturbance
                    .iter()
                    .try_for_each(|d| write!(f, " while creating {:?}, unlinking {:?}", d.create, d.unlink))
            }
            Self::Readlink { target } => write!(f, "readlink {target:?}"),
            Self::Stat { target } => write!(f, "stat {target:?}"),
            Self::TouchAtime { target } => write!(f, "touch atime of {target:?}"),
            Self::Remount => write!(f, "remount"),
        }
    }
}

/// Only what a change of attributes changes.
struct Changes<'a>(&'a AttrChange);

impl fmt::Display for Changes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let AttrChange { mode, uid, gid, size, atime, mtime, ctime, flags } = self.0;
        let time = |set: &SetTime| match set {
            SetTime::Now => "now".to_string(),
            SetTime::At(time) => format!("{}.{:09}", time.secs, time.nanos),
        };
        let parts = [
            mode.map(|v| format!("mode={v:04o}")),
            uid.map(|v| format!("uid={v}")),
            gid.map(|v| format!("gid={v}")),
            size.map(|v| format!("size={v}")),
            atime.as_ref().map(|v| format!("atime={}", time(v))),
            mtime.as_ref().map(|v| format!("mtime={}", time(v))),
            ctime.map(|v| format!("ctime={}", time(&SetTime::At(v)))),
            flags.map(|v| format!("flags={v:#x}")),
        ];
        f.write_str(&parts.into_iter().flatten().collect::<Vec<_>>().join(" "))
    }
}
