//! What POSIX and Linux say, asked of the reference.

use std::sync::atomic::{AtomicI64, Ordering};

use super::*;

const ROOT: Ino = Ino::ROOT;
const WHO: Caller = Caller { uid: 0, gid: 0, pid: 1 };
const USER: Caller = Caller { uid: 1000, gid: 1000, pid: 1 };

/// A filesystem on which every look at the clock is a second later.
fn fs() -> Reference {
    let ticks = AtomicI64::new(1000);
    Reference::with_clock(Arc::new(move || Time { secs: ticks.fetch_add(1, Ordering::Relaxed), nanos: 0 }))
}

fn new(kind: NewKind<'_>, perm: u32) -> NewInode<'_> {
    NewInode { kind, perm, umask: 0o022 }
}

fn file(fs: &Reference, parent: Ino, name: &str) -> Ino {
    fs.create(&WHO, parent, name.as_bytes(), &new(NewKind::File, 0o666)).unwrap().ino
}

fn dir(fs: &Reference, parent: Ino, name: &str) -> Ino {
    fs.create(&WHO, parent, name.as_bytes(), &new(NewKind::Directory, 0o777)).unwrap().ino
}

fn nlink(fs: &Reference, ino: Ino) -> u32 {
    fs.getattr(ino).unwrap().nlink
}

macro_rules! refused {
    ($call:expr, $error:ident) => {
        match $call {
            Err(Error::$error) => {}
            other => panic!("{} wanted, got {other:?}", stringify!($error)),
        }
    };
}

#[test]
fn creating_takes_the_umask_off_and_touches_the_parent() {
    let fs = fs();
    let before = fs.getattr(ROOT).unwrap();
    let attr = fs.create(&USER, ROOT, b"f", &new(NewKind::File, 0o4666)).unwrap();
    assert_eq!((attr.mode, attr.nlink, attr.uid, attr.gid), (libc::S_IFREG | 0o4644, 1, 1000, 1000));
    assert_eq!([attr.atime, attr.mtime, attr.ctime], [attr.btime; 3]);
    let after = fs.getattr(ROOT).unwrap();
    assert!(after.mtime > before.mtime && after.ctime > before.ctime && after.nlink == 2);
    refused!(fs.create(&USER, ROOT, b"f", &new(NewKind::File, 0o644)), Exists);
    refused!(fs.create(&USER, attr.ino, b"x", &new(NewKind::File, 0o644)), NotADirectory);
    refused!(fs.create(&USER, ROOT, &[b'x'; 256], &new(NewKind::File, 0o644)), NameTooLong);
    refused!(fs.lookup(ROOT, b"g"), NotFound);
}

#[test]
fn a_setgid_directory_hands_its_group_down() {
    let fs = fs();
    let top = dir(&fs, ROOT, "top");
    fs.setattr(&WHO, top, &AttrChange { gid: Some(7), ..Default::default() }).unwrap();
    fs.setattr(&WHO, top, &AttrChange { mode: Some(0o2775), ..Default::default() }).unwrap();
    let sub = fs.create(&USER, top, b"d", &new(NewKind::Directory, 0o777)).unwrap();
    let leaf = fs.create(&USER, sub.ino, b"f", &new(NewKind::File, 0o666)).unwrap();
    assert_eq!((sub.gid, sub.mode & 0o7777), (7, 0o2755));
    assert_eq!((leaf.gid, leaf.mode & 0o7777), (7, 0o644));
}

#[test]
fn link_counts_follow_names() {
    let fs = fs();
    let (a, b) = (dir(&fs, ROOT, "a"), dir(&fs, ROOT, "b"));
    let f = file(&fs, a, "f");
    assert_eq!(fs.link(f, b, b"g").unwrap().nlink, 2);
    refused!(fs.link(f, b, b"g"), Exists);
    refused!(fs.link(a, b, b"h"), NotPermitted);
    refused!(fs.unlink(ROOT, b"a"), IsADirectory);
    refused!(fs.rmdir(ROOT, b"a"), NotEmpty);
    refused!(fs.rmdir(a, b"f"), NotADirectory);
    fs.unlink(a, b"f").unwrap();
    fs.rmdir(ROOT, b"a").unwrap();
    assert_eq!((nlink(&fs, f), nlink(&fs, ROOT), nlink(&fs, a)), (1, 3, 0));
    refused!(fs.create(&WHO, a, b"late", &new(NewKind::File, 0o644)), NotFound);
}

#[test]
fn an_inode_without_names_lives_until_it_is_forgotten() {
    let fs = fs();
    let f = file(&fs, ROOT, "f");
    fs.unlink(ROOT, b"f").unwrap();
    fs.write(f, 0, b"still here", false).unwrap();
    refused!(fs.link(f, ROOT, b"again"), NotFound);
    fs.forget(f);
    refused!(fs.getattr(f), Stale);
    let g = file(&fs, ROOT, "g");
    fs.forget(g);
    assert_eq!(nlink(&fs, g), 1);
}

#[test]
fn renaming_replaces_only_what_it_may() {
    let fs = fs();
    let (a, b) = (dir(&fs, ROOT, "a"), dir(&fs, ROOT, "b"));
    let (f, g) = (file(&fs, a, "f"), file(&fs, b, "g"));
    let go = |p, n: &str, q, m: &str| fs.rename(p, n.as_bytes(), q, m.as_bytes(), RenameMode::Replace);
    refused!(go(ROOT, "a", b, "g"), NotADirectory);
    refused!(go(a, "f", ROOT, "b"), IsADirectory);
    refused!(go(ROOT, "a", ROOT, "b"), NotEmpty);
    refused!(go(ROOT, "a", a, "x"), Invalid);
    refused!(go(a, "f", ROOT, "a"), NotEmpty);
    refused!(go(a, "none", a, "x"), NotFound);
    refused!(fs.rename(a, b"f", b, b"g", RenameMode::NoReplace), Exists);
    go(a, "f", b, "g").unwrap();
    assert_eq!((nlink(&fs, f), nlink(&fs, g)), (1, 0));
    go(ROOT, "b", ROOT, "a").unwrap();
    assert_eq!(fs.lookup(ROOT, b"a").unwrap().ino, b);
    assert_eq!((nlink(&fs, ROOT), nlink(&fs, a)), (3, 0));
}

#[test]
fn renaming_between_names_of_one_inode_does_nothing() {
    let fs = fs();
    let f = file(&fs, ROOT, "f");
    let before = fs.link(f, ROOT, b"g").unwrap();
    fs.rename(ROOT, b"f", ROOT, b"g", RenameMode::Replace).unwrap();
    assert_eq!(fs.lookup(ROOT, b"f").unwrap(), before);
    assert_eq!(fs.lookup(ROOT, b"g").unwrap(), before);
}

#[test]
fn exchange_swaps_also_directory_and_file() {
    let fs = fs();
    let (a, b) = (dir(&fs, ROOT, "a"), dir(&fs, ROOT, "b"));
    let (d, f) = (dir(&fs, a, "d"), file(&fs, b, "f"));
    refused!(fs.rename(a, b"d", b, b"none", RenameMode::Exchange), NotFound);
    refused!(fs.rename(ROOT, b"a", a, b"d", RenameMode::Exchange), Invalid);
    refused!(fs.rename(a, b"d", ROOT, b"a", RenameMode::Exchange), Invalid);
    fs.rename(a, b"d", b, b"f", RenameMode::Exchange).unwrap();
    assert_eq!((fs.lookup(b, b"f").unwrap().ino, fs.lookup(a, b"d").unwrap().ino), (d, f));
    assert_eq!((nlink(&fs, a), nlink(&fs, b)), (2, 3));
    assert_eq!(fs.parent(d).unwrap(), b);
}

#[test]
fn setuid_goes_with_the_owner_and_with_writes() {
    let fs = fs();
    let f = file(&fs, ROOT, "f");
    let set = |who: &Caller, change: AttrChange| fs.setattr(who, f, &change).unwrap().mode & 0o7777;
    let none = AttrChange::default();
    assert_eq!(set(&WHO, AttrChange { mode: Some(0o6755), ..none }), 0o6755);
    assert_eq!(set(&WHO, AttrChange { uid: Some(5), mode: Some(0o6755), ..none }), 0o6755);
    assert_eq!(set(&WHO, AttrChange { uid: Some(5), ..none }), 0o755);
    assert_eq!(set(&WHO, AttrChange { mode: Some(0o6745), ..none }), 0o6745);
    assert_eq!(set(&WHO, AttrChange { size: Some(0), ..none }), 0o2745);
    assert_eq!(set(&USER, AttrChange { mode: Some(0o2775), ..none }), 0o775);
    assert_eq!(set(&WHO, AttrChange { mode: Some(0o6777), ..none }), 0o6777);
    fs.write(f, 0, b"x", false).unwrap();
    assert_eq!(set(&WHO, none), 0o6777);
    fs.write(f, 0, b"x", true).unwrap();
    assert_eq!(set(&WHO, none), 0o777);
}

#[test]
fn the_access_list_and_the_mode_agree() {
    let fs = fs();
    let bytes = |entries: &[(u16, u16, u32)]| {
        let mut out = vec![2, 0, 0, 0];
        for (tag, perm, id) in entries {
            out.extend([tag.to_le_bytes(), perm.to_le_bytes()].concat());
            out.extend(id.to_le_bytes());
        }
        out
    };
    let list = bytes(&[(1, 7, !0), (2, 5, 1000), (4, 7, !0), (16, 7, !0), (32, 1, !0)]);
    let top = dir(&fs, ROOT, "top");
    fs.set_xattr(top, acl::DEFAULT, &list, XattrMode::Set).unwrap();
    refused!(fs.set_xattr(top, acl::DEFAULT, b"nonsense", XattrMode::Set), Invalid);
    let sub = fs.create(&WHO, top, b"d", &new(NewKind::Directory, 0o777)).unwrap();
    assert_eq!((sub.mode & 0o777, fs.get_xattr(sub.ino, acl::DEFAULT).unwrap()), (0o771, list));
    let f = fs.create(&WHO, top, b"f", &new(NewKind::File, 0o640)).unwrap();
    assert_eq!(f.mode & 0o777, 0o640);
    let inherited = bytes(&[(1, 6, !0), (2, 5, 1000), (4, 7, !0), (16, 4, !0), (32, 0, !0)]);
    assert_eq!(fs.get_xattr(f.ino, acl::ACCESS).unwrap(), inherited);
    fs.setattr(&WHO, f.ino, &AttrChange { mode: Some(0o751), ..Default::default() }).unwrap();
    let changed = bytes(&[(1, 7, !0), (2, 5, 1000), (4, 7, !0), (16, 5, !0), (32, 1, !0)]);
    assert_eq!(fs.get_xattr(f.ino, acl::ACCESS).unwrap(), changed);
    fs.set_xattr(f.ino, acl::ACCESS, &bytes(&[(1, 6, !0), (4, 0, !0), (32, 4, !0)]), XattrMode::Set).unwrap();
    assert_eq!(fs.getattr(f.ino).unwrap().mode & 0o777, 0o604);
    refused!(fs.get_xattr(f.ino, acl::ACCESS), NoAttribute);
}

#[test]
fn xattr_modes_and_names() {
    let fs = fs();
    let f = file(&fs, ROOT, "f");
    refused!(fs.set_xattr(f, b"user.a", b"1", XattrMode::Replace), NoAttribute);
    fs.set_xattr(f, b"user.a", b"1", XattrMode::Create).unwrap();
    refused!(fs.set_xattr(f, b"user.a", b"2", XattrMode::Create), Exists);
    fs.set_xattr(f, b"user.b", b"", XattrMode::Set).unwrap();
    assert_eq!(fs.list_xattr(f).unwrap(), b"user.a\0user.b\0");
    fs.remove_xattr(f, b"user.a").unwrap();
    refused!(fs.remove_xattr(f, b"user.a"), NoAttribute);
    refused!(fs.set_xattr(f, b"user.c", &[0; 65537], XattrMode::Set), TooLong);
}

#[test]
fn reading_a_directory_goes_on_where_it_stopped() {
    let fs = fs();
    for i in 0..10 {
        file(&fs, ROOT, &format!("f{i}"));
    }
    let (mut seen, mut cookie) = (Vec::new(), 0);
    loop {
        let (mut last, mut taken) = (cookie, 0);
        fs.readdir(ROOT, cookie, true, &mut |entry| {
            assert_eq!(entry.attr.is_some(), !entry.name.starts_with(b"."));
            taken += 1;
            if taken <= 3 {
                seen.push(String::from_utf8_lossy(entry.name).into_owned());
                last = entry.cookie;
            }
            taken <= 3
        })
        .unwrap();
        if taken == 0 {
            break;
        }
        cookie = last;
        if seen.len() == 6 {
            fs.unlink(ROOT, b"f0").unwrap();
            file(&fs, ROOT, "late");
        }
    }
    let names: Vec<_> = [".", ".."].map(String::from).into_iter().chain((0..10).map(|i| format!("f{i}"))).collect();
    assert_eq!(seen, [names, vec!["late".into()]].concat());
}

#[test]
fn data_holes_and_copies() {
    let fs = fs();
    let f = file(&fs, ROOT, "f");
    fs.write(f, 10_000, b"abc", false).unwrap();
    fs.fallocate(f, 0, 20_000, Fallocate::Allocate { keep_size: true }).unwrap();
    assert_eq!((fs.getattr(f).unwrap().size, fs.getattr(f).unwrap().sectors), (10_003, 40));
    assert_eq!((fs.seek(f, 0, Seek::Data).unwrap(), fs.seek(f, 8192, Seek::Hole).unwrap()), (8192, 10_003));
    refused!(fs.seek(f, 10_003, Seek::Data), NoSuchAddress);
    assert_eq!(fs.copy_range(f, 10_001, f, 0, 99).unwrap(), 2);
    refused!(fs.copy_range(f, 10_000, f, 10_001, 2), Invalid);
    let mut buf = [9; 8];
    assert_eq!(fs.read(f, 0, &mut buf).unwrap(), 8);
    assert_eq!(&buf, b"bc\0\0\0\0\0\0");
    refused!(fs.write(f, u64::MAX - 1, b"abc", false), FileTooBig);
    refused!(fs.fallocate(f, 0, 0, Fallocate::PunchHole), Invalid);
    fs.fallocate(f, 10_000, 20_000, Fallocate::ZeroRange { keep_size: false }).unwrap();
    assert_eq!(fs.getattr(f).unwrap().size, 30_000);
    refused!(fs.seek(f, 12_288, Seek::Data), NoSuchAddress);
}

#[test]
fn relatime_moves_only_a_stale_atime() {
    let fs = fs();
    let f = file(&fs, ROOT, "f");
    let atime = || fs.getattr(f).unwrap().atime;
    let made = atime();
    fs.touch_atime(f).unwrap();
    let first = atime();
    fs.touch_atime(f).unwrap();
    assert!(first > made && atime() == first);
    fs.write(f, 0, b"x", false).unwrap();
    fs.touch_atime(f).unwrap();
    assert!(atime() > first);
}

#[test]
fn immutable_files_stay_as_they_are() {
    let fs = fs();
    let f = file(&fs, ROOT, "f");
    let flags = |bits| fs.setattr(&WHO, f, &AttrChange { flags: Some(bits), ..Default::default() });
    flags(node::IMMUTABLE).unwrap();
    refused!(fs.fallocate(f, 0, 10, Fallocate::PunchHole), NotPermitted);
    refused!(fs.setattr(&WHO, f, &AttrChange { size: Some(0), ..Default::default() }), NotPermitted);
    refused!(fs.unlink(ROOT, b"f"), NotPermitted);
    refused!(fs.link(f, ROOT, b"g"), NotPermitted);
    refused!(fs.rename(ROOT, b"f", ROOT, b"g", RenameMode::Replace), NotPermitted);
    refused!(fs.setattr(&WHO, f, &AttrChange { mode: Some(0), ..Default::default() }), NotPermitted);
    refused!(flags(1 << 31), NotSupported);
    refused!(fs.setattr(&USER, f, &AttrChange { flags: Some(0), ..Default::default() }), NotPermitted);
    flags(0).unwrap();
    fs.unlink(ROOT, b"f").unwrap();
}

#[test]
fn a_fork_goes_its_own_way() {
    let fs = fs();
    let f = file(&fs, ROOT, "f");
    fs.write(f, 0, b"one", false).unwrap();
    let other = fs.fork();
    other.write(f, 0, b"two", false).unwrap();
    other.unlink(ROOT, b"f").unwrap();
    other.forget_all();
    let mut buf = [0; 3];
    fs.read(f, 0, &mut buf).unwrap();
    assert_eq!(&buf, b"one");
    refused!(other.getattr(f), Stale);
}
