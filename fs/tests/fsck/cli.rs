//! `gleanfs fsck` as its users run it: what is done at which word, and the exit statuses of fsck(8).

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Command, Output};

use gleanfs::types::BLOCK_SIZE;

fn gleanfs(words: &[&str], image: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_gleanfs")).args(words).arg(image).output().unwrap()
}

#[track_caller]
fn demand(words: &[&str], image: &Path, status: i32, said: &str) {
    let output = gleanfs(words, image);
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(status), "{words:?}: {text}");
    assert!(text.contains(said), "{words:?}: {text}");
}

/// Neither slot is left.
fn damage(image: &Path) {
    let file = fs::OpenOptions::new().write(true).open(image).unwrap();
    for slot in [0, 8] {
        file.write_all_at(&[0; BLOCK_SIZE], slot * BLOCK_SIZE as u64).unwrap();
    }
}

#[test]
fn words_and_statuses() {
    let dir = tempfile::tempdir().unwrap();
    let image = dir.path().join("image");
    demand(&["mkfs", "-q", "--size", "64M"], &image, 0, "");
    demand(&["fsck"], &image, 0, "clean");
    demand(&["fsck", "--repair", "--yes"], &image, 0, "clean");
    damage(&image);
    let before = fs::read(&image).unwrap();
    demand(&["fsck"], &image, 8, "not a gleanfs image");
    demand(&["fsck", "--repair"], &image, 4, "repair: write the superblock slots anew");
    demand(&["fsck", "-a"], &image, 4, "nothing was changed");
    demand(&["fsck", "--repair", "-n"], &image, 4, "nothing was changed");
    assert!(fs::read(&image).unwrap() == before, "nothing was changed");
    let json = gleanfs(&["fsck", "--repair", "--json"], &image);
    let json: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(
        (json["verdict"].as_str(), json["repairs"][0]["repair"].as_str()),
        (Some("planned"), Some("superblock"))
    );
    demand(&["fsck", "-y"], &image, 1, "repaired");
    demand(&["fsck"], &image, 0, "clean");
    demand(&["fsck", "-y", "-n"], &image, 16, "cannot be used with");
}

#[test]
fn a_label_given_later_outlives_both_slots() {
    let dir = tempfile::tempdir().unwrap();
    let image = dir.path().join("image");
    demand(&["mkfs", "-q", "--label", "first", "--size", "64M"], &image, 0, "");
    demand(&["tune", "--label", "second"], &image, 0, "second");
    damage(&image);
    demand(&["fsck", "-y"], &image, 1, "repaired");
    demand(&["tune"], &image, 0, "second");
}

#[test]
fn what_is_no_image_stays_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let image = dir.path().join("image");
    fs::write(&image, vec![7; 16 << 20]).unwrap();
    demand(&["fsck", "--repair", "--yes"], &image, 8, "not a gleanfs image");
    assert!(fs::read(&image).unwrap().iter().all(|byte| *byte == 7));
}

#[test]
fn a_locked_image_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let image = dir.path().join("image");
    demand(&["mkfs", "-q", "--size", "64M"], &image, 0, "");
    damage(&image);
    let held = gleanfs::device::open::probe(&image, gleanfs::device::open::OpenMode::ReadWrite).unwrap();
    demand(&["fsck", "--repair", "--yes"], &image, 8, "in use");
    drop(held);
    demand(&["fsck", "--repair", "--yes"], &image, 1, "repaired");
}
