//! What happened to the sampled blocks: a bounded list, filled on the path of writes and emptied by the proxy's thread, which tells the ghost.
//!
//! Whoever writes never waits and never allocates: what finds the list full, or held by the other side, is counted as lost.

use std::sync::atomic::{AtomicU64, Ordering};

use gleanfs_gc::ghost::{Sampler, Seen};
use gleanfs_gc::placement::{DiscardFacts, WriteFacts};
use parking_lot::Mutex;

use crate::types::BLOCK_SIZE;

/// Most that waits: 640 KiB, a look's worth of a fast disk.
const WAITING_MAX: usize = 16_384;

/// The list.
pub struct Sampled {
    sampler: Sampler,
    waiting: Mutex<Vec<Seen>>,
    lost: AtomicU64,
}

impl Sampled {
    pub fn new(sampler: Sampler) -> Self {
        Self { sampler, waiting: Mutex::new(Self::spare()), lost: AtomicU64::new(0) }
    }

    /// A list for [`Sampled::take`] to swap in.
    pub fn spare() -> Vec<Seen> {
        Vec::with_capacity(WAITING_MAX)
    }

    pub fn sampler(&self) -> Sampler {
        self.sampler
    }

    /// A user writes.
    pub fn written(&self, w: &WriteFacts) {
        let blocks = self.sampler.sampled(w.ino, w.first_block, u64::from(w.blocks.max(1)));
        self.push(blocks.map(|block| Seen::Written {
            ino: w.ino,
            block,
            request_blocks: w.blocks,
            append: w.append,
            file_blocks: w.file_size_bytes / BLOCK_SIZE as u64,
        }));
    }

    pub fn discarded(&self, d: &DiscardFacts) {
        if self.sampler.concerns(d.ino, d.first_block, d.blocks) {
            self.push(std::iter::once(Seen::Discarded { ino: d.ino, block: d.first_block, blocks: d.blocks }));
        }
    }

    fn push(&self, seen: impl Iterator<Item = Seen>) {
        let mut seen = seen.peekable();
        if seen.peek().is_none() {
            return;
        }
        let mut lost = 0;
        match self.waiting.try_lock() {
            Some(mut waiting) => {
                let room = WAITING_MAX - waiting.len();
                waiting.extend(seen.by_ref().take(room));
                lost += seen.count();
            }
            None => lost += seen.count(),
        }
        if lost > 0 {
            self.lost.fetch_add(lost as u64, Ordering::Relaxed);
        }
    }

    /// Swaps what waits into `taken`, which must be empty. Answers with how many were lost since the last call.
    pub fn take(&self, taken: &mut Vec<Seen>) -> u64 {
        std::mem::swap(&mut *self.waiting.lock(), taken);
        self.lost.swap(0, Ordering::Relaxed)
    }
}
