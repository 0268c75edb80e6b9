//! Where names must stand: the hash of FORMAT.md, "Keys".

use std::hash::Hasher;

use siphasher::sip::SipHasher13;

/// Low bits of an offset that are not hash.
pub const PROBE_BITS: u32 = 8;
/// Slots that an extended attribute's name may stand in.
const XATTR_SLOTS: u64 = 4;

/// 55 bits of keyed hash, never 0.
pub fn hash(key: &[u8; 16], name: &[u8]) -> u64 {
    let mut hasher = SipHasher13::new_with_key(key);
    hasher.write(name);
    (hasher.finish() >> 9).max(1)
}

/// Whether an attribute of this name may stand in `slot`.
pub fn xattr_slot_fits(key: &[u8; 16], name: &[u8], slot: u64) -> bool {
    let first = hash(key, name).min((1 << 55) - XATTR_SLOTS);
    (first..first + XATTR_SLOTS).contains(&slot)
}

/// Whether these bytes may be the name of an entry.
pub fn is_name(name: &[u8]) -> bool {
    !matches!(name, b"" | b"." | b"..") && !name.iter().any(|byte| matches!(byte, b'/' | 0))
}

/// A name for people.
pub fn shown(name: &[u8]) -> String {
    name.escape_ascii().to_string()
}
