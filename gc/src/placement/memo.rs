//! What a model has said of rows: it is asked once about all that are alike, as a mount does.

use std::collections::HashMap;

use super::LifetimeModel;
use crate::features::{Likeness, LikenessMask, PlacementRow};

/// Answers in each of the two halves: as many as a mount remembers in all.
const ANSWERS_MAX: usize = 1 << 16;

/// A model and its answers by the [`Likeness`] of rounded rows. Bounded: of the answers those are forgotten that were not asked for since the newer half
/// filled up.
#[derive(Debug)]
pub struct Memo<M> {
    model: M,
    mask: LikenessMask,
    newer: HashMap<Likeness, f32>,
    older: HashMap<Likeness, f32>,
}

impl<M> Memo<M> {
    /// `mask` names what the model reads: nothing else may part rows.
    pub fn new(model: M, mask: LikenessMask) -> Self {
        Self { model, mask, newer: HashMap::new(), older: HashMap::new() }
    }

    fn keep(&mut self, like: Likeness, answer: f32) {
        if self.newer.len() == ANSWERS_MAX {
            self.older = std::mem::take(&mut self.newer);
        }
        self.newer.insert(like, answer);
    }
}

impl<M: Clone> Clone for Memo<M> {
    /// The model with nothing remembered yet.
    fn clone(&self) -> Self {
        Self::new(self.model.clone(), self.mask)
    }
}

impl<M: LifetimeModel> LifetimeModel for Memo<M> {
    fn predict(&mut self, row: &PlacementRow) -> f32 {
        let like = self.mask.of(row);
        if let Some(answer) = self.newer.get(&like) {
            return *answer;
        }
        let answer = self.older.get(&like).copied().unwrap_or_else(|| self.model.predict(row));
        self.keep(like, answer);
        answer
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::features::PlacementFeature::{Age, Position};

    #[test]
    fn a_model_is_asked_once_about_what_it_sees_alike_and_little_is_kept() {
        let mut asked = 0;
        let model = |row: &PlacementRow| {
            asked += 1;
            row[Age as usize]
        };
        let mut memo = Memo::new(model, LikenessMask::reading(["age"]));
        let row = |age: usize, position: f32| {
            let mut row = PlacementRow::default();
            (row[Age as usize], row[Position as usize]) = (age as f32, position);
            row
        };
        for n in 0..3 * ANSWERS_MAX {
            assert_eq!(memo.predict(&row(n, 0.0)), n as f32);
            assert_eq!(memo.predict(&row(n, 0.5)), n as f32, "the position is not read");
            assert_eq!(memo.predict(&row(7, 0.0)), 7.0, "what is asked for again is kept");
        }
        assert!(memo.newer.len() + memo.older.len() <= 2 * ANSWERS_MAX);
        assert_eq!(asked, 3 * ANSWERS_MAX);
    }
}
