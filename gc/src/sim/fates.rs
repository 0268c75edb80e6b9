//! Records samples for training victim models: what a policy saw of a segment when a victim was chosen, and how many of its blocks soon died.
//!
//! Blocks are followed and not segments: what is live at the decision counts as dead when users have written or discarded it since, wherever the cleaner
//! has put it meanwhile.

use std::collections::VecDeque;

use super::rng::Rng;
use crate::features::{VictimContext, VictimRow};
use crate::index::UtilizationIndex;
use crate::victim;

/// A segment at a decision, and what became of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fate {
    /// Write clock of the decision.
    pub clock: u64,
    pub row: VictimRow,
    pub live: u32,
    pub capacity: u32,
    /// Of the live blocks those that died within the horizon; what the load lets expect, if it knows.
    pub died: f32,
}

#[derive(Debug)]
struct Watch {
    fate: Fate,
    until: u64,
    blocks: Vec<u32>,
}

/// Watches some candidates of every decision until the horizon has passed.
#[derive(Debug)]
pub struct FateRecorder {
    rng: Rng,
    horizon: f64,
    per_decision: f64,
    mean_intervals: Vec<f64>,
    watches: VecDeque<Watch>,
    fates: Vec<Fate>,
}

impl FateRecorder {
    /// Watches `per_decision` candidates on average, each until users have written `horizon` times as many blocks as are live.
    pub fn new(horizon: f64, per_decision: f64, seed: u64) -> Self {
        Self {
            rng: Rng::new(seed),
            horizon,
            per_decision,
            mean_intervals: Vec::new(),
            watches: VecDeque::new(),
            fates: Vec::new(),
        }
    }

    /// Takes what the load says of its blocks for what came of them, as [`super::Recorder::knowing`] does.
    pub fn knowing(self, mean_intervals: Vec<f64>) -> Self {
        Self { mean_intervals, ..self }
    }

    /// What is known by now. Segments whose horizon has not passed are left out.
    pub fn finish(self) -> Vec<Fate> {
        self.fates
    }

    /// A victim is about to be chosen; `live_in` lists the live blocks of a segment.
    pub(super) fn decision(
        &mut self,
        index: &UtilizationIndex,
        context: &VictimContext,
        live_in: impl Fn(u32) -> Vec<u32>,
    ) {
        let share = self.per_decision / victim::rows(index, context).count().max(1) as f64;
        let writes = (self.horizon * context.live_blocks as f64).max(1.0);
        for (s, row) in victim::rows(index, context) {
            if !self.rng.chance(share) {
                continue;
            }
            let mut fate = Fate { clock: context.now, row, live: s.live, capacity: s.capacity, died: 0.0 };
            let blocks = live_in(s.seg);
            if self.mean_intervals.is_empty() {
                let until = context.now + writes as u64;
                self.watches.push_back(Watch { fate, until, blocks });
            } else {
                let dies = |block: &u32| -(-writes / self.mean_intervals[*block as usize]).exp_m1();
                fate.died = blocks.iter().map(dies).sum::<f64>() as f32;
                self.fates.push(fate);
            }
        }
    }

    /// Counts what died of the segments whose horizon has passed; `lives_since` tells whether a block is still what it was at a time.
    pub(super) fn settle(&mut self, now: u64, lives_since: impl Fn(u32, u64) -> bool) {
        while self.watches.front().is_some_and(|w| w.until <= now) {
            let Some(w) = self.watches.pop_front() else { return };
            let died = w.blocks.iter().filter(|&&block| !lives_since(block, w.fate.clock)).count() as f32;
            self.fates.push(Fate { died, ..w.fate });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::segment::SegmentFacts;

    #[test]
    fn blocks_that_die_within_the_horizon_count_and_later_ones_do_not() {
        let mut index = UtilizationIndex::new(1, 8);
        index.insert(SegmentFacts { seg: 0, live: 4, capacity: 8, ..Default::default() });
        let context = VictimContext { now: 100, live_blocks: 400, free_share: 0.0 };
        let mut r = FateRecorder::new(0.25, 10.0, 1);
        r.decision(&index, &context, |_| vec![1, 2, 3, 4]);
        r.settle(199, |_, _| panic!("the horizon has not passed"));
        // Written anew at 50, 100 and 150; the fourth was discarded.
        let born = [0u64, 50, 100, 150];
        r.settle(200, |block, since| block < 4 && born[block as usize] < since);
        let mut known = FateRecorder::new(0.25, 10.0, 1).knowing(vec![100.0; 5]);
        known.decision(&index, &context, |_| vec![1, 2, 3, 4]);
        let (seen, known) = (r.finish(), known.finish());
        assert_eq!((seen[0].live, seen[0].capacity, seen[0].died), (4, 8, 3.0));
        assert!((known[0].died - 4.0 * (1.0 - (-1f32).exp())).abs() < 1e-4);
        assert_eq!(seen[0].row, known[0].row);
    }
}
