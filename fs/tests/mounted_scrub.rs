//! Scrubs of a real mount, by the program: no false alarm while files are written and segments cleaned, and damage below cold files is found.
//!
//! Needs root and `/dev/fuse`; without them each test says so and is skipped.

mod common;

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use common::{Mount, Scratch, can_mount, gleanfs, said};

const BLOCK: usize = 4096;
const COLD_BLOCKS: u64 = 2048;
const HOT_BLOCKS: u64 = 6144;

fn cold(index: u64) -> [u8; BLOCK] {
    let mut block = [0x5c; BLOCK];
    block[..16].copy_from_slice(format!("cold{index:012}").as_bytes());
    block
}

fn write_cold(mount: &Mount) {
    let file = File::create(mount.path().join("cold")).unwrap();
    for index in 0..COLD_BLOCKS {
        file.write_all_at(&cold(index), index * BLOCK as u64).unwrap();
    }
    file.sync_all().unwrap();
}

/// A mount with a cold file on it, and its image; `None`, with the reason said, where nothing can be mounted.
fn cold_mount(size: &str) -> Option<(Scratch, PathBuf, Mount)> {
    if !can_mount() {
        return None;
    }
    let scratch = Scratch::new();
    let image = scratch.image("disk.img", size);
    let mount = scratch.mount(image.to_str().unwrap(), "mnt", "trust=fallback");
    write_cold(&mount);
    Some((scratch, image, mount))
}

fn scrub(mount: &Mount, words: &[&str]) -> std::process::Output {
    let at = mount.path().to_str().unwrap();
    gleanfs(&[&["ctl", at, "scrub"], words].concat()).output().unwrap()
}

fn status(mount: &Mount) -> serde_json::Value {
    let at = mount.path().to_str().unwrap();
    serde_json::from_str(&said(&["ctl", at, "scrub", "status", "--json"])).unwrap()
}

/// Flips a byte of the copies of a cold block in the image file, behind the daemon's back. How many there were.
fn rot(image: &Path, index: u64) -> usize {
    let wanted = format!("cold{index:012}");
    let bytes = fs::read(image).unwrap();
    let file = OpenOptions::new().write(true).open(image).unwrap();
    let found = (0..bytes.len()).step_by(BLOCK).filter(|at| bytes[*at..].starts_with(wanted.as_bytes()));
    found.map(|at| file.write_all_at(&[!bytes[at + 3000]], at as u64 + 3000).unwrap()).count()
}

#[test]
fn a_scrub_beside_writers_and_the_cleaner_raises_no_false_alarm() {
    let Some((_scratch, image, mount)) = cold_mount("48M") else { return };
    let hot = File::create(mount.path().join("hot")).unwrap();
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for n in 0u64.. {
                let at = n.wrapping_mul(0x9e37_79b9_7f4a_7c15) % HOT_BLOCKS;
                hot.write_all_at(&[n as u8; BLOCK], at * BLOCK as u64).unwrap();
                if n % 512 == 0 {
                    hot.sync_data().unwrap();
                    if is_over.load(Ordering::Relaxed) {
                        return;
                    }
                }
            }
        });
        scope.spawn(|| {
            let at = mount.path().to_str().unwrap();
            while !is_over.load(Ordering::Relaxed) {
                said(&["ctl", at, "gc", "run"]);
            }
        });
        // Twice, and until the cleaner has moved something meanwhile.
        for round in 0.. {
            let output = scrub(&mount, &["start", "--wait", "--rate", "1G"]);
            if !output.status.success() {
                is_over.store(true, Ordering::Relaxed);
                panic!("{}", String::from_utf8_lossy(&output.stdout));
            }
            let cleaner = &mount.status()["cleaner"];
            let cleaned = cleaner["background_segments"].as_u64().unwrap();
            if round > 0 && cleaned + cleaner["foreground_segments"].as_u64().unwrap() > 10 {
                break;
            }
        }
        is_over.store(true, Ordering::Relaxed);
    });
    let status = status(&mount);
    assert_eq!(status["state"], "done");
    assert!(status["data_blocks"].as_u64().unwrap() >= COLD_BLOCKS, "{status}");
    assert_eq!(status["findings"].as_array().unwrap().len(), 0, "{status}");
    drop(hot);
    drop(mount);
    assert!(said(&["fsck", image.to_str().unwrap()]).contains("clean;"));
}

#[test]
fn damage_below_cold_files_is_found_and_the_mount_goes_on() {
    let Some((_scratch, image, mount)) = cold_mount("64M") else { return };
    assert!(scrub(&mount, &["start", "--wait"]).status.success());
    let victims = [3, 777, 2047];
    for index in victims {
        // A write that was begun anew has left a copy that nothing leads to.
        assert!(rot(&image, index) >= 1, "a cold block is in the image");
    }
    let output = scrub(&mount, &["start", "--wait"]);
    assert_eq!(output.status.code(), Some(4), "{output:?}");
    let status = status(&mount);
    assert_eq!(status["bad_blocks"], 3, "{status}");
    for (found, index) in status["findings"].as_array().unwrap().iter().zip(victims) {
        assert_eq!(found["kind"], "damaged");
        let message = found["message"].as_str().unwrap();
        assert!(message.contains(&format!("file block {index} of inode")), "{message}");
    }
    let text = said(&["ctl", mount.path().to_str().unwrap(), "status"]);
    assert!(text.contains("3 (0 renewed from memory)"), "{text}");
    // It goes on: what is whole is read, what is written is kept.
    fs::write(mount.path().join("later"), b"written after all that").unwrap();
    let file = File::open(mount.path().join("cold")).unwrap();
    let mut block = [0; BLOCK];
    file.read_exact_at(&mut block, 1000 * BLOCK as u64).unwrap();
    assert_eq!(block, cold(1000));
    assert_eq!(fs::read(mount.path().join("later")).unwrap(), b"written after all that");
}

#[test]
fn a_slow_scrub_is_stopped_and_goes_on_and_ends_with_the_mount() {
    let Some((_scratch, image, mount)) = cold_mount("64M") else { return };
    assert!(scrub(&mount, &["start", "--rate", "1"]).status.success());
    let again = scrub(&mount, &["start"]);
    assert!(String::from_utf8_lossy(&again.stderr).contains("under way already"), "{again:?}");
    assert!(scrub(&mount, &["stop"]).status.success());
    assert_eq!(status(&mount)["state"], "stopped");
    assert!(scrub(&mount, &["start", "--wait"]).status.success());
    assert_eq!(status(&mount)["state"], "done");
    // One that would take years does not keep the mount from ending.
    assert!(scrub(&mount, &["start", "--rate", "1"]).status.success());
    said(&["umount", mount.path().to_str().unwrap()]);
    assert!(said(&["fsck", image.to_str().unwrap()]).contains("clean;"));
}
