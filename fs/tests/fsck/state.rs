//! Damage of what the filesystem's state says, planted by edits that no operation would make.

use gleanfs::format::edit::Edit;
use gleanfs::format::key::{Key, Kind};
use gleanfs::format::value::{Extent, Inode, Value};
use gleanfs::fsck::{Finding, Owner};
use gleanfs::types::{BLOCK_SIZE, BlockAddr, Ino};

use crate::image::{
    A_DIR, A_FILE, A_LINK, FILE, INNER, Image, directory, entry, entry_key, findings, format_with, inode, put, report,
    xattr,
};

fn file() -> Inode {
    Inode { size: 3 * BLOCK_SIZE as u64, xattrs: 1, ..inode(FILE) }
}

fn after(edits: Vec<Edit>) -> Vec<Finding> {
    Image::filled().findings_after(edits)
}

#[test]
pub fn entries() {
    let name = || "x".to_string();
    let four = put(Ino::ROOT, directory(Ino::ROOT, 1, 4));
    assert_eq!(
        after(vec![entry(Ino::ROOT, "x", Ino(99), 8), four.clone()]),
        [Finding::DanglingEntry { dir: Ino::ROOT, name: name(), ino: Ino(99) }]
    );
    assert_eq!(
        after(vec![entry(Ino::ROOT, "x", A_FILE, 4), four.clone(), put(A_FILE, Inode { nlink: 2, ..file() })]),
        [Finding::EntryType { dir: Ino::ROOT, name: name(), ino: A_FILE, dtype: 4, actual: 8 }]
    );
    let misplaced = Edit::Put {
        key: Key::new(Ino::ROOT, Kind::Dirent, 77 << 8),
        value: Value::Dirent(gleanfs::format::value::Dirent { name: b"x".as_slice().into(), ino: A_FILE, dtype: 8 }),
    };
    assert_eq!(
        after(vec![misplaced, four, put(A_FILE, Inode { nlink: 2, ..file() })]),
        [Finding::BadEntry { dir: Ino::ROOT, name: name(), why: "it does not stand where its hash says" }]
    );
    assert_eq!(
        after(vec![put(Ino::ROOT, directory(Ino::ROOT, 1, 8))]),
        [Finding::EntryCount { ino: Ino::ROOT, stored: 8, counted: 3 }]
    );
}

#[test]
pub fn links() {
    assert_eq!(
        after(vec![put(A_FILE, Inode { nlink: 3, ..file() })]),
        [Finding::LinkCount { ino: A_FILE, stored: 3, counted: 1 }]
    );
    assert_eq!(
        after(vec![put(A_DIR, directory(Ino::ROOT, 2, 1))]),
        [Finding::LinkCount { ino: A_DIR, stored: 4, counted: 3 }]
    );
    let without_file =
        || vec![Edit::Delete { key: entry_key(Ino::ROOT, "file") }, put(Ino::ROOT, directory(Ino::ROOT, 1, 2))];
    assert_eq!(after(without_file()), [Finding::Unreachable { ino: A_FILE }]);
    let mut edits = without_file();
    edits.push(put(A_FILE, Inode { nlink: 0, ..file() }));
    assert_eq!(after(edits), [Finding::NotListed { ino: A_FILE }]);
    let listed = |ino| Edit::Put { key: Key::orphan(ino), value: Value::Orphan };
    assert_eq!(after(vec![listed(A_FILE)]), [Finding::StaleWork { ino: A_FILE, what: "freed", why: "has links" }]);
    assert_eq!(
        after(vec![listed(Ino(50))]),
        [Finding::StaleWork { ino: Ino(50), what: "freed", why: "does not exist" }]
    );
}

#[test]
pub fn directories() {
    assert_eq!(
        after(vec![put(INNER, directory(Ino::ROOT, 0, 0))]),
        [Finding::WrongParent { ino: INNER, stored: Ino::ROOT, actual: A_DIR }]
    );
    // The directory's name moves into its own subdirectory.
    let found = after(vec![
        Edit::Delete { key: entry_key(Ino::ROOT, "dir") },
        put(Ino::ROOT, directory(Ino::ROOT, 0, 2)),
        entry(INNER, "dir", A_DIR, 4),
        put(INNER, directory(A_DIR, 1, 1)),
        put(A_DIR, directory(INNER, 1, 1)),
    ]);
    assert!(matches!(found[..], [Finding::DirectoryLoop { ino: A_DIR | INNER }]), "{found:?}");
    let found = after(vec![entry(Ino::ROOT, "again", INNER, 4), put(Ino::ROOT, directory(Ino::ROOT, 2, 4))]);
    assert!(found.contains(&Finding::DirectoryLinked { ino: INNER, names: 2 }), "{found:?}");
    assert_eq!(findings(&format_with(&[])), [Finding::NoRoot]);
}

#[test]
pub fn inodes() {
    assert_eq!(
        after(vec![put(A_FILE, Inode { size: 1 << 63, ..file() })]),
        [Finding::InodeField { ino: A_FILE, what: "size", value: 1 << 63 }]
    );
    assert_eq!(
        after(vec![put(A_FILE, Inode { parent: A_DIR, ..file() })]),
        [Finding::InodeField { ino: A_FILE, what: "parent", value: A_DIR.0 }]
    );
    let found = after(vec![put(A_FILE, Inode { mode: 0o644, ..file() })]);
    assert!(found.contains(&Finding::InodeField { ino: A_FILE, what: "mode", value: 0o644 }), "{found:?}");
    // `blocks` of a new inode is taken as it is.
    let four = put(Ino::ROOT, directory(Ino::ROOT, 1, 4));
    assert_eq!(
        after(vec![put(Ino(40), Inode { blocks: 5, ..inode(FILE) }), entry(Ino::ROOT, "x", Ino(40), 8), four]),
        [Finding::MappedBlocks { ino: Ino(40), stored: 5, counted: 0 }]
    );
    assert_eq!(
        after(vec![Edit::Delete { key: Key::inode(A_FILE) }]),
        [
            Finding::NoInode { ino: A_FILE, what: "extended attributes" },
            Finding::DanglingEntry { dir: Ino::ROOT, name: "file".into(), ino: A_FILE },
        ]
    );
    assert_eq!(
        after(vec![put(A_LINK, Inode { size: 6, ..inode(0o140644) }), entry(Ino::ROOT, "link", A_LINK, 12)]),
        [Finding::ForeignItem { ino: A_LINK, is: "socket", what: "a link target" }]
    );
}

#[test]
pub fn attributes_and_link_targets() {
    assert_eq!(
        after(vec![put(A_FILE, Inode { xattrs: 2, ..file() })]),
        [Finding::XattrCount { ino: A_FILE, stored: 2, counted: 1 }]
    );
    let found = after(vec![xattr(A_FILE, "user.a", 0, 9, b"value")]);
    assert!(matches!(found[..], [Finding::BadXattr { why: "its parts do not make up its value", .. }]), "{found:?}");
    let found = after(vec![xattr(A_FILE, "user.a", 2, 5, b"")]);
    assert!(matches!(found[..], [Finding::BadXattr { why: "a part is missing or too short", .. }]), "{found:?}");
    assert_eq!(
        after(vec![put(A_LINK, Inode { size: 7, ..inode(0o120777) })]),
        [Finding::BadSymlink { ino: A_LINK, why: "its parts do not make up its target" }]
    );
}

#[test]
pub fn data_beyond_the_end() {
    assert_eq!(
        after(vec![put(A_FILE, Inode { size: BLOCK_SIZE as u64 + 1, ..file() })]),
        [Finding::DataBeyondEnd { ino: A_FILE, file_block: 2 }]
    );
}

#[test]
pub fn lost_blocks_are_told_and_leave_the_filesystem_clean() {
    let image = Image::filled();
    let old = image.write(A_FILE, 0, 1)[0].addr;
    image.commit(vec![Edit::Lose { ino: A_FILE, first: 0, blocks: 1, old }]);
    let report = report(&image.unmount());
    assert_eq!(report.findings, [Finding::LostBlocks { ino: A_FILE, file_block: 0, blocks: 1 }]);
    assert_eq!(report.status(), 0);
}

/// A second file that claims what an extent of the first one says.
fn thief(extent: &Extent) -> Vec<Edit> {
    vec![
        put(Ino(60), Inode { size: 4 * BLOCK_SIZE as u64, ..inode(FILE) }),
        entry(Ino::ROOT, "x", Ino(60), 8),
        put(Ino::ROOT, directory(Ino::ROOT, 1, 4)),
        Edit::Map { ino: Ino(60), first: 1, extent: extent.clone() },
    ]
}

#[test]
pub fn a_block_with_two_owners() {
    let image = Image::filled();
    let extent = image.write(A_FILE, 0, 2)[0].clone();
    let addr = extent.addr;
    let found = image.findings_after(thief(&extent));
    let owner = Owner::Data { ino: Ino(60), file_block: 1 };
    assert_eq!(found[0], Finding::OwnedTwice { addr, blocks: 2, owner });
    let [_, Finding::LiveCount { stored, counted, .. }] = found[..] else { panic!("{found:?}") };
    assert_eq!(stored, counted + 2);
}

#[test]
pub fn a_block_that_no_record_of_its_chunk_claims() {
    let image = Image::filled();
    let extent = image.write(A_FILE, 0, 2)[0].clone();
    image.write(A_FILE, 0, 2);
    // The thief's record goes to another chunk.
    image.volume.sync().unwrap();
    let addr = extent.addr;
    let found = image.findings_after(thief(&extent));
    assert_eq!(found, [Finding::Unclaimed { addr, blocks: 2 }]);
}

#[test]
pub fn an_address_that_is_no_place_for_data() {
    let image = Image::filled();
    let mut extent = image.write(A_FILE, 0, 1)[0].clone();
    // A segment's first block is a chunk's header.
    extent.addr = BlockAddr(extent.addr.0 / 64 * 64);
    let found = image.findings_after(thief(&extent));
    let owner = Owner::Data { ino: Ino(60), file_block: 1 };
    assert_eq!(found[0], Finding::BadAddress { owner, addr: extent.addr });
    assert!(matches!(found[1..], [Finding::LiveCount { .. }]), "{found:?}");
}

#[test]
fn extents_on_a_directory() {
    let image = Image::filled();
    image.write(INNER, 0, 1);
    let found = findings(&image.unmount());
    assert_eq!(found, [Finding::ForeignItem { ino: INNER, is: "directory", what: "extents" }]);
}
