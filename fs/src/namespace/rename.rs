//! rename(2) and renameat2(2) with NOREPLACE and EXCHANGE.
//!
//! The checks come in the order of Linux's `do_renameat2` and `vfs_rename` (fs/namei.c), so that the error is the same one.

use crate::error::{Error, Result};
use crate::format::key::Key;
use crate::format::value::{Dirent, Inode, Value};
use crate::meta::view::View;
use crate::meta::volume::Plan;
use crate::types::Ino;

use super::api::RenameMode;
use super::draft::{Draft, Op};
use super::names::{self, Slot};
use super::remove::Orphaned;
use super::{flags, items};

/// A name in a directory.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    pub dir: Ino,
    pub name: &'a [u8],
}

/// What stands at one end of a rename.
struct End {
    key: Key,
    ino: Ino,
    inode: Inode,
}

impl End {
    fn is_dir(&self) -> bool {
        items::is_dir(self.inode.mode)
    }

    fn entry(&self, name: &[u8]) -> Value {
        Value::Dirent(Dirent { name: name.into(), ino: self.ino, dtype: items::dtype(self.inode.mode) })
    }
}

fn end(view: &dyn View, key: Key, entry: &Dirent) -> Result<End> {
    Ok(End { key, ino: entry.ino, inode: items::get(view, entry.ino)? })
}

/// Whether `ancestor` is `dir` or one of the directories above it. Parents that lead round in a circle, as only a forged image has them, are found
/// out (Brent's algorithm: an inode that is met again).
fn is_above(view: &dyn View, ancestor: Ino, mut dir: Ino) -> Result<bool> {
    let mut met = dir;
    for step in 1u64.. {
        if dir == ancestor {
            return Ok(true);
        }
        if dir == Ino::ROOT {
            return Ok(false);
        }
        let inode = items::directory(view, dir)?;
        if inode.nlink == 0 {
            return Err(Error::NotFound);
        }
        dir = inode.parent;
        if dir == met {
            return Err(items::misfit("parent of a directory", dir));
        }
        if step.is_power_of_two() {
            met = dir;
        }
    }
    unreachable!("a walk of 2^64 steps")
}

/// Refuses to move a directory into itself, in either direction.
fn check_loops(view: &dyn View, from: Place<'_>, to: Place<'_>, source: &End, target: Option<&End>) -> Result<()> {
    if from.dir == to.dir {
        return Ok(());
    }
    if source.is_dir() && is_above(view, source.ino, to.dir)? {
        return Err(Error::Invalid);
    }
    match target {
        Some(target) if target.is_dir() && is_above(view, target.ino, from.dir)? => Err(Error::NotEmpty),
        _ => Ok(()),
    }
}

/// rename(2); tells whom the target's loss of its name orphaned.
pub fn plan_rename(
    op: &Op,
    view: &dyn View,
    from: Place<'_>,
    to: Place<'_>,
    mode: RenameMode,
) -> Result<Plan<Orphaned>> {
    let from_dir = items::directory(view, from.dir)?;
    let to_dir = items::directory(view, to.dir)?;
    let (key, entry) = names::lookup(view, &op.names, from.dir, from.name)?;
    let source = end(view, key, &entry)?;
    names::check(to.name)?;
    let slot = names::locate(view, &op.names, to.dir, to.name)?;
    let draft = Draft::new(op, view);
    match (slot, mode) {
        (Slot::Taken(..), RenameMode::NoReplace) => Err(Error::Exists),
        (Slot::Taken(_, entry), _) if entry.ino == source.ino => Ok(draft.finish(None)),
        (Slot::Taken(key, entry), _) => {
            let target = end(view, key, &entry)?;
            match check_loops(view, from, to, &source, Some(&target)) {
                Err(Error::NotEmpty) if mode == RenameMode::Exchange => return Err(Error::Invalid),
                other => other?,
            }
            flags::may_take(&from_dir, &source.inode)?;
            flags::may_take(&to_dir, &target.inode)?;
            match mode {
                RenameMode::Exchange => exchange(draft, from, to, &source, &target),
                _ => replace(draft, from, to, &source, &target),
            }
        }
        (Slot::Free(_), RenameMode::Exchange) => Err(Error::NotFound),
        (Slot::Free(key), _) => {
            check_loops(view, from, to, &source, None)?;
            flags::may_take(&from_dir, &source.inode)?;
            flags::may_add(&to_dir)?;
            move_to(draft, from, to, &source, key)
        }
    }
}

/// Notes that `end` now lives in `dir`.
fn settle(draft: &mut Draft<'_>, end: &End, dir: Ino) -> Result<()> {
    let now = draft.op.now;
    let inode = draft.change(end.ino)?;
    inode.ctime = now;
    if end.is_dir() {
        inode.parent = dir;
    }
    Ok(())
}

fn move_to(mut draft: Draft<'_>, from: Place<'_>, to: Place<'_>, source: &End, key: Key) -> Result<Plan<Orphaned>> {
    let subdirs = i64::from(source.is_dir());
    draft.delete(source.key);
    draft.put(key, source.entry(to.name));
    draft.change_directory(from.dir, -1, -subdirs)?;
    draft.change_directory(to.dir, 1, subdirs)?;
    settle(&mut draft, source, to.dir)?;
    Ok(draft.finish(None))
}

fn replace(mut draft: Draft<'_>, from: Place<'_>, to: Place<'_>, source: &End, target: &End) -> Result<Plan<Orphaned>> {
    match (source.is_dir(), target.is_dir()) {
        (true, false) => return Err(Error::NotADirectory),
        (false, true) => return Err(Error::IsADirectory),
        (true, true) if target.inode.size > 0 => return Err(Error::NotEmpty),
        _ => {}
    }
    let subdirs = i64::from(source.is_dir());
    draft.delete(source.key);
    draft.put(target.key, source.entry(to.name));
    let orphaned = draft.drop_link(target.ino)?;
    draft.change_directory(from.dir, -1, -subdirs)?;
    draft.change_directory(to.dir, 0, 0)?;
    settle(&mut draft, source, to.dir)?;
    Ok(draft.finish(orphaned.then_some(target.ino)))
}

fn exchange(
    mut draft: Draft<'_>,
    from: Place<'_>,
    to: Place<'_>,
    source: &End,
    target: &End,
) -> Result<Plan<Orphaned>> {
    draft.put(source.key, target.entry(from.name));
    draft.put(target.key, source.entry(to.name));
    let subdirs = i64::from(target.is_dir()) - i64::from(source.is_dir());
    draft.change_directory(from.dir, 0, subdirs)?;
    draft.change_directory(to.dir, 0, -subdirs)?;
    settle(&mut draft, source, to.dir)?;
    settle(&mut draft, target, from.dir)?;
    Ok(draft.finish(None))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::namespace::create::plan_link;
    use crate::namespace::testing::{Tree, op, op_at, op_colliding};

    fn rename(tree: &mut Tree, op: &Op, from: (Ino, &str), to: (Ino, &str), mode: RenameMode) -> Result<Orphaned> {
        let from = Place { dir: from.0, name: from.1.as_bytes() };
        let to = Place { dir: to.0, name: to.1.as_bytes() };
        tree.commit(|view| plan_rename(op, view, from, to, mode))
    }

    fn find(tree: &Tree, dir: Ino, name: &str) -> Option<Ino> {
        names::lookup(tree, &op().names, dir, name.as_bytes()).ok().map(|(_, entry)| entry.ino)
    }

    const R: Ino = Ino::ROOT;
    use RenameMode::{Exchange, NoReplace, Replace};

    #[test]
    fn a_directory_that_moves_takes_its_link_and_its_parent_along() {
        let mut tree = Tree::with_root();
        let (a, b) = (tree.dir(R, b"a"), tree.dir(R, b"b"));
        let sub = tree.dir(a, b"sub");
        let later = op_at(700);
        rename(&mut tree, &later, (a, "sub"), (b, "new"), Replace).unwrap();
        assert_eq!((find(&tree, a, "sub"), find(&tree, b, "new")), (None, Some(sub)));
        assert_eq!((tree.inode(a).nlink, tree.inode(b).nlink), (2, 3));
        assert_eq!((tree.inode(a).size, tree.inode(b).size), (0, 1));
        assert_eq!((tree.inode(sub).parent, tree.inode(sub).ctime), (b, later.now));
        for dir in [a, b] {
            assert_eq!((tree.inode(dir).mtime, tree.inode(dir).ctime), (later.now, later.now));
        }
        assert!(tree.inode(sub).mtime < later.now);
    }

    #[test]
    fn within_one_directory_the_counts_stay() {
        let mut tree = Tree::with_root();
        let sub = tree.dir(R, b"a");
        rename(&mut tree, &op(), (R, "a"), (R, "b"), Replace).unwrap();
        assert_eq!((tree.inode(R).nlink, tree.inode(R).size), (3, 1));
        assert_eq!((find(&tree, R, "a"), find(&tree, R, "b")), (None, Some(sub)));
    }

    #[test]
    fn names_that_collide_change_places_within_a_directory() {
        let (mut tree, op) = (Tree::with_root(), op_colliding());
        for (ino, name) in [(30, "a"), (31, "b")] {
            tree.create_with(&op, Ino(ino), R, name.as_bytes());
        }
        rename(&mut tree, &op, (R, "a"), (R, "c"), Replace).unwrap();
        rename(&mut tree, &op, (R, "b"), (R, "c"), Exchange).unwrap();
        let at = |name: &[u8]| names::lookup(&tree, &op.names, R, name).unwrap().1.ino;
        assert_eq!((at(b"b"), at(b"c")), (Ino(30), Ino(31)));
    }

    #[test]
    fn a_replaced_file_is_orphaned_and_one_with_more_names_is_not() {
        let mut tree = Tree::with_root();
        let (a, b) = (tree.file(R, b"a"), tree.file(R, b"b"));
        assert_eq!(rename(&mut tree, &op(), (R, "a"), (R, "b"), Replace).unwrap(), Some(b));
        assert_eq!((find(&tree, R, "b"), tree.inode(R).size, tree.inode(b).nlink), (Some(a), 1, 0));
        assert!(tree.items.contains_key(&Key::orphan(b)));
        tree.commit(|view| plan_link(&op(), view, a, R, b"c")).unwrap();
        tree.file(R, b"d");
        assert_eq!(rename(&mut tree, &op(), (R, "d"), (R, "c"), Replace).unwrap(), None);
        assert_eq!(tree.inode(a).nlink, 1);
    }

    #[test]
    fn renaming_onto_another_name_of_the_same_inode_does_nothing() {
        let mut tree = Tree::with_root();
        let a = tree.file(R, b"a");
        tree.commit(|view| plan_link(&op(), view, a, R, b"b")).unwrap();
        let before = tree.items.clone();
        for mode in [Replace, Exchange] {
            rename(&mut tree, &op_at(800), (R, "a"), (R, "b"), mode).unwrap();
        }
        rename(&mut tree, &op_at(800), (R, "a"), (R, "a"), Replace).unwrap();
        assert_eq!(tree.items, before);
        assert!(matches!(rename(&mut tree, &op(), (R, "a"), (R, "b"), NoReplace), Err(Error::Exists)));
    }

    #[test]
    fn a_directory_replaces_only_an_empty_directory() {
        let mut tree = Tree::with_root();
        let (a, b) = (tree.dir(R, b"a"), tree.dir(R, b"b"));
        tree.file(b, b"x");
        tree.file(R, b"f");
        assert!(matches!(rename(&mut tree, &op(), (R, "a"), (R, "b"), Replace), Err(Error::NotEmpty)));
        assert!(matches!(rename(&mut tree, &op(), (R, "a"), (R, "f"), Replace), Err(Error::NotADirectory)));
        assert!(matches!(rename(&mut tree, &op(), (R, "f"), (R, "a"), Replace), Err(Error::IsADirectory)));
        assert_eq!(rename(&mut tree, &op(), (R, "b"), (R, "a"), Replace).unwrap(), Some(a));
        assert_eq!((tree.inode(R).nlink, tree.inode(R).size, find(&tree, R, "a")), (3, 2, Some(b)));
    }

    #[test]
    fn a_directory_replacing_one_elsewhere_keeps_both_link_counts_right() {
        let mut tree = Tree::with_root();
        let (a, b) = (tree.dir(R, b"a"), tree.dir(R, b"b"));
        tree.dir(a, b"x");
        tree.dir(b, b"x");
        rename(&mut tree, &op(), (a, "x"), (b, "x"), Replace).unwrap();
        assert_eq!((tree.inode(a).nlink, tree.inode(b).nlink), (2, 3));
        assert_eq!((tree.inode(a).size, tree.inode(b).size), (0, 1));
    }

    #[test]
    fn no_directory_goes_below_itself() {
        let mut tree = Tree::with_root();
        let a = tree.dir(R, b"a");
        let b = tree.dir(a, b"b");
        tree.dir(b, b"c");
        assert!(matches!(rename(&mut tree, &op(), (R, "a"), (b, "z"), Replace), Err(Error::Invalid)));
        assert!(matches!(rename(&mut tree, &op(), (R, "a"), (a, "z"), Replace), Err(Error::Invalid)));
        assert!(matches!(rename(&mut tree, &op(), (R, "a"), (b, "c"), Exchange), Err(Error::Invalid)));
        assert!(matches!(rename(&mut tree, &op(), (b, "c"), (R, "a"), Exchange), Err(Error::Invalid)));
        assert!(matches!(rename(&mut tree, &op(), (b, "c"), (R, "a"), Replace), Err(Error::NotEmpty)));
    }

    #[test]
    fn parents_that_lead_in_a_circle_end_a_rename() {
        let mut tree = Tree::with_root();
        let a = tree.dir(R, b"a");
        let b = tree.dir(a, b"b");
        let c = tree.dir(R, b"c");
        tree.edit_inode(a, |inode| inode.parent = b);
        assert!(matches!(rename(&mut tree, &op(), (R, "c"), (b, "z"), Replace), Err(Error::Decode(_))));
        tree.edit_inode(c, |inode| inode.parent = c);
        tree.dir(R, b"d");
        assert!(matches!(rename(&mut tree, &op(), (R, "d"), (c, "z"), Replace), Err(Error::Decode(_))));
    }

    #[test]
    fn an_exchange_of_a_file_and_a_directory_moves_the_link_count() {
        let mut tree = Tree::with_root();
        let (a, b) = (tree.dir(R, b"a"), tree.dir(R, b"b"));
        let (sub, file) = (tree.dir(a, b"x"), tree.file(b, b"x"));
        rename(&mut tree, &op(), (a, "x"), (b, "x"), Exchange).unwrap();
        assert_eq!((find(&tree, a, "x"), find(&tree, b, "x")), (Some(file), Some(sub)));
        assert_eq!((tree.inode(a).nlink, tree.inode(b).nlink, tree.inode(sub).parent), (2, 3, b));
        assert!(matches!(rename(&mut tree, &op(), (a, "x"), (b, "none"), Exchange), Err(Error::NotFound)));
        assert!(matches!(rename(&mut tree, &op(), (a, "none"), (b, "x"), Replace), Err(Error::NotFound)));
    }

    #[test]
    fn flags_protect_both_ends() {
        let mut tree = Tree::with_root();
        let (a, b) = (tree.dir(R, b"a"), tree.dir(R, b"b"));
        let (x, y) = (tree.file(a, b"x"), tree.file(b, b"y"));
        for ino in [a, b, x, y] {
            tree.edit_inode(ino, |inode| inode.flags = flags::IMMUTABLE);
            assert!(matches!(rename(&mut tree, &op(), (a, "x"), (b, "y"), Replace), Err(Error::NotPermitted)));
            tree.edit_inode(ino, |inode| inode.flags = 0);
        }
        tree.edit_inode(b, |inode| inode.flags = flags::APPEND);
        rename(&mut tree, &op(), (a, "x"), (b, "z"), Replace).unwrap();
    }
}
