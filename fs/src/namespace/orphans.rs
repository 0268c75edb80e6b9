//! Work that an operation leaves behind: inodes without names to be freed, and blocks beyond the end of truncated files.
//!
//! Two lists of items under [`Ino::ORPHANS`] say what is to be done, put by the record that makes it due, so it survives a crash:
//! *unlinked* inodes at their number (freed once nobody has them open), and *truncated* files at their number with the top bit
//! set (the blocks beyond the size are unmapped). While a file is on the second list nothing may be mapped beyond its size and
//! the size may not grow, or old data would come back: who wants that finishes the work first.

use std::ops::ControlFlow;

use crate::error::Result;
use crate::format::edit::Edit;
use crate::format::key::{Key, Kind};
use crate::meta::view::View;
use crate::meta::volume::Plan;
use crate::types::Ino;

use super::extents::{self, Blocks};
use super::items;

/// Set in the offset of a truncated file's item.
const TRUNCATED: u64 = 1 << 63;
/// Most items (other than extents) that one record deletes.
const ITEMS_PER_RECORD: usize = 256;
/// Inodes listed by one call of [`list`].
pub const LIST_LEN: usize = 1024;

/// A thing left to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// Free an inode that has no names and no users.
    Free(Ino),
    /// Unmap what lies beyond a file's size.
    Trim(Ino),
}

/// The item that says that blocks beyond the size of `ino` are still mapped.
pub fn trim_key(ino: Ino) -> Key {
    Key::new(Ino::ORPHANS, Kind::Orphan, ino.0 | TRUNCATED)
}

/// Whether blocks beyond the size of `ino` are still to be unmapped.
pub fn trim_is_due(view: &dyn View, ino: Ino) -> Result<bool> {
    Ok(view.get(&trim_key(ino))?.is_some())
}

/// The next tasks on the medium after `after` (all from the first with `None`); empty at the end.
pub fn list(view: &dyn View, after: Option<Task>) -> Result<Vec<Task>> {
    let start = match after {
        None => Some(0),
        Some(Task::Free(ino)) => ino.0.checked_add(1),
        Some(Task::Trim(ino)) => (ino.0 | TRUNCATED).checked_add(1),
    };
    let mut tasks = Vec::new();
    let Some(start) = start else { return Ok(tasks) };
    let (from, to) = (Key::new(Ino::ORPHANS, Kind::Orphan, start), Key::new(Ino::ORPHANS, Kind::Orphan, u64::MAX));
    view.scan(&from, &to, &mut |key, _| {
        let ino = Ino(key.offset & !TRUNCATED);
        tasks.push(if key.offset & TRUNCATED != 0 { Task::Trim(ino) } else { Task::Free(ino) });
        if tasks.len() < LIST_LEN { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    Ok(tasks)
}

/// The edit that unmaps the first slice of `within`, and whether that was all.
pub fn unmap_slice(view: &dyn View, ino: Ino, within: Blocks) -> Result<(Option<Edit>, bool)> {
    let slice = extents::slice(view, ino, within.clone())?;
    let edit = match (slice.runs.first(), slice.runs.last()) {
        (Some(first), Some(last)) => {
            let (first, end) = (first.blocks.start, last.blocks.end);
            Some(Edit::Unmap { ino, first, blocks: end - first })
        }
        _ => None,
    };
    Ok((edit, slice.end == within.end))
}

/// One step of a task; true when nothing is left of it.
pub fn plan_step(view: &dyn View, task: Task) -> Result<Plan<bool>> {
    match task {
        Task::Free(ino) => plan_free(view, ino),
        Task::Trim(ino) => plan_trim(view, ino),
    }
}

fn plan_trim(view: &dyn View, ino: Ino) -> Result<Plan<bool>> {
    if !trim_is_due(view, ino)? {
        return Ok(Plan { edits: Vec::new(), value: true });
    }
    let mut edits = Vec::new();
    let mut done = true;
    if let Some(inode) = items::find(view, ino)? {
        let (edit, all) = unmap_slice(view, ino, extents::block_after(inode.size)..u64::MAX)?;
        edits.extend(edit);
        done = all;
    }
    if done {
        edits.push(Edit::Delete { key: trim_key(ino) });
    }
    Ok(Plan { edits, value: done })
}

fn plan_free(view: &dyn View, ino: Ino) -> Result<Plan<bool>> {
    if view.get(&Key::orphan(ino))?.is_none() {
        return Ok(Plan { edits: Vec::new(), value: true });
    }
    let mut edits = Vec::new();
    let mut done = true;
    if items::find(view, ino)?.is_some_and(|inode| inode.nlink == 0) {
        let (unmap, all) = unmap_slice(view, ino, 0..u64::MAX)?;
        edits.extend(unmap);
        done = all && delete_items(view, ino, &mut edits)?;
        if done {
            edits.push(Edit::Delete { key: Key::inode(ino) });
        }
    }
    if done {
        if trim_is_due(view, ino)? {
            edits.push(Edit::Delete { key: trim_key(ino) });
        }
        edits.push(Edit::Delete { key: Key::orphan(ino) });
    }
    Ok(Plan { edits, value: done })
}

/// Deletes symlink parts, xattrs and entries; false if some are left for another record.
fn delete_items(view: &dyn View, ino: Ino, edits: &mut Vec<Edit>) -> Result<bool> {
    let (from, to) = (Key::new(ino, Kind::Symlink, 0), Key::new(ino, Kind::Dirent, u64::MAX));
    let mut room = ITEMS_PER_RECORD;
    let mut all = true;
    view.scan(&from, &to, &mut |key, _| {
        all = room > 0;
        if !all {
            return ControlFlow::Break(());
        }
        room -= 1;
        edits.push(Edit::Delete { key: *key });
        ControlFlow::Continue(())
    })?;
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::value::Value;
    use crate::namespace::api::XattrMode;
    use crate::namespace::extents::SLICE_EXTENTS;
    use crate::namespace::remove::plan_unlink;
    use crate::namespace::testing::{Tree, op};
    use crate::namespace::xattr;

    fn run(tree: &mut Tree, task: Task) -> usize {
        (1..).find(|_| tree.commit(|view| plan_step(view, task)).unwrap()).unwrap()
    }

    #[test]
    fn an_orphan_is_freed_without_remains_in_bounded_records() {
        let mut tree = Tree::with_root();
        let empty = tree.items.len();
        let file = tree.file(Ino::ROOT, b"f");
        for i in 0..2 * SLICE_EXTENTS as u64 {
            tree.map_data(file, i * 3, 2);
        }
        for i in 0..30 {
            let name = format!("user.{i}");
            let set =
                |view: &dyn View| xattr::plan_set(&op(), view, file, name.as_bytes(), &[1; 12000], XattrMode::Set);
            tree.commit(set).unwrap();
        }
        tree.commit(|view| plan_unlink(&op(), view, Ino::ROOT, b"f")).unwrap();
        tree.items.insert(trim_key(file), Value::Orphan);
        assert_eq!(list(&tree, None).unwrap(), [Task::Free(file), Task::Trim(file)]);
        assert!(run(&mut tree, Task::Free(file)) >= 3);
        assert_eq!(tree.items.len(), empty);
        assert_eq!(run(&mut tree, Task::Free(file)), 1);
    }

    #[test]
    fn an_inode_with_names_is_never_freed() {
        let mut tree = Tree::with_root();
        let file = tree.file(Ino::ROOT, b"f");
        run(&mut tree, Task::Free(file));
        tree.items.insert(Key::orphan(file), Value::Orphan);
        run(&mut tree, Task::Free(file));
        assert_eq!(tree.inode(file).nlink, 1);
        assert!(list(&tree, None).unwrap().is_empty());
    }

    #[test]
    fn trimming_spares_what_lies_before_the_end() {
        let mut tree = Tree::with_root();
        let file = tree.file(Ino::ROOT, b"f");
        for i in 0..SLICE_EXTENTS as u64 + 5 {
            tree.map_data(file, i * 2, 1);
        }
        tree.edit_inode(file, |inode| inode.size = 4096 * 4 + 1);
        run(&mut tree, Task::Trim(file));
        assert_eq!(tree.inode(file).blocks, SLICE_EXTENTS as u64 + 5, "not on the list: not touched");
        tree.items.insert(trim_key(file), Value::Orphan);
        assert_eq!(run(&mut tree, Task::Trim(file)), 2);
        assert_eq!(tree.inode(file).blocks, 3);
        assert!(!trim_is_due(&tree, file).unwrap());
    }

    #[test]
    fn the_last_number_there_is_ends_the_list() {
        let mut tree = Tree::with_root();
        let last = Ino(TRUNCATED - 1);
        tree.items.insert(trim_key(last), Value::Orphan);
        assert_eq!(list(&tree, None).unwrap(), [Task::Trim(last)]);
        assert!(list(&tree, Some(Task::Trim(last))).unwrap().is_empty());
    }

    #[test]
    fn the_lists_are_read_in_pages() {
        let mut tree = Tree::with_root();
        for i in 0..LIST_LEN as u64 + 3 {
            tree.items.insert(Key::orphan(Ino(100 + i)), Value::Orphan);
        }
        tree.items.insert(trim_key(Ino(50)), Value::Orphan);
        let first = list(&tree, None).unwrap();
        let second = list(&tree, first.last().copied()).unwrap();
        assert_eq!((first.len(), second.len(), second[3]), (LIST_LEN, 4, Task::Trim(Ino(50))));
        assert!(list(&tree, second.last().copied()).unwrap().is_empty());
    }
}
