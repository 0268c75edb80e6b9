//! Names: directories whose entries are wrong, and `/lost+found` for what no name leads to.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use crate::error::Result;
use crate::format::key::{Key, Kind};
use crate::format::value::{Dirent, Inode, Value};
use crate::fsck::DT_DIR;
use crate::fsck::Report;
use crate::fsck::blocks::Bits;
use crate::fsck::names::{self, PROBE_BITS};
use crate::fsck::walk::TreeWalk;
use crate::types::Ino;

use super::change::Repair;
use super::workshop::Workshop;

const LOST_AND_FOUND: &[u8] = b"lost+found";
/// Entries of a directory that are looked at in one go.
const WINDOW: usize = 1024;

/// A place for a name.
enum Place {
    Free(Key),
    Taken(Ino),
    None,
}

impl Workshop {
    /// Every entry of a directory is a name, once, where its hash says, of an inode that exists, with its type; or it goes.
    pub(super) fn mend_directory(&mut self, dir: Ino) -> Result<()> {
        let mut from = 0;
        let mut group: (u64, Vec<Box<[u8]>>) = (0, Vec::new());
        loop {
            let entries = self.entries(dir, from)?;
            let Some((last, _)) = entries.last() else { return Ok(()) };
            from = last.offset.saturating_add(1);
            for (key, entry) in entries {
                let hash = key.offset >> PROBE_BITS;
                if group.0 != hash {
                    group = (hash, Vec::new());
                }
                self.mend_entry(&key, &entry, &mut group.1)?;
            }
        }
    }

    fn entries(&self, dir: Ino, from: u64) -> Result<Vec<(Key, Dirent)>> {
        self.volume.view(|view| {
            let mut entries = Vec::new();
            let to = Key::new(dir, Kind::Dirent, u64::MAX);
            view.scan(&Key::new(dir, Kind::Dirent, from), &to, &mut |key, value| {
                if let Value::Dirent(entry) = value {
                    entries.push((*key, entry.clone()));
                }
                if entries.len() < WINDOW { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            })?;
            Ok(entries)
        })
    }

    /// `before`: names that stand before this one with the same hash.
    fn mend_entry(&mut self, key: &Key, entry: &Dirent, before: &mut Vec<Box<[u8]>>) -> Result<()> {
        let dtype = self.dtype(entry.ino)?;
        let belongs = names::hash(&self.volume.hash_key(), &entry.name) == key.offset >> PROBE_BITS;
        if !names::is_name(&entry.name) {
            return self.remove_entry(key, entry, "it is no name");
        }
        let Some(dtype) = dtype else {
            return self.remove_entry(key, entry, "it leads nowhere");
        };
        if !belongs {
            return self.move_entry(key, &Dirent { dtype, ..entry.clone() });
        }
        if before.contains(&entry.name) {
            return self.remove_entry(key, entry, "there is another one of that name");
        }
        before.push(entry.name.clone());
        if dtype == entry.dtype {
            return Ok(());
        }
        self.note(Repair::SetEntryType { dir: key.ino, name: names::shown(&entry.name), dtype });
        self.put(*key, Value::Dirent(Dirent { dtype, ..entry.clone() }))
    }

    pub(super) fn remove_entry(&mut self, key: &Key, entry: &Dirent, why: &'static str) -> Result<()> {
        self.note(Repair::RemoveEntry { dir: key.ino, name: names::shown(&entry.name), why });
        self.remove(key)
    }

    fn move_entry(&mut self, key: &Key, entry: &Dirent) -> Result<()> {
        match self.place(key.ino, &entry.name)? {
            Place::Free(to) => {
                self.note(Repair::MoveEntry { dir: key.ino, name: names::shown(&entry.name) });
                self.remove(key)?;
                self.put(to, Value::Dirent(entry.clone()))
            }
            Place::Taken(_) => self.remove_entry(key, entry, "there is another one of that name"),
            Place::None => self.remove_entry(key, entry, "there is no place for it"),
        }
    }

    /// Where a name is or may go.
    fn place(&self, dir: Ino, name: &[u8]) -> Result<Place> {
        let first = names::hash(&self.volume.hash_key(), name) << PROBE_BITS;
        let last = first | ((1 << PROBE_BITS) - 1);
        let taken = self.between(&Key::new(dir, Kind::Dirent, first), &Key::new(dir, Kind::Dirent, last))?;
        let mut free = first;
        for (key, value) in taken {
            if let Value::Dirent(entry) = value
                && *entry.name == *name
            {
                return Ok(Place::Taken(entry.ino));
            }
            free += u64::from(key.offset == free);
        }
        Ok(if free > last { Place::None } else { Place::Free(Key::new(dir, Kind::Dirent, free)) })
    }

    /// Gives a name in `/lost+found` to an inode that has none: `#` and its number.
    pub(super) fn reconnect(&mut self, ino: Ino) -> Result<()> {
        let Some(inode) = self.inode(ino)? else { return Ok(()) };
        let dtype = crate::fsck::dtype_of(inode.mode);
        let dir = self.lost_and_found()?;
        let mut name = format!("#{ino}");
        let key = loop {
            match self.place(dir, name.as_bytes())? {
                Place::Free(key) => break key,
                _ => name.push('~'),
            }
        };
        let directory = dtype == DT_DIR;
        self.put(key, Value::Dirent(Dirent { name: name.as_bytes().into(), ino, dtype }))?;
        let parent = if directory { dir } else { inode.parent };
        let nlink = if directory { inode.nlink.max(2) } else { 1 };
        self.put_inode(ino, Inode { parent, nlink, ..inode })?;
        if let Some(above) = self.inode(dir)? {
            let (size, nlink) = (above.size + 1, above.nlink + u32::from(directory));
            self.put_inode(dir, Inode { size, nlink, ..above })?;
        }
        self.note(Repair::Reconnect { ino, name });
        Ok(())
    }

    /// The directory of that name below the root, which is made if need be; beside it if the name is something else's.
    fn lost_and_found(&mut self) -> Result<Ino> {
        let mut name = LOST_AND_FOUND.to_vec();
        let key = loop {
            match self.place(Ino::ROOT, &name)? {
                Place::Free(key) => break key,
                Place::Taken(ino) if self.dtype(ino)? == Some(DT_DIR) => return Ok(ino),
                _ => name.push(b'~'),
            }
        };
        let ino = self.new_ino();
        let inode = self.fresh_inode(DT_DIR);
        self.put_inode(ino, inode)?;
        self.put(key, Value::Dirent(Dirent { name: name.into(), ino, dtype: DT_DIR }))?;
        if let Some(root) = self.inode(Ino::ROOT)? {
            let (size, nlink) = (root.size + 1, root.nlink + 1);
            self.put_inode(Ino::ROOT, Inode { size, nlink, ..root })?;
        }
        Ok(ino)
    }

    fn new_ino(&self) -> Ino {
        let mut state = self.volume.state.write();
        let ino = Ino(state.next_ino.max(self.volume.allocate_ino().0));
        state.next_ino = ino.0 + 1;
        ino
    }

    /// Directories keep one name: that in the directory which they say is above them, if there is one. Those of `cut`, which lie below
    /// themselves, keep none.
    pub(super) fn keep_one_name(&mut self, linked: &BTreeSet<Ino>, cut: &BTreeSet<Ino>) -> Result<()> {
        let mut found: BTreeMap<Ino, Vec<(Key, Dirent)>> = BTreeMap::new();
        let none = Bits::default();
        TreeWalk::new(&self.volume, &none).run(&mut Report::new(0), &mut |_, key, value| {
            if let Value::Dirent(entry) = value
                && (linked.contains(&entry.ino) || cut.contains(&entry.ino))
            {
                found.entry(entry.ino).or_default().push((*key, entry.clone()));
            }
        });
        for (ino, entries) in found {
            let parent = self.inode(ino)?.map(|inode| inode.parent);
            let kept = entries.iter().position(|(key, _)| Some(key.ino) == parent).unwrap_or(0);
            for (n, (key, entry)) in entries.iter().enumerate() {
                if cut.contains(&ino) {
                    self.remove_entry(key, entry, "the directory lies below itself")?;
                } else if n != kept {
                    self.remove_entry(key, entry, "the directory has another name")?;
                }
            }
        }
        Ok(())
    }
}
