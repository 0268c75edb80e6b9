//! Victims by a model's estimate of what cleaning is worth.
//!
//! The model is anything that turns a [`VictimRow`] into a number, larger for what is better cleaned first. It is asked about the index's
//! candidates alone, which are the oldest of their utilization, so nothing depends on its answers growing with age. A mount and
//! the simulator make rows in the same way, here: facts of the segment and of the volume, without predictions for single blocks.

use std::cell::RefCell;

use super::{CANDIDATES_PER_BUCKET, VictimPolicy};
use crate::features::{VictimContext, VictimRow};
use crate::index::UtilizationIndex;
use crate::segment::SegmentFacts;

/// A function from features to the benefit of cleaning now, on any scale; larger is better.
pub trait WorthModel: Send {
    fn worth(&mut self, row: &VictimRow) -> f32;

    /// The same for all candidates of a decision, for models that are cheaper to ask about many rows at once.
    fn worths(&mut self, rows: &[VictimRow], worths: &mut Vec<f32>) {
        worths.clear();
        worths.extend(rows.iter().map(|row| self.worth(row)));
    }
}

impl<F: FnMut(&VictimRow) -> f32 + Send> WorthModel for F {
    fn worth(&mut self, row: &VictimRow) -> f32 {
        self(row)
    }
}

/// The segments that a model is asked about, each with its row. Allocates nothing.
pub fn rows<'a>(
    index: &'a UtilizationIndex,
    context: &'a VictimContext,
) -> impl Iterator<Item = (SegmentFacts, VictimRow)> + 'a {
    index.candidates(CANDIDATES_PER_BUCKET).map(|s| (s, context.row(&s, None)))
}

/// The candidate that the model finds worth most. The volume must be made known before each decision ([`VictimPolicy::tell`]).
#[derive(Debug)]
pub struct Learned<M> {
    /// Scores are asked of a shared reference, and a model may remember.
    model: RefCell<M>,
    volume: VictimContext,
    /// The candidates of a decision, their rows and what they are worth; kept for their memory alone.
    candidates: Vec<SegmentFacts>,
    rows: Vec<VictimRow>,
    worths: Vec<f32>,
}

impl<M: WorthModel> Learned<M> {
    pub fn new(model: M) -> Self {
        let (candidates, rows, worths) = Default::default();
        Self { model: RefCell::new(model), volume: VictimContext::default(), candidates, rows, worths }
    }
}

impl<M: WorthModel> VictimPolicy for Learned<M> {
    fn name(&self) -> &'static str {
        "learned"
    }

    fn tell(&mut self, volume: &VictimContext) {
        self.volume = *volume;
    }

    fn score(&self, s: &SegmentFacts, now: u64) -> f64 {
        let row = VictimContext { now, ..self.volume }.row(s, None);
        f64::from(self.model.borrow_mut().worth(&row))
    }

    /// The emptiest if the model has no number for any.
    fn choose(&mut self, index: &UtilizationIndex, now: u64) -> Option<SegmentFacts> {
        let volume = VictimContext { now, ..self.volume };
        self.candidates.clear();
        self.rows.clear();
        for (candidate, row) in rows(index, &volume) {
            self.candidates.push(candidate);
            self.rows.push(row);
        }
        self.model.get_mut().worths(&self.rows, &mut self.worths);
        let scored = self.worths.iter().zip(&self.candidates).filter(|(worth, _)| !worth.is_nan());
        let best = scored.max_by(|a, b| a.0.total_cmp(b.0));
        best.map(|(_, s)| *s).or_else(|| index.emptiest())
    }

    /// Without what the model holds.
    fn bytes(&self) -> usize {
        let candidate = size_of::<SegmentFacts>() + size_of::<VictimRow>() + size_of::<f32>();
        size_of_val(self) + self.candidates.capacity() * candidate
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::features::VictimFeature::{Age, FreeSegments, Utilization};

    fn index() -> UtilizationIndex {
        let mut index = UtilizationIndex::new(4, 100);
        for (seg, live, seal_clock) in [(0, 100, 0), (1, 80, 10), (2, 40, 900), (3, 20, 990)] {
            index.insert(SegmentFacts { seg, live, capacity: 100, seal_clock, ..Default::default() });
        }
        index
    }

    #[test]
    fn the_worthiest_goes_first_and_full_ones_and_nonsense_never() {
        let choice = |model: fn(&VictimRow) -> f32| {
            let mut policy = Learned::new(model);
            policy.tell(&VictimContext { now: 0, live_blocks: 1000, free_share: 0.5 });
            policy.choose(&index(), 1000).map(|s| s.seg)
        };
        assert_eq!(choice(|row| row[Age as usize]), Some(1));
        assert_eq!(choice(|row| row[Utilization as usize]), Some(1));
        assert_eq!(choice(|row| -row[Utilization as usize]), Some(3));
        assert_eq!(choice(|row| if row[Utilization as usize] == 0.4 { 0.0 } else { f32::NAN }), Some(2));
        assert_eq!(choice(|_| f32::NAN), Some(3), "what is not known goes by the emptiest");
    }

    #[test]
    fn the_model_sees_the_volume_and_scores_as_it_chooses() {
        let mut policy = Learned::new(|row: &VictimRow| row[FreeSegments as usize] + row[Age as usize]);
        policy.tell(&VictimContext { now: 0, live_blocks: 495, free_share: 0.25 });
        let oldest = SegmentFacts { seg: 1, live: 80, capacity: 100, seal_clock: 10, ..Default::default() };
        assert_eq!(policy.score(&oldest, 1000), 1.25);
        assert_eq!(policy.choose(&index(), 1000), Some(oldest));
    }
}
