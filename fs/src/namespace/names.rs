//! Directory entries by name: hashing, collision probing and the rules for names.
//!
//! An entry's key offset is also its readdir cookie: the upper 55 bits of the name's keyed hash, then eight bits of probe.
//! It lies in `256..2^63`, which leaves the cookies 1 and 2 to `.` and `..`.

use std::hash::Hasher;
use std::ops::ControlFlow;

use siphasher::sip::SipHasher13;

use crate::error::{Error, Result};
use crate::format::key::{Key, Kind};
use crate::format::value::{Dirent, NAME_MAX, Value};
use crate::meta::view::View;
use crate::types::Ino;

/// Low bits of a key offset that tell apart what hashes alike.
pub const PROBE_BITS: u32 = 8;

/// The keyed hash of names, secret to the image: nobody can make names collide on purpose.
#[derive(Clone, Copy, Debug)]
pub struct NameHash {
    key: [u8; 16],
    function: fn(&[u8; 16], &[u8]) -> u64,
}

impl NameHash {
    /// SipHash-1-3 under the image's key.
    pub fn new(key: [u8; 16]) -> Self {
        Self { key, function: sip }
    }

    /// A hash under which all names collide.
    #[cfg(test)]
    pub fn colliding() -> Self {
        Self { key: [0; 16], function: |_, _| 77 << 9 }
    }

    /// 55 bits, never 0.
    pub fn of(&self, name: &[u8]) -> u64 {
        ((self.function)(&self.key, name) >> 9).max(1)
    }
}

fn sip(key: &[u8; 16], name: &[u8]) -> u64 {
    let mut hasher = SipHasher13::new_with_key(key);
    hasher.write(name);
    hasher.finish()
}

/// Where a name is, or would go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Slot {
    Taken(Key, Dirent),
    Free(Key),
}

/// Refuses what is no name.
pub fn check(name: &[u8]) -> Result<()> {
    match name {
        b"" => Err(Error::NotFound),
        _ if name.len() > NAME_MAX => Err(Error::NameTooLong),
        b"." | b".." => Err(Error::Invalid),
        _ if name.iter().any(|&b| b == b'/' || b == 0) => Err(Error::Invalid),
        _ => Ok(()),
    }
}

/// The name's place in the directory; `NoSpace` if 256 other names have its hash.
pub fn locate(view: &dyn View, hash: &NameHash, dir: Ino, name: &[u8]) -> Result<Slot> {
    let first = hash.of(name) << PROBE_BITS;
    let last = first | ((1 << PROBE_BITS) - 1);
    let (mut free, mut hit) = (first, None);
    let key = |offset| Key::new(dir, Kind::Dirent, offset);
    view.scan(&key(first), &key(last), &mut |at, value| {
        let Value::Dirent(entry) = value else { return ControlFlow::Continue(()) };
        if *entry.name == *name {
            hit = Some(Slot::Taken(*at, entry.clone()));
            return ControlFlow::Break(());
        }
        if at.offset == free {
            free += 1;
        }
        ControlFlow::Continue(())
    })?;
    match hit {
        Some(hit) => Ok(hit),
        None if free > last => Err(Error::NoSpace),
        None => Ok(Slot::Free(key(free))),
    }
}

/// The entry of that name; `NotFound` if there is none.
pub fn lookup(view: &dyn View, hash: &NameHash, dir: Ino, name: &[u8]) -> Result<(Key, Dirent)> {
    check(name)?;
    match locate(view, hash, dir, name) {
        Ok(Slot::Taken(key, entry)) => Ok((key, entry)),
        Ok(Slot::Free(_)) | Err(Error::NoSpace) => Err(Error::NotFound),
        Err(other) => Err(other),
    }
}

/// A free place for the name; `Exists` if it is taken.
pub fn vacancy(view: &dyn View, hash: &NameHash, dir: Ino, name: &[u8]) -> Result<Key> {
    check(name)?;
    match locate(view, hash, dir, name)? {
        Slot::Taken(..) => Err(Error::Exists),
        Slot::Free(key) => Ok(key),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::namespace::testing::Tree;

    fn put(tree: &mut Tree, hash: &NameHash, name: &[u8]) -> Key {
        let key = vacancy(tree, hash, Ino::ROOT, name).unwrap();
        tree.items.insert(key, Value::Dirent(Dirent { name: name.into(), ino: Ino(20), dtype: 8 }));
        key
    }

    #[test]
    fn names_that_collide_live_side_by_side_and_probes_are_reused() {
        let (mut tree, hash) = (Tree::default(), NameHash::colliding());
        let keys: Vec<Key> = (0..256).map(|i| put(&mut tree, &hash, format!("n{i}").as_bytes())).collect();
        assert_eq!(keys[255].offset - keys[0].offset, 255);
        assert!(matches!(vacancy(&tree, &hash, Ino::ROOT, b"one more"), Err(Error::NoSpace)));
        assert!(matches!(lookup(&tree, &hash, Ino::ROOT, b"one more"), Err(Error::NotFound)));
        tree.items.remove(&keys[9]);
        assert_eq!(lookup(&tree, &hash, Ino::ROOT, b"n200").unwrap().0, keys[200]);
        assert_eq!(vacancy(&tree, &hash, Ino::ROOT, b"one more").unwrap(), keys[9]);
    }

    #[test]
    fn offsets_leave_room_for_dot_and_dotdot_and_stay_below_the_sign() {
        let hash = NameHash::new([7; 16]);
        for i in 0..10_000u32 {
            let offset = hash.of(&i.to_le_bytes()) << PROBE_BITS;
            assert!((256..1 << 63).contains(&offset));
        }
        assert_ne!(hash.of(b"a"), NameHash::new([8; 16]).of(b"a"));
    }

    #[test]
    fn what_is_no_name_is_refused() {
        assert!(matches!(check(&[b'x'; 256]), Err(Error::NameTooLong)));
        assert!(matches!(check(b".."), Err(Error::Invalid)));
        assert!(matches!(check(b"a/b"), Err(Error::Invalid)));
        assert!(matches!(check(b"a\0b"), Err(Error::Invalid)));
        assert!(matches!(check(b""), Err(Error::NotFound)));
        check(&[0xff; 255]).unwrap();
    }
}
