//! What is in a golden image: every kind of inode, key, extent and edit that the format has.

use gleanfs::format::value::Time;
use gleanfs::namespace::Filesystem;
use gleanfs::namespace::api::{
    Attr, AttrChange, Caller, Fallocate, Namespace, NewInode, NewKind, RenameMode, SetTime, XattrMode,
};
use gleanfs::types::Ino;

use super::image::Live;

/// Fixed, so that [`COLLIDING`] stay what they are.
pub const HASH_KEY: [u8; 16] = *b"gleanfs golden 1";

/// Two names with the same 55 bits of SipHash-1-3 under [`HASH_KEY`]: the second stands at the next probe. Found by Brent's
/// cycle search over `name -> hash -> name`.
pub const COLLIDING: [&[u8]; 2] = [b"361b6797db7db2", b"7e53fe942a7d8d"];

const BLOCK: u64 = 4096;
const ROOT: Caller = Caller { uid: 0, gid: 0, pid: 1 };
const USER: Caller = Caller { uid: 1000, gid: 100, pid: 2 };

/// Short ways to say what is done.
struct Hand<'a> {
    fs: &'a Filesystem,
    live: &'a Live,
}

impl Hand<'_> {
    fn make(&self, who: &Caller, dir: Ino, name: &[u8], kind: NewKind<'_>, perm: u32) -> Ino {
        self.fs.create(who, dir, name, &NewInode { kind, perm, umask: 0o022 }).unwrap().ino
    }

    fn file(&self, dir: Ino, name: &str) -> Ino {
        self.make(&USER, dir, name.as_bytes(), NewKind::File, 0o666)
    }

    fn dir(&self, dir: Ino, name: &str) -> Ino {
        self.make(&ROOT, dir, name.as_bytes(), NewKind::Directory, 0o777)
    }

    /// Blocks that differ from each other and compress well.
    fn write(&self, ino: Ino, first: u64, blocks: u64, seed: u8) {
        for block in first..first + blocks {
            let data = [seed ^ block as u8, (block >> 8) as u8, 0x5a, seed].repeat(BLOCK as usize / 4);
            self.fs.write(ino, block * BLOCK, &data, false).unwrap();
        }
    }

    fn change(&self, ino: Ino, change: AttrChange) -> Attr {
        self.fs.setattr(&ROOT, ino, &change).unwrap()
    }

    fn xattr(&self, ino: Ino, name: &str, value: &[u8]) {
        self.fs.set_xattr(ino, name.as_bytes(), value, XattrMode::Set).unwrap();
    }

    fn find(&self, path: &str) -> Ino {
        path.split('/').fold(Ino::ROOT, |dir, name| self.fs.lookup(dir, name.as_bytes()).unwrap().ino)
    }

    /// Moves blocks, so that the log has conditional edits.
    fn clean(&self, segments: usize) {
        for _ in 0..segments {
            self.live.cleaner.clean_one().unwrap();
        }
    }
}

/// A valid ACL in the kernel's xattr format: one more user and one more group, with a mask.
fn acl() -> Vec<u8> {
    let mut bytes = 2u32.to_le_bytes().to_vec();
    let none = u32::MAX;
    for (tag, perm, id) in [(1u16, 7u16, none), (2, 6, 1001), (4, 5, none), (8, 4, 2002), (16, 7, none), (32, 1, none)]
    {
        bytes.extend(tag.to_le_bytes());
        bytes.extend(perm.to_le_bytes());
        bytes.extend(id.to_le_bytes());
    }
    bytes
}

/// What the last checkpoint of a dirty image holds.
pub fn early(live: &Live) {
    let hand = Hand { fs: &live.filesystem, live };
    kinds(&hand);
    names(&hand);
    contents(&hand);
    attributes(&hand);
    orphans(&hand);
}

fn kinds(hand: &Hand<'_>) {
    let dir = hand.dir(Ino::ROOT, "kinds");
    for (name, mode, rdev) in [
        ("fifo", libc::S_IFIFO, 0),
        ("socket", libc::S_IFSOCK, 0),
        ("character", libc::S_IFCHR, 0x0103),
        ("block", libc::S_IFBLK, 0xfff0_12ff),
    ] {
        hand.make(&ROOT, dir, name.as_bytes(), NewKind::Special { mode, rdev }, 0o640);
    }
    hand.make(&USER, dir, b"short link", NewKind::Symlink(b"../names"), 0o777);
    let long = b"a target that takes several parts/".repeat(121)[..4095].to_vec();
    hand.make(&USER, dir, b"long link", NewKind::Symlink(&long), 0o777);
    let deep = (0..12).fold(hand.dir(dir, "deep"), |above, n| hand.dir(above, &format!("level {n}")));
    hand.file(deep, "bottom");
}

fn names(hand: &Hand<'_>) {
    let dir = hand.dir(Ino::ROOT, "names");
    for (n, name) in COLLIDING.iter().enumerate() {
        let ino = hand.make(&USER, dir, name, NewKind::File, 0o600);
        hand.write(ino, 0, 1, n as u8);
    }
    let (high, odd): (Vec<u8>, Vec<u8>) = ((0..255).map(|n| 255 - n % 128).collect(), b"\n\t \\*'\"\x01\x7f".to_vec());
    for name in [high, vec![b'x'; 255], odd, "zażółć-日本語".into(), b"-".to_vec(), b"...".to_vec()] {
        hand.make(&USER, dir, &name, NewKind::File, 0o644);
    }
    let many = hand.dir(Ino::ROOT, "many");
    for n in 0..150 {
        hand.file(many, &format!("one of many files {n}"));
    }
    let linked = hand.file(dir, "linked");
    for (dir, name) in [(dir, "linked again"), (many, "linked elsewhere"), (Ino::ROOT, "linked at the top")] {
        hand.fs.link(linked, dir, name.as_bytes()).unwrap();
    }
}

fn contents(hand: &Hand<'_>) {
    let dir = hand.dir(Ino::ROOT, "contents");
    hand.file(dir, "empty");
    let small = hand.file(dir, "small");
    hand.fs.write(small, 0, b"not a whole block", false).unwrap();
    let tail = hand.file(dir, "tail");
    hand.fs.write(tail, 3 * BLOCK - 100, &[7; 300], false).unwrap();
    let sparse = hand.file(dir, "sparse");
    for first in [0, 3, 1000, 1 << 28] {
        hand.write(sparse, first, 2, 1);
    }
    hand.change(sparse, AttrChange { size: Some((1 << 43) + 17), ..AttrChange::default() });
    let fragments = hand.file(dir, "fragments");
    let others = hand.file(dir, "other fragments");
    for n in 0..24 {
        hand.write(fragments, n * 2 % 25, 1, n as u8);
        hand.write(others, 24 - n, 1, 3);
        if n % 7 == 0 {
            hand.fs.sync().unwrap();
        }
    }
    let runs = hand.file(dir, "runs");
    hand.fs.write(runs, 0, &[0x11; 40 * BLOCK as usize], false).unwrap();
    hand.write(runs, 10, 9, 2);
    let promised = hand.file(dir, "promised");
    let keep = |keep_size| Fallocate::Allocate { keep_size };
    hand.fs.fallocate(promised, 0, 20 * BLOCK, keep(false)).unwrap();
    hand.fs.fallocate(promised, 30 * BLOCK, 5 * BLOCK, keep(true)).unwrap();
    hand.write(promised, 7, 3, 4);
    let punched = hand.file(dir, "punched");
    hand.write(punched, 0, 16, 5);
    hand.fs.fallocate(punched, BLOCK + 5, 6 * BLOCK, Fallocate::PunchHole).unwrap();
    hand.fs.fallocate(punched, 9 * BLOCK, 3 * BLOCK, Fallocate::ZeroRange { keep_size: true }).unwrap();
    let copied = hand.file(dir, "copied");
    hand.fs.copy_range(runs, 8 * BLOCK, copied, 2 * BLOCK, 12 * BLOCK).unwrap();
}

fn attributes(hand: &Hand<'_>) {
    let dir = hand.dir(Ino::ROOT, "attributes");
    let time = |secs, nanos| Some(SetTime::At(Time { secs, nanos }));
    let old = hand.file(dir, "before 1970");
    hand.change(
        old,
        AttrChange { atime: time(-1, 999_999_999), mtime: time(-2_208_988_800, 1), ..AttrChange::default() },
    );
    let late = hand.file(dir, "after 2500");
    hand.change(late, AttrChange { atime: time(16_725_225_600, 0), mtime: time(1 << 34, 5), ..AttrChange::default() });
    let owned = hand.file(dir, "owned");
    let owner = AttrChange { uid: Some(u32::MAX - 1), gid: Some(65_534), ..AttrChange::default() };
    hand.change(owned, owner);
    hand.change(owned, AttrChange { mode: Some(0o6711), ..AttrChange::default() });
    let sticky = hand.dir(dir, "sticky");
    hand.change(sticky, AttrChange { mode: Some(0o3777), ..AttrChange::default() });
    for (name, flags) in [("immutable", 0x10), ("append only", 0x20), ("no dump", 0x40), ("no atime, sync", 0x88)] {
        let ino = hand.file(dir, name);
        hand.write(ino, 0, 1, flags as u8);
        hand.change(ino, AttrChange { flags: Some(flags), ..AttrChange::default() });
    }
    let marked = hand.file(dir, "xattrs");
    hand.xattr(marked, "user.small", b"value");
    hand.xattr(marked, "user.empty", b"");
    hand.xattr(marked, "user.large", &b"several parts of a large value, ".repeat(120));
    hand.xattr(marked, "trusted.name", &[0, 1, 2, 255]);
    hand.xattr(marked, "security.capability", &[1; 20]);
    hand.xattr(marked, &format!("user.{}", "n".repeat(250)), b"long name");
    let listed = hand.file(dir, "acl");
    hand.xattr(listed, "system.posix_acl_access", &acl());
    let heir = hand.dir(dir, "default acl");
    hand.xattr(heir, "system.posix_acl_default", &acl());
    hand.file(heir, "inherits");
}

/// Inodes that a program still had open when their last name went.
fn orphans(hand: &Hand<'_>) {
    let dir = hand.dir(Ino::ROOT, "orphans were here");
    let open = hand.file(dir, "open");
    hand.write(open, 0, 12, 9);
    hand.xattr(open, "user.orphan", b"yes");
    hand.fs.unlink(dir, b"open").unwrap();
    hand.dir(dir, "gone");
    hand.fs.rmdir(dir, b"gone").unwrap();
}

/// What only the log of a dirty image holds.
pub fn late(live: &Live) {
    let hand = Hand { fs: &live.filesystem, live };
    hand.clean(3);
    let contents = hand.find("contents");
    let late = hand.file(contents, "late");
    hand.write(late, 2, 12, 6);
    hand.write(hand.find("contents/fragments"), 10, 8, 7);
    hand.change(hand.find("contents/runs"), AttrChange { size: Some(25 * BLOCK + 9), ..AttrChange::default() });
    hand.fs.fallocate(late, 40 * BLOCK, 4 * BLOCK, Fallocate::Allocate { keep_size: false }).unwrap();
    hand.fs.fallocate(late, 5 * BLOCK, 10, Fallocate::PunchHole).unwrap();
    hand.clean(2);
    names_late(&hand);
    attributes_late(&hand);
    hand.fs.sync().unwrap();
    hand.clean(2);
    hand.write(hand.find("contents/tail"), 1, 4, 8);
}

fn names_late(hand: &Hand<'_>) {
    let (names, many) = (hand.find("names"), hand.find("many"));
    let fs = hand.fs;
    fs.unlink(names, COLLIDING[0]).unwrap();
    hand.make(&USER, names, COLLIDING[0], NewKind::Symlink(b"the same hash again"), 0o777);
    for n in (0..150).step_by(3) {
        fs.unlink(many, format!("one of many files {n}").as_bytes()).unwrap();
    }
    for n in 0..5 {
        let name = format!("one of many files {}", 3 * n + 1);
        fs.rename(many, name.as_bytes(), names, format!("moved {n}").as_bytes(), RenameMode::Replace).unwrap();
    }
    fs.rename(names, b"moved 0", names, b"moved 1", RenameMode::Replace).unwrap();
    fs.rename(names, b"moved 2", many, b"linked elsewhere", RenameMode::Exchange).unwrap();
    fs.rename(hand.find("kinds"), b"deep", Ino::ROOT, b"deep", RenameMode::NoReplace).unwrap();
    fs.link(hand.find("names/moved 3"), Ino::ROOT, b"a late link").unwrap();
    let dir = hand.dir(names, "made and removed");
    hand.file(dir, "x");
    fs.unlink(dir, b"x").unwrap();
    fs.rmdir(names, b"made and removed").unwrap();
    let open = hand.file(names, "open late");
    hand.write(open, 0, 4, 10);
    fs.unlink(names, b"open late").unwrap();
}

fn attributes_late(hand: &Hand<'_>) {
    let marked = hand.find("attributes/xattrs");
    hand.fs.remove_xattr(marked, b"user.small").unwrap();
    hand.xattr(marked, "user.large", b"small now");
    hand.xattr(marked, "user.late", &[3; 9000]);
    let acl = hand.find("attributes/acl");
    hand.change(acl, AttrChange { mode: Some(0o700), ..AttrChange::default() });
    let old = hand.find("attributes/before 1970");
    let time = Some(SetTime::At(Time { secs: -86_401, nanos: 7 }));
    hand.change(old, AttrChange { mtime: time, flags: Some(0x40), ..AttrChange::default() });
}

/// What a crash takes: nothing of this may be there.
pub fn unsynced(live: &Live) {
    let hand = Hand { fs: &live.filesystem, live };
    let lost = hand.file(Ino::ROOT, "lost in the crash");
    hand.write(lost, 0, 3, 11);
    hand.fs.unlink(hand.find("contents"), b"small").unwrap();
}
