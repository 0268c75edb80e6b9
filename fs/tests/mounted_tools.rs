//! The program's tools and those of the system on a mount: growing, names, trimming, flags, status, and what a dead daemon leaves.
//!
//! Needs root and `/dev/fuse`; without them each test says so and is skipped.

mod common;

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use common::{Mount, Scratch, can_mount, gleanfs, said};

/// Bytes that a mount has for users.
fn capacity(mount: &Mount) -> u64 {
    let space = rustix::fs::statvfs(mount.path()).unwrap();
    space.f_blocks * space.f_frsize
}

/// Writes until there is no space; bytes written.
fn fill(mount: &Mount, name: &str) -> u64 {
    let mut file = File::create(mount.path().join(name)).unwrap();
    let piece = vec![0x42; 1 << 20];
    let mut written = 0;
    loop {
        match file.write(&piece).and_then(|n| file.sync_data().map(|()| n)) {
            Ok(n) => written += n as u64,
            Err(e) if e.raw_os_error() == Some(libc::ENOSPC) => return written,
            Err(e) => panic!("{e}"),
        }
    }
}

/// Overwrites blocks here and there on a full filesystem: there must be room for each.
fn overwrite(mount: &Mount, name: &str, bytes: u64, times: u64) {
    let file = OpenOptions::new().write(true).open(mount.path().join(name)).unwrap();
    for n in 0..times {
        let block = n.wrapping_mul(0x9e37_79b9_7f4a_7c15) % (bytes / 4096);
        file.write_all_at(&[0x43; 4096], block * 4096).unwrap();
        if n % 100 == 0 {
            file.sync_data().unwrap();
        }
    }
    file.sync_all().unwrap();
}

fn tool(name: &str, words: &[&str]) -> Option<Output> {
    match Command::new(name).args(words).output() {
        Ok(output) => Some(output),
        Err(e) => {
            eprintln!("skipped: {name}: {e}");
            None
        }
    }
}

#[track_caller]
fn succeeds(name: &str, words: &[&str]) -> Option<String> {
    let output = tool(name, words)?;
    assert!(output.status.success(), "{name} {words:?}: {}", String::from_utf8_lossy(&output.stderr));
    Some(String::from_utf8(output.stdout).unwrap())
}

/// A loop device, detached when dropped.
struct Loop {
    node: String,
    image: PathBuf,
}

impl Loop {
    fn attach(image: PathBuf) -> Option<Self> {
        let output = tool("losetup", &["--find", "--show", image.to_str().unwrap()])?;
        if !output.status.success() {
            eprintln!("skipped: losetup: {}", String::from_utf8_lossy(&output.stderr));
            return None;
        }
        Some(Self { node: String::from_utf8(output.stdout).unwrap().trim().to_owned(), image })
    }

    fn resize(&self, bytes: u64) {
        OpenOptions::new().write(true).open(&self.image).unwrap().set_len(bytes).unwrap();
        succeeds("losetup", &["-c", &self.node]);
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = Command::new("losetup").args(["--detach", &self.node]).status();
    }
}

#[test]
fn a_mounted_image_file_grows_while_it_is_written() {
    if !can_mount() {
        return;
    }
    let scratch = Scratch::new();
    let image = scratch.image("disk.img", "64M");
    let path = image.to_str().unwrap();
    let mount = scratch.mount(path, "mnt", "trust=fallback");
    let at = mount.path().to_str().unwrap().to_owned();
    let (before, first) = (capacity(&mount), fill(&mount, "first"));
    assert!(said(&["grow", &at]).contains("nothing to do"));
    let line = said(&["grow", "--size", "192M", &at]);
    assert!(line.contains("from 64 MiB to 192 MiB"), "{line}");
    assert_eq!(fs::metadata(&image).unwrap().len(), 192 << 20);
    assert!(capacity(&mount) > 3 * before, "{before} {}", capacity(&mount));
    let second = fill(&mount, "second");
    assert!(10 * (first + second) > 29 * first, "{first} {second}");
    let segments = mount.status()["segments"]["total"].as_u64().unwrap();
    // By the image's name as well.
    assert!(said(&["grow", "--size", "256M", path]).contains("to 256 MiB"));
    assert!(mount.status()["segments"]["total"].as_u64().unwrap() > segments);
    drop(mount);
    let report = said(&["fsck", path]);
    assert!(report.contains("clean;"), "{report}");
    let mount = scratch.mount(path, "mnt", "ro");
    assert_eq!(fs::metadata(mount.path().join("first")).unwrap().len() >> 20, first >> 20);
    assert!(fs::read(mount.path().join("first")).unwrap()[..first as usize].iter().all(|b| *b == 0x42));
}

#[test]
fn a_mounted_image_is_neither_checked_nor_repaired() {
    if !can_mount() {
        return;
    }
    let scratch = Scratch::new();
    let image = scratch.image("disk.img", "64M");
    let mount = scratch.mount(image.to_str().unwrap(), "mnt", "trust=fallback");
    fs::write(mount.path().join("file"), "kept").unwrap();
    for words in [&["fsck"][..], &["fsck", "--repair"], &["fsck", "--repair", "--yes"], &["fsck", "-a"]] {
        let output = gleanfs(words).arg(&image).output().unwrap();
        let why = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(8), "{words:?}: {why}");
        assert!(why.contains("mounted at"), "{words:?}: {why}");
    }
    assert_eq!(fs::read_to_string(mount.path().join("file")).unwrap(), "kept");
}

#[test]
fn a_block_device_that_became_larger_is_taken() {
    if !can_mount() {
        return;
    }
    let scratch = Scratch::new();
    let backing = scratch.path("backing");
    File::create(&backing).unwrap().set_len(96 << 20).unwrap();
    let Some(attached) = Loop::attach(backing) else { return };
    said(&["mkfs", "-q", &attached.node]);
    let mount = scratch.mount(&attached.node, "mnt", "trust=fallback");
    let at = mount.path().to_str().unwrap().to_owned();
    let before = capacity(&mount);
    let refused = gleanfs(&["grow", "--size", "192M", &at]).output().unwrap();
    let line = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && line.contains("make it larger first"), "{line}");
    attached.resize(192 << 20);
    assert!(said(&["grow", &at]).contains("to 192 MiB"));
    assert!(10 * capacity(&mount) > 19 * before);
    assert!(fill(&mount, "file") > before);
    let trimmed = succeeds("fstrim", &["-v", &at]);
    assert!(trimmed.is_none_or(|line| line.contains("trimmed")));
    drop(mount);
    assert!(said(&["fsck", &attached.node]).contains("clean;"));
}

#[test]
fn a_zoned_image_grows_by_zones_mounted_and_not() {
    if !can_mount() {
        return;
    }
    let scratch = Scratch::new();
    let image = scratch.name("zones");
    let shape = ["--zoned", "--size", "64M", "--zone-size", "1M", "--zone-capacity", "768K", "--max-open", "12"];
    let made = said(&[&["mkfs"], &shape[..], &[&image]].concat());
    assert!(made.contains("of 64 segments 2 hold the superblock") && made.contains("on users get 93 %"), "{made}");
    let mount = scratch.mount(&image, "mnt", "trust=fallback");
    let before = capacity(&mount);
    fill(&mount, "first");
    said(&["grow", "--size", "128M", mount.path().to_str().unwrap()]);
    assert!(capacity(&mount) > 2 * before);
    assert!(Path::new(&format!("{image}/seq-000127")).exists());
    let second = fill(&mount, "second");
    overwrite(&mount, "second", second, 3000);
    fs::remove_file(mount.path().join("second")).unwrap();
    fill(&mount, "third");
    drop(mount);
    assert!(said(&["fsck", &image]).contains("clean;"));
    assert!(said(&["grow", "--size", "200M", &image]).contains("to 200 MiB"));
    assert!(said(&["fsck", &image]).contains("clean;"));
    let mount = scratch.mount(&image, "mnt", "trust=fallback");
    assert!(capacity(&mount) > 3 * before);
    assert_eq!(fs::read(mount.path().join("first")).unwrap()[0], 0x42);
}

#[test]
fn names_are_shown_and_can_be_changed() {
    let scratch = Scratch::new();
    let image = scratch.name("disk.img");
    let id = "6f1c1f6e-2a1b-4f0e-9d3c-000102030405";
    assert!(said(&["mkfs", "--size", "64M", "-L", "first", "-U", id, &image]).contains(id));
    let names = said(&["tune", &image]);
    assert!(names.contains("label \"first\"") && names.contains(id), "{names}");
    assert!(said(&["tune", "--label", "second", &image]).contains("label \"second\""));
    let random = said(&["tune", "--uuid", "random", &image]);
    assert!(random.contains("second") && !random.contains(id), "{random}");
    assert!(said(&["fsck", &image]).contains("clean;"));
    assert!(said(&["tune", "-U", id, &image]).contains(id));
    if !can_mount() {
        return;
    }
    let mount = scratch.mount(&image, "mnt", "trust=fallback");
    let status = mount.status();
    assert_eq!((status["label"].as_str(), status["uuid"].as_str()), (Some("second"), Some(id)));
    fs::write(mount.path().join("file"), b"kept").unwrap();
    File::open(mount.path().join("file")).unwrap().sync_all().unwrap();
    // Also with a log to replay.
    mount.kill();
    said(&["tune", "--label", "third", "--uuid", "random", &image]);
    let mount = scratch.mount(&image, "mnt", "trust=fallback");
    assert_eq!(fs::read(mount.path().join("file")).unwrap(), b"kept");
    assert_eq!(mount.status()["label"], "third");
    drop(mount);
    assert!(said(&["fsck", &image]).contains("clean;"));
}

#[test]
fn what_is_trimmed_goes_back_to_the_host() {
    if !can_mount() {
        return;
    }
    let scratch = Scratch::new();
    let image = scratch.image("disk.img", "128M");
    let mount = scratch.mount(image.to_str().unwrap(), "mnt", "trust=fallback,checkpoint=3600,gc=off");
    let at = mount.path().to_str().unwrap().to_owned();
    let file = mount.path().join("file");
    fs::write(&file, vec![1; 48 << 20]).unwrap();
    File::open(&file).unwrap().sync_all().unwrap();
    let held = fs::metadata(&image).unwrap().blocks();
    assert!(held * 512 >= 48 << 20);
    fs::remove_file(&file).unwrap();
    // The file's blocks are freed in the background.
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while mount.status()["space"]["used_bytes"].as_u64().unwrap() > 4 << 20 {
        assert!(std::time::Instant::now() < deadline, "the blocks are not freed");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let Some(line) = succeeds("fstrim", &["-v", &at]) else { return };
    assert!(line.contains("trimmed"), "{line}");
    let left = fs::metadata(&image).unwrap().blocks();
    assert!(left * 512 < 16 << 20, "{held} sectors before, {left} after; {line}");
}

#[test]
fn chattr_holds() {
    if !can_mount() {
        return;
    }
    let scratch = Scratch::new();
    let image = scratch.image("disk.img", "64M");
    let mount = scratch.mount(image.to_str().unwrap(), "mnt", "trust=fallback");
    let file = mount.path().join("file");
    let name = file.to_str().unwrap();
    fs::write(&file, b"text").unwrap();
    let refused = |result: std::io::Result<()>| assert_eq!(result.unwrap_err().raw_os_error(), Some(libc::EPERM));
    if succeeds("chattr", &["+i", name]).is_none() {
        return;
    }
    let shown = succeeds("lsattr", &[name]).unwrap();
    assert!(shown.split(' ').next().unwrap().contains('i'), "{shown}");
    refused(fs::write(&file, b"other"));
    refused(fs::remove_file(&file));
    refused(fs::rename(&file, mount.path().join("renamed")));
    refused(fs::hard_link(&file, mount.path().join("linked")));
    succeeds("chattr", &["-i", "+a", name]);
    refused(fs::write(&file, b"other"));
    refused(OpenOptions::new().write(true).open(&file).map(drop));
    OpenOptions::new().append(true).open(&file).and_then(|mut f| f.write_all(b" and more")).unwrap();
    refused(fs::remove_file(&file));
    drop(mount);
    let mount = scratch.mount(image.to_str().unwrap(), "mnt", "trust=fallback");
    assert!(succeeds("lsattr", &[name]).unwrap().split(' ').next().unwrap().contains('a'));
    succeeds("chattr", &["-a", name]);
    assert_eq!(fs::read(&file).unwrap(), b"text and more");
    fs::remove_file(&file).unwrap();
    drop(mount);
}

#[test]
fn what_a_killed_daemon_leaves_is_cleared_by_umount_or_by_the_next_mount() {
    if !can_mount() {
        return;
    }
    let scratch = Scratch::new();
    let image = scratch.image("disk.img", "64M");
    let path = image.to_str().unwrap();
    let mount = scratch.mount(path, "mnt", "trust=fallback");
    let (file, at) = (mount.path().join("file"), mount.path().to_str().unwrap().to_owned());
    fs::write(&file, b"synced").unwrap();
    File::open(&file).unwrap().sync_all().unwrap();
    mount.kill_daemon();
    // Requests that were under way when the connection was cut end otherwise.
    while fs::read(&file).unwrap_err().raw_os_error() != Some(libc::ENOTCONN) {}
    let asked = gleanfs(&["ctl", &at, "status"]).output().unwrap();
    let line = String::from_utf8_lossy(&asked.stderr).into_owned();
    assert!(!asked.status.success() && line.contains("gleanfs umount clears"), "{line}");
    said(&["umount", &at]);
    assert_eq!(fs::read_dir(&at).unwrap().count(), 0);
    let again = scratch.mount(path, "mnt", "trust=fallback");
    assert_eq!(fs::read(&file).unwrap(), b"synced");
    again.kill_daemon();
    let third = scratch.mount(path, "mnt", "trust=fallback");
    assert_eq!(fs::read(&file).unwrap(), b"synced");
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert_eq!(table.lines().filter(|line| line.contains(&at)).count(), 1, "the dead mount is still there");
    drop((third, again, mount));
    assert!(said(&["fsck", path]).contains("clean;"));
}

#[test]
fn inode_numbers_are_not_used_again() {
    if !can_mount() {
        return;
    }
    let scratch = Scratch::new();
    let image = scratch.image("disk.img", "64M");
    let path = image.to_str().unwrap();
    let identity = |name: &Path| {
        let file = File::create(name).unwrap();
        let mut generation = 0i32;
        const GET_VERSION: libc::c_ulong = 0x8008_7601;
        // SAFETY: FS_IOC_GETVERSION stores an int.
        assert_eq!(unsafe { libc::ioctl(file.as_raw_fd(), GET_VERSION, &mut generation) }, 0);
        (file.metadata().unwrap().ino(), generation)
    };
    let mut seen = std::collections::HashSet::new();
    for round in 0..4 {
        let mount = scratch.mount(path, "mnt", "trust=fallback");
        for _ in 0..8 {
            let name = mount.path().join("again");
            assert!(seen.insert(identity(&name)), "an inode number and generation came twice");
            fs::remove_file(name).unwrap();
        }
        File::create(mount.path().join("kept")).unwrap().sync_all().unwrap();
        if round % 2 == 0 {
            mount.kill();
        }
    }
}

#[test]
fn status_tells_what_happens() {
    if !can_mount() {
        return;
    }
    let scratch = Scratch::new();
    let image = scratch.image("disk.img", "64M");
    let mount = scratch.mount(image.to_str().unwrap(), "mnt", "trust=fallback,cache=32M");
    let file = File::create(mount.path().join("file")).unwrap();
    let blocks = 9000;
    // Overwritten at random, so that there is something to clean.
    let mut place = 1u64;
    for n in 0..3 * blocks {
        place = place.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let block = if n < blocks { n } else { (place >> 33) % blocks };
        file.write_all_at(&[n as u8; 4096], block * 4096).unwrap();
        if n % 500 == 0 {
            file.sync_data().unwrap();
        }
    }
    file.sync_all().unwrap();
    said(&["ctl", mount.path().to_str().unwrap(), "gc", "run"]);
    let status = mount.status();
    let number =
        |path: &str| status.pointer(path).and_then(serde_json::Value::as_f64).unwrap_or_else(|| panic!("{path}"));
    let user = number("/traffic/user_bytes");
    // The kernel's writeback cache may merge writes to one block.
    assert!(user <= (3 * blocks * 4096) as f64 && user > (2 * blocks * 4096) as f64, "{user}");
    assert!(number("/traffic/device_bytes") > user && number("/traffic/device_data_bytes") >= user);
    let ratio = number("/traffic/device_bytes") / user;
    assert!((number("/traffic/write_amplification") - ratio).abs() < 1e-6);
    // The mount is younger than a minute.
    assert!((number("/traffic/write_amplification_last_minute") - ratio).abs() < 0.05 * ratio, "{}", status["traffic"]);
    let states = ["free", "open", "sealed", "prefree", "unusable"].map(|s| number(&format!("/segments/{s}")));
    // One segment is the superblock's.
    assert_eq!(states.iter().sum::<f64>() + 1.0, number("/segments/total"), "{}", status["segments"]);
    let classes = status["segments"]["utilization"].as_array().unwrap();
    assert_eq!(classes.len(), 10);
    assert!(classes.iter().map(|c| c.as_f64().unwrap()).sum::<f64>() <= states[2]);
    let deciders = status["cleaner"]["deciders"].as_array().unwrap();
    let names: Vec<_> = deciders.iter().map(|d| d["decider"].as_str().unwrap()).collect();
    assert_eq!(names, ["model", "fallback", "emergency"]);
    assert!(deciders.iter().map(|d| d["segments"].as_u64().unwrap()).sum::<u64>() > 0, "{}", status["cleaner"]);
    assert_eq!(
        (status["advisor"]["trust"].as_str(), status["advisor"]["pressure"].as_str()),
        (Some("fallback"), Some("normal"))
    );
    for path in
        ["/advisor/deadlines_missed", "/advisor/worker_restarts", "/memory/locked_bytes", "/cleaner/throttled_us"]
    {
        number(path);
    }
    assert!(status["advisor"]["worker"].is_string() && status["protection"]["io_flusher"].is_boolean());
    assert_eq!(number("/memory/cache_bytes_max"), (32 << 20) as f64);
    assert!(number("/memory/resident_bytes") > (1 << 20) as f64);
    let stalls: Vec<u64> =
        status["stalls"].as_array().unwrap().iter().map(|s| s["duration_us"].as_u64().unwrap()).collect();
    assert!(stalls.is_sorted_by(|a, b| a >= b), "{stalls:?}");
    let text = said(&["ctl", mount.path().to_str().unwrap(), "status"]);
    for word in
        ["write amplification", "last minute", "utilization", "by emergency", "io_flusher", "locked", "pressure"]
    {
        assert!(text.contains(word), "{word} in {text}");
    }
}
