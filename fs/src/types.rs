//! The vocabulary: newtypes for everything that would otherwise be a bare integer.

use std::fmt;

/// Bytes in a block, the unit of addressing.
pub const BLOCK_SIZE: usize = 4096;
/// log2 of [`BLOCK_SIZE`].
pub const BLOCK_SHIFT: u32 = 12;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident($int:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
        #[serde(transparent)]
        pub struct $name(pub $int);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

id!(
    /// Number of a 4 KiB block on the device. Block 0 always belongs to a superblock, so 0 doubles as
    /// "nowhere" in formats that need it.
    BlockAddr(u64)
);
id!(
    /// Number of a segment (on a zoned device: of a zone), counted from the device's beginning.
    SegNo(u32)
);
id!(
    /// Inode number. The root directory is [`Ino::ROOT`].
    Ino(u64)
);
id!(
    /// Identity of a metadata node; the node table maps it to the newest copy's address.
    NodeId(u64)
);
id!(
    /// Log sequence number: one per operation, shared by all log heads.
    Lsn(u64)
);
id!(
    /// The write clock: user-written blocks since mkfs. The unit of age and lifetime.
    WriteClock(u64)
);

impl BlockAddr {
    /// No block.
    pub const NONE: Self = Self(0);

    /// The address `blocks` further on.
    pub fn offset(self, blocks: u64) -> Self {
        Self(self.0 + blocks)
    }

    /// Byte position on the device.
    pub fn byte(self) -> u64 {
        self.0 << BLOCK_SHIFT
    }
}

impl Ino {
    /// The root directory, as FUSE demands.
    pub const ROOT: Self = Self(1);
    /// Owner of the orphan list; never a real inode.
    pub const ORPHANS: Self = Self(0);
    /// The first inode number that mkfs leaves for users.
    pub const FIRST_USER: Self = Self(16);
}

impl NodeId {
    /// The root of the key tree, for ever.
    pub const ROOT: Self = Self(1);
}

impl Lsn {
    /// The number that follows.
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}
