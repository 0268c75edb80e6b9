//! A key tree in memory on which the plans' tests run: a sorted map, and the edits applied as their definition says.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use crate::error::Result;
use crate::format::edit::Edit;
use crate::format::key::{Key, Kind};
use crate::format::value::{Extent, ExtentKind, Inode, Time, Value};
use crate::meta::view::View;
use crate::meta::volume::Plan;
use crate::types::{BlockAddr, Ino, WriteClock};

use super::api::{Attr, Caller, NewInode, NewKind};
use super::create::{plan_create, root_edits};
use super::draft::Op;
use super::names::NameHash;

/// An ordinary user.
pub const USER: Caller = Caller { uid: 1000, gid: 1001, pid: 0 };

/// An operation at second `secs`.
pub fn op_at(secs: i64) -> Op {
    Op { now: Time { secs, nanos: 5 }, names: NameHash::new([3; 16]) }
}

/// An operation at second 100.
pub fn op() -> Op {
    op_at(100)
}

/// An operation under which all names collide.
pub fn op_colliding() -> Op {
    Op { names: NameHash::colliding(), ..op() }
}

/// A data extent at an address that nothing else has.
pub fn data_extent(blocks: u32) -> Extent {
    Extent {
        kind: ExtentKind::Data,
        blocks,
        addr: BlockAddr(1_000_000),
        birth: WriteClock(1),
        interval: 0,
        crcs: (0..blocks).collect(),
    }
}

/// The key tree.
#[derive(Clone, Debug, Default)]
pub struct Tree {
    pub items: BTreeMap<Key, Value>,
    next_ino: u64,
    next_addr: u64,
}

impl View for Tree {
    fn get(&self, key: &Key) -> Result<Option<Value>> {
        Ok(self.items.get(key).cloned())
    }

    fn floor(&self, key: &Key) -> Result<Option<(Key, Value)>> {
        Ok(self.items.range(..=key).next_back().map(|(key, value)| (*key, value.clone())))
    }

    fn scan(&self, from: &Key, to: &Key, visit: &mut dyn FnMut(&Key, &Value) -> ControlFlow<()>) -> Result<()> {
        let _ = self.items.range(from..=to).try_for_each(|(key, value)| visit(key, value));
        Ok(())
    }
}

impl Tree {
    /// With a root directory of an earlier time than [`op`].
    pub fn with_root() -> Self {
        let mut tree = Self { next_ino: Ino::FIRST_USER.0, next_addr: 5000, ..Self::default() };
        tree.apply_all(&root_edits(0, 0, Time { secs: 50, nanos: 0 }));
        tree
    }

    /// With one regular file that has no name.
    pub fn with_file(ino: Ino) -> Self {
        let mut tree = Self { next_addr: 5000, ..Self::default() };
        let inode = Inode { mode: libc::S_IFREG | 0o644, nlink: 1, ..Inode::default() };
        tree.items.insert(Key::inode(ino), Value::Inode(Box::new(inode)));
        tree
    }

    /// Bytes of the edits in a record.
    pub fn encoded_len(edits: &[Edit]) -> usize {
        let mut bytes = Vec::new();
        edits.iter().for_each(|edit| edit.encode(&mut bytes));
        bytes.len()
    }

    /// Plans and applies one operation.
    pub fn commit<T>(&mut self, plan: impl FnOnce(&dyn View) -> Result<Plan<T>>) -> Result<T> {
        let plan = plan(self)?;
        self.apply_all(&plan.edits);
        Ok(plan.value)
    }

    pub fn inode(&self, ino: Ino) -> Inode {
        match self.items.get(&Key::inode(ino)) {
            Some(Value::Inode(inode)) => (**inode).clone(),
            other => panic!("inode {ino} is {other:?}"),
        }
    }

    pub fn edit_inode<R>(&mut self, ino: Ino, change: impl FnOnce(&mut Inode) -> R) {
        match self.items.get_mut(&Key::inode(ino)) {
            Some(Value::Inode(inode)) => drop(change(inode)),
            other => panic!("inode {ino} is {other:?}"),
        }
    }

    pub fn create(&mut self, parent: Ino, name: &[u8], new: NewInode<'_>) -> Result<Attr> {
        self.next_ino += 1;
        let ino = Ino(self.next_ino);
        self.commit(|view| plan_create(&op(), view, &USER, ino, parent, name, &new))
    }

    /// A regular file `ino` under the hash of `op`.
    pub fn create_with(&mut self, op: &Op, ino: Ino, parent: Ino, name: &[u8]) {
        let new = NewInode { kind: NewKind::File, perm: 0o644, umask: 0 };
        self.commit(|view| plan_create(op, view, &USER, ino, parent, name, &new)).unwrap();
    }

    pub fn file(&mut self, parent: Ino, name: &[u8]) -> Ino {
        self.create(parent, name, NewInode { kind: NewKind::File, perm: 0o644, umask: 0 }).unwrap().ino
    }

    pub fn dir(&mut self, parent: Ino, name: &[u8]) -> Ino {
        self.create(parent, name, NewInode { kind: NewKind::Directory, perm: 0o755, umask: 0 }).unwrap().ino
    }

    pub fn map_data(&mut self, ino: Ino, first: u64, blocks: u32) {
        let extent = Extent { addr: BlockAddr(self.next_addr), ..data_extent(blocks) };
        self.next_addr += u64::from(blocks);
        self.apply(&Edit::Map { ino, first, extent });
    }

    pub fn map_unwritten(&mut self, ino: Ino, first: u64, blocks: u32) {
        let kind = ExtentKind::Unwritten;
        let extent = Extent { kind, blocks, addr: BlockAddr::NONE, crcs: Default::default(), ..data_extent(1) };
        self.apply(&Edit::Map { ino, first, extent });
    }

    /// Where the data of a file block lies.
    pub fn addr(&self, ino: Ino, block: u64) -> Option<BlockAddr> {
        let (key, value) = self.floor(&Key::extent(ino, block)).unwrap()?;
        let Value::Extent(extent) = value else { return None };
        let inside = key.ino == ino && block - key.offset < u64::from(extent.blocks);
        (inside && extent.kind == ExtentKind::Data).then(|| extent.addr.offset(block - key.offset))
    }

    pub fn apply_all(&mut self, edits: &[Edit]) {
        edits.iter().for_each(|edit| self.apply(edit));
    }

    fn apply(&mut self, edit: &Edit) {
        match edit {
            Edit::Put { key, value } => self.put(*key, value.clone()),
            Edit::Delete { key } => drop(self.items.remove(key)),
            Edit::Map { ino, first, extent } => {
                self.unmap(*ino, *first, u64::from(extent.blocks));
                self.items.insert(Key::extent(*ino, *first), Value::Extent(extent.clone()));
                self.edit_inode(*ino, |inode| inode.blocks += u64::from(extent.blocks));
            }
            Edit::Unmap { ino, first, blocks } => self.unmap(*ino, *first, *blocks),
            Edit::Written { ino, size, time } => self.edit_inode(*ino, |inode| {
                inode.size = size.unwrap_or(inode.size);
                (inode.mtime, inode.ctime) = (*time, *time);
            }),
            Edit::Move { .. } | Edit::Lose { .. } => panic!("only the cleaner moves blocks"),
        }
    }

    fn put(&mut self, key: Key, mut value: Value) {
        if let Value::Inode(new) = &mut value {
            new.blocks = match self.items.get(&key) {
                Some(Value::Inode(old)) => old.blocks,
                _ => 0,
            };
        }
        self.items.insert(key, value);
    }

    fn unmap(&mut self, ino: Ino, first: u64, blocks: u64) {
        let end = first + blocks;
        let reaching: Vec<(u64, Extent)> = (self.items.range(Key::extent(ino, 0)..Key::extent(ino, end)))
            .filter_map(|(key, value)| match value {
                Value::Extent(extent) if key.offset + u64::from(extent.blocks) > first => {
                    Some((key.offset, extent.clone()))
                }
                _ => None,
            })
            .collect();
        for (at, extent) in reaching {
            let (len, after) = (u64::from(extent.blocks), at + u64::from(extent.blocks));
            self.items.remove(&Key::extent(ino, at));
            let mut kept = 0;
            for (from, to) in [(at, first.min(after)), (end.max(at), after)] {
                if from < to {
                    let part = extent.slice((from - at) as u32, (to - from) as u32);
                    self.items.insert(Key::extent(ino, from), Value::Extent(part));
                    kept += to - from;
                }
            }
            self.edit_inode(ino, |inode| inode.blocks -= len - kept);
        }
    }
}

#[test]
fn the_double_replaces_and_splits_extents_and_counts_blocks() {
    let ino = Ino(20);
    let mut tree = Tree::with_file(ino);
    tree.map_data(ino, 10, 20);
    let before = tree.addr(ino, 25).unwrap();
    tree.apply(&Edit::Unmap { ino, first: 15, blocks: 5 });
    assert_eq!((tree.inode(ino).blocks, tree.addr(ino, 25)), (15, Some(before)));
    tree.map_data(ino, 12, 10);
    assert_eq!((tree.inode(ino).blocks, tree.addr(ino, 25)), (20, Some(before)));
    assert_eq!(tree.items.keys().filter(|key| key.kind == Kind::Extent).count(), 3);
}
