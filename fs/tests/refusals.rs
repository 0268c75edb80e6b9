//! What cannot be is refused by the program in one line that says what, where and what to do, with the exit status that the callers of each
//! command expect, and changes nothing.
//!
//! Mounting needs root and `/dev/fuse`; without them those tests say so and are skipped.

mod common;

use std::fs;
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::{Scratch, can_mount, gleanfs, hash, program, said};
use gleanfs::format::superblock::Superblock;

const MOUNT_FAILED: i32 = 32;
const MOUNT_INVOCATION: i32 = 1;
const FSCK_OPERATION: i32 = 8;
const FSCK_USAGE: i32 = 16;

/// Demands a refusal: this status, one line on stderr, in it these words.
#[track_caller]
fn refused(words: &[&str], status: i32, in_it: &[&str]) {
    told(gleanfs(words).output().unwrap(), words, status, in_it);
}

#[track_caller]
fn told(output: std::process::Output, words: &[&str], status: i32, in_it: &[&str]) {
    let line = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(status), "{words:?}: {line}");
    assert!(line.starts_with("gleanfs: ") && line.trim_end().lines().count() == 1, "{words:?}: {line}");
    for word in in_it {
        assert!(line.contains(word), "{words:?}: no {word:?} in: {line}");
    }
    assert!(output.stdout.is_empty(), "{words:?}: {}", String::from_utf8_lossy(&output.stdout));
}

/// An image with these changes to its superblock.
fn with_superblock(scratch: &Scratch, change: impl Fn(&mut [u8])) -> PathBuf {
    let image = scratch.image("changed.img", "64M");
    let mut bytes = fs::read(&image).unwrap();
    for at in [0, 8 * 4096] {
        if bytes[at..].starts_with(b"GLNF") {
            change(&mut bytes[at..at + 4096]);
        }
    }
    fs::write(&image, bytes).unwrap();
    image
}

fn with_features(scratch: &Scratch, change: impl Fn(&mut Superblock)) -> PathBuf {
    with_superblock(scratch, |block| {
        let mut superblock = Superblock::decode(block).unwrap();
        change(&mut superblock);
        block.copy_from_slice(&superblock.encode());
    })
}

/// Every command that opens an image refuses it, and the image stays as it is.
#[track_caller]
fn no_command_takes(scratch: &Scratch, image: &Path, in_it: &[&str]) {
    let (before, path) = (hash(image), image.to_str().unwrap());
    let target = scratch.dir("target");
    refused(&["fsck", path], FSCK_OPERATION, in_it);
    refused(&["dump", path, "tree"], 1, in_it);
    refused(&["tune", path], 1, in_it);
    refused(&["tune", "--label", "x", path], 1, in_it);
    refused(&["grow", path], 1, in_it);
    if Path::new("/dev/fuse").exists() {
        refused(&["mount", path, &target], MOUNT_FAILED, in_it);
        refused(&["mount", "-o", "ro", path, &target], MOUNT_FAILED, in_it);
    }
    assert_eq!(hash(image), before);
}

#[test]
fn what_is_no_image() {
    let scratch = Scratch::new();
    let file = scratch.path("text");
    fs::write(&file, b"just some text\n".repeat(100_000)).unwrap();
    no_command_takes(&scratch, &file, &["text", "not a gleanfs image"]);
    fs::write(&file, b"").unwrap();
    no_command_takes(&scratch, &file, &["text", "too small"]);
    let missing = scratch.name("missing");
    refused(&["fsck", &missing], FSCK_OPERATION, &["missing", "does not exist"]);
    refused(&["mount", &missing, &scratch.dir("target")], MOUNT_FAILED, &["missing", "No such file"]);
    refused(&["fsck", "/dev/null"], FSCK_OPERATION, &["/dev/null", "neither a file, a block device nor"]);
    let directory = scratch.dir("directory");
    refused(&["fsck", &directory], FSCK_OPERATION, &["is a directory and no zoned image"]);
}

#[test]
fn an_image_that_is_cut_off() {
    let scratch = Scratch::new();
    let image = scratch.image("disk.img", "64M");
    fs::OpenOptions::new().write(true).open(&image).unwrap().set_len(32 << 20).unwrap();
    no_command_takes(&scratch, &image, &["cut off", "32768 KiB of 65536 KiB"]);
}

#[test]
fn an_image_of_another_version() {
    let scratch = Scratch::new();
    let image = with_superblock(&scratch, |block| block[4] = 9);
    no_command_takes(&scratch, &image, &["version 9"]);
}

#[test]
fn features_that_are_not_known() {
    let scratch = Scratch::new();
    let image = with_features(&scratch, |s| s.identity.features.incompatible = 0x40);
    let (path, target, before) = (image.to_str().unwrap(), scratch.dir("target"), hash(&image));
    let words = ["incompatible features 0x40"];
    refused(&["fsck", path], FSCK_OPERATION, &words);
    refused(&["tune", "--label", "x", path], 1, &words);
    refused(&["grow", path], 1, &words);
    if can_mount() {
        refused(&["mount", "-o", "ro", path, &target], MOUNT_FAILED, &words);
    }
    assert_eq!(hash(&image), before);
    let image = with_features(&scratch, |s| s.identity.features.read_only_compatible = 0x10);
    let (path, before) = (image.to_str().unwrap(), hash(&image));
    let words = ["read-only compatible features 0x10"];
    refused(&["tune", "--label", "x", path], 1, &words);
    assert!(gleanfs(&["fsck", path]).status().unwrap().success());
    if can_mount() {
        refused(&["mount", path, &target], MOUNT_FAILED, &words);
        let mount = scratch.mount(path, "ro", "ro");
        assert_eq!(fs::read_dir(mount.path()).unwrap().count(), 0);
    }
    assert_eq!(hash(&image), before);
}

#[test]
fn what_stands_there_is_named_and_kept() {
    let scratch = Scratch::new();
    let image = scratch.image("disk.img", "64M");
    let before = hash(&image);
    refused(&["mkfs", image.to_str().unwrap()], 1, &["holds gleanfs", "--force"]);
    assert_eq!(hash(&image), before);
    let other = scratch.path("other");
    fs::File::create(&other).unwrap().set_len(64 << 20).unwrap();
    let made = Command::new("mkfs.ext4").args(["-q", "-F"]).arg(&other).status();
    let name = match made {
        Ok(status) if status.success() => "ext4",
        _ => {
            let mut file = fs::OpenOptions::new().write(true).open(&other).unwrap();
            file.seek(SeekFrom::Start(0)).and_then(|_| file.write_all(b"XFSB")).unwrap();
            "xfs"
        }
    };
    let before = hash(&other);
    refused(&["mkfs", other.to_str().unwrap()], 1, &["holds", name, "--force"]);
    refused(&["mkfs", "--size", "32M", other.to_str().unwrap()], 1, &["holds", name, "--force"]);
    assert_eq!(hash(&other), before);
    let held = scratch.dir("full");
    fs::write(Path::new(&held).join("mine"), "kept").unwrap();
    refused(&["mkfs", "--zoned", "--size", "1G", "--zone-size", "16M", &held], 1, &["not empty", "--force"]);
    refused(&["mkfs", &held], 1, &["is a directory", "--zoned"]);
    assert_eq!(fs::read(Path::new(&held).join("mine")).unwrap(), b"kept");
    assert!(gleanfs(&["mkfs", "-q", "--force", other.to_str().unwrap()]).status().unwrap().success());
}

#[test]
fn sizes_and_shapes_that_cannot_be() {
    let scratch = Scratch::new();
    let new = scratch.name("new");
    for (words, in_it) in [
        (&["--size", "1M"][..], &["too few", "at least"][..]),
        (&["--size", "0"], &["too few", "at least"]),
        (&["--size", "8M", "--segment-size", "2M"], &["too few", "at least"]),
        (&["--size", "4Q"], &["'4Q' is not a size", "16G"]),
        (&["--size=-1"], &["'-1' is not a size"]),
        (&["--size", "99999999P"], &["64 bits"]),
        (&["--size", "1G", "--overprovision", "7%%"], &["'7%%' is not a share"]),
        (&["--size", "1G", "--overprovision", "95%"], &["between 0 and 90"]),
        (&["--size", "1G", "--segment-size", "5000"], &["multiple of 4K"]),
        (&["--size", "1G", "--label", &"l".repeat(64)], &["at most 63 bytes"]),
        (&["--size", "1G", "--uuid", "123"], &["--uuid"]),
        (&["--zoned", "--size", "1G", "--zone-size", "24M"], &["power of two"]),
        (&["--zoned", "--size", "1G", "--zone-size", "16M", "--zone-capacity", "17M"], &["larger than a zone"]),
        (&["--zoned", "--size", "1G", "--zone-size", "16M", "--max-open", "2"], &["at least 4"]),
        (&["--zoned", "--size", "128M", "--zone-size", "16M"], &["too few", "at least"]),
        (&["--zoned", "--size", "16M", "--zone-size", "16M"], &["at least 8 zones"]),
        (&["--zone-size", "16M", "--size", "1G"], &["--zoned"]),
        (&[], &["does not exist", "--size"]),
    ] {
        refused(&[&["mkfs"], words, &[&new]].concat(), 1, in_it);
        assert!(!Path::new(&new).exists(), "{words:?} left something behind");
    }
    // A file that is there keeps its size, too.
    let image = scratch.image("disk.img", "64M");
    let before = hash(&image);
    refused(&["mkfs", "--force", "--size", "1M", image.to_str().unwrap()], 1, &["too few"]);
    assert_eq!(hash(&image), before);
    let path = image.to_str().unwrap();
    refused(&["grow", "--size", "32M", path], 1, &["shrink"]);
    refused(&["grow", "--size", "100T", path], 1, &["at most"]);
    refused(&["tune", "--uuid", "me", path], 1, &["'me' is neither a UUID nor"]);
    refused(&["tune", "--label", &"l".repeat(64), path], 1, &["63 bytes"]);
    assert_eq!(fs::metadata(&image).unwrap().len(), 64 << 20);
}

#[test]
fn command_lines_without_sense() {
    let scratch = Scratch::new();
    let image = scratch.image("disk.img", "64M");
    let (path, target) = (image.to_str().unwrap(), scratch.dir("target"));
    let before = hash(&image);
    refused(&["frobnicate"], 1, &["frobnicate", "--help"]);
    refused(&["fsck", "--frob", path], FSCK_USAGE, &["--frob", "gleanfs fsck --help"]);
    refused(&["mount", "-o", "frob=1", path, &target], MOUNT_INVOCATION, &["frob"]);
    refused(&["mount", "-o", "cache=lots", path, &target], MOUNT_INVOCATION, &["lots"]);
    refused(&["mount", "-o", "gc=perhaps", path, &target], MOUNT_INVOCATION, &["perhaps"]);
    if Path::new("/dev/fuse").exists() {
        refused(&["mount", "-o", "policy=frob", path, &target], MOUNT_FAILED, &["frob", "greedy"]);
        refused(&["mount", "-o", "policy=greedy/frob", path, &target], MOUNT_FAILED, &["frob"]);
        refused(&["mount", path, &scratch.name("missing")], MOUNT_FAILED, &["missing", "No such file"]);
        refused(&["mount", path, path], MOUNT_FAILED, &["not a directory"]);
        refused(&["mount", path, scratch.path("").to_str().unwrap()], MOUNT_FAILED, &["inside the mount point"]);
        refused(&["mount", "/dev/null", &target], MOUNT_FAILED, &["neither a file, a block device"]);
    }
    refused(&["ctl", &target, "status"], 1, &["not a mount point"]);
    refused(&["ctl", "/proc", "status"], 1, &["not of gleanfs"]);
    refused(&["umount", &target], 32, &["target"]);
    assert_eq!(hash(&image), before);
}

#[test]
fn models_that_cannot_be_used() {
    let scratch = Scratch::new();
    let image = scratch.image("disk.img", "64M");
    let (path, target, before) = (image.to_str().unwrap(), scratch.dir("target"), hash(&image));
    let (bad, missing) = (scratch.name("bad.onnx"), scratch.name("missing.onnx"));
    fs::write(&bad, b"no model at all").unwrap();
    refused(&["model", "check", &bad], 1, &["bad.onnx"]);
    refused(&["model", "check", &missing], 1, &["missing.onnx", "No such file"]);
    refused(&["model", "check", &target], 1, &["target"]);
    if can_mount() {
        refused(&["mount", "-o", &format!("model={bad}"), path, &target], MOUNT_FAILED, &["bad.onnx"]);
        refused(&["mount", "-o", &format!("model={missing}"), path, &target], MOUNT_FAILED, &["missing.onnx"]);
        assert_eq!(hash(&image), before);
        let mount = scratch.mount(path, "mnt", "trust=fallback");
        let at = mount.path().to_str().unwrap();
        refused(&["model", "use", at, &missing], 1, &["missing.onnx"]);
        refused(&["model", "use", at, &bad], 1, &[]);
    }
}

#[test]
fn an_image_that_is_mounted() {
    if !can_mount() {
        return;
    }
    let scratch = Scratch::new();
    let image = scratch.image("disk.img", "64M");
    let (path, target) = (image.to_str().unwrap(), scratch.dir("target"));
    let mount = scratch.mount(path, "mnt", "trust=fallback");
    fs::write(mount.path().join("kept"), b"kept").unwrap();
    let at = mount.path().to_str().unwrap();
    refused(&["mount", path, &target], MOUNT_FAILED, &["disk.img", "in use", "gleanfs"]);
    refused(&["mount", "-o", "ro", path, &target], MOUNT_FAILED, &["in use"]);
    refused(&["mount", path, at], MOUNT_FAILED, &["is mounted here already", "gleanfs umount"]);
    refused(&["mkfs", path], 1, &["mounted at", at, "unmount it first"]);
    refused(&["mkfs", "--force", "--size", "32M", path], 1, &["mounted at", at]);
    refused(&["fsck", path], FSCK_OPERATION, &["mounted at", at]);
    refused(&["tune", "--label", "x", path], 1, &["in use"]);
    refused(&["dump", path, "tree"], 1, &["in use"]);
    // The lock holds also where the mount is not seen: under another name.
    let link = scratch.path("hard link");
    fs::hard_link(&image, &link).unwrap();
    refused(&["mkfs", "--force", "--size", "32M", link.to_str().unwrap()], 1, &["in use"]);
    assert_eq!(fs::metadata(&image).unwrap().len(), 64 << 20);
    // An image on the filesystem that would be mounted from it.
    let inner = mount.path().join("inner.img");
    said(&["mkfs", "-q", "--size", "16M", inner.to_str().unwrap()]);
    refused(&["mount", inner.to_str().unwrap(), at], MOUNT_FAILED, &["mounted here already"]);
    assert_eq!(fs::read(mount.path().join("kept")).unwrap(), b"kept");
    drop(mount);
    assert!(gleanfs(&["fsck", path]).status().unwrap().success());
}

#[test]
fn read_only_mounts_write_nothing_and_share() {
    if !can_mount() {
        return;
    }
    let scratch = Scratch::new();
    let image = scratch.image("disk.img", "64M");
    let path = image.to_str().unwrap();
    let mount = scratch.mount(path, "mnt", "trust=fallback");
    fs::write(mount.path().join("file"), b"synced").unwrap();
    fs::File::open(mount.path().join("file")).unwrap().sync_all().unwrap();
    mount.kill();
    let before = hash(&image);
    let report: serde_json::Value = serde_json::from_str(&said(&["fsck", "--json", path])).unwrap();
    assert!(report["replayed"].as_u64().unwrap() > 0, "{report}");
    let (first, second) = (scratch.mount(path, "one", "ro"), scratch.mount(path, "two", "ro"));
    for mount in [&first, &second] {
        assert_eq!(fs::read(mount.path().join("file")).unwrap(), b"synced");
        let error = fs::write(mount.path().join("new"), b"").unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EROFS));
    }
    refused(&["mount", path, &scratch.dir("three")], MOUNT_FAILED, &["in use"]);
    refused(&["grow", "--size", "128M", first.path().to_str().unwrap()], 1, &["read-only"]);
    for mount in [first, second] {
        said(&["umount", mount.path().to_str().unwrap()]);
    }
    assert_eq!(hash(&image), before, "a read-only mount has written");
    on_a_read_only_filesystem(&scratch, &image);
    assert_eq!(hash(&image), before);
    drop(scratch.mount(path, "mnt", "trust=fallback"));
    assert!(said(&["fsck", path]).contains("clean;"));
}

/// The image seen through a bind mount that is read-only.
fn on_a_read_only_filesystem(scratch: &Scratch, image: &Path) {
    let (store, target) = (scratch.dir("store"), scratch.dir("target"));
    fs::copy(image, Path::new(&store).join("disk.img")).unwrap();
    let mount = |words: &[&str]| Command::new("mount").args(words).arg(&store).status().unwrap().success();
    if !mount(&["--bind", &store]) || !mount(&["-o", "remount,bind,ro"]) {
        eprintln!("skipped: mount --bind is not possible here");
        return;
    }
    let copy = format!("{store}/disk.img");
    refused(&["mount", &copy, &target], MOUNT_FAILED, &["read-only", "-o ro"]);
    let shown = scratch.mount(&copy, "through", "ro");
    assert_eq!(fs::read(shown.path().join("file")).unwrap(), b"synced");
    drop(shown);
    assert!(Command::new("umount").arg(&store).status().unwrap().success());
    assert_eq!(hash(Path::new(&copy)), hash(image));
}

#[test]
fn somebody_without_the_right() {
    // SAFETY: no arguments, no failure.
    if unsafe { libc::geteuid() } != 0 {
        eprintln!("skipped: only root can become somebody else");
        return;
    }
    let scratch = Scratch::new();
    let image = scratch.image("disk.img", "64M");
    let (path, target, before) = (image.to_str().unwrap(), scratch.dir("target"), hash(&image));
    let copy = scratch.path("gleanfs");
    fs::copy(program(), &copy).unwrap();
    fs::set_permissions(scratch.path(""), fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(&image, fs::Permissions::from_mode(0o600)).unwrap();
    let as_nobody = |words: &[&str], status: i32, in_it: &[&str]| {
        let mut nobody = Command::new("setpriv");
        nobody.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(&copy).args(words);
        match nobody.output() {
            Ok(output) => told(output, words, status, in_it),
            Err(e) => eprintln!("skipped: setpriv: {e}"),
        }
    };
    as_nobody(&["fsck", path], FSCK_OPERATION, &["disk.img", "no permission to read"]);
    as_nobody(&["tune", "--label", "x", path], 1, &["no permission"]);
    as_nobody(&["mkfs", "--force", path], 1, &["disk.img", "ermission denied"]);
    as_nobody(&["mkfs", "--size", "64M", &scratch.name("new")], 1, &["new", "ermission denied"]);
    as_nobody(&["mount", path, &target], MOUNT_FAILED, &["no permission to read and write"]);
    as_nobody(&["mount", "-o", "ro", path, &target], MOUNT_FAILED, &["no permission to read"]);
    fs::set_permissions(&image, fs::Permissions::from_mode(0o444)).unwrap();
    as_nobody(&["mount", path, &target], MOUNT_FAILED, &["no permission to read and write"]);
    if can_mount() {
        let mount = scratch.mount(path, "mnt", "trust=fallback");
        let at = mount.path().to_str().unwrap();
        as_nobody(&["ctl", at, "sync"], 1, &["root"]);
        as_nobody(&["umount", at], 32, &[at]);
        drop(mount);
    } else {
        assert_eq!(hash(&image), before);
    }
}

#[test]
fn a_machine_without_fuse() {
    let scratch = Scratch::new();
    let image = scratch.image("disk.img", "64M");
    let (path, target, before) = (image.to_str().unwrap(), scratch.dir("target"), hash(&image));
    let words = ["mount", path, &target];
    // A mount namespace of its own, in which /dev is empty.
    let script = "mount -t tmpfs none /dev 2>/dev/null || exit 77; exec \"$@\"";
    let hidden = Command::new("unshare").args(["-m", "sh", "-c", script, "sh"]).arg(program()).args(words).output();
    match hidden {
        Ok(output) if output.status.code() != Some(77) && !output.stderr.starts_with(b"unshare") => {
            told(output, &words, MOUNT_FAILED, &["/dev/fuse", "fuse module"]);
        }
        _ => eprintln!("skipped: unshare is not possible here"),
    }
    assert_eq!(hash(&image), before);
}
