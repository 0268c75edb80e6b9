//! The medium format as pure bytes: encoding, decoding and checking, without any I/O.
//!
//! `fs/FORMAT.md` is the layout's one home; these modules implement it. Decoding returns an error and never
//! panics, whatever the bytes. Any layer may import this one; it imports only `types`.

pub mod bytes;
pub mod chunk;
pub mod edit;
pub mod key;
pub mod node;
pub mod superblock;
pub mod table;
pub mod value;

/// Bytes that are not what the format allows.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    #[error("{what}: ends early")]
    Truncated { what: &'static str },
    #[error("{what}: bad value {value:#x}")]
    BadValue { what: &'static str, value: u64 },
    #[error("{what}: wrong magic {found:#010x}")]
    BadMagic { what: &'static str, found: u32 },
    #[error("{what}: checksum {stored:#010x}, computed {computed:#010x}")]
    BadChecksum { what: &'static str, stored: u32, computed: u32 },
    #[error("{what}: version {found} is not supported")]
    BadVersion { what: &'static str, found: u32 },
}
