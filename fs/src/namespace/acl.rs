//! POSIX ACLs in the kernel's xattr format (`include/uapi/linux/posix_acl_xattr.h`): kept in step with the mode,
//! inherited by new inodes.
//!
//! The rules are those of `posix_acl_create_masq`, `__posix_acl_chmod_masq`, `posix_acl_equiv_mode` and `posix_acl_valid`
//! in Linux's fs/posix_acl.c.

use crate::error::{Error, Result};
use crate::types::Ino;

use super::api::XattrMode;
use super::draft::Draft;
use super::{items, xattr};

/// The ACL that decides about access.
pub const ACCESS: &[u8] = b"system.posix_acl_access";
/// The ACL that new inodes in a directory inherit.
pub const DEFAULT: &[u8] = b"system.posix_acl_default";

const VERSION: u32 = 2;
const HEADER_BYTES: usize = 4;
const ENTRY_BYTES: usize = 8;

/// Whom an entry speaks of, in the order that a valid ACL has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u16)]
enum Tag {
    UserObj = 0x01,
    User = 0x02,
    GroupObj = 0x04,
    Group = 0x08,
    Mask = 0x10,
    Other = 0x20,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    tag: Tag,
    perm: u16,
    id: u32,
}

/// A valid ACL.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Acl {
    entries: Vec<Entry>,
}

/// Whether an xattr of this name is an ACL.
pub fn is_acl(name: &[u8]) -> bool {
    name == ACCESS || name == DEFAULT
}

impl Tag {
    fn from_u16(v: u16) -> Option<Self> {
        Some(match v {
            0x01 => Self::UserObj,
            0x02 => Self::User,
            0x04 => Self::GroupObj,
            0x08 => Self::Group,
            0x10 => Self::Mask,
            0x20 => Self::Other,
            _ => return None,
        })
    }
}

impl Acl {
    /// `None` for an ACL without entries, which stands for no ACL.
    fn decode(bytes: &[u8]) -> Result<Option<Self>> {
        let (version, rest) = bytes.split_first_chunk::<HEADER_BYTES>().ok_or(Error::Invalid)?;
        if u32::from_le_bytes(*version) != VERSION {
            return Err(Error::NotSupported);
        }
        let (chunks, odd) = rest.as_chunks::<ENTRY_BYTES>();
        if !odd.is_empty() {
            return Err(Error::Invalid);
        }
        let entries = chunks.iter().map(decode_entry).collect::<Result<Vec<_>>>()?;
        if entries.is_empty() {
            return Ok(None);
        }
        let acl = Self { entries };
        if acl.is_valid() { Ok(Some(acl)) } else { Err(Error::Invalid) }
    }

    fn encode(&self) -> Vec<u8> {
        let mut bytes = VERSION.to_le_bytes().to_vec();
        for entry in &self.entries {
            bytes.extend_from_slice(&(entry.tag as u16).to_le_bytes());
            bytes.extend_from_slice(&entry.perm.to_le_bytes());
            bytes.extend_from_slice(&entry.id.to_le_bytes());
        }
        bytes
    }

    fn is_valid(&self) -> bool {
        let count = |tag| self.entries.iter().filter(|entry| entry.tag == tag).count();
        let named = count(Tag::User) + count(Tag::Group) > 0;
        self.entries.is_sorted_by_key(|entry| entry.tag)
            && [Tag::UserObj, Tag::GroupObj, Tag::Other].into_iter().all(|tag| count(tag) == 1)
            && count(Tag::Mask) <= 1
            && (!named || count(Tag::Mask) == 1)
    }

    /// Whether the mode says all that the ACL says.
    fn is_minimal(&self) -> bool {
        self.entries.iter().all(|entry| matches!(entry.tag, Tag::UserObj | Tag::GroupObj | Tag::Other))
    }

    /// The tag of the entry that the group bits of a mode show.
    fn group_class(&self) -> Tag {
        if self.entries.iter().any(|entry| entry.tag == Tag::Mask) { Tag::Mask } else { Tag::GroupObj }
    }

    /// Position in a mode of the bits that show an entry; `None` if they show another.
    fn shift(&self, tag: Tag) -> Option<u32> {
        match tag {
            Tag::UserObj => Some(6),
            Tag::Other => Some(0),
            tag if tag == self.group_class() => Some(3),
            _ => None,
        }
    }

    /// The nine permission bits that the ACL shows as.
    fn permissions(&self) -> u32 {
        let shown = |entry: &Entry| self.shift(entry.tag).map_or(0, |shift| u32::from(entry.perm) << shift);
        self.entries.iter().map(shown).sum()
    }

    /// The ACL after chmod(2) to `mode`.
    fn with_mode(&self, mode: u32) -> Self {
        self.mapped(|_, shift| (mode >> shift) as u16 & 7)
    }

    /// The ACL limited to what `mode` allows, as a new inode gets it.
    fn masked_by(&self, mode: u32) -> Self {
        self.mapped(|perm, shift| perm & (mode >> shift) as u16 & 7)
    }

    fn mapped(&self, perm: impl Fn(u16, u32) -> u16) -> Self {
        let map = |entry: &Entry| match self.shift(entry.tag) {
            Some(shift) => Entry { perm: perm(entry.perm, shift), ..*entry },
            None => *entry,
        };
        Self { entries: self.entries.iter().map(map).collect() }
    }
}

fn decode_entry(bytes: &[u8; ENTRY_BYTES]) -> Result<Entry> {
    let [t0, t1, p0, p1, i0, i1, i2, i3] = *bytes;
    let tag = Tag::from_u16(u16::from_le_bytes([t0, t1])).ok_or(Error::Invalid)?;
    let perm = u16::from_le_bytes([p0, p1]);
    if perm & !7 != 0 {
        return Err(Error::Invalid);
    }
    Ok(Entry { tag, perm, id: u32::from_le_bytes([i0, i1, i2, i3]) })
}

/// Sets an ACL in a draft. An access ACL sets the mode's permission bits, and is not stored if they say it all;
/// an empty ACL removes.
pub fn set(draft: &mut Draft<'_>, ino: Ino, name: &[u8], value: &[u8], how: XattrMode) -> Result<()> {
    let mode = draft.inode(ino)?.mode;
    if items::is_symlink(mode) {
        return Err(Error::NotSupported);
    }
    let acl = Acl::decode(value)?;
    if name == DEFAULT && !items::is_dir(mode) && acl.is_some() {
        return Err(Error::NotPermitted);
    }
    let stored = match acl {
        Some(acl) if name == ACCESS => {
            draft.change(ino)?.mode = mode & !0o777 | acl.permissions();
            Some(acl).filter(|acl| !acl.is_minimal())
        }
        other => other,
    };
    match stored {
        Some(acl) => xattr::put(draft, ino, name, &acl.encode(), how),
        None => xattr::take(draft, ino, name).map(drop),
    }
}

/// After the draft changed the mode of `ino` by chmod: its access ACL follows.
pub fn follow_chmod(draft: &mut Draft<'_>, ino: Ino) -> Result<()> {
    let inode = draft.inode(ino)?;
    if inode.xattrs == 0 {
        return Ok(());
    }
    let Some(bytes) = xattr::find(draft.view, &draft.op.names, ino, ACCESS)? else { return Ok(()) };
    match Acl::decode(&bytes)? {
        Some(acl) => xattr::put(draft, ino, ACCESS, &acl.with_mode(inode.mode).encode(), XattrMode::Set),
        None => Ok(()),
    }
}

/// The default ACL that a new inode in `dir` inherits, with the permission bits it leaves of `perm`.
pub struct Inheritance {
    default: Acl,
    access: Acl,
    /// The new inode's permission bits.
    pub perm: u32,
}

impl Inheritance {
    /// `None` if the directory has no default ACL.
    pub fn of(draft: &Draft<'_>, dir: Ino, perm: u32) -> Result<Option<Self>> {
        if draft.inode(dir)?.xattrs == 0 {
            return Ok(None);
        }
        let Some(bytes) = xattr::find(draft.view, &draft.op.names, dir, DEFAULT)? else { return Ok(None) };
        let Some(default) = Acl::decode(&bytes)? else { return Ok(None) };
        let access = default.masked_by(perm);
        let perm = perm & !0o777 | access.permissions();
        Ok(Some(Self { default, access, perm }))
    }

    /// Gives the new inode its ACLs.
    pub fn store(&self, draft: &mut Draft<'_>, ino: Ino, is_dir: bool) -> Result<()> {
        if !self.access.is_minimal() {
            xattr::put(draft, ino, ACCESS, &self.access.encode(), XattrMode::Set)?;
        }
        if is_dir {
            xattr::put(draft, ino, DEFAULT, &self.default.encode(), XattrMode::Set)?;
        }
        Ok(())
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::namespace::testing::{Tree, op};
    use crate::namespace::xattr::{get, plan_set};

    /// `u::rwx,u:5:rw-,g::r-x,m::<mask>,o::<other>`
    pub fn sample(mask: u16, other: u16) -> Vec<u8> {
        let entry = |tag, perm, id| Entry { tag, perm, id };
        let none = u32::MAX;
        let entries = vec![
            entry(Tag::UserObj, 7, none),
            entry(Tag::User, 6, 5),
            entry(Tag::GroupObj, 5, none),
            entry(Tag::Mask, mask, none),
            entry(Tag::Other, other, none),
        ];
        Acl { entries }.encode()
    }

    /// The longest ACL that fits `bytes`.
    pub fn huge(bytes: usize) -> Vec<u8> {
        let mut acl = Acl::decode(&sample(7, 5)).unwrap().unwrap();
        let entries = (bytes - HEADER_BYTES) / ENTRY_BYTES;
        let named = (acl.entries.len()..entries).map(|id| Entry { tag: Tag::User, perm: 6, id: id as u32 });
        acl.entries.splice(2..2, named);
        acl.encode()
    }

    fn minimal() -> Vec<u8> {
        let entry = |tag, perm| Entry { tag, perm, id: u32::MAX };
        Acl { entries: vec![entry(Tag::UserObj, 6), entry(Tag::GroupObj, 4), entry(Tag::Other, 0)] }.encode()
    }

    fn set_root(tree: &mut Tree, name: &[u8], value: &[u8]) -> Result<()> {
        tree.commit(|view| plan_set(&op(), view, Ino::ROOT, name, value, XattrMode::Set))
    }

    #[test]
    fn an_access_acl_shows_in_the_mode_and_the_mask_is_the_group() {
        let mut tree = Tree::with_root();
        set_root(&mut tree, ACCESS, &sample(6, 1)).unwrap();
        assert_eq!(tree.inode(Ino::ROOT).mode, libc::S_IFDIR | 0o761);
        assert_eq!(get(&tree, &op().names, Ino::ROOT, ACCESS).unwrap(), sample(6, 1));
    }

    #[test]
    fn a_minimal_acl_becomes_the_mode_alone() {
        let mut tree = Tree::with_root();
        set_root(&mut tree, ACCESS, &sample(6, 1)).unwrap();
        set_root(&mut tree, ACCESS, &minimal()).unwrap();
        assert_eq!(tree.inode(Ino::ROOT).mode, libc::S_IFDIR | 0o640);
        assert_eq!(tree.inode(Ino::ROOT).xattrs, 0);
        set_root(&mut tree, DEFAULT, &minimal()).unwrap();
        assert_eq!(tree.inode(Ino::ROOT).xattrs, 1);
        set_root(&mut tree, DEFAULT, &VERSION.to_le_bytes()).unwrap();
        assert_eq!(tree.inode(Ino::ROOT).xattrs, 0);
    }

    #[test]
    fn what_is_no_acl_is_refused() {
        let mut tree = Tree::with_root();
        assert!(matches!(set_root(&mut tree, ACCESS, b"xy"), Err(Error::Invalid)));
        assert!(matches!(set_root(&mut tree, ACCESS, &1u32.to_le_bytes()), Err(Error::NotSupported)));
        let mut cut = sample(7, 0);
        cut.truncate(cut.len() - ENTRY_BYTES);
        assert!(matches!(set_root(&mut tree, ACCESS, &cut), Err(Error::Invalid)), "no entry for others");
        let mut odd = sample(7, 0);
        odd[6] = 8;
        assert!(matches!(set_root(&mut tree, ACCESS, &odd), Err(Error::Invalid)), "a permission beyond rwx");
        tree.edit_inode(Ino::ROOT, |inode| inode.mode = libc::S_IFREG | 0o644);
        assert!(matches!(set_root(&mut tree, DEFAULT, &sample(7, 0)), Err(Error::NotPermitted)));
    }
}
