//! Golden images: bytes that an earlier version wrote, which every later one must read, for ever.
//!
//! One set per format version in `images/`: a conventional and a zoned device, each unmounted cleanly and with a log to replay.
//! `vN-*.image` is a packed image ([`archive`]), `vN.manifest` what is in each of them as text ([`listing`]), taken from the live
//! filesystems that wrote them and not from the images. What is in them: [`contents`].
//!
//! A new format version gets its set by
//!
//!     cargo test --release -p gleanfs --test golden -- --ignored make
//!
//! which writes the set of the version that the code has now and leaves the others alone.

mod archive;
mod contents;
mod image;
mod listing;
mod make;

use std::path::{Path, PathBuf};

use gleanfs::device::open::OpenMode;
use gleanfs::format::superblock::VERSION;
use gleanfs::fsck::{CheckOptions, Report, check};
use gleanfs::meta::image::open_image;
use gleanfs::namespace::api::{Caller, Namespace, NewInode, NewKind};
use gleanfs::types::Ino;

use image::{Live, Shape};
use listing::Listing;

/// Where the images are.
fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/images")
}

/// A golden image, unpacked.
struct Golden {
    name: String,
    path: PathBuf,
    manifest: Listing,
    _dir: tempfile::TempDir,
}

impl Golden {
    fn dirty(&self) -> bool {
        self.name.ends_with("-dirty")
    }

    fn check(&self) -> Report {
        let opened = open_image(&self.path, OpenMode::ReadOnly).unwrap_or_else(|e| panic!("{}: {e}", self.name));
        let report = check(opened.device, &CheckOptions::default(), &mut |_, _| {});
        report.unwrap_or_else(|e| panic!("{}: {e}", self.name))
    }

    fn open(&self, mode: OpenMode) -> Live {
        Live::open(&self.path, mode).unwrap_or_else(|e| panic!("{}: {e}", self.name))
    }
}

/// All golden images, of all versions.
fn all() -> Vec<Golden> {
    let entries = std::fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path());
    let mut packed: Vec<PathBuf> = entries.filter(|path| path.extension().is_some_and(|e| e == "image")).collect();
    packed.sort();
    packed.iter().map(|path| unpack(path)).collect()
}

fn unpack(packed: &Path) -> Golden {
    let dir = tempfile::tempdir().unwrap();
    let name = packed.file_stem().unwrap().to_str().unwrap().to_owned();
    let path = dir.path().join("image");
    archive::unpack(&std::fs::read(packed).unwrap(), &path).unwrap();
    let (version, _) = name.split_once('-').unwrap();
    let manifest = std::fs::read_to_string(folder().join(format!("{version}.manifest"))).unwrap();
    Golden { name, path, manifest: Listing::parse(&manifest), _dir: dir }
}

#[test]
fn the_version_that_is_written_has_its_set() {
    let names: Vec<String> = all().into_iter().map(|golden| golden.name).collect();
    for shape in Shape::ALL {
        for end in ["clean", "dirty"] {
            let name = format!("v{VERSION}-{}-{end}", shape.name());
            assert!(names.contains(&name), "{name} is missing; see how to make it at the head of this file");
        }
    }
}

#[test]
fn every_image_is_sound() {
    for golden in all() {
        let report = golden.check();
        assert!(report.findings.is_empty(), "{}: {:?}", golden.name, report.findings);
        assert_eq!(report.clean, !golden.dirty(), "{}", golden.name);
        // The dirty ones are about replay, so there must be something to replay.
        assert_eq!(report.replayed > 30, golden.dirty(), "{}: {} operations", golden.name, report.replayed);
    }
}

#[test]
fn every_image_shows_what_was_put_there_when_it_is_read() {
    for golden in all() {
        let before = archive::pack(&golden.path).unwrap();
        let live = golden.open(OpenMode::ReadOnly);
        golden.manifest.demand(&Listing::take(&live.filesystem), &golden.name);
        drop(live);
        assert!(archive::pack(&golden.path).unwrap() == before, "{}: reading has changed the image", golden.name);
    }
}

#[test]
fn every_image_goes_on_from_there_when_it_is_written() {
    for golden in all() {
        let live = golden.open(OpenMode::ReadWrite);
        golden.manifest.demand(&Listing::take(&live.filesystem), &golden.name);
        use_it(&live);
        live.unmount().unwrap();
        let report = golden.check();
        assert!(report.clean && report.findings.is_empty(), "{}: {:?}", golden.name, report.findings);
        let live = golden.open(OpenMode::ReadOnly);
        let mut now = Listing::take(&live.filesystem);
        assert!(now.remove("/new").is_some_and(|new| new.contains("data 0..40000 ")), "{}", golden.name);
        // The new name has changed the root, and blocks behind the end of files were freed.
        golden.manifest.without("/").without_blocks().demand(&now.without("/").without_blocks(), &golden.name);
    }
}

/// Frees what waits to be freed, cleans, writes.
fn use_it(live: &Live) {
    while live.filesystem.reap(64).unwrap() > 0 {}
    let who = Caller::default();
    let new = NewInode { kind: NewKind::File, perm: 0o600, umask: 0 };
    let made = live.filesystem.create(&who, Ino::ROOT, b"new", &new).unwrap();
    live.filesystem.write(made.ino, 0, &[0x77; 40_000], false).unwrap();
    for _ in 0..8 {
        live.cleaner.clean_one().unwrap();
    }
    live.filesystem.sync().unwrap();
}
