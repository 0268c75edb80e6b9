//! Copies of a model that know nothing, for control experiments: what such a one gains, no model has earned.
//!
//! A copy whose weights are shuffled is no control: any function of the features that varies puts like with like, and so separates
//! a little, whatever it was meant to say. Rows must get the answers of other rows. Even then something is gained over one head: several heads
//! filled at random but unequal rates separate by themselves, because what is hot dies while a slow head's segment is still open, and what is
//! sealed there is cold. So a control is compared with the model, not only with one head.

use super::fit::{FitOptions, fit};
use super::mlp::Mlp;
use super::onnx::{ModelInfo, RowOrder, encode};
use crate::features::{PlacementRow, VictimRow};
use crate::placement::LifetimeModel;
use crate::sim::Sample;
use crate::sim::rng::Rng;
use crate::victim::WorthModel;

/// A model whose rows get each other's answers, in the reverse order of the batch. The answers are spread as the model's are; a batch of one
/// row gets its own.
pub fn shuffled_rows_onnx(mlp: &Mlp, info: &ModelInfo) -> Vec<u8> {
    encode(mlp, info, RowOrder::Reversed)
}

/// A model that answers the same for every row.
pub fn constant_onnx(mlp: &Mlp, info: &ModelInfo) -> Vec<u8> {
    encode(&mlp.constant(), info, RowOrder::Kept)
}

/// A network fitted to labels that were dealt to the wrong rows.
pub fn shuffled_labels<const W: usize>(samples: &[Sample<W>], options: &FitOptions, seed: u64) -> Mlp {
    let mut labels: Vec<f32> = samples.iter().map(|s| s.label).collect();
    Rng::new(seed).shuffle(&mut labels);
    let dealt: Vec<Sample<W>> = samples.iter().zip(labels).map(|(s, label)| Sample { label, ..*s }).collect();
    fit(&dealt, options, seed)
}

/// The simulator's counterpart of [`shuffled_rows_onnx`], where rows come one by one: each gets the answer of one of the 65536 before
/// it. Fewer would not do: the blocks of a victim come in a row and are alike, so that their answers told something even when dealt anew.
#[derive(Debug)]
pub struct ShuffledRows<M = Mlp> {
    model: M,
    rng: Rng,
    answers: Vec<f32>,
}

const ROWS: usize = 1 << 16;

impl<M> ShuffledRows<M> {
    pub fn new(model: M, seed: u64) -> Self {
        Self { model, rng: Rng::new(seed), answers: Vec::with_capacity(ROWS) }
    }

    /// Keeps an answer and gives away another; its own as long as there are too few.
    fn deal(&mut self, answer: f32) -> f32 {
        if self.answers.len() < ROWS {
            self.answers.push(answer);
            return answer;
        }
        let other = self.rng.below(ROWS as u32) as usize;
        std::mem::replace(&mut self.answers[other], answer)
    }
}

impl<M: LifetimeModel> LifetimeModel for ShuffledRows<M> {
    fn predict(&mut self, row: &PlacementRow) -> f32 {
        let answer = self.model.predict(row);
        self.deal(answer)
    }
}

impl<M: WorthModel> WorthModel for ShuffledRows<M> {
    fn worth(&mut self, row: &VictimRow) -> f32 {
        let answer = self.model.worth(row);
        self.deal(answer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::features::PLACEMENT;
    use crate::train::NETWORK_FEATURES;

    #[test]
    fn a_constant_answers_alike() {
        let mlp = Mlp::random(&[NETWORK_FEATURES, 4, 1], &mut Rng::new(1));
        let constant =
            Mlp::from_onnx(&constant_onnx(&mlp, &ModelInfo::placement("c"))).map(|(m, _)| m).expect("a plain chain");
        assert_eq!(constant.predict(&[1.0; PLACEMENT.len()]), constant.predict(&[-3.0; PLACEMENT.len()]));
        assert_ne!(mlp.predict(&[1.0; PLACEMENT.len()]), mlp.predict(&[-3.0; PLACEMENT.len()]));
    }

    #[test]
    fn shuffled_answers_are_the_models_own_but_not_the_rows() {
        let mlp = Mlp::random(&[NETWORK_FEATURES, 4, 1], &mut Rng::new(1));
        let mut shuffled = ShuffledRows::new(mlp.clone(), 2);
        let mut rng = Rng::new(3);
        let (mut given, mut right, mut own) = (Vec::new(), 0, Vec::new());
        for _ in 0..100_000 {
            let mut row = PlacementRow::default();
            row.iter_mut().for_each(|x| *x = rng.normal());
            let answer = shuffled.predict(&row);
            right += usize::from(answer == mlp.predict(&row));
            given.push(answer);
            own.push(mlp.predict(&row));
        }
        assert!(right < ROWS + 1000, "{right}");
        let mean = |v: &[f32]| v.iter().sum::<f32>() / v.len() as f32;
        assert!((mean(&given) - mean(&own)).abs() < 0.1);
        assert!(Mlp::from_onnx(&shuffled_rows_onnx(&mlp, &ModelInfo::placement("s"))).is_err(), "it is no plain chain");
    }
}
