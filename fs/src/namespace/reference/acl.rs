//! POSIX ACLs as the reference needs them, in the form of their xattrs (Linux: `include/uapi/linux/posix_acl_xattr.h`).

use crate::error::{Error, Result};

pub(super) const ACCESS: &[u8] = b"system.posix_acl_access";
pub(super) const DEFAULT: &[u8] = b"system.posix_acl_default";

const VERSION: u32 = 2;
const USER_OBJ: u16 = 0x01;
const USER: u16 = 0x02;
const GROUP_OBJ: u16 = 0x04;
const GROUP: u16 = 0x08;
const MASK: u16 = 0x10;
const OTHER: u16 = 0x20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    tag: u16,
    perm: u16,
    id: u32,
}

/// A valid access control list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Acl(Vec<Entry>);

impl Acl {
    pub(super) fn decode(value: &[u8]) -> Result<Self> {
        let (version, rest) = value.split_first_chunk::<4>().ok_or(Error::Invalid)?;
        if u32::from_le_bytes(*version) != VERSION || rest.len() % 8 != 0 {
            return Err(Error::Invalid);
        }
        let entries = rest.chunks_exact(8).map(|e| Entry {
            tag: u16::from_le_bytes([e[0], e[1]]),
            perm: u16::from_le_bytes([e[2], e[3]]),
            id: u32::from_le_bytes([e[4], e[5], e[6], e[7]]),
        });
        let acl = Self(entries.collect());
        if acl.is_valid() { Ok(acl) } else { Err(Error::Invalid) }
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = VERSION.to_le_bytes().to_vec();
        for e in &self.0 {
            out.extend_from_slice(&e.tag.to_le_bytes());
            out.extend_from_slice(&e.perm.to_le_bytes());
            out.extend_from_slice(&e.id.to_le_bytes());
        }
        out
    }

    /// As `posix_acl_valid`: ordered by tag, the three base entries once, a mask wherever somebody is named.
    fn is_valid(&self) -> bool {
        let count = |tag| self.0.iter().filter(|e| e.tag == tag).count();
        let named = count(USER) + count(GROUP);
        self.0.iter().all(|e| e.perm <= 7 && [USER_OBJ, USER, GROUP_OBJ, GROUP, MASK, OTHER].contains(&e.tag))
            && self.0.is_sorted_by_key(|e| e.tag)
            && [USER_OBJ, GROUP_OBJ, OTHER].iter().all(|tag| count(*tag) == 1)
            && count(MASK) <= 1
            && (named == 0 || count(MASK) == 1)
    }

    /// Says no more than permission bits can.
    pub(super) fn is_minimal(&self) -> bool {
        self.0.len() == 3
    }

    fn perm_of(&mut self, tag: u16) -> Option<&mut u16> {
        self.0.iter_mut().find(|e| e.tag == tag).map(|e| &mut e.perm)
    }

    /// The entry that the group bits of a mode stand for.
    fn group_class(&mut self) -> &mut u16 {
        let tag = if self.0.iter().any(|e| e.tag == MASK) { MASK } else { GROUP_OBJ };
        self.perm_of(tag).expect("a valid list has it")
    }

    /// Permission bits (0o777) that this list stands for.
    pub(super) fn mode_bits(&mut self) -> u32 {
        let user = *self.perm_of(USER_OBJ).expect("a valid list has it");
        let other = *self.perm_of(OTHER).expect("a valid list has it");
        u32::from(user) << 6 | u32::from(*self.group_class()) << 3 | u32::from(other)
    }

    /// chmod.
    pub(super) fn set_mode_bits(&mut self, mode: u32) {
        *self.perm_of(USER_OBJ).expect("a valid list has it") = (mode >> 6 & 7) as u16;
        *self.group_class() = (mode >> 3 & 7) as u16;
        *self.perm_of(OTHER).expect("a valid list has it") = (mode & 7) as u16;
    }

    /// A default list becomes the access list of a new inode: both it and the mode keep what the other allows.
    pub(super) fn inherit(mut self, mode: u32) -> (Self, u32) {
        let allowed = self.mode_bits() & mode & 0o777;
        self.set_mode_bits(allowed);
        (self, mode & !0o777 | allowed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(entries: &[(u16, u16, u32)]) -> Vec<u8> {
        Acl(entries.iter().map(|&(tag, perm, id)| Entry { tag, perm, id }).collect()).encode()
    }

    #[test]
    fn the_group_bits_are_the_mask() {
        let none = u32::MAX;
        let bytes =
            list(&[(USER_OBJ, 7, none), (USER, 6, 1000), (GROUP_OBJ, 5, none), (MASK, 6, none), (OTHER, 4, none)]);
        let mut acl = Acl::decode(&bytes).unwrap();
        assert_eq!(acl.encode(), bytes);
        assert_eq!(acl.mode_bits(), 0o764);
        acl.set_mode_bits(0o640);
        assert_eq!(acl.mode_bits(), 0o640);
        assert_eq!(acl.perm_of(GROUP_OBJ), Some(&mut 5));
        assert!(!acl.is_minimal());
        let (acl, mode) = acl.inherit(0o100_777);
        assert_eq!((mode, acl.clone().mode_bits()), (0o100_640, 0o640));
    }

    #[test]
    fn broken_lists_are_refused() {
        assert!(Acl::decode(b"").is_err());
        assert!(Acl::decode(&list(&[(USER_OBJ, 7, 0), (GROUP_OBJ, 7, 0)])).is_err());
        assert!(Acl::decode(&list(&[(USER_OBJ, 7, 0), (USER, 7, 1), (GROUP_OBJ, 7, 0), (OTHER, 7, 0)])).is_err());
        assert!(Acl::decode(&list(&[(USER_OBJ, 8, 0), (GROUP_OBJ, 7, 0), (OTHER, 7, 0)])).is_err());
        assert!(Acl::decode(&list(&[(USER_OBJ, 7, 0), (GROUP_OBJ, 7, 0), (OTHER, 7, 0)])).unwrap().is_minimal());
    }
}
