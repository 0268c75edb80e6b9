//! Images without damage.

use std::sync::Arc;

use gleanfs::device::{Device, MemoryDevice};
use gleanfs::dump::{What, dump};
use gleanfs::format::edit::Edit;
use gleanfs::format::key::Key;
use gleanfs::format::value::{Inode, Time, Value};
use gleanfs::fsck::{CheckOptions, Finding, check};
use gleanfs::types::{BLOCK_SIZE, Ino, NodeId, SegNo};

use crate::image::{
    A_DIR, A_FILE, FILE, Image, directory, entry, findings, format_with, inode, newest_slot, put, report,
};

#[test]
fn a_fresh_filesystem_is_clean() {
    let device = Image::empty().unmount();
    let report = report(&device);
    assert_eq!(report.findings, []);
    assert!(report.clean);
    assert_eq!((report.directories, report.files, report.status()), (1, 0, 0));
}

#[test]
fn a_filled_filesystem_is_clean_also_after_a_crash() {
    let image = Image::filled();
    image.volume.sync().unwrap();
    let crashed = Arc::new(image.device.crash(7));
    let dirty = report(&crashed);
    assert_eq!(dirty.findings, []);
    assert!(!dirty.clean && dirty.replayed >= 2);
    let clean = report(&image.unmount());
    assert_eq!(clean.findings, []);
    assert_eq!((clean.files, clean.directories), (dirty.files, dirty.directories));
    assert_eq!((clean.files, clean.directories, clean.clean), (2, 3, true));
    assert!(clean.checked_bytes > 3 * BLOCK_SIZE as u64);
}

/// Overwrites, punches, promises, and enough files for a tree of several levels, with checkpoints in between.
fn churn(image: &Image, rounds: u64) {
    let mut next = 100;
    for round in 0..rounds {
        let mut edits = Vec::new();
        for _ in 0..20 {
            let name = format!("a file with a rather long name, number {next}");
            edits.push(put(Ino(next), Inode { size: 40 * BLOCK_SIZE as u64, ..inode(FILE) }));
            edits.push(entry(A_DIR, &name, Ino(next), 8));
            next += 1;
        }
        edits.push(put(A_DIR, directory(Ino::ROOT, 1, 1 + (round + 1) * 20)));
        image.commit(edits);
        for ino in (100..next).step_by(7) {
            image.write(Ino(ino), (ino + round) % 37, 3);
        }
        let ino = Ino(100 + round * 3);
        image.commit(vec![Edit::Unmap { ino, first: 5, blocks: 20 }]);
        if round % 2 == 1 {
            image.volume.checkpoint(false).unwrap();
        }
    }
}

#[test]
fn a_filesystem_in_use_is_clean_at_every_moment() {
    let image = Image::filled();
    churn(&image, 13);
    image.volume.sync().unwrap();
    let crashed = report(&Arc::new(image.device.crash(1)));
    assert_eq!(crashed.findings, []);
    assert!(crashed.replayed > 0 && crashed.nodes > 4, "{crashed:?}");
    assert_eq!(findings(&image.unmount()), []);
}

#[test]
fn a_crash_at_any_write_leaves_a_clean_filesystem() {
    for writes in (0..60).step_by(3) {
        let device = Image::filled().unmount();
        let image = Image::open(device);
        image.device.crash_after(writes);
        let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| churn(&image, 3)));
        let crashed = Arc::new(image.device.crash(writes));
        let errors: Vec<Finding> =
            findings(&crashed).into_iter().filter(|f| !matches!(f, Finding::BadSlot { .. })).collect();
        assert_eq!(errors, [], "power cut after {writes} writes");
    }
}

#[test]
fn a_summary_smaller_than_promised_leaves_no_gap_in_the_log() {
    // A write promises summary bytes that its record does not use: near the end of the header block that made a chunk shorter
    // than its place, and what came behind it was lost.
    for prefill in (150..400).step_by(2) {
        let image = Image::empty();
        let touch = |n: i64| Edit::Written { ino: Ino::ROOT, size: None, time: Time { secs: n, nanos: 0 } };
        for n in 0..prefill {
            image.commit(vec![touch(n)]);
        }
        image.commit(vec![put(A_FILE, Inode { size: BLOCK_SIZE as u64, ..inode(FILE) })]);
        image.write(A_FILE, 0, 1);
        image.volume.sync().unwrap();
        image.commit(vec![entry(Ino::ROOT, "file", A_FILE, 8), put(Ino::ROOT, directory(Ino::ROOT, 0, 1))]);
        image.volume.sync().unwrap();
        assert_eq!(findings(&Arc::new(image.device.crash(1))), [], "after {prefill} records");
    }
}

#[test]
fn what_is_no_image_or_not_ours_to_judge_is_an_error() {
    let options = CheckOptions::default();
    let blank: Arc<dyn Device> = Arc::new(MemoryDevice::new(6400, 64));
    let error = check(blank, &options, &mut |_, _| {}).unwrap_err();
    assert_eq!(error.to_string(), "not a gleanfs image");
    let device = Image::empty().unmount();
    crate::image::rewrite_superblock(&device, |s| s.identity.features.incompatible = 1 << 7);
    assert!(check(device, &options, &mut |_, _| {}).unwrap_err().to_string().contains("0x80"));
}

#[test]
fn progress_comes_to_its_end_and_reports_speak_json() {
    let device = Image::filled().unmount();
    let mut last = (0, 0);
    let shared: Arc<dyn Device> = device.clone();
    let report = check(shared, &CheckOptions::default(), &mut |done, all| {
        assert!(done >= last.0 && done <= all);
        last = (done, all);
    });
    assert_eq!(last.0, last.1);
    assert!(last.0 > 0);
    let report = report.unwrap();
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!((json["files"].as_u64(), json["findings"].as_array().map(Vec::len)), (Some(2), Some(0)));
    let broken = serde_json::to_value(crate::image::report(&format_with(&[]))).unwrap();
    assert_eq!(broken["findings"][0]["kind"], "no_root");
    assert_eq!(broken["findings"][0]["severity"], "error");
    assert_eq!(broken["findings"][0]["message"], "there is no root directory");
}

#[test]
fn dumps_show_what_is_there() {
    let image = Image::filled();
    image.volume.sync().unwrap();
    let device: Arc<dyn Device> = Arc::new(image.device.crash(3));
    let text = |what| {
        let mut out = Vec::new();
        dump(&device, what, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    };
    let (_, superblock) = newest_slot(&image.device);
    assert!(text(What::Superblock).contains("(this one counts)"));
    assert!(text(What::Checkpoint).contains(&format!("sequence {}", superblock.checkpoint.sequence)));
    assert!(text(What::Segments).contains("segment 1 open"));
    let head = superblock.checkpoint.heads.iter().find(|p| p.head == 15).unwrap();
    assert!(text(What::Segment(head.segment)).contains("payload 0: node 1"));
    assert!(text(What::Log).contains("put 16 inode 0: mode 100644"));
    assert!(text(What::Inode(A_FILE)).contains("16 extent 0: data 3 blocks at"));
    assert!(text(What::Tree).contains("\"inner\" inode 18 type 4"));
    assert!(text(What::Nodes).starts_with("node 1: block "));
    assert!(text(What::Node(NodeId::ROOT)).contains("level 0"));
    let mut out = Vec::new();
    let error = dump(&device, What::Inode(Ino(999)), &mut out).unwrap_err();
    assert_eq!(error.to_string(), "there is no inode 999");
    assert!(dump(&device, What::Segment(SegNo(0)), &mut out).is_err());
}

#[test]
fn an_orphan_and_a_file_to_be_trimmed_are_no_errors() {
    let image = Image::filled();
    let trim = Key { offset: A_FILE.0 | 1 << 63, ..Key::orphan(A_FILE) };
    let edits = vec![
        put(Ino(30), Inode { nlink: 0, ..inode(FILE) }),
        Edit::Put { key: Key::orphan(Ino(30)), value: Value::Orphan },
        put(A_FILE, Inode { size: 1, xattrs: 1, ..inode(FILE) }),
        Edit::Put { key: trim, value: Value::Orphan },
    ];
    assert_eq!(image.findings_after(edits), []);
}
