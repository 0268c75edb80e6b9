//! Locks for file contents, striped over inodes.
//!
//! Shared: writes of whole blocks inside the file. Exclusive: all that reads before it writes, or changes the size.
//! Nobody holds two of them at once, and they come before any lock of the volume.

use crate::lock_order::{Place, ReadGuard, RwLock, WriteGuard};
use crate::types::Ino;

const STRIPES: usize = 256;

/// The locks of all inodes.
#[derive(Debug)]
pub struct InodeLocks {
    stripes: Box<[RwLock<()>]>,
}

impl InodeLocks {
    pub fn new() -> Self {
        Self { stripes: (0..STRIPES).map(|_| RwLock::new(Place::Contents, ())).collect() }
    }

    fn stripe(&self, ino: Ino) -> &RwLock<()> {
        // Fibonacci hashing: neighbours fall on different stripes, and so do steps of any power of two.
        let spread = ino.0.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56;
        &self.stripes[spread as usize % STRIPES]
    }

    pub fn shared(&self, ino: Ino) -> ReadGuard<'_, ()> {
        self.stripe(ino).read()
    }

    pub fn exclusive(&self, ino: Ino) -> WriteGuard<'_, ()> {
        self.stripe(ino).write()
    }
}
