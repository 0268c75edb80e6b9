//! The filesystem as its callers see it: one trait, spoken by the FUSE front above and implemented by
//! [`super`] and by the in-memory reference of the model-based tests.
//!
//! Permissions are the kernel's business (`default_permissions`); what is left to the filesystem is said at
//! each call. Names are any bytes but `/` and NUL, at most 255; `.` and `..` never arrive as names.
//! Every call is atomic also across a crash, unless it says otherwise (I6).

use crate::error::Result;
use crate::format::value::Time;
use crate::types::Ino;

/// Who asks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Caller {
    pub uid: u32,
    pub gid: u32,
    pub pid: u32,
}

/// What stat(2) shows of an inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attr {
    pub ino: Ino,
    pub generation: u32,
    /// Type and permission bits (`st_mode`).
    pub mode: u32,
    pub nlink: u32,
    pub uid: u32,
    pub gid: u32,
    pub rdev: u32,
    /// Bytes. For a directory a multiple of its entries, never 0; for a symlink its target's length.
    pub size: u64,
    /// In 512-byte sectors, as `st_blocks`.
    pub sectors: u64,
    pub atime: Time,
    pub mtime: Time,
    pub ctime: Time,
    pub btime: Time,
    /// `FS_*_FL` bits (`chattr`).
    pub flags: u32,
}

/// A time that a caller sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetTime {
    Now,
    At(Time),
}

/// What setattr changes; `None` leaves it. Any change sets ctime to now unless `ctime` is given.
///
/// chmod by a caller who is neither root nor in the file's group drops setgid from a regular file. chown and truncate drop
/// setuid, and setgid where the group may execute; chown does so unless the same call sets the mode. chmod keeps an access ACL's mask in step.
///
/// A call that sets both size and mode is two operations: first all but mode and flags, then these.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AttrChange {
    /// Permission bits, type bits ignored.
    pub mode: Option<u32>,
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    pub size: Option<u64>,
    pub atime: Option<SetTime>,
    pub mtime: Option<SetTime>,
    pub ctime: Option<Time>,
    /// `FS_*_FL` bits that the user may set (immutable, append-only, nodump, noatime ...); the whole set.
    pub flags: Option<u32>,
}

/// What to create.
#[derive(Clone, Copy, Debug)]
pub enum NewKind<'a> {
    File,
    Directory,
    Symlink(&'a [u8]),
    /// A FIFO, socket or device: type bits of `st_mode`, and the device number.
    Special {
        mode: u32,
        rdev: u32,
    },
}

/// A new inode's attributes. The group is the caller's, or the parent's where that is setgid; a new directory then is setgid as well.
/// With a default ACL on the parent it is inherited and `umask` ignored; otherwise `umask` is taken off `perm`.
#[derive(Clone, Copy, Debug)]
pub struct NewInode<'a> {
    pub kind: NewKind<'a>,
    /// Permission bits, before the umask.
    pub perm: u32,
    pub umask: u32,
}

/// rename(2): what may stand at the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RenameMode {
    Replace,
    NoReplace,
    Exchange,
}

/// A directory entry as readdir shows it.
#[derive(Clone, Copy, Debug)]
pub struct DirEntry<'a> {
    pub name: &'a [u8],
    pub ino: Ino,
    /// `DT_*`.
    pub dtype: u8,
    /// Where to go on after this entry. Stable: stays valid while other entries come and go. Below 2^63.
    pub cookie: u64,
    /// With `plus` only; never for `.` and `..`.
    pub attr: Option<Attr>,
}

/// setxattr(2) flags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum XattrMode {
    Set,
    Create,
    Replace,
}

/// fallocate(2) as FUSE delivers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fallocate {
    /// Promise space; grow the file if `keep_size` is false.
    Allocate { keep_size: bool },
    /// Make a hole (the size stays).
    PunchHole,
    /// Zeros, space kept promised.
    ZeroRange { keep_size: bool },
}

/// lseek(2) for holes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seek {
    Data,
    Hole,
}

/// statfs(2), in blocks of 4 KiB.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SpaceInfo {
    pub blocks: u64,
    pub free: u64,
    pub available: u64,
    pub files: u64,
    pub files_free: u64,
}

/// A filesystem.
pub trait Namespace: Send + Sync {
    fn lookup(&self, parent: Ino, name: &[u8]) -> Result<Attr>;
    /// The parent of a directory (`..`).
    fn parent(&self, dir: Ino) -> Result<Ino>;
    fn getattr(&self, ino: Ino) -> Result<Attr>;
    fn setattr(&self, who: &Caller, ino: Ino, change: &AttrChange) -> Result<Attr>;
    fn readlink(&self, ino: Ino) -> Result<Vec<u8>>;

    /// Makes an inode and its first name. Updates mtime and ctime of `parent`.
    fn create(&self, who: &Caller, parent: Ino, name: &[u8], new: &NewInode<'_>) -> Result<Attr>;
    fn link(&self, ino: Ino, parent: Ino, name: &[u8]) -> Result<Attr>;
    /// Removes a name of anything but a directory. An inode without names lives on until [`Namespace::forget`].
    fn unlink(&self, parent: Ino, name: &[u8]) -> Result<()>;
    fn rmdir(&self, parent: Ino, name: &[u8]) -> Result<()>;
    fn rename(&self, parent: Ino, name: &[u8], new_parent: Ino, new_name: &[u8], mode: RenameMode) -> Result<()>;

    /// Nobody refers to the inode any more: if it has no names, its blocks may be freed (in the background).
    /// After a crash or an unmount this holds for every inode without names.
    fn forget(&self, ino: Ino);

    /// Visits entries after `cookie` (0: from the start, `.` and `..` first) until `visit` returns false.
    /// The entry that it refused is visited again when reading goes on from the cookie before.
    fn readdir(&self, dir: Ino, cookie: u64, plus: bool, visit: &mut dyn FnMut(&DirEntry<'_>) -> bool) -> Result<()>;

    /// Reads at `offset` into `buf`; short only at the end of the file. Straight from the device where offset and buffer are
    /// aligned to a block. Does not touch atime (see [`Namespace::touch_atime`]).
    fn read(&self, ino: Ino, offset: u64, buf: &mut [u8]) -> Result<usize>;
    /// relatime: sets atime to now if it is not newer than mtime or ctime, or older than a day.
    fn touch_atime(&self, ino: Ino) -> Result<()>;
    /// Writes all of `data`; grows the file, sets mtime and ctime. `kill_priv` drops setuid and setgid. Atomic per 4 KiB block.
    /// Does not ask for immutable and append-only: those are checked where a file is opened, as data that the kernel accepted before
    /// the flag was set must still be written.
    fn write(&self, ino: Ino, offset: u64, data: &[u8], kill_priv: bool) -> Result<()>;
    fn fallocate(&self, ino: Ino, offset: u64, len: u64, mode: Fallocate) -> Result<()>;
    /// `NoSuchAddress` when `offset` is at or past the end of the file, or no data follows.
    fn seek(&self, ino: Ino, offset: u64, whence: Seek) -> Result<u64>;
    /// Copies inside the filesystem; returns the bytes copied, fewer only at the end of the source.
    fn copy_range(&self, from: Ino, from_offset: u64, to: Ino, to_offset: u64, len: u64) -> Result<u64>;

    /// Makes the inode durable, and every operation accepted before it.
    fn fsync(&self, ino: Ino, data_only: bool) -> Result<()>;
    /// Makes everything durable.
    fn sync(&self) -> Result<()>;

    /// Any namespace prefix is taken as it is. Setting `system.posix_acl_access` also sets the mode's permission bits from the ACL.
    fn set_xattr(&self, ino: Ino, name: &[u8], value: &[u8], mode: XattrMode) -> Result<()>;
    fn get_xattr(&self, ino: Ino, name: &[u8]) -> Result<Vec<u8>>;
    /// Names, each followed by NUL.
    fn list_xattr(&self, ino: Ino) -> Result<Vec<u8>>;
    fn remove_xattr(&self, ino: Ino, name: &[u8]) -> Result<()>;

    fn space(&self) -> Result<SpaceInfo>;
}
