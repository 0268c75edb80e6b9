//! What users and the filesystem itself do on a mounted image: everything may fail, nothing may break.

use std::collections::{BTreeSet, VecDeque};

use gleanfs::cleaner::Cleaner;
use gleanfs::meta::volume::Volume;
use gleanfs::namespace::api::{
    AttrChange, Caller, Fallocate, Namespace, NewInode, NewKind, RenameMode, Seek, XattrMode,
};
use gleanfs::types::Ino;

const ROOT: Caller = Caller { uid: 0, gid: 0, pid: 0 };
/// Of a forged tree, which may go round in circles, so much is looked at.
const INODES_MAX: usize = 250;
const ENTRIES_MAX: usize = 400;
const PIECE: usize = 32 << 10;
const JUMPS_MAX: usize = 64;

/// Inodes with their names, as far as they were followed.
type Names = Vec<(Ino, Vec<u8>, Ino)>;

/// Reads what can be reached, by all calls that read.
pub(super) fn walk(fs: &dyn Namespace) -> Names {
    let mut names = Names::new();
    let (mut seen, mut next) = (BTreeSet::from([Ino::ROOT]), VecDeque::from([Ino::ROOT]));
    while let Some(dir) = next.pop_front() {
        for (name, ino) in entries(fs, dir) {
            let _ = fs.lookup(dir, &name);
            if seen.len() < INODES_MAX && seen.insert(ino) {
                next.push_back(ino);
            }
            names.push((dir, name, ino));
        }
        let _ = fs.parent(dir);
        look_at(fs, dir);
    }
    let _ = fs.space();
    names
}

fn entries(fs: &dyn Namespace, dir: Ino) -> Vec<(Vec<u8>, Ino)> {
    let mut found = Vec::new();
    for plus in [true, false] {
        found.clear();
        let _ = fs.readdir(dir, 0, plus, &mut |entry| {
            if entry.name != b"." && entry.name != b".." {
                found.push((entry.name.to_vec(), entry.ino));
            }
            found.len() < ENTRIES_MAX
        });
    }
    found
}

fn look_at(fs: &dyn Namespace, ino: Ino) {
    let attr = fs.getattr(ino);
    let _ = fs.readlink(ino);
    for name in fs.list_xattr(ino).unwrap_or_default().split(|byte| *byte == 0) {
        let _ = fs.get_xattr(ino, name);
    }
    let size = attr.map_or(0, |attr| attr.size);
    let mut buf = vec![0; PIECE];
    for offset in [0, size.saturating_sub(PIECE as u64), size, u64::MAX - 1] {
        let _ = fs.read(ino, offset, &mut buf);
    }
    let mut at = 0;
    for jump in 0..JUMPS_MAX {
        let whence = if jump % 2 == 0 { Seek::Data } else { Seek::Hole };
        let Ok(found) = fs.seek(ino, at, whence) else { break };
        let _ = fs.read(ino, found, &mut buf);
        at = found;
    }
}

/// Changes what can be reached, by all calls that change, with checkpoints and cleaning in between.
pub(super) fn change(fs: &gleanfs::namespace::Filesystem, volume: &Volume, cleaner: &Cleaner) {
    let names = walk(fs);
    let _ = fs.reap(20);
    for (n, (dir, name, ino)) in names.iter().enumerate().take(120) {
        let _ = change_one(fs, n, *dir, name, *ino);
        if n % 24 == 23 {
            let _ = cleaner.clean_one();
            let _ = volume.sync();
        }
    }
    let _ = volume.checkpoint(false);
    for _ in 0..4 {
        let _ = cleaner.clean_one();
    }
    fill(fs);
    let _ = fs.reap(50);
    let _ = fs.sync();
    walk(fs);
}

fn change_one(fs: &dyn Namespace, n: usize, dir: Ino, name: &[u8], ino: Ino) -> gleanfs::error::Result<()> {
    let end = fs.getattr(ino)?.size;
    match n % 12 {
        0 => fs.write(ino, 0, &[1; 9000], false),
        1 => fs.write(ino, end, &[2; 5000], true),
        2 => fs.setattr(&ROOT, ino, &AttrChange { size: Some(end / 2), ..AttrChange::default() }).map(drop),
        3 => fs.unlink(dir, name).map(|()| fs.forget(ino)),
        4 => fs.rmdir(dir, name),
        5 => fs.rename(dir, name, Ino::ROOT, b"moved", RenameMode::Replace),
        6 => fs.fallocate(ino, end, 1 << 20, Fallocate::Allocate { keep_size: true }),
        7 => fs.fallocate(ino, 0, u64::MAX >> 1, Fallocate::PunchHole),
        8 => fs.set_xattr(ino, b"user.new", &[3; 2500], XattrMode::Set),
        9 => fs.link(ino, dir, b"another").map(drop),
        10 => fs.copy_range(ino, 0, ino, end, 20_000).map(drop),
        _ => fs.rename(Ino::ROOT, b"dir", ino, b"below", RenameMode::Replace),
    }
}

/// New files and directories, in bulk.
fn fill(fs: &dyn Namespace) {
    for n in 0..30u32 {
        let kind = if n % 5 == 0 { NewKind::Directory } else { NewKind::File };
        let new = NewInode { kind, perm: 0o755, umask: 0 };
        let Ok(attr) = fs.create(&ROOT, Ino::ROOT, format!("new {n}").as_bytes(), &new) else { continue };
        let _ = fs.write(attr.ino, 0, &[n as u8; 12_000], false);
    }
}
