//! The little that the front remembers of the kernel's state: inodes that lost a name, and files open for writing.
//!
//! Both sets are small. A count of lookups for each inode that the kernel knows (what FUSE servers usually keep) would grow
//! with the kernel's inode cache; instead the kernel itself is asked when an inode that lost a name is forgotten.

use std::collections::{HashMap, HashSet};

use parking_lot::Mutex;

use crate::types::Ino;

/// Inodes that lost a name since the mount and that the kernel may still hold.
#[derive(Default)]
pub(super) struct Unlinked {
    inos: Mutex<HashSet<Ino>>,
}

impl Unlinked {
    /// A name of the inode was removed.
    pub(super) fn add(&self, ino: Ino) {
        self.inos.lock().insert(ino);
    }

    pub(super) fn contains(&self, ino: Ino) -> bool {
        self.inos.lock().contains(&ino)
    }

    /// The kernel holds the inode no longer. Returns whether it was in the set: only one caller is told so.
    pub(super) fn remove(&self, ino: Ino) -> bool {
        self.inos.lock().remove(&ino)
    }
}

/// How often each file is open for writing: only those can have pages in the kernel that we have not seen, because the kernel
/// writes them out before it releases a handle.
#[derive(Default)]
pub(super) struct Writers {
    handles: Mutex<HashMap<Ino, u32>>,
    /// There may be handles that another daemon gave.
    inherited: bool,
}

impl Writers {
    /// For a mount that another daemon served before: any file may be open for writing.
    pub(super) fn inherited() -> Self {
        Self { handles: Mutex::default(), inherited: true }
    }

    pub(super) fn opened(&self, ino: Ino) {
        *self.handles.lock().entry(ino).or_default() += 1;
    }

    pub(super) fn released(&self, ino: Ino) {
        let mut handles = self.handles.lock();
        if let Some(count) = handles.get_mut(&ino) {
            *count -= 1;
            if *count == 0 {
                handles.remove(&ino);
            }
        }
    }

    pub(super) fn any(&self, ino: Ino) -> bool {
        self.inherited || self.handles.lock().contains_key(&ino)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_writers_until_the_last_handle_is_released() {
        let writers = Writers::default();
        writers.opened(Ino(20));
        writers.opened(Ino(20));
        writers.released(Ino(20));
        assert!(writers.any(Ino(20)));
        writers.released(Ino(20));
        assert!(!writers.any(Ino(20)));
        writers.released(Ino(20));
        assert!(!writers.any(Ino(20)));
    }

    #[test]
    fn after_another_daemon_every_file_may_have_writers() {
        let writers = Writers::inherited();
        assert!(writers.any(Ino(20)));
        writers.opened(Ino(20));
        writers.released(Ino(20));
        writers.released(Ino(20));
        assert!(writers.any(Ino(20)));
    }

    #[test]
    fn an_unlinked_inode_is_given_up_once() {
        let unlinked = Unlinked::default();
        unlinked.add(Ino(20));
        unlinked.add(Ino(20));
        assert!(unlinked.contains(Ino(20)));
        assert!(unlinked.remove(Ino(20)));
        assert!(!unlinked.remove(Ino(20)));
    }
}
