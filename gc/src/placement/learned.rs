//! Placement by a model's prediction of residual lifetime.
//!
//! The model is anything that turns a feature row into `log2(residual lifetime / live blocks)`; the simulator gives it a network, evaluated
//! in place, and asked about rounded rows, as on a mount. State: the history of regions and files, 512 KiB.

use super::{DiscardFacts, FileClasses, LIFETIME_CLASSES, MoveFacts, Placement, WriteFacts, lifetime_class};
use crate::features::history::History;
use crate::features::{PlacementRow, rounded};

/// A function from features to the log2 of the residual lifetime as a share of the live blocks.
pub trait LifetimeModel: Send {
    fn predict(&mut self, row: &PlacementRow) -> f32;
}

impl<F: FnMut(&PlacementRow) -> f32 + Send> LifetimeModel for F {
    fn predict(&mut self, row: &PlacementRow) -> f32 {
        self(row)
    }
}

/// Six geometric classes of predicted lifetime.
#[derive(Debug)]
pub struct Learned<M> {
    model: M,
    history: History,
    files: Option<FileClasses>,
}

impl<M: LifetimeModel> Learned<M> {
    pub fn new(model: M) -> Self {
        Self { model, history: History::default(), files: None }
    }

    /// Keeps new blocks of a file together, as a mount does.
    pub fn with_whole_files(self) -> Self {
        Self { files: Some(FileClasses::default()), ..self }
    }
}

impl<M: LifetimeModel> Placement for Learned<M> {
    fn name(&self) -> &'static str {
        "learned"
    }

    fn classes(&self) -> u8 {
        LIFETIME_CLASSES
    }

    fn has_lifetime_classes(&self) -> bool {
        true
    }

    fn user_write(&mut self, w: &WriteFacts) -> u8 {
        let row = self.history.user_row(w);
        let class = lifetime_class(self.model.predict(&rounded(&row)));
        self.files.as_mut().map_or(class, |files| files.class(w, class))
    }

    fn discarded(&mut self, d: &DiscardFacts) {
        self.history.discarded(d);
    }

    fn cleaning_write(&mut self, m: &MoveFacts) -> u8 {
        lifetime_class(self.model.predict(&rounded(&self.history.cleaning_row(m))))
    }

    /// Without what the model holds.
    fn bytes(&self) -> usize {
        size_of_val(self) + self.history.bytes() + self.files.as_ref().map_or(0, FileClasses::bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_prediction_chooses_the_class_and_nonsense_is_cold() {
        let mut p = Learned::new(|row: &PlacementRow| row[0]);
        let w =
            WriteFacts { now: 1 << 20, live_blocks: 1 << 20, previous: Some((1 << 20) - 1024), ..Default::default() };
        assert_eq!(p.user_write(&w), lifetime_class(-10.0));
        let mut nan = Learned::new(|_: &PlacementRow| f32::NAN);
        assert_eq!(nan.cleaning_write(&MoveFacts::default()), LIFETIME_CLASSES - 1);
    }
}
