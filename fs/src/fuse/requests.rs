//! The `fuser` crate's side of the front: requests in, calls of [`Front`], replies out. Nothing else knows `fuser`'s types, but for
//! the conversions in [`super::attr`] and [`super::errno`] and the session itself.
//!
//! What changes something is tried without waiting; what would have to wait for room is left to a late thread, with a copy of the request.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use fuser::*;

use super::attr::{TTL, bare_directory, from_request, kind_of_dtype, reply_attr, set_time};
use super::buffers::with_read_buffer;
use super::connection::Terms;
use super::errno::errno;
use super::front::{Front, Place};
use super::held::Held;
use super::ioctl;
use super::late::{Lane, Late};
use crate::error::Error;
use crate::meta::patience::without_waiting;
use crate::meta::witness::Mark;
use crate::namespace::api::{Attr, AttrChange, Caller, NewInode, NewKind, Seek};
use crate::types::{BLOCK_SIZE, Ino};

/// Most bytes in one WRITE request.
const WRITE_BYTES_MAX: u32 = 1 << 20;
/// Handles carry no state.
const NO_HANDLE: FileHandle = FileHandle(0);
/// Pages stay valid between opens.
const FILE_FLAGS: FopenFlags = FopenFlags::FOPEN_KEEP_CACHE;
/// `O_DIRECT` on our side as well: writers of one file need not wait for each other.
const DIRECT_FLAGS: FopenFlags = FopenFlags::FOPEN_DIRECT_IO.union(FopenFlags::FOPEN_PARALLEL_DIRECT_WRITES);
/// The kernel may keep listings, too; it drops them when it changes the directory.
const DIR_FLAGS: FopenFlags = FopenFlags::FOPEN_KEEP_CACHE.union(FopenFlags::FOPEN_CACHE_DIR);

/// What we ask of the kernel. Locks are not among it, so that it keeps them itself.
///
/// With HANDLE_KILLPRIV_V2 it asks once per file for `security.capability`, and not before each write(2) as it does otherwise. Of its
/// wishes to drop setuid `fuser` shows only those that come with a write or alone; with chown and truncate the namespace drops it unasked.
const CAPABILITIES: InitFlags = InitFlags::FUSE_ASYNC_DIO
    .union(InitFlags::FUSE_DIRECT_IO_ALLOW_MMAP)
    .union(InitFlags::FUSE_PARALLEL_DIROPS)
    .union(InitFlags::FUSE_ATOMIC_O_TRUNC)
    .union(InitFlags::FUSE_HANDLE_KILLPRIV_V2)
    .union(InitFlags::FUSE_DO_READDIRPLUS)
    .union(InitFlags::FUSE_READDIRPLUS_AUTO)
    .union(InitFlags::FUSE_CACHE_SYMLINKS)
    .union(InitFlags::FUSE_EXPORT_SUPPORT)
    .union(InitFlags::FUSE_POSIX_ACL)
    .union(InitFlags::FUSE_DONT_MASK)
    .union(InitFlags::FUSE_HAS_RESEND);

/// Sends `$ok` or the error.
macro_rules! answer {
    ($reply:ident, $result:expr, $value:pat => $ok:expr) => {
        match $result {
            Ok($value) => $ok,
            Err(error) => $reply.error(errno(&error)),
        }
    };
}

/// Does `$work` for `$req`, once, and answers; if it would have to wait for room, a late thread of `$lane` does it, with owned copies of what
/// `own` lists.
macro_rules! or_later {
    ($this:ident, $req:ident, $lane:ident, own($($kept:ident),*), |$front:ident| $work:expr, |$outcome:ident| $answer:expr) => {{
        let $front = &*$this.front;
        let mark = $front.mark($req.unique().0);
        match during(&mark, || without_waiting(|| $work)) {
            Err(Error::MustWait) => {
                $(let $kept = $kept.to_owned();)*
                $this.late.run(Lane::$lane, move |$front| {
                    $(let $kept = &*$kept;)*
                    let $outcome = during(&mark, || $work);
                    $answer
                });
            }
            $outcome => $answer,
        }
    }};
}

/// Work for the request that is marked, where requests are marked.
fn during<T>(mark: &Option<Mark>, work: impl FnOnce() -> T) -> T {
    match mark {
        Some(mark) => mark.during(work),
        None => work(),
    }
}

fn ino(number: INodeNo) -> Ino {
    Ino(number.0)
}

fn place(parent: INodeNo, name: &OsStr) -> Place<'_> {
    Place { parent: ino(parent), name: name.as_bytes() }
}

fn caller(req: &Request) -> Caller {
    Caller { uid: req.uid(), gid: req.gid(), pid: req.pid() }
}

fn generation(attr: &Attr) -> Generation {
    Generation(u64::from(attr.generation))
}

fn entry(reply: ReplyEntry, result: crate::error::Result<Attr>) {
    answer!(reply, result, attr => reply.entry(&TTL, &reply_attr(&attr), generation(&attr)));
}

fn empty(reply: ReplyEmpty, result: crate::error::Result<()>) {
    answer!(reply, result, () => reply.ok());
}

/// An attribute, or its length if the caller has no room for any.
fn xattr(reply: ReplyXattr, result: crate::error::Result<Vec<u8>>, room: u32) {
    answer!(reply, result, value => match room {
        0 => reply.size(value.len() as u32),
        _ if value.len() > room as usize => reply.error(Errno::ERANGE),
        _ => reply.data(&value),
    });
}

/// What `fuser` calls: a front, and where requests and answers wait.
pub(super) struct Requests {
    front: Arc<Front>,
    late: Late,
    held: Held,
    /// Session threads that wait for a flush.
    syncing: AtomicUsize,
    /// What was agreed on in the greeting.
    terms: Arc<OnceLock<Terms>>,
}

impl Requests {
    pub(super) fn new(front: Arc<Front>, late: Late, held: Held) -> Self {
        Self { front, late, held, syncing: AtomicUsize::new(0), terms: Arc::default() }
    }

    /// Where the terms are found after the greeting.
    pub(super) fn terms(&self) -> Arc<OnceLock<Terms>> {
        Arc::clone(&self.terms)
    }

    /// Answers an fsync: here as long as enough other session threads stay free, else together with all who wait.
    fn sync(&self, ino: Ino, data_only: bool, reply: ReplyEmpty) {
        let inline_max = (self.front.options.threads / 2).max(1);
        if self.syncing.fetch_add(1, Ordering::Relaxed) < inline_max {
            let outcome = self.front.ns.fsync(ino, data_only);
            self.syncing.fetch_sub(1, Ordering::Relaxed);
            return empty(reply, outcome);
        }
        self.syncing.fetch_sub(1, Ordering::Relaxed);
        self.late.sync(move |outcome| answer!(reply, outcome, () => reply.ok()));
    }
}

impl Front {
    /// How a file opened with `flags` of open(2) is cached. With the writeback cache the kernel trusts its own mtime and does not move it for
    /// direct writes in our way, so there `O_DIRECT` goes its common way.
    fn file_flags(&self, flags: i32) -> FopenFlags {
        if self.options.writeback || flags & libc::O_DIRECT == 0 { FILE_FLAGS } else { FILE_FLAGS | DIRECT_FLAGS }
    }
}

impl Filesystem for Requests {
    fn init(&mut self, _req: &Request, config: &mut KernelConfig) -> io::Result<()> {
        let mut wanted = CAPABILITIES;
        if self.front.options.writeback {
            wanted |= InitFlags::FUSE_WRITEBACK_CACHE;
        }
        let offered = config.capabilities();
        config.add_capabilities(wanted & offered).map_err(|_| io::Error::from(io::ErrorKind::Unsupported))?;
        config.set_max_write(WRITE_BYTES_MAX).map_err(|_| io::Error::from(io::ErrorKind::Unsupported))?;
        config
            .set_max_background(self.front.options.background_max)
            .map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
        let (offered, agreed) = (offered.bits(), (wanted & offered).bits());
        self.terms.get_or_init(|| Terms { minor: config.kernel_abi().1, offered, agreed });
        Ok(())
    }

    fn lookup(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        match self.front.lookup(place(parent, name)) {
            // The kernel may remember that there is no such name. (Of a file handle being resolved it wants the error.)
            Err(Error::NotFound) if name != "." && name != ".." => {
                reply.entry(&TTL, &bare_directory(Ino(0)), Generation(0));
            }
            result => entry(reply, result),
        }
    }

    fn forget(&self, _req: &Request, nodeid: INodeNo, _nlookup: u64) {
        self.front.forgotten(ino(nodeid));
    }

    fn getattr(&self, _req: &Request, nodeid: INodeNo, _fh: Option<FileHandle>, reply: ReplyAttr) {
        answer!(reply, self.front.ns.getattr(ino(nodeid)), attr => reply.attr(&TTL, &reply_attr(&attr)));
    }

    fn setattr(
        &self,
        req: &Request,
        nodeid: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        atime: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        ctime: Option<SystemTime>,
        _fh: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let change = AttrChange {
            mode,
            uid,
            gid,
            size,
            atime: atime.map(set_time),
            mtime: mtime.map(set_time),
            ctime: ctime.map(from_request),
            flags: None,
        };
        or_later!(self, req, Names, own(), |front| front.setattr(ino(nodeid), &change), |outcome| {
            answer!(reply, outcome, attr => reply.attr(&TTL, &reply_attr(&attr)));
        });
    }

    fn readlink(&self, _req: &Request, nodeid: INodeNo, reply: ReplyData) {
        let target = self.front.ns.readlink(ino(nodeid)).inspect(|_| self.front.accessed(ino(nodeid)));
        answer!(reply, target, target => reply.data(&target));
    }

    fn mknod(&self, req: &Request, parent: INodeNo, name: &OsStr, mode: u32, umask: u32, rdev: u32, reply: ReplyEntry) {
        let kind = match mode & libc::S_IFMT {
            0 | libc::S_IFREG => NewKind::File,
            type_bits => NewKind::Special { mode: type_bits, rdev },
        };
        let (who, new) = (caller(req), NewInode { kind, perm: mode & 0o7777, umask });
        or_later!(self, req, Names, own(name), |front| front.create(&who, place(parent, name), &new), |outcome| {
            entry(reply, outcome);
        });
    }

    fn mkdir(&self, req: &Request, parent: INodeNo, name: &OsStr, mode: u32, umask: u32, reply: ReplyEntry) {
        let (who, new) = (caller(req), NewInode { kind: NewKind::Directory, perm: mode & 0o7777, umask });
        or_later!(self, req, Names, own(name), |front| front.create(&who, place(parent, name), &new), |outcome| {
            entry(reply, outcome);
        });
    }

    fn symlink(&self, req: &Request, parent: INodeNo, name: &OsStr, target: &Path, reply: ReplyEntry) {
        let who = caller(req);
        let symlink = move |front: &Front, name: &OsStr, target: &Path| {
            let kind = NewKind::Symlink(target.as_os_str().as_bytes());
            front.create(&who, place(parent, name), &NewInode { kind, perm: 0o777, umask: 0 })
        };
        or_later!(self, req, Names, own(name, target), |front| symlink(front, name, target), |outcome| entry(
            reply, outcome
        ));
    }

    fn link(&self, req: &Request, nodeid: INodeNo, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        or_later!(self, req, Names, own(name), |front| front.link(ino(nodeid), place(parent, name)), |outcome| {
            entry(reply, outcome);
        });
    }

    fn unlink(&self, req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        or_later!(self, req, Names, own(name), |front| front.unlink(place(parent, name)), |outcome| empty(
            reply, outcome
        ));
    }

    fn rmdir(&self, req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        or_later!(self, req, Names, own(name), |front| front.rmdir(place(parent, name)), |outcome| empty(
            reply, outcome
        ));
    }

    fn rename(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        or_later!(
            self,
            req,
            Names,
            own(name, new_name),
            |front| front.rename(place(parent, name), place(new_parent, new_name), flags.bits()),
            |outcome| empty(reply, outcome)
        );
    }

    fn create(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        flags: i32,
        reply: ReplyCreate,
    ) {
        let (who, new) = (caller(req), NewInode { kind: NewKind::File, perm: mode & 0o7777, umask });
        let file_flags = self.front.file_flags(flags);
        let create = move |front: &Front, name: &OsStr| {
            front.create(&who, place(parent, name), &new).inspect(|attr| front.opened(attr.ino, flags))
        };
        or_later!(self, req, Names, own(name), |front| create(front, name), |outcome| {
            answer!(reply, outcome, attr => {
                reply.created(&TTL, &reply_attr(&attr), generation(&attr), NO_HANDLE, file_flags);
            });
        });
    }

    fn open(&self, req: &Request, nodeid: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        let file_flags = self.front.file_flags(flags.0);
        or_later!(self, req, Names, own(), |front| front.open(ino(nodeid), flags.0), |outcome| {
            answer!(reply, outcome, () => reply.opened(NO_HANDLE, file_flags));
        });
    }

    fn release(
        &self,
        _req: &Request,
        nodeid: INodeNo,
        _fh: FileHandle,
        flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        self.front.released(ino(nodeid), flags.0);
        reply.ok();
    }

    fn read(
        &self,
        _req: &Request,
        nodeid: INodeNo,
        _fh: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        with_read_buffer(size as usize, |buf| {
            answer!(reply, self.front.read(ino(nodeid), offset, buf), len => reply.data(&buf[..len]));
        });
    }

    fn write(
        &self,
        _req: &Request,
        nodeid: INodeNo,
        _fh: FileHandle,
        offset: u64,
        data: &[u8],
        write_flags: WriteFlags,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let kill_priv = write_flags.contains(WriteFlags::FUSE_WRITE_KILL_SUIDGID);
        let (nodeid, len) = (ino(nodeid), data.len() as u32);
        match without_waiting(|| self.front.ns.write(nodeid, offset, data, kill_priv)) {
            Ok(()) => {
                let pause = self.front.control.pause_after(u64::from(len));
                self.held.give_after(pause, move || reply.written(len));
            }
            // Who has waited for room has been slowed down enough.
            Err(Error::MustWait) => {
                let data = data.to_owned();
                self.late.run(Lane::Contents, move |front| {
                    let written = front.ns.write(nodeid, offset, &data, kill_priv);
                    answer!(reply, written, () => reply.written(len));
                });
            }
            Err(error) => reply.error(errno(&error)),
        }
    }

    /// Nothing is kept per handle; ENOSYS saves the request from now on. The kernel writes its own pages out first in any case.
    fn flush(&self, _req: &Request, _ino: INodeNo, _fh: FileHandle, _lock_owner: LockOwner, reply: ReplyEmpty) {
        reply.error(Errno::ENOSYS);
    }

    fn fsync(&self, _req: &Request, nodeid: INodeNo, _fh: FileHandle, datasync: bool, reply: ReplyEmpty) {
        self.sync(ino(nodeid), datasync, reply);
    }

    fn opendir(&self, _req: &Request, _ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        reply.opened(NO_HANDLE, DIR_FLAGS);
    }

    fn readdir(&self, _req: &Request, nodeid: INodeNo, _fh: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let listed = self.front.ns.readdir(ino(nodeid), offset, false, &mut |entry| {
            let name = OsStr::from_bytes(entry.name);
            !reply.add(INodeNo(entry.ino.0), entry.cookie, kind_of_dtype(entry.dtype), name)
        });
        self.front.listed(ino(nodeid));
        answer!(reply, listed, () => reply.ok());
    }

    fn readdirplus(
        &self,
        _req: &Request,
        nodeid: INodeNo,
        _fh: FileHandle,
        offset: u64,
        mut reply: ReplyDirectoryPlus,
    ) {
        let listed = self.front.ns.readdir(ino(nodeid), offset, true, &mut |entry| {
            let name = OsStr::from_bytes(entry.name);
            let (attr, generation) = match &entry.attr {
                Some(attr) => (reply_attr(attr), generation(attr)),
                None => (bare_directory(entry.ino), Generation(0)),
            };
            !reply.add(attr.ino, entry.cookie, name, &TTL, &attr, generation)
        });
        self.front.listed(ino(nodeid));
        answer!(reply, listed, () => reply.ok());
    }

    fn fsyncdir(&self, _req: &Request, nodeid: INodeNo, _fh: FileHandle, datasync: bool, reply: ReplyEmpty) {
        self.sync(ino(nodeid), datasync, reply);
    }

    fn statfs(&self, _req: &Request, _ino: INodeNo, reply: ReplyStatfs) {
        const BLOCK: u32 = BLOCK_SIZE as u32;
        answer!(reply, self.front.ns.space(), s => {
            reply.statfs(s.blocks, s.free, s.available, s.files, s.files_free, BLOCK, 255, BLOCK);
        });
    }

    fn setxattr(
        &self,
        req: &Request,
        nodeid: INodeNo,
        name: &OsStr,
        value: &[u8],
        flags: i32,
        _position: u32,
        reply: ReplyEmpty,
    ) {
        or_later!(
            self,
            req,
            Names,
            own(name, value),
            |front| front.set_xattr(ino(nodeid), name.as_bytes(), value, flags),
            |outcome| empty(reply, outcome)
        );
    }

    fn getxattr(&self, _req: &Request, nodeid: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        xattr(reply, self.front.ns.get_xattr(ino(nodeid), name.as_bytes()), size);
    }

    fn listxattr(&self, req: &Request, nodeid: INodeNo, size: u32, reply: ReplyXattr) {
        xattr(reply, self.front.list_xattr(ino(nodeid), req.uid() == 0), size);
    }

    fn removexattr(&self, req: &Request, nodeid: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        or_later!(self, req, Names, own(name), |front| front.remove_xattr(ino(nodeid), name.as_bytes()), |outcome| {
            empty(reply, outcome);
        });
    }

    fn ioctl(
        &self,
        req: &Request,
        nodeid: INodeNo,
        _fh: FileHandle,
        _flags: IoctlFlags,
        cmd: u32,
        in_data: &[u8],
        out_size: u32,
        reply: ReplyIoctl,
    ) {
        let is_root = req.uid() == 0;
        or_later!(
            self,
            req,
            Names,
            own(in_data),
            |front| ioctl::run(front, is_root, ino(nodeid), cmd, in_data).transpose(),
            |outcome| answer!(reply, outcome, out => match out {
                Some(out) => reply.ioctl(0, &out[..out.len().min(out_size as usize)]),
                None => reply.error(Errno::ENOTTY),
            })
        );
    }

    fn fallocate(
        &self,
        req: &Request,
        nodeid: INodeNo,
        _fh: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        or_later!(self, req, Contents, own(), |front| front.fallocate(ino(nodeid), offset, length, mode), |outcome| {
            empty(reply, outcome);
        });
    }

    fn lseek(&self, _req: &Request, nodeid: INodeNo, _fh: FileHandle, offset: i64, whence: i32, reply: ReplyLseek) {
        let whence = match whence {
            libc::SEEK_DATA => Seek::Data,
            libc::SEEK_HOLE => Seek::Hole,
            _ => return reply.error(Errno::EINVAL),
        };
        let Ok(offset) = u64::try_from(offset) else { return reply.error(Errno::ENXIO) };
        let (ns, ino) = (self.front.ns.clone(), ino(nodeid));
        let seek = move || answer!(reply, ns.seek(ino, offset, whence), found => reply.offset(found as i64));
        if !self.front.options.writeback || !self.front.writers.any(ino) {
            return seek();
        }
        // The kernel asks before it has written its pages out; of those we would say that they are holes.
        self.front.aside.run(move |line| {
            if let Err(error) = line.write_out(ino) {
                tracing::debug!("pages of inode {ino} were not written out: {error}");
            }
            seek();
        });
    }

    fn copy_file_range(
        &self,
        req: &Request,
        ino_in: INodeNo,
        _fh_in: FileHandle,
        offset_in: u64,
        ino_out: INodeNo,
        _fh_out: FileHandle,
        offset_out: u64,
        len: u64,
        _flags: CopyFileRangeFlags,
        reply: ReplyWrite,
    ) {
        let copy = move |front: &Front| front.copy((ino(ino_in), offset_in), (ino(ino_out), offset_out), len);
        or_later!(self, req, Contents, own(), |front| copy(front), |outcome| {
            answer!(reply, outcome, bytes => reply.written(bytes));
        });
    }
}
