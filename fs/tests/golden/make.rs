//! Makes the images of the version that the code has now.

use std::path::Path;

use gleanfs::device::open::OpenMode;
use gleanfs::format::superblock::VERSION;

use super::archive;
use super::contents::{early, late, unsynced};
use super::folder;
use super::image::{Live, Shape};
use super::listing::Listing;

#[test]
#[ignore = "writes files of the repository; see the head of main.rs"]
fn make() {
    let mut manifests: Vec<Listing> = Vec::new();
    for shape in Shape::ALL {
        for clean in [true, false] {
            let end = if clean { "clean" } else { "dirty" };
            let name = format!("v{VERSION}-{}-{end}", shape.name());
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("image");
            manifests.push(fill(shape, clean, &path));
            let packed = archive::pack(&path).unwrap();
            println!("{name}: {} bytes", packed.len());
            std::fs::write(folder().join(format!("{name}.image")), packed).unwrap();
        }
    }
    // On every device the same was done.
    assert!(manifests.iter().all(|manifest| *manifest == manifests[0]));
    let head = "# What the filesystems showed that wrote the images of this version. Made by tests/golden/make.rs.\n";
    let text = head.to_owned() + &manifests[0].text();
    std::fs::write(folder().join(format!("v{VERSION}.manifest")), text).unwrap();
}

/// Makes an image at `path`; what its filesystem showed when all was durable.
fn fill(shape: Shape, clean: bool, path: &Path) -> Listing {
    shape.format(path).unwrap();
    let live = Live::open(path, OpenMode::ReadWrite).unwrap();
    early(&live);
    // On zones this takes the superblock's log into its second zone.
    for _ in 0..34 {
        live.volume.checkpoint(false).unwrap();
        live.volume.log().prepare(4).unwrap();
    }
    late(&live);
    live.volume.sync().unwrap();
    let manifest = Listing::take(&live.filesystem);
    if clean {
        live.unmount().unwrap();
    } else {
        unsynced(&live);
        live.abandon();
    }
    manifest
}
