//! The small tree on which all workloads run, the operations that they are made of, and the paths that an operation touches.

use crate::namespace::api::{AttrChange, Fallocate, RenameMode, SetTime, XattrMode};
use crate::trial::ops::{Name, New, Operation, Payload, Place, Target, User, XattrName};

const A: Name = Name(0);
const B: Name = Name(1);
const C: Name = Name(2);
const D: Name = Name(3);

/// Files that are there: two blocks and a half in the root; a block and a bit in a directory.
const FILES: [&[Name]; 2] = [&[A], &[B, A]];
/// Names that are free, in the root, in a directory with an entry and in an empty one.
const FREE: [&[Name]; 3] = [&[D], &[B, D], &[C, A]];
/// Directories that are there.
const DIRECTORIES: [&[Name]; 2] = [&[B], &[C]];

fn target(path: &[Name]) -> Target {
    Target { slot: None, path: path.to_vec() }
}

fn place(path: &[Name]) -> Place {
    let (name, dir) = path.split_last().expect("the root is no place");
    Place { dir: target(dir), name: *name }
}

fn create(path: &[Name], new: New) -> Operation {
    Operation::Create { at: place(path), new, perm: 0o644, umask: 0, user: User(0) }
}

fn write(path: &[Name], offset: u64, len: u64) -> Operation {
    Operation::Write { target: target(path), offset, payload: Payload { seed: offset + len, len }, kill_priv: false }
}

fn change(path: &[Name], change: AttrChange) -> Operation {
    Operation::SetAttr { target: target(path), user: User(0), change }
}

fn set_xattr(path: &[Name], name: u8, len: u64) -> Operation {
    let payload = Payload { seed: len, len };
    Operation::SetXattr { target: target(path), name: XattrName::User(name), payload, mode: XattrMode::Set }
}

/// What makes the tree, from an empty filesystem.
pub(super) fn tree() -> Vec<Operation> {
    vec![
        create(&[A], New::File),
        write(&[A], 0, 10_240),
        set_xattr(&[A], 0, 50),
        create(&[B], New::Directory),
        create(&[B, A], New::File),
        write(&[B, A], 0, 5000),
        create(&[C], New::Directory),
    ]
}

/// What goes before each workload: the first file is open, so that unlinking it leaves an inode without a name.
pub(super) fn opening() -> Operation {
    Operation::Open { target: target(&[A]), slot: 0 }
}

/// What goes on after a recovery: a new file with contents, made durable. Its name is no other's.
pub(super) fn sequel() -> [Operation; 3] {
    let path = [Name(9)];
    [create(&path, New::File), write(&path, 0, 6000), Operation::Fsync { target: target(&path), data_only: false }]
}

/// All operations, in a fixed order.
pub(super) fn operations() -> Vec<Operation> {
    [names(), renames(), contents(), attributes()].concat()
}

fn names() -> Vec<Operation> {
    let mut all = Vec::new();
    for path in FREE {
        all.extend([create(path, New::File), create(path, New::Directory)]);
        all.extend(FILES.map(|file| Operation::Link { target: target(file), at: place(path) }));
    }
    all.extend([create(&[D], New::Symlink(100)), create(&[C, A], New::Symlink(10)), create(&[D], New::Fifo)]);
    all.extend([FILES[0], FILES[1], FREE[0], FREE[2]].map(|path| Operation::Unlink { at: place(path) }));
    all.extend([DIRECTORIES[1], FREE[0]].map(|path| Operation::Rmdir { at: place(path) }));
    all
}

fn renames() -> Vec<Operation> {
    let rename = |from: &[Name], to: &[Name], mode| Operation::Rename { from: place(from), to: place(to), mode };
    let sources = [FILES[0], FILES[1], DIRECTORIES[0], DIRECTORIES[1], FREE[0]];
    let aims = [FREE[0], FREE[1], FREE[2], FILES[0], FILES[1], DIRECTORIES[1]];
    let pairs = sources.into_iter().flat_map(|from| aims.into_iter().map(move |to| (from, to)));
    let replacing = pairs.filter(|(from, to)| from != to).map(|(from, to)| rename(from, to, RenameMode::Replace));
    let exchanged = [(FILES[0], FILES[1]), (DIRECTORIES[0], DIRECTORIES[1]), (FILES[0], DIRECTORIES[1])];
    let exchanging = exchanged.into_iter().map(|(a, b)| rename(a, b, RenameMode::Exchange));
    replacing.chain(exchanging).collect()
}

fn contents() -> Vec<Operation> {
    let mut all = Vec::new();
    for path in [FILES[0], FILES[1], FREE[0]] {
        // Behind the end, over a whole block, inside one, across three.
        all.extend([write(path, 10_240, 100), write(path, 0, 4096), write(path, 1000, 2000), write(path, 2048, 8000)]);
        all.extend([0, 6000, 20_000].map(|size| change(path, AttrChange { size: Some(size), ..Default::default() })));
    }
    for path in [FILES[0], FREE[0]] {
        let fallocate = |offset, len, mode| Operation::Fallocate { target: target(path), offset, len, mode };
        all.extend([
            fallocate(8192, 8192, Fallocate::Allocate { keep_size: false }),
            fallocate(8192, 8192, Fallocate::Allocate { keep_size: true }),
            fallocate(0, 4096, Fallocate::PunchHole),
            fallocate(1000, 5000, Fallocate::PunchHole),
            fallocate(4096, 12_288, Fallocate::ZeroRange { keep_size: false }),
        ]);
    }
    for to in [FILES[1], FREE[0]] {
        all.push(Operation::Copy {
            from: target(FILES[0]),
            from_offset: 0,
            to: target(to),
            to_offset: 4096,
            len: 4096,
        });
    }
    all
}

fn attributes() -> Vec<Operation> {
    let file = FILES[0];
    vec![
        set_xattr(file, 1, 50),
        set_xattr(file, 0, 3000),
        set_xattr(DIRECTORIES[0], 1, 50),
        Operation::RemoveXattr { target: target(file), name: XattrName::User(0) },
        change(file, AttrChange { mode: Some(0o4755), ..Default::default() }),
        change(DIRECTORIES[0], AttrChange { uid: Some(1000), ..Default::default() }),
        change(file, AttrChange { mtime: Some(SetTime::Now), ..Default::default() }),
    ]
}

/// The paths that an operation names, and the directories in which they are; each once.
pub(super) fn touched(operation: &Operation) -> Vec<Target> {
    let of_place = |at: &Place| {
        let mut path = at.dir.path.clone();
        path.push(at.name);
        target(&path)
    };
    let named = match operation {
        Operation::Create { at, .. } | Operation::Unlink { at } | Operation::Rmdir { at } => vec![of_place(at)],
        Operation::Link { target, at } => vec![target.clone(), of_place(at)],
        Operation::Rename { from, to, .. } => vec![of_place(from), of_place(to)],
        Operation::Copy { from, to, .. } => vec![from.clone(), to.clone()],
        Operation::Write { target, .. }
        | Operation::SetAttr { target, .. }
        | Operation::Fallocate { target, .. }
        | Operation::SetXattr { target, .. }
        | Operation::RemoveXattr { target, .. } => vec![target.clone()],
        other => unreachable!("{other} is not in the pool"),
    };
    let mut all: Vec<Target> = Vec::new();
    for path in named {
        let above = target(&path.path[..path.path.len() - 1]);
        for one in [path, above] {
            if !all.contains(&one) {
                all.push(one);
            }
        }
    }
    all
}
