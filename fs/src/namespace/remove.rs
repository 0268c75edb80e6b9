//! unlink(2) and rmdir(2).

use crate::error::{Error, Result};
use crate::meta::view::View;
use crate::meta::volume::Plan;
use crate::types::Ino;

use super::draft::{Draft, Op};
use super::{flags, items, names};

/// The inode that lost its last name, if one did: an orphan from now on.
pub type Orphaned = Option<Ino>;

/// unlink(2).
pub fn plan_unlink(op: &Op, view: &dyn View, parent: Ino, name: &[u8]) -> Result<Plan<Orphaned>> {
    let dir = items::directory(view, parent)?;
    let (key, entry) = names::lookup(view, &op.names, parent, name)?;
    let mut draft = Draft::new(op, view);
    let victim = draft.inode(entry.ino)?;
    flags::may_take(&dir, &victim)?;
    if items::is_dir(victim.mode) {
        return Err(Error::IsADirectory);
    }
    draft.delete(key);
    let orphaned = draft.drop_link(entry.ino)?;
    draft.change_directory(parent, -1, 0)?;
    Ok(draft.finish(orphaned.then_some(entry.ino)))
}

/// rmdir(2).
pub fn plan_rmdir(op: &Op, view: &dyn View, parent: Ino, name: &[u8]) -> Result<Plan<Orphaned>> {
    let dir = items::directory(view, parent)?;
    let (key, entry) = names::lookup(view, &op.names, parent, name)?;
    let mut draft = Draft::new(op, view);
    let victim = draft.inode(entry.ino)?;
    flags::may_take(&dir, &victim)?;
    if !items::is_dir(victim.mode) {
        return Err(Error::NotADirectory);
    }
    if victim.size > 0 {
        return Err(Error::NotEmpty);
    }
    draft.delete(key);
    draft.drop_link(entry.ino)?;
    draft.change_directory(parent, -1, -1)?;
    Ok(draft.finish(Some(entry.ino)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::key::Key;
    use crate::namespace::create::plan_link;
    use crate::namespace::testing::{Tree, op, op_at};

    #[test]
    fn the_last_unlink_makes_an_orphan_in_the_same_record() {
        let mut tree = Tree::with_root();
        let file = tree.file(Ino::ROOT, b"f");
        tree.commit(|view| plan_link(&op(), view, file, Ino::ROOT, b"g")).unwrap();
        let later = op_at(900);
        assert_eq!(tree.commit(|view| plan_unlink(&later, view, Ino::ROOT, b"f")).unwrap(), None);
        let inode = tree.inode(file);
        assert_eq!((inode.nlink, inode.ctime), (1, later.now));
        assert!(inode.mtime < later.now);
        assert!(!tree.items.contains_key(&Key::orphan(file)));
        assert_eq!(tree.commit(|view| plan_unlink(&op(), view, Ino::ROOT, b"g")).unwrap(), Some(file));
        assert!(tree.items.contains_key(&Key::orphan(file)));
        assert_eq!((tree.inode(file).nlink, tree.inode(Ino::ROOT).size), (0, 0));
        let again = tree.commit(|view| plan_unlink(&op(), view, Ino::ROOT, b"g"));
        assert!(matches!(again, Err(Error::NotFound)));
    }

    #[test]
    fn directories_and_files_are_removed_each_by_its_own_call() {
        let mut tree = Tree::with_root();
        let dir = tree.dir(Ino::ROOT, b"d");
        tree.file(dir, b"f");
        assert!(matches!(tree.commit(|v| plan_unlink(&op(), v, Ino::ROOT, b"d")), Err(Error::IsADirectory)));
        assert!(matches!(tree.commit(|v| plan_rmdir(&op(), v, dir, b"f")), Err(Error::NotADirectory)));
        assert!(matches!(tree.commit(|v| plan_rmdir(&op(), v, Ino::ROOT, b"d")), Err(Error::NotEmpty)));
        tree.commit(|v| plan_unlink(&op(), v, dir, b"f")).unwrap();
        assert_eq!(tree.commit(|v| plan_rmdir(&op(), v, Ino::ROOT, b"d")).unwrap(), Some(dir));
        assert_eq!((tree.inode(Ino::ROOT).nlink, tree.inode(dir).nlink), (2, 0));
        assert!(tree.items.contains_key(&Key::orphan(dir)));
    }

    #[test]
    fn flags_of_the_directory_and_of_the_victim_protect_a_name() {
        let mut tree = Tree::with_root();
        let file = tree.file(Ino::ROOT, b"f");
        for ino in [file, Ino::ROOT] {
            for flag in [flags::APPEND, flags::IMMUTABLE] {
                tree.edit_inode(ino, |inode| inode.flags = flag);
                assert!(matches!(tree.commit(|v| plan_unlink(&op(), v, Ino::ROOT, b"f")), Err(Error::NotPermitted)));
            }
            tree.edit_inode(ino, |inode| inode.flags = 0);
        }
        tree.commit(|v| plan_unlink(&op(), v, Ino::ROOT, b"f")).unwrap();
    }
}
