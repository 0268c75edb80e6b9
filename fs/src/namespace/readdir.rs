//! Listing directories: in pages, from cookie to cookie.
//!
//! A cookie is the entry's key offset, so it stays where it is while other entries come and go. `.` and `..` have 1 and 2.

use std::ops::ControlFlow;

use crate::error::{Error, Result};
use crate::format::key::{Key, Kind};
use crate::format::value::{Dirent, Value};
use crate::meta::view::View;
use crate::types::Ino;

use super::api::{Attr, DirEntry};
use super::{Filesystem, items};

const DOT: u64 = 1;
const DOTDOT: u64 = 2;
/// Entries read in one view. Few enough that the plan seldom has to run again, and no more than a reply holds.
const PAGE_LEN: usize = 128;

/// An entry with what readdir tells of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    pub entry: Dirent,
    pub cookie: u64,
    pub attr: Option<Attr>,
}

fn dots(dir: Ino, parent: Ino, after: u64) -> impl Iterator<Item = Listed> {
    let dot = move |name: &[u8], ino, cookie| Listed {
        entry: Dirent { name: name.into(), ino, dtype: libc::DT_DIR },
        cookie,
        attr: None,
    };
    [dot(b".", dir, DOT), dot(b"..", parent, DOTDOT)].into_iter().filter(move |listed| listed.cookie > after)
}

/// Up to [`PAGE_LEN`] entries (and the dots) after `cookie`; empty at the end.
pub fn page(view: &dyn View, dir: Ino, cookie: u64, plus: bool) -> Result<Vec<Listed>> {
    let inode = items::directory(view, dir)?;
    if inode.nlink == 0 {
        return Err(Error::NotFound);
    }
    let mut page: Vec<Listed> = dots(dir, inode.parent, cookie).collect();
    let dots = page.len();
    let from = Key::new(dir, Kind::Dirent, cookie.max(DOTDOT).saturating_add(1));
    view.scan(&from, &Key::new(dir, Kind::Dirent, u64::MAX), &mut |key, value| {
        if let Value::Dirent(entry) = value {
            page.push(Listed { entry: entry.clone(), cookie: key.offset, attr: None });
        }
        if page.len() < PAGE_LEN { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    if plus {
        for listed in &mut page[dots..] {
            listed.attr = Some(items::attr(listed.entry.ino, &items::get(view, listed.entry.ino)?));
        }
    }
    Ok(page)
}

impl Filesystem {
    pub(super) fn list_from(
        &self,
        dir: Ino,
        mut cookie: u64,
        plus: bool,
        visit: &mut dyn FnMut(&DirEntry<'_>) -> bool,
    ) -> Result<()> {
        loop {
            let page = self.volume.view(|view| page(view, dir, cookie, plus))?;
            let Some(last) = page.last() else { return Ok(()) };
            cookie = last.cookie;
            for Listed { entry, cookie, attr } in &page {
                if attr.is_some() {
                    // The kernel takes it for a lookup, and asks no other.
                    self.volume.kinds.note(entry.ino, dir, &entry.name);
                }
                let shown =
                    DirEntry { name: &entry.name, ino: entry.ino, dtype: entry.dtype, cookie: *cookie, attr: *attr };
                if !visit(&shown) {
                    return Ok(());
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::namespace::remove::plan_unlink;
    use crate::namespace::testing::{Tree, op};

    fn names(tree: &Tree, dir: Ino) -> Vec<Vec<u8>> {
        let (mut names, mut cookie) = (Vec::new(), 0);
        loop {
            let page = page(tree, dir, cookie, false).unwrap();
            let Some(last) = page.last() else { return names };
            cookie = last.cookie;
            names.extend(page.iter().map(|listed| listed.entry.name.to_vec()));
        }
    }

    #[test]
    fn every_entry_is_listed_once_after_the_dots() {
        let mut tree = Tree::with_root();
        let dir = tree.dir(Ino::ROOT, b"d");
        for i in 0..PAGE_LEN * 3 {
            tree.file(dir, i.to_string().as_bytes());
        }
        let mut found = names(&tree, dir);
        assert_eq!(found[..2], [b".".to_vec(), b"..".to_vec()]);
        found.sort();
        found.dedup();
        assert_eq!(found.len(), PAGE_LEN * 3 + 2);
        let first = page(&tree, dir, 0, true).unwrap();
        assert_eq!((first[0].entry.ino, first[1].entry.ino), (dir, Ino::ROOT));
        assert!(first[..2].iter().all(|listed| listed.attr.is_none()));
        assert!(first[2..].iter().all(|listed| listed.attr.unwrap().ino == listed.entry.ino));
        assert_eq!(page(&tree, dir, 1, false).unwrap()[0].entry.name[..], *b"..");
    }

    #[test]
    fn a_cookie_survives_the_removal_of_its_entry() {
        let mut tree = Tree::with_root();
        for i in 0..40 {
            tree.file(Ino::ROOT, i.to_string().as_bytes());
        }
        let all = page(&tree, Ino::ROOT, 0, false).unwrap();
        let gone = &all[20];
        tree.commit(|view| plan_unlink(&op(), view, Ino::ROOT, &gone.entry.name)).unwrap();
        assert_eq!(page(&tree, Ino::ROOT, gone.cookie, false).unwrap(), all[21..]);
    }

    #[test]
    fn what_is_no_directory_or_was_removed_cannot_be_listed() {
        let mut tree = Tree::with_root();
        let (file, dir) = (tree.file(Ino::ROOT, b"f"), tree.dir(Ino::ROOT, b"d"));
        assert!(matches!(page(&tree, file, 0, false), Err(Error::NotADirectory)));
        tree.edit_inode(dir, |inode| inode.nlink = 0);
        assert!(matches!(page(&tree, dir, 0, false), Err(Error::NotFound)));
    }
}
