//! The FUSE front on a real mount, over the in-memory reference: what the kernel and the front together make of a namespace.
//!
//! Needs root and `/dev/fuse`; without them each test says so and is skipped.

use std::ffi::CString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use gleanfs::error::{Error, Result as FsResult};
use gleanfs::fuse::{Control, MountOptions, MountedSession, Shutdown, Unmounter, serve};
use gleanfs::namespace::api::Namespace;
use gleanfs::namespace::reference::Reference;
use gleanfs::types::Ino;
use parking_lot::Mutex;
use tempfile::TempDir;

/// Remembers what it was asked.
#[derive(Default)]
struct Recorder {
    shutdowns: Mutex<Vec<Shutdown>>,
    trimmed: AtomicU64,
}

impl Control for Recorder {
    fn trim(&self, offset: u64, len: u64, min_len: u64) -> FsResult<u64> {
        if min_len > len {
            return Err(Error::Invalid);
        }
        self.trimmed.store(offset, Ordering::Relaxed);
        Ok(len / 2)
    }

    fn shutdown(&self, how: Shutdown) -> FsResult<()> {
        self.shutdowns.lock().push(how);
        Ok(())
    }
}

/// A mounted reference; unmounts when dropped, also by a failing test.
struct Mounted {
    session: Option<MountedSession>,
    ns: Arc<Reference>,
    control: Arc<Recorder>,
    dir: TempDir,
}

impl Mounted {
    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn ino(&self, name: &str) -> Ino {
        Ino(fs::symlink_metadata(self.path(name)).unwrap().ino())
    }
}

/// Mounts, or says why not.
fn mount(options: &MountOptions) -> Option<Mounted> {
    if let Err(error) = OpenOptions::new().read(true).write(true).open("/dev/fuse") {
        eprintln!("skipped: /dev/fuse: {error}");
        return None;
    }
    // SAFETY: no arguments, no failure.
    if unsafe { libc::geteuid() } != 0 {
        eprintln!("skipped: mounting needs root");
        return None;
    }
    let (ns, control) = (Arc::new(Reference::new()), Arc::new(Recorder::default()));
    let dir = tempfile::tempdir().unwrap();
    let session = serve(ns.clone(), control.clone(), dir.path(), "/dev/some device", options).unwrap();
    Some(Mounted { session: Some(session), ns, control, dir })
}

macro_rules! mounted {
    ($options:expr) => {
        match mount(&$options) {
            Some(mounted) => mounted,
            None => return,
        }
    };
    () => {
        mounted!(MountOptions::default())
    };
}

fn errno(result: io::Result<impl Sized>) -> i32 {
    result.err().and_then(|e| e.raw_os_error()).unwrap_or(0)
}

fn checked(code: i32) -> io::Result<i32> {
    if code < 0 { Err(io::Error::last_os_error()) } else { Ok(code) }
}

fn c_path(path: &Path) -> CString {
    CString::new(path.as_os_str().as_bytes()).unwrap()
}

/// Waits until `done`, for what the kernel does in its own time. Panics after ten seconds.
fn eventually(what: &str, done: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !done() {
        assert!(Instant::now() < deadline, "{what} did not happen");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn the_mount_shows_its_type_and_device_and_is_gone_after_unmounting() {
    let mut fs = mounted!();
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let line = table.lines().find(|l| l.contains(fs.dir.path().to_str().unwrap())).unwrap();
    assert!(line.contains("- fuse.gleanfs /dev/some\\040device "), "{line}");
    let session = fs.session.take().unwrap();
    let unmounter = session.unmounter();
    assert!(unmounter.is_mounted().unwrap());
    assert_eq!(Unmounter::find(fs.dir.path()).unwrap().mountpoint(), unmounter.mountpoint());
    unmounter.unmount().unwrap();
    session.wait().unwrap();
    assert!(!unmounter.is_mounted().unwrap());
    assert_eq!(fs::read_dir(fs.dir.path()).unwrap().count(), 0);
}

#[test]
fn a_busy_mount_says_so_and_is_detached_on_demand() {
    let mut fs = mounted!();
    let mut file = File::create(fs.path("open")).unwrap();
    let session = fs.session.take().unwrap();
    let unmounter = session.unmounter();
    assert!(unmounter.unmount().unwrap_err().to_string().contains("is busy"));
    unmounter.unmount_or_detach().unwrap();
    assert!(!unmounter.is_mounted().unwrap());
    file.write_all(b"still served").unwrap();
    drop(file);
    session.wait().unwrap();
}

#[test]
fn an_aborted_connection_ends_the_session_and_leaves_no_dead_mount() {
    let mut fs = mounted!();
    let minor = libc::minor(fs::metadata(fs.dir.path()).unwrap().dev());
    let control = tempfile::tempdir().unwrap();
    let path = c_path(control.path());
    // SAFETY: NUL-terminated strings, and no data.
    let mounted = unsafe { libc::mount(c"none".as_ptr(), path.as_ptr(), c"fusectl".as_ptr(), 0, std::ptr::null()) };
    checked(mounted).unwrap();
    let aborted = fs::write(control.path().join(minor.to_string()).join("abort"), "1");
    // SAFETY: a NUL-terminated string.
    checked(unsafe { libc::umount(path.as_ptr()) }).unwrap();
    aborted.unwrap();
    let session = fs.session.take().unwrap();
    let unmounter = session.unmounter();
    session.wait().unwrap();
    assert!(!unmounter.is_mounted().unwrap());
}

#[test]
fn names_come_and_go() {
    let fs = mounted!();
    assert_eq!(errno(fs::metadata(fs.path("a"))), libc::ENOENT);
    fs::write(fs.path("a"), "one").unwrap();
    assert_eq!(fs::read(fs.path("a")).unwrap(), b"one");
    fs::hard_link(fs.path("a"), fs.path("b")).unwrap();
    assert_eq!(fs::metadata(fs.path("a")).unwrap().nlink(), 2);
    fs::create_dir(fs.path("d")).unwrap();
    fs::rename(fs.path("a"), fs.path("d/a")).unwrap();
    assert_eq!(errno(fs::metadata(fs.path("a"))), libc::ENOENT);
    assert_eq!(errno(fs::remove_dir(fs.path("d"))), libc::ENOTEMPTY);
    std::os::unix::fs::symlink("d/a", fs.path("s")).unwrap();
    assert_eq!(fs::read(fs.path("s")).unwrap(), b"one");
    assert_eq!(fs::read_link(fs.path("s")).unwrap(), Path::new("d/a"));
    fs::remove_file(fs.path("d/a")).unwrap();
    assert_eq!(errno(fs::read(fs.path("s"))), libc::ENOENT);
    assert_eq!(fs::metadata(fs.path("b")).unwrap().nlink(), 1);
    fs::remove_dir(fs.path("d")).unwrap();
}

#[test]
fn rename_flags_are_honoured() {
    let fs = mounted!();
    let rename = |from: &str, to: &str, flags| {
        let (from, to) = (c_path(&fs.path(from)), c_path(&fs.path(to)));
        // SAFETY: both are NUL-terminated strings.
        checked(unsafe { libc::renameat2(libc::AT_FDCWD, from.as_ptr(), libc::AT_FDCWD, to.as_ptr(), flags) })
    };
    fs::write(fs.path("a"), "a").unwrap();
    fs::create_dir(fs.path("b")).unwrap();
    assert_eq!(errno(rename("a", "b", libc::RENAME_NOREPLACE)), libc::EEXIST);
    rename("a", "b", libc::RENAME_EXCHANGE).unwrap();
    assert!(fs::metadata(fs.path("a")).unwrap().is_dir());
    assert_eq!(fs::read(fs.path("b")).unwrap(), b"a");
    assert_eq!(errno(rename("a", "c", libc::RENAME_WHITEOUT)), libc::EINVAL);
}

#[test]
fn an_unlinked_file_lives_until_it_is_closed_and_then_goes() {
    let fs = mounted!();
    let mut file = OpenOptions::new().read(true).write(true).create_new(true).open(fs.path("f")).unwrap();
    file.write_all(b"kept").unwrap();
    let ino = fs.ino("f");
    fs::remove_file(fs.path("f")).unwrap();
    file.sync_all().unwrap();
    let mut text = String::new();
    file.seek(SeekFrom::Start(0)).unwrap();
    file.read_to_string(&mut text).unwrap();
    assert_eq!(text, "kept");
    assert_eq!(fs.ns.getattr(ino).unwrap().nlink, 0);
    drop(file);
    eventually("forgetting the file", || fs.ns.getattr(ino).is_err());
}

#[test]
fn a_replaced_file_and_a_removed_directory_are_forgotten_but_a_linked_file_is_not() {
    let fs = mounted!();
    for name in ["old", "new", "linked"] {
        fs::write(fs.path(name), name).unwrap();
    }
    fs::create_dir(fs.path("d")).unwrap();
    fs::hard_link(fs.path("linked"), fs.path("other")).unwrap();
    let (old, linked, dir) = (fs.ino("old"), fs.ino("linked"), fs.ino("d"));
    fs::rename(fs.path("new"), fs.path("old")).unwrap();
    fs::remove_dir(fs.path("d")).unwrap();
    fs::remove_file(fs.path("linked")).unwrap();
    eventually("forgetting the replaced file", || fs.ns.getattr(old).is_err());
    eventually("forgetting the directory", || fs.ns.getattr(dir).is_err());
    assert_eq!(fs.ns.getattr(linked).unwrap().nlink, 1);
    assert_eq!(fs::read(fs.path("other")).unwrap(), b"linked");
}

#[test]
fn a_listing_goes_on_while_names_vanish() {
    let fs = mounted!();
    let names: Vec<_> = (0..3000).map(|i| format!("file-{i:04}")).collect();
    for name in &names {
        fs::write(fs.path(name), "").unwrap();
    }
    let mut listed = Vec::new();
    for entry in fs::read_dir(fs.dir.path()).unwrap() {
        let entry = entry.unwrap();
        assert!(entry.metadata().unwrap().is_file());
        fs::remove_file(entry.path()).unwrap();
        listed.push(entry.file_name().into_string().unwrap());
    }
    listed.sort();
    assert_eq!(listed, names);
    assert_eq!(fs::read_dir(fs.dir.path()).unwrap().count(), 0);
}

#[test]
fn holes_are_seen_past_pages_that_the_kernel_has_not_written_out() {
    let fs = mounted!();
    let file = OpenOptions::new().read(true).write(true).create_new(true).open(fs.path("f")).unwrap();
    let end = 1 << 20;
    file.write_all_at(b"x", end - 1).unwrap();
    let seek = |from: i64, whence| checked_off(&file, from, whence);
    let data = seek(0, libc::SEEK_DATA).unwrap();
    assert!(data > 0 && data < end as i64, "data found at {data}");
    assert_eq!(seek(0, libc::SEEK_HOLE).unwrap(), 0);
    assert_eq!(seek(end as i64 - 1, libc::SEEK_HOLE).unwrap(), end as i64);
    file.write_all_at(b"y", 0).unwrap();
    assert_eq!(seek(0, libc::SEEK_DATA).unwrap(), 0);
    assert_eq!(errno(seek(end as i64, libc::SEEK_DATA)), libc::ENXIO);
}

fn checked_off(file: &File, from: i64, whence: i32) -> io::Result<i64> {
    // SAFETY: the descriptor is open.
    match unsafe { libc::lseek(file.as_raw_fd(), from, whence) } {
        -1 => Err(io::Error::last_os_error()),
        offset => Ok(offset),
    }
}

#[test]
fn many_writers_may_seek_for_holes_at_once() {
    let fs = mounted!(MountOptions { threads: 2, ..MountOptions::default() });
    std::thread::scope(|scope| {
        for i in 0..8 {
            let path = fs.path(&i.to_string());
            scope.spawn(move || {
                let file = OpenOptions::new().read(true).write(true).create_new(true).open(path).unwrap();
                for round in 0..20 {
                    file.write_all_at(&[1; 10_000], round * 20_000).unwrap();
                    assert_eq!(
                        checked_off(&file, round as i64 * 20_000, libc::SEEK_DATA).unwrap(),
                        round as i64 * 20_000
                    );
                }
            });
        }
    });
}

#[test]
fn fallocate_modes_and_copies_reach_the_namespace() {
    let fs = mounted!();
    let file = OpenOptions::new().read(true).write(true).create_new(true).open(fs.path("f")).unwrap();
    // SAFETY: the descriptor is open.
    let fallocate = |mode, at, len| checked(unsafe { libc::fallocate(file.as_raw_fd(), mode, at, len) });
    file.write_all_at(&[7; 16384], 0).unwrap();
    fallocate(libc::FALLOC_FL_KEEP_SIZE, 0, 1 << 20).unwrap();
    assert_eq!(file.metadata().unwrap().len(), 16384);
    fallocate(libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE, 4096, 4096).unwrap();
    fallocate(libc::FALLOC_FL_ZERO_RANGE, 12288, 8192).unwrap();
    assert_eq!(file.metadata().unwrap().len(), 20480);
    let mut expected = vec![7; 16384];
    expected[4096..8192].fill(0);
    expected[12288..].fill(0);
    expected.resize(20480, 0);
    assert_eq!(fs::read(fs.path("f")).unwrap(), expected);
    assert_eq!(errno(fallocate(libc::FALLOC_FL_COLLAPSE_RANGE, 0, 4096)), libc::EOPNOTSUPP);

    let copy = OpenOptions::new().read(true).write(true).create_new(true).open(fs.path("copy")).unwrap();
    let (mut from, mut to) = (100, 200);
    // SAFETY: open descriptors, and offsets that outlive the call.
    let copied = unsafe { libc::copy_file_range(file.as_raw_fd(), &mut from, copy.as_raw_fd(), &mut to, 1 << 20, 0) };
    assert_eq!(copied, 20380);
    assert_eq!(fs::read(fs.path("copy")).unwrap()[200..], expected[100..]);
}

#[test]
fn buffered_mapped_and_direct_writes_are_one_file() {
    for writeback in [true, false] {
        write_in_three_ways(&mounted!(MountOptions { writeback, ..MountOptions::default() }));
    }
}

fn write_in_three_ways(fs: &Mounted) {
    let file = OpenOptions::new().read(true).write(true).create_new(true).open(fs.path("f")).unwrap();
    file.write_all_at(&[1; 12288], 0).unwrap();
    // SAFETY: a shared mapping of a file of that length, unmapped below.
    unsafe {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let map = libc::mmap(std::ptr::null_mut(), 12288, protection, libc::MAP_SHARED, file.as_raw_fd(), 0);
        assert_ne!(map, libc::MAP_FAILED);
        *map.cast::<u8>().add(4096) = 2;
        assert_eq!(libc::msync(map, 12288, libc::MS_SYNC), 0);
        libc::munmap(map, 12288);
    }
    let direct = OpenOptions::new().read(true).write(true).custom_flags(libc::O_DIRECT).open(fs.path("f")).unwrap();
    let mut memory = vec![0u8; 8192];
    let at = memory.as_ptr().align_offset(4096);
    let page = &mut memory[at..at + 4096];
    direct.read_exact_at(page, 4096).unwrap();
    assert_eq!((page[0], page[1]), (2, 1));
    page.fill(3);
    let before = direct.metadata().unwrap().mtime_nsec();
    eventually("a later time of writing", || {
        direct.write_all_at(page, 8192).unwrap();
        direct.metadata().unwrap().mtime_nsec() != before
    });
    let mut byte = [0];
    file.read_exact_at(&mut byte, 8192).unwrap();
    assert_eq!(byte, [3]);
}

#[test]
fn extended_attributes_are_sized_probed_and_hidden_from_users() {
    let fs = mounted!();
    fs::write(fs.path("f"), "").unwrap();
    let path = c_path(&fs.path("f"));
    let set = |name: &str, value: &[u8], flags| {
        let name = CString::new(name).unwrap();
        // SAFETY: NUL-terminated strings, and a value of its length.
        checked(unsafe { libc::setxattr(path.as_ptr(), name.as_ptr(), value.as_ptr().cast(), value.len(), flags) })
    };
    let get = |name: &str, room: usize| {
        let (name, mut value) = (CString::new(name).unwrap(), vec![0u8; room]);
        // SAFETY: NUL-terminated strings, and a buffer of its length.
        let len = unsafe { libc::getxattr(path.as_ptr(), name.as_ptr(), value.as_mut_ptr().cast(), room) };
        if len < 0 { Err(io::Error::last_os_error()) } else { Ok(len as usize) }
    };
    set("user.a", b"value", 0).unwrap();
    set("trusted.t", b"secret", 0).unwrap();
    assert_eq!(errno(set("user.a", b"again", libc::XATTR_CREATE)), libc::EEXIST);
    assert_eq!(errno(set("user.b", b"", libc::XATTR_REPLACE)), libc::ENODATA);
    assert_eq!(get("user.a", 0).unwrap(), 5);
    assert_eq!(errno(get("user.a", 4)), libc::ERANGE);
    assert_eq!(get("user.a", 5).unwrap(), 5);
    assert_eq!(errno(get("user.none", 5)), libc::ENODATA);
    assert_eq!(listed_as(&fs, &path, 0), b"trusted.t\0user.a\0");
    assert_eq!(listed_as(&fs, &path, 65534), b"user.a\0");
}

/// The names that user `uid` sees.
fn listed_as(fs: &Mounted, path: &CString, uid: libc::uid_t) -> Vec<u8> {
    fs::set_permissions(fs.dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let list = move |path: &CString| {
        let mut names = vec![0u8; 100];
        // SAFETY: the raw call changes this thread's user alone, and the buffer has its length.
        let len = unsafe {
            assert_eq!(libc::syscall(libc::SYS_setresuid, uid, uid, uid), 0);
            libc::listxattr(path.as_ptr(), names.as_mut_ptr().cast(), names.len())
        };
        assert!(len >= 0, "{}", io::Error::last_os_error());
        names.truncate(len as usize);
        names
    };
    std::thread::scope(|scope| scope.spawn(|| list(path)).join().unwrap())
}

#[test]
fn a_write_by_another_user_drops_setuid_whatever_the_cache_held() {
    for writeback in [true, false] {
        let fs = mounted!(MountOptions { writeback, ..MountOptions::default() });
        fs::write(fs.path("f"), "program").unwrap();
        fs::set_permissions(fs.path("f"), fs::Permissions::from_mode(0o6777)).unwrap();
        assert_eq!(fs::metadata(fs.path("f")).unwrap().mode() & 0o7777, 0o6777);
        let (path, dir) = (fs.path("f"), fs.dir.path().to_owned());
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o755)).unwrap();
        let writer = std::thread::spawn(move || {
            // SAFETY: the raw call changes this thread's user alone.
            assert_eq!(unsafe { libc::syscall(libc::SYS_setresuid, 65534, 65534, 65534) }, 0);
            let file = OpenOptions::new().write(true).open(path).unwrap();
            file.write_all_at(b"P", 0).unwrap();
            assert_eq!(file.metadata().unwrap().mode() & 0o7777, 0o777);
        });
        writer.join().unwrap();
        assert_eq!(fs::metadata(fs.path("f")).unwrap().mode() & 0o7777, 0o777, "writeback {writeback}");
        assert_eq!(fs.ns.getattr(fs.ino("f")).unwrap().mode & 0o7777, 0o777, "writeback {writeback}");
    }
}

#[test]
fn times_keep_their_nanoseconds_also_before_1970() {
    let fs = mounted!();
    fs::write(fs.path("f"), "").unwrap();
    let path = c_path(&fs.path("f"));
    let times = [(-2, 800_000_000), (-1, 1), (0, 0), (1, 999_999_999), (1 << 33, 5)];
    for (tv_sec, tv_nsec) in times {
        let pair = [libc::timespec { tv_sec, tv_nsec }; 2];
        // SAFETY: a NUL-terminated string and two times.
        checked(unsafe { libc::utimensat(libc::AT_FDCWD, path.as_ptr(), pair.as_ptr(), 0) }).unwrap();
        let meta = fs::metadata(fs.path("f")).unwrap();
        assert_eq!((meta.mtime(), meta.mtime_nsec()), (tv_sec, tv_nsec));
        assert_eq!((meta.atime(), meta.atime_nsec()), (tv_sec, tv_nsec));
        let kept = fs.ns.getattr(fs.ino("f")).unwrap().mtime;
        assert_eq!((kept.secs, i64::from(kept.nanos)), (tv_sec, tv_nsec));
    }
}

#[test]
fn reading_moves_the_access_time_unless_told_not_to() {
    for (noatime, moves) in [(false, true), (true, false)] {
        let fs = mounted!(MountOptions { noatime, ..MountOptions::default() });
        fs::write(fs.path("f"), "text").unwrap();
        let old = [libc::timespec { tv_sec: 1000, tv_nsec: 0 }; 2];
        // SAFETY: a NUL-terminated string and two times.
        checked(unsafe { libc::utimensat(libc::AT_FDCWD, c_path(&fs.path("f")).as_ptr(), old.as_ptr(), 0) }).unwrap();
        let file = OpenOptions::new().read(true).custom_flags(libc::O_DIRECT).open(fs.path("f")).unwrap();
        file.read_at(&mut [0; 4], 0).unwrap();
        assert_eq!(fs::metadata(fs.path("f")).unwrap().atime() != 1000, moves);
    }
}

#[test]
fn inode_flags_trimming_and_shutting_down_go_through_ioctls() {
    const GET_FLAGS: libc::c_ulong = 0x8008_6601;
    const SET_FLAGS: libc::c_ulong = 0x4008_6602;
    const TRIM: libc::c_ulong = 0xc018_5879;
    const GOING_DOWN: libc::c_ulong = 0x8004_587d;
    const GOING_DOWN_IN: libc::c_ulong = 0x4004_587d;
    let fs = mounted!();
    fs::write(fs.path("f"), "text").unwrap();
    let file = File::open(fs.path("f")).unwrap();
    let dir = File::open(fs.dir.path()).unwrap();
    // SAFETY: each argument has the size that its command names, and outlives the call.
    let ioctl = |file: &File, cmd, arg: *mut libc::c_void| checked(unsafe { libc::ioctl(file.as_raw_fd(), cmd, arg) });
    let mut immutable = 0x10u32;
    ioctl(&file, SET_FLAGS, (&raw mut immutable).cast()).unwrap();
    let mut flags = 0u32;
    ioctl(&file, GET_FLAGS, (&raw mut flags).cast()).unwrap();
    assert_eq!(flags, 0x10);
    assert_eq!(errno(OpenOptions::new().write(true).open(fs.path("f"))), libc::EPERM);
    assert_eq!(errno(fs::remove_file(fs.path("f"))), libc::EPERM);
    let mut none = 0u32;
    ioctl(&file, SET_FLAGS, (&raw mut none).cast()).unwrap();
    fs::remove_file(fs.path("f")).unwrap();

    let mut range = [4096u64, 1 << 20, 0];
    ioctl(&dir, TRIM, range.as_mut_ptr().cast()).unwrap();
    assert_eq!(range, [4096, 1 << 19, 0]);
    assert_eq!(fs.control.trimmed.load(Ordering::Relaxed), 4096);
    let mut how = 1u32;
    ioctl(&dir, GOING_DOWN_IN, (&raw mut how).cast()).unwrap();
    ioctl(&dir, GOING_DOWN, (&raw mut how).cast()).unwrap();
    assert_eq!(*fs.control.shutdowns.lock(), [Shutdown::LogSync, Shutdown::NoSync]);
    assert_eq!(errno(ioctl(&dir, 0x1234, std::ptr::null_mut())), libc::ENOTTY);
}

#[test]
fn an_append_only_file_takes_appends_alone_and_can_be_synced() {
    const SET_FLAGS: libc::c_ulong = 0x4008_6602;
    let fs = mounted!();
    fs::write(fs.path("log"), "one").unwrap();
    let file = OpenOptions::new().append(true).open(fs.path("log")).unwrap();
    let mut append_only = 0x20u32;
    // SAFETY: the argument has the size that the command names.
    checked(unsafe { libc::ioctl(file.as_raw_fd(), SET_FLAGS, &raw mut append_only) }).unwrap();
    // The kernel keeps the times of what it has not written out, and hands them over at fsync, when only it may set them.
    let before = file.metadata().unwrap().mtime_nsec();
    eventually("a later time of writing", || {
        (&file).write_all(b".").unwrap();
        file.metadata().unwrap().mtime_nsec() != before
    });
    file.sync_all().unwrap();
    let kept = fs.ns.getattr(fs.ino("log")).unwrap().mtime;
    assert_eq!(i64::from(kept.nanos), file.metadata().unwrap().mtime_nsec());
    assert_eq!(errno(OpenOptions::new().write(true).open(fs.path("log"))), libc::EPERM);
    OpenOptions::new().append(true).open(fs.path("log")).unwrap().write_all(b"two").unwrap();
    let text = fs::read_to_string(fs.path("log")).unwrap();
    assert!(text.starts_with("one.") && text.ends_with(".two"), "{text}");
}

#[test]
fn umask_and_default_acls_shape_new_files() {
    let fs = mounted!();
    // Version 2; user::rwx, group::r-x, other::---.
    let acl: Vec<u8> = [&[2u8, 0, 0, 0][..], &entry(1, 7), &entry(4, 5), &entry(0x20, 0)].concat();
    fs::create_dir(fs.path("d")).unwrap();
    let (path, name) = (c_path(&fs.path("d")), c"system.posix_acl_default");
    // SAFETY: NUL-terminated strings, and a value of its length.
    checked(unsafe { libc::setxattr(path.as_ptr(), name.as_ptr(), acl.as_ptr().cast(), acl.len(), 0) }).unwrap();
    let create = |name: &str| {
        let file = OpenOptions::new().write(true).create_new(true).mode(0o666).open(fs.path(name)).unwrap();
        file.metadata().unwrap().mode() & 0o777
    };
    // The umask of the test process is what it is; only the directory with a default ACL ignores it.
    assert_eq!(create("d/f"), 0o640);
    let inherited = fs.ns.get_xattr(fs.ino("d/f"), b"system.posix_acl_access");
    assert!(inherited.is_err() || inherited.unwrap().len() == acl.len());
    assert_eq!(create("f") & !0o666, 0);
}

fn entry(tag: u16, perm: u16) -> [u8; 8] {
    let mut entry = [0xff; 8];
    entry[..2].copy_from_slice(&tag.to_le_bytes());
    entry[2..4].copy_from_slice(&perm.to_le_bytes());
    entry
}

#[test]
fn a_read_only_mount_refuses_changes() {
    let fs = mounted!(MountOptions { read_only: true, ..MountOptions::default() });
    assert_eq!(errno(File::create(fs.path("f"))), libc::EROFS);
    assert_eq!(fs::read_dir(fs.dir.path()).unwrap().count(), 0);
}

#[test]
fn a_dead_mount_is_cleared_by_the_next() {
    use std::process::{Command, Stdio};
    let first = mounted!();
    drop(first);
    let dir = tempfile::tempdir().unwrap();
    // A process that mounts and is killed: this test's own program, running only the test below.
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child_that_mounts_for_ever", "--ignored", "--nocapture"])
        .env("GLEANFS_TEST_MOUNTPOINT", dir.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    eventually("mounting by the child", || Unmounter::find(dir.path()).is_ok());
    child.kill().unwrap();
    child.wait().unwrap();
    eventually("the death of the mount", || errno(fs::metadata(dir.path())) == libc::ENOTCONN);
    let ns = Arc::new(Reference::new());
    let session = serve(ns, Arc::new(Recorder::default()), dir.path(), "x", &MountOptions::default()).unwrap();
    fs::write(dir.path().join("f"), "alive").unwrap();
    drop(session);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
#[ignore = "the killed child of a_dead_mount_is_cleared_by_the_next"]
fn child_that_mounts_for_ever() {
    let Some(dir) = std::env::var_os("GLEANFS_TEST_MOUNTPOINT") else { return };
    let (ns, control) = (Arc::new(Reference::new()), Arc::new(Recorder::default()));
    serve(ns, control, Path::new(&dir), "x", &MountOptions::default()).unwrap().wait().unwrap();
}

#[test]
fn handles_by_number_resolve_and_stale_ones_do_not() {
    let fs = mounted!();
    fs::create_dir(fs.path("d")).unwrap();
    fs::write(fs.path("d/f"), "text").unwrap();
    let handle = name_to_handle(&fs.path("d/f")).unwrap();
    let root = File::open(fs.dir.path()).unwrap();
    // Drops the cached name and inode, so that the handle is resolved by asking for its number.
    fs::write("/proc/sys/vm/drop_caches", "2").unwrap();
    let mut text = String::new();
    open_handle(&root, &handle).unwrap().read_to_string(&mut text).unwrap();
    assert_eq!(text, "text");
    let ino = fs.ino("d/f");
    fs::remove_file(fs.path("d/f")).unwrap();
    eventually("forgetting the file", || fs.ns.getattr(ino).is_err());
    assert_eq!(errno(open_handle(&root, &handle)), libc::ESTALE);
}

#[repr(C)]
struct Handle {
    bytes: u32,
    kind: i32,
    data: [u8; 128],
}

fn name_to_handle(path: &Path) -> io::Result<Handle> {
    let (mut handle, mut mount_id) = (Handle { bytes: 128, kind: 0, data: [0; 128] }, 0i32);
    let path = c_path(path);
    // SAFETY: a handle with room for 128 bytes, as it says.
    let code = unsafe {
        libc::syscall(libc::SYS_name_to_handle_at, libc::AT_FDCWD, path.as_ptr(), &raw mut handle, &raw mut mount_id, 0)
    };
    checked(code as i32).map(|_| handle)
}

fn open_handle(root: &File, handle: &Handle) -> io::Result<File> {
    use std::os::fd::FromRawFd;
    // SAFETY: a handle as name_to_handle_at(2) filled it.
    let code =
        unsafe { libc::syscall(libc::SYS_open_by_handle_at, root.as_raw_fd(), &raw const *handle, libc::O_RDONLY) };
    // SAFETY: a descriptor that was just opened and belongs to nobody else.
    checked(code as i32).map(|fd| unsafe { File::from_raw_fd(fd) })
}
