//! Extended attributes: values in parts, found by a hash of the name.
//!
//! The key offset is 55 bits of name hash and eight of part number. A name lives in the first free of [`SLOTS`] consecutive hash
//! slots; all of them are always searched, so a removal leaves no gap that would hide another name.
//! A value and its inode must fit one record, so values end at [`VALUE_MAX`] with `NoSpace`, as they do on ext4.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use crate::error::{Error, Result};
use crate::format::key::{Key, Kind};
use crate::format::value::{NAME_MAX, PART_MAX, Value, Xattr};
use crate::meta::view::View;
use crate::meta::volume::Plan;
use crate::types::Ino;

use super::acl;
use super::api::XattrMode;
use super::draft::{Draft, Op};
use super::names::{NameHash, PROBE_BITS};
use super::{flags, items};

/// Longest value, in bytes.
pub const VALUE_MAX: usize = 12 * PART_MAX;
/// Longest POSIX ACL, in bytes: a new directory inherits one twice in one record.
pub const ACL_MAX: usize = 4 * PART_MAX;
/// Most attributes of an inode: so that listxattr(2) always fits its 64 KiB.
pub const XATTRS_MAX: u32 = 255;
/// The kernel's limit for a value (`XATTR_SIZE_MAX`).
const KERNEL_VALUE_MAX: usize = 65536;
/// Hash slots that a name may live in.
const SLOTS: u64 = 4;

/// File capabilities, which die when the file changes.
pub const CAPABILITY: &[u8] = b"security.capability";

fn part_key(ino: Ino, slot: u64, part: u64) -> Key {
    Key::new(ino, Kind::Xattr, slot << PROBE_BITS | part)
}

/// The parts found in a name's slots.
struct Window {
    first: u64,
    slots: BTreeMap<u64, Vec<Xattr>>,
}

impl Window {
    fn read(view: &dyn View, hash: &NameHash, ino: Ino, name: &[u8]) -> Result<Self> {
        let first = hash.of(name).min((1 << 55) - SLOTS);
        let mut slots: BTreeMap<u64, Vec<Xattr>> = BTreeMap::new();
        let last = part_key(ino, first + SLOTS - 1, (1 << PROBE_BITS) - 1);
        view.scan(&part_key(ino, first, 0), &last, &mut |key, value| {
            if let Value::Xattr(part) = value {
                slots.entry(key.offset >> PROBE_BITS).or_default().push((**part).clone());
            }
            ControlFlow::Continue(())
        })?;
        Ok(Self { first, slots })
    }

    fn find(&self, name: &[u8]) -> Option<(u64, &[Xattr])> {
        let (slot, parts) = self.slots.iter().find(|(_, parts)| *parts[0].name == *name)?;
        Some((*slot, parts))
    }

    fn free(&self, mut usable: impl FnMut(u64) -> bool) -> Result<u64> {
        let mut slots = self.first..self.first + SLOTS;
        slots.find(|slot| !self.slots.contains_key(slot) && usable(*slot)).ok_or(Error::NoSpace)
    }
}

/// The value, if the inode has such an attribute.
pub fn find(view: &dyn View, hash: &NameHash, ino: Ino, name: &[u8]) -> Result<Option<Vec<u8>>> {
    let window = Window::read(view, hash, ino, name)?;
    let Some((_, parts)) = window.find(name) else { return Ok(None) };
    let value: Vec<u8> = parts.iter().flat_map(|part| part.bytes.iter().copied()).collect();
    if value.len() != parts[0].value_len as usize {
        return Err(items::misfit("extended attribute", ino));
    }
    Ok(Some(value))
}

/// The value; `NoAttribute` if there is none.
pub fn get(view: &dyn View, hash: &NameHash, ino: Ino, name: &[u8]) -> Result<Vec<u8>> {
    match items::get(view, ino)?.xattrs {
        0 => Err(Error::NoAttribute),
        _ => find(view, hash, ino, name)?.ok_or(Error::NoAttribute),
    }
}

/// All names, each followed by NUL.
pub fn list(view: &dyn View, ino: Ino) -> Result<Vec<u8>> {
    let mut names = Vec::new();
    if items::get(view, ino)?.xattrs == 0 {
        return Ok(names);
    }
    let (from, to) = (Key::new(ino, Kind::Xattr, 0), Key::new(ino, Kind::Xattr, u64::MAX));
    view.scan(&from, &to, &mut |key, value| {
        if let Value::Xattr(part) = value
            && key.offset & ((1 << PROBE_BITS) - 1) == 0
        {
            names.extend_from_slice(&part.name);
            names.push(0);
        }
        ControlFlow::Continue(())
    })?;
    Ok(names)
}

/// Sets an attribute in a draft, without touching ctime or asking flags.
pub fn put(draft: &mut Draft<'_>, ino: Ino, name: &[u8], value: &[u8], mode: XattrMode) -> Result<()> {
    let window = Window::read(draft.view, &draft.op.names, ino, name)?;
    let found = window.find(name).map(|(slot, parts)| (slot, parts.len() as u64));
    match (found, mode) {
        (Some(_), XattrMode::Create) => return Err(Error::Exists),
        (None, XattrMode::Replace) => return Err(Error::NoAttribute),
        _ => {}
    }
    let (slot, parts_before) = match found {
        Some(found) => found,
        None => (window.free(|slot| !draft.puts(&part_key(ino, slot, 0)))?, 0),
    };
    // An empty value still has its first part: that is where the name is.
    let parts = value.len().div_ceil(PART_MAX).max(1);
    for part in 0..parts {
        let bytes = &value[part * PART_MAX..value.len().min((part + 1) * PART_MAX)];
        let part_value = Xattr { name: name.into(), value_len: value.len() as u32, bytes: bytes.into() };
        draft.put(part_key(ino, slot, part as u64), Value::Xattr(Box::new(part_value)));
    }
    for part in parts as u64..parts_before {
        draft.delete(part_key(ino, slot, part));
    }
    if found.is_none() {
        let inode = draft.change(ino)?;
        if inode.xattrs >= XATTRS_MAX {
            return Err(Error::NoSpace);
        }
        inode.xattrs += 1;
    }
    Ok(())
}

/// Removes an attribute in a draft; false if there was none.
pub fn take(draft: &mut Draft<'_>, ino: Ino, name: &[u8]) -> Result<bool> {
    if draft.inode(ino)?.xattrs == 0 {
        return Ok(false);
    }
    let window = Window::read(draft.view, &draft.op.names, ino, name)?;
    let Some((slot, parts)) = window.find(name) else { return Ok(false) };
    for part in 0..parts.len() as u64 {
        draft.delete(part_key(ino, slot, part));
    }
    let inode = draft.change(ino)?;
    inode.xattrs = inode.xattrs.saturating_sub(1);
    Ok(true)
}

fn check_sizes(name: &[u8], value: &[u8]) -> Result<()> {
    if name.is_empty() || name.len() > NAME_MAX {
        return Err(Error::Range);
    }
    if name.contains(&0) {
        return Err(Error::Invalid);
    }
    let room = if acl::is_acl(name) { ACL_MAX } else { VALUE_MAX };
    match value.len() {
        len if len > KERNEL_VALUE_MAX => Err(Error::TooLong),
        len if len > room => Err(Error::NoSpace),
        _ => Ok(()),
    }
}

/// setxattr(2).
pub fn plan_set(op: &Op, view: &dyn View, ino: Ino, name: &[u8], value: &[u8], mode: XattrMode) -> Result<Plan<()>> {
    check_sizes(name, value)?;
    let mut draft = Draft::new(op, view);
    flags::may_change(&draft.inode(ino)?)?;
    if acl::is_acl(name) {
        acl::set(&mut draft, ino, name, value, mode)?;
    } else {
        put(&mut draft, ino, name, value, mode)?;
    }
    draft.change(ino)?.ctime = op.now;
    Ok(draft.finish(()))
}

/// removexattr(2).
pub fn plan_remove(op: &Op, view: &dyn View, ino: Ino, name: &[u8]) -> Result<Plan<()>> {
    check_sizes(name, &[])?;
    let mut draft = Draft::new(op, view);
    flags::may_change(&draft.inode(ino)?)?;
    if !take(&mut draft, ino, name)? {
        return Err(Error::NoAttribute);
    }
    draft.change(ino)?.ctime = op.now;
    Ok(draft.finish(()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::namespace::testing::{Tree, op, op_colliding};

    fn set(tree: &mut Tree, op: &Op, name: &[u8], value: &[u8], mode: XattrMode) -> Result<()> {
        tree.commit(|view| plan_set(op, view, Ino::ROOT, name, value, mode))
    }

    #[test]
    fn values_of_every_length_come_back_and_shrink_without_remains() {
        let (mut tree, op) = (Tree::with_root(), op());
        for len in [0, 1, PART_MAX - 1, PART_MAX, PART_MAX + 1, VALUE_MAX, 3, 0] {
            let value: Vec<u8> = (0..len).map(|i| i as u8).collect();
            set(&mut tree, &op, b"user.a", &value, XattrMode::Set).unwrap();
            assert_eq!(get(&tree, &op.names, Ino::ROOT, b"user.a").unwrap(), value);
            assert_eq!(tree.inode(Ino::ROOT).xattrs, 1);
        }
        assert_eq!(tree.items.keys().filter(|key| key.kind == Kind::Xattr).count(), 1);
        assert!(matches!(set(&mut tree, &op, b"user.a", &[0; VALUE_MAX + 1], XattrMode::Set), Err(Error::NoSpace)));
        assert!(matches!(set(&mut tree, &op, b"user.a", &[0; 65537], XattrMode::Set), Err(Error::TooLong)));
        assert!(matches!(set(&mut tree, &op, &[b'n'; 256], b"", XattrMode::Set), Err(Error::Range)));
    }

    #[test]
    fn create_and_replace_say_what_stands_in_their_way() {
        let (mut tree, op) = (Tree::with_root(), op());
        assert!(matches!(set(&mut tree, &op, b"user.a", b"1", XattrMode::Replace), Err(Error::NoAttribute)));
        set(&mut tree, &op, b"user.a", b"1", XattrMode::Create).unwrap();
        assert!(matches!(set(&mut tree, &op, b"user.a", b"2", XattrMode::Create), Err(Error::Exists)));
        set(&mut tree, &op, b"user.a", b"2", XattrMode::Replace).unwrap();
        assert_eq!(get(&tree, &op.names, Ino::ROOT, b"user.a").unwrap(), b"2");
    }

    #[test]
    fn names_that_collide_are_kept_apart_also_after_a_removal() {
        let (mut tree, op) = (Tree::with_root(), op_colliding());
        for name in [b"user.a", b"user.b", b"user.c"] {
            set(&mut tree, &op, name, name, XattrMode::Set).unwrap();
        }
        tree.commit(|view| plan_remove(&op, view, Ino::ROOT, b"user.a")).unwrap();
        assert!(matches!(get(&tree, &op.names, Ino::ROOT, b"user.a"), Err(Error::NoAttribute)));
        assert_eq!(get(&tree, &op.names, Ino::ROOT, b"user.c").unwrap(), b"user.c");
        set(&mut tree, &op, b"user.c", b"new", XattrMode::Replace).unwrap();
        assert_eq!(list(&tree, Ino::ROOT).unwrap(), b"user.b\0user.c\0");
        assert!(matches!(tree.commit(|view| plan_remove(&op, view, Ino::ROOT, b"user.a")), Err(Error::NoAttribute)));
        assert_eq!(tree.inode(Ino::ROOT).xattrs, 2);
    }

    #[test]
    fn attributes_of_an_immutable_inode_stay() {
        let (mut tree, op) = (Tree::with_root(), op());
        tree.edit_inode(Ino::ROOT, |inode| inode.flags = flags::APPEND);
        assert!(matches!(set(&mut tree, &op, b"user.a", b"1", XattrMode::Set), Err(Error::NotPermitted)));
    }

    #[test]
    fn the_largest_attribute_fits_a_record() {
        let (tree, op) = (Tree::with_root(), op_colliding());
        let plan = plan_set(&op, &tree, Ino::ROOT, &[b'n'; NAME_MAX], &[1; VALUE_MAX], XattrMode::Set).unwrap();
        assert!(Tree::encoded_len(&plan.edits) < 16 * 1024);
    }
}
