//! What is learnt from: every write, move and discard as it happens, in order.

use super::FITS;
use super::watched::{Lesson, Watched};
use crate::features::PlacementRow;
use crate::features::history::History;
use crate::placement::{DiscardFacts, MoveFacts, Opinions, WriteFacts};

/// See the module.
#[derive(Debug)]
pub struct Pupil {
    history: History,
    watched: Watched,
    next_fit: u64,
    live_blocks: u64,
}

impl Pupil {
    pub fn new(seed: u64) -> Self {
        Self { history: History::default(), watched: Watched::new(seed), next_fit: 0, live_blocks: 1 }
    }

    /// A user writes; `opinions` are what model and rule chose. The row that they saw.
    pub fn user_write(&mut self, w: &WriteFacts, opinions: Opinions) -> PlacementRow {
        self.live_blocks = w.live_blocks.max(1);
        self.died(w.ino, w.first_block, w.blocks.into(), w.now);
        let row = self.history.user_row(w);
        self.watched.written((w.ino, w.first_block), w.blocks.max(1), &row, opinions, w.now, self.live_blocks);
        row
    }

    /// The cleaner moves blocks.
    pub fn cleaning_write(&mut self, m: &MoveFacts, opinions: Opinions) -> PlacementRow {
        let row = self.history.cleaning_row(m);
        self.watched.written((m.ino, m.first_block), m.blocks.max(1), &row, opinions, m.now, self.live_blocks);
        row
    }

    /// Blocks are no longer used.
    pub fn discarded(&mut self, d: &DiscardFacts) {
        self.history.discarded(d);
        self.died(d.ino, d.first_block, d.blocks, d.now);
    }

    /// Something happened that nobody told of: what is being watched may be dead already.
    pub fn missed(&mut self) {
        self.watched.forget_living();
    }

    /// Whether so much was written since this was so last that it is worth fitting anew.
    pub fn is_due(&mut self, now: u64) -> bool {
        let due = now >= self.next_fit;
        if due {
            self.next_fit = now + (self.live_blocks / FITS).max(1);
        }
        due
    }

    /// What a model may be fitted to or examined on.
    pub fn lessons(&mut self, now: u64) -> Vec<Lesson> {
        self.watched.lessons(now, self.live_blocks)
    }

    /// Memory held at most, about.
    pub fn bytes(&self) -> usize {
        size_of_val(self) + self.history.bytes() + Watched::bytes_max()
    }

    fn died(&mut self, ino: u64, first_block: u64, blocks: u64, now: u64) {
        self.watched.died_between((ino, first_block), blocks, now, self.live_blocks);
    }
}
