//! Who may do what on a mount: set-uid programs and device nodes under `nosuid`, `nodev` and `noexec`; who is served by the control socket; a daemon
//! that has become another user; and mapped pages that show nothing of another file.
//!
//! Needs root and `/dev/fuse`; without them each test says so and is skipped.

mod common;

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{Read, Write};
use std::os::unix::fs::{FileExt, PermissionsExt, chown};
use std::path::Path;
use std::process::{Command, Output};

use common::{Mount, Scratch, can_infer, can_mount, gleanfs, program, said};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// `nobody`, and a group that is not root's.
const SOMEBODY: u32 = 65_534;

/// A directory that others than root may pass.
fn passable() -> Scratch {
    let scratch = Scratch::new();
    fs::set_permissions(scratch.path("."), Permissions::from_mode(0o755)).unwrap();
    scratch
}

/// The program's words as somebody without any rights; the program itself if it lies where nobody may look is copied.
fn as_somebody(scratch: &Scratch, program: &str, words: &[&str]) -> Output {
    let copy = scratch.path("program");
    let program = if Path::new(program).is_absolute() {
        if !copy.exists() {
            fs::copy(program, &copy).unwrap();
        }
        copy.to_str().unwrap().to_owned()
    } else {
        program.to_owned()
    };
    let id = SOMEBODY.to_string();
    let mut command = Command::new("setpriv");
    command.args(["--reuid", &id, "--regid", &id, "--clear-groups", &program]).args(words);
    command.output().unwrap()
}

/// Effective user of a set-uid `id` on the mount that somebody starts; `None` if it does not start.
fn started_set_uid(mount: &Mount) -> Option<String> {
    let path = mount.path().join("id");
    if !path.exists() {
        fs::copy("/usr/bin/id", &path).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o4755)).unwrap();
    }
    let id = SOMEBODY.to_string();
    let words = ["--reuid", &id, "--regid", &id, "--clear-groups"];
    let output = Command::new("setpriv").args(words).arg(&path).arg("-u").output().unwrap();
    output.status.success().then(|| String::from_utf8(output.stdout).unwrap().trim().to_owned())
}

#[test]
fn nosuid_nodev_and_noexec_hold() {
    if !can_mount() {
        return;
    }
    let scratch = passable();
    let image = scratch.image("disk.img", "64M");
    let mount = scratch.mount(image.to_str().unwrap(), "mnt", "trust=fallback");
    assert_eq!(started_set_uid(&mount).as_deref(), Some("0"), "without the option the bit counts");
    let zero = mount.path().join("zero");
    let made = Command::new("mknod").arg(&zero).args(["c", "1", "5"]).status().unwrap();
    assert!(made.success());
    let mut byte = [1];
    match File::open(&zero) {
        Ok(mut device) => {
            device.read_exact(&mut byte).unwrap();
            assert_eq!(byte, [0]);
        }
        // Containers may be denied device nodes altogether.
        Err(e) => eprintln!("the node cannot be opened even without nodev: {e}"),
    }
    drop(mount);
    let mount = scratch.mount(image.to_str().unwrap(), "mnt", "trust=fallback,nosuid,nodev");
    assert_eq!(started_set_uid(&mount), Some(SOMEBODY.to_string()), "nosuid");
    let refused = File::open(mount.path().join("zero")).unwrap_err();
    assert_eq!(refused.raw_os_error(), Some(libc::EACCES), "nodev");
    drop(mount);
    let mount = scratch.mount(image.to_str().unwrap(), "mnt", "trust=fallback,noexec");
    assert_eq!(started_set_uid(&mount), None, "noexec");
}

#[test]
fn the_control_socket_serves_root_and_the_mounts_user_alone() {
    if !can_mount() {
        return;
    }
    let scratch = passable();
    let image = scratch.image("disk.img", "64M");
    let mount = scratch.mount(image.to_str().unwrap(), "mnt", "trust=fallback");
    let at = mount.path().to_str().unwrap().to_owned();
    for words in [&["ctl", &at, "status"][..], &["ctl", &at, "sync"], &["ctl", &at, "gc", "off"], &["grow", &at]] {
        let output = as_somebody(&scratch, program(), words);
        let why = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success(), "{words:?} was obeyed");
        assert!(why.contains("only root and the user who mounted"), "{words:?}: {why}");
    }
    assert!(!as_somebody(&scratch, program(), &["umount", &at]).status.success());
    assert!(said(&["ctl", &at, "status"]).contains("disk.img"));
}

/// `/proc/PID/status` of a process or thread.
struct Status(String);

impl Status {
    /// `None`: it has ended. Threads that serve a client do so at any time.
    fn of(pid: i32) -> Option<Self> {
        fs::read_to_string(format!("/proc/{pid}/status")).ok().map(Self)
    }

    fn says(&self, field: &str) -> Vec<&str> {
        let line = self.0.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':')).unwrap();
        line.split_whitespace().collect()
    }
}

#[test]
fn a_daemon_that_became_the_images_owner_does_all_that_a_daemon_does() {
    if !can_mount() {
        return;
    }
    let scratch = passable();
    let image = scratch.image("disk.img", "64M");
    chown(&image, Some(SOMEBODY), Some(SOMEBODY)).unwrap();
    let mut options = format!("setuid={SOMEBODY}");
    let infers = can_infer();
    if infers {
        // Root's own cache is closed to him.
        let request = gleanfs_gc::runtime::Request::default();
        let library = scratch.path("library.so");
        fs::copy(gleanfs_gc::runtime::locate(request).unwrap().path, &library).unwrap();
        options.push_str(&format!(",library={}", library.display()));
    }
    let mount = scratch.mount(image.to_str().unwrap(), "mnt", &options);
    let pid = mount.status()["pid"].as_i64().unwrap() as i32;
    let daemon = pidfd_open(Pid::from_raw(pid).unwrap(), PidfdFlags::empty()).unwrap();
    let id = SOMEBODY.to_string();
    assert_eq!(Status::of(pid).unwrap().says("Uid"), [&*id; 4]);
    for thread in fs::read_dir(format!("/proc/{pid}/task")).unwrap() {
        let thread = thread.unwrap().file_name().to_str().unwrap().parse().unwrap();
        let Some(status) = Status::of(thread) else { continue };
        assert_eq!(status.says("Uid"), [&*id; 4]);
        assert_eq!(status.says("Gid"), [&*id; 4]);
        assert!(status.says("Groups").iter().all(|group| *group == id));
        for set in ["CapPrm", "CapEff", "CapInh", "CapAmb"] {
            assert_eq!(status.says(set), ["0000000000000000"], "{set}");
        }
    }
    let worker = infers.then(|| {
        for _ in 0..600 {
            if mount.status()["advisor"]["worker"] == "ready" {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
        // The first worker was started by root; it is his as well as whoever follows it.
        let pid_of = |status: serde_json::Value| status["advisor"]["worker_pid"].as_i64().unwrap() as i32;
        let first = pid_of(mount.status());
        assert_eq!(Status::of(first).unwrap().says("Uid"), [&*id; 4]);
        let worker = pidfd_open(Pid::from_raw(first).unwrap(), PidfdFlags::empty()).unwrap();
        pidfd_send_signal(&worker, Signal::KILL).unwrap();
        let follower = || {
            let advisor = mount.status()["advisor"].clone();
            let pid = advisor["worker_pid"].as_i64().filter(|pid| *pid != i64::from(first))?;
            (advisor["worker"] == "ready").then_some(pid as i32)
        };
        let next = (0..600).find_map(|_| {
            std::thread::sleep(std::time::Duration::from_millis(100));
            follower()
        });
        let next = next.expect("another worker");
        assert_eq!(Status::of(next).unwrap().says("Uid"), [&*id; 4]);
        pidfd_open(Pid::from_raw(next).unwrap(), PidfdFlags::empty()).unwrap()
    });
    // More than there are buffers, segments opened and given back, by root and by him.
    let data: Vec<u8> = (0..24 << 20).map(|n: u32| (n / 977) as u8).collect();
    for _ in 0..3 {
        let mut file = File::create(mount.path().join("data")).unwrap();
        file.write_all(&data).unwrap();
        file.sync_all().unwrap();
    }
    let at = mount.path().to_str().unwrap().to_owned();
    let as_user = as_somebody(&scratch, program(), &["ctl", &at, "status"]);
    assert!(as_user.status.success(), "{}", String::from_utf8_lossy(&as_user.stderr));
    said(&["ctl", &at, "sync"]);
    // The daemon unmounts by the helper, since umount(2) is not his.
    pidfd_send_signal(&daemon, Signal::TERM).unwrap();
    poll(&mut [PollFd::new(&daemon, PollFlags::IN)], None).unwrap();
    if let Some(worker) = worker {
        let minute = Timespec { tv_sec: 60, tv_nsec: 0 };
        let ended = poll(&mut [PollFd::new(&worker, PollFlags::IN)], Some(&minute)).unwrap();
        assert_eq!(ended, 1, "the worker outlived its daemon");
    }
    assert!(said(&["fsck", image.to_str().unwrap()]).contains("clean;"));
    let mount = scratch.mount(image.to_str().unwrap(), "mnt", "ro");
    assert!(fs::read(mount.path().join("data")).unwrap() == data);
    let output =
        gleanfs(&["mount", "-o", "setuid=no-such-user", image.to_str().unwrap(), &scratch.dir("other")]).output();
    assert!(String::from_utf8_lossy(&output.unwrap().stderr).contains("no such user"));
}

#[test]
fn daemons_that_follow_one_another_all_become_the_images_owner() {
    if !can_mount() {
        return;
    }
    let scratch = passable();
    let image = scratch.image("disk.img", "64M");
    chown(&image, Some(SOMEBODY), Some(SOMEBODY)).unwrap();
    let options = format!("setuid={SOMEBODY},supervise,trust=fallback");
    let mount = scratch.mount(image.to_str().unwrap(), "mnt", &options);
    let pid = || mount.status()["pid"].as_i64().unwrap() as i32;
    let is_somebodys = |pid| assert_eq!(Status::of(pid).unwrap().says("Uid"), [&*SOMEBODY.to_string(); 4]);
    let mut file = File::create(mount.path().join("data")).unwrap();
    let at = mount.path().to_str().unwrap().to_owned();
    let (first, copy) = (pid(), scratch.path("roots"));
    is_somebodys(first);
    fs::copy(program(), &copy).unwrap();
    let upgrade = ["ctl", &*at, "upgrade", "--executable", copy.to_str().unwrap()];
    // The supervisor is root: what somebody names, or could change, must not be started by it.
    let why = String::from_utf8(as_somebody(&scratch, program(), &upgrade).stderr).unwrap();
    assert!(why.contains("only root"), "{why}");
    assert_eq!(pid(), first);
    fs::set_permissions(&copy, Permissions::from_mode(0o777)).unwrap();
    let why = String::from_utf8(gleanfs(&upgrade).output().unwrap().stderr).unwrap();
    assert!(why.contains("must be root's"), "{why}");
    fs::set_permissions(&copy, Permissions::from_mode(0o755)).unwrap();
    said(&upgrade);
    let last = pid();
    assert_ne!(last, first);
    is_somebodys(last);
    file.write_all(b"written through both").unwrap();
    file.sync_all().unwrap();
    drop((file, mount));
    assert!(said(&["fsck", image.to_str().unwrap()]).contains("clean;"));
}

#[test]
fn a_mapped_tail_shows_nothing_of_another_file() {
    if !can_mount() {
        return;
    }
    let scratch = Scratch::new();
    let image = scratch.image("disk.img", "64M");
    let mount = scratch.mount(image.to_str().unwrap(), "mnt", "trust=fallback");
    let page = 4096;
    // Secrets in the page cache and on the medium, then gone.
    for n in 0..8 {
        let path = mount.path().join(format!("secret {n}"));
        fs::write(&path, vec![0xee; 2 << 20]).unwrap();
        File::open(&path).unwrap().sync_all().unwrap();
        fs::remove_file(path).unwrap();
    }
    for (n, bytes) in [1, 100, 4095, 4097, 9000].into_iter().enumerate() {
        let path = mount.path().join(format!("file {n}"));
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path).unwrap();
        file.write_all_at(&vec![1; bytes], 0).unwrap();
        let mapped = bytes.div_ceil(page) * page;
        let rights = rustix::mm::ProtFlags::READ | rustix::mm::ProtFlags::WRITE;
        let shared = rustix::mm::MapFlags::SHARED;
        // SAFETY: a new mapping of whole pages of a file that stays as long as it.
        let map = unsafe { rustix::mm::mmap(std::ptr::null_mut(), mapped, rights, shared, &file, 0) }.unwrap();
        // SAFETY: `mapped` bytes are mapped, and the file reaches into the last page.
        let seen = unsafe { std::slice::from_raw_parts_mut(map.cast::<u8>(), mapped) };
        assert!(seen[..bytes].iter().all(|b| *b == 1) && seen[bytes..].iter().all(|b| *b == 0), "{bytes}");
        // What is written behind the end is nobody's, and must not come back as the file's.
        seen[bytes..].fill(2);
        file.sync_all().unwrap();
        // SAFETY: the mapping from above, and `seen` is not used any more.
        unsafe { rustix::mm::munmap(map, mapped) }.unwrap();
        // From the medium and not from memory.
        rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
        file.set_len(3 * mapped as u64).unwrap();
        let read = fs::read(&path).unwrap();
        assert!(read[..bytes].iter().all(|b| *b == 1) && read[bytes..].iter().all(|b| *b == 0), "{bytes} grown");
    }
}
