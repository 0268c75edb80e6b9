//! Which rows are alike: rows that a placement model need not be asked about twice.
//!
//! [`rounded`] rounds each feature to a step; rows that are the same then share a [`Likeness`] and an answer, which is the answer to the rounded row. What the
//! model does not read is left out, so that it cannot part rows either. The simulator and the trainer round in the same way, so that what is
//! fitted and judged there is what a mount does: a model that was fitted to exact rows loses up to a tenth of its gain by rounding.

use super::placement::{PLACEMENT, PlacementRow};

/// A hash of a rounded row. Different rows share one by chance as rarely as 64 bits allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Likeness(pub u64);

/// Steps to which the features are rounded, in the order of [`PLACEMENT`]: what says most about a block's lifetime to a quarter of a class, what only
/// corrects it more coarsely. Every finer step multiplies the rows that are asked about.
const STEPS: [f32; PLACEMENT.len()] =
    [2.0, 1.0, 0.5, 1.0, 1.0, 1.0, 1.0, 2.0, 0.5, 1.0, 2.0, 2.0, 2.0, 2.0, 2.0, 1.0, 2.0, 2.0, 2.0];

/// The row that stands for all that are like it. What is not a number becomes 0.
pub fn rounded(row: &PlacementRow) -> PlacementRow {
    let mut row = *row;
    for ((value, step), feature) in row.iter_mut().zip(STEPS).zip(&PLACEMENT) {
        let nearest = (*value / step).round() * step;
        *value = if nearest.is_nan() { 0.0 } else { nearest.clamp(feature.range[0], feature.range[1]) };
    }
    row
}

/// The features that count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LikenessMask(u32);

impl LikenessMask {
    /// All of them.
    pub const ALL: Self = Self((1 << PLACEMENT.len()) - 1);

    /// Those that a model reads; names that are unknown do not count.
    pub fn reading<'n>(names: impl IntoIterator<Item = &'n str>) -> Self {
        let bit = |name: &str| PLACEMENT.iter().position(|f| f.name == name).map_or(0, |at| 1 << at);
        Self(names.into_iter().map(bit).fold(0, |mask, bit| mask | bit))
    }

    pub fn bits(self) -> u32 {
        self.0
    }

    pub fn from_bits(bits: u32) -> Self {
        Self(bits & Self::ALL.0)
    }

    /// What a row is like that has been [`rounded`].
    pub fn of(self, rounded: &PlacementRow) -> Likeness {
        let mut hash = u64::from(self.0) + 1;
        for (at, value) in rounded.iter().enumerate() {
            if self.0 & (1 << at) != 0 {
                // Adding 0 makes one zero of the two.
                hash = (hash ^ u64::from((value + 0.0).to_bits())).wrapping_mul(0x9e37_79b9_7f4a_7c15);
                hash ^= hash >> 29;
            }
        }
        Likeness(hash.wrapping_mul(0xd6e8_feb8_6659_fd93) ^ (hash >> 32))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::placement::{Learned, NoSeparation, Placement};
    use crate::train::{Mlp, evaluation_scenes};
    use crate::{sim, victim};

    fn like(row: &PlacementRow) -> Likeness {
        LikenessMask::ALL.of(&rounded(row))
    }

    #[test]
    fn what_differs_by_less_than_a_step_or_is_not_read_is_alike() {
        let row: PlacementRow = std::array::from_fn(|_| 0.0);
        let mut near = row;
        near[0] += 0.4;
        near[8] += 0.1;
        assert_eq!(like(&row), like(&near));
        near[0] += 1.0;
        assert_ne!(like(&row), like(&near));
        let some = LikenessMask::reading(["age", "position", "no such feature"]);
        assert_eq!(some.of(&rounded(&row)), some.of(&rounded(&near)));
        assert_eq!(some.bits().count_ones(), 2);
        assert_ne!(some.of(&row), LikenessMask::ALL.of(&row));
        assert_eq!(rounded(&[f32::NAN; PLACEMENT.len()]), row);
    }

    /// What is unknown stays unknown, and a rounded row is its own.
    #[test]
    fn rounding_stays_in_range_and_is_done_once() {
        let unknown: PlacementRow = std::array::from_fn(|n| PLACEMENT[n].range[1]);
        assert_eq!(rounded(&unknown), unknown);
        let low: PlacementRow = std::array::from_fn(|n| PLACEMENT[n].range[0] + 0.3);
        assert_eq!(rounded(&rounded(&low)), rounded(&low));
    }

    /// The shipped model, asked once about rows that are alike.
    #[test]
    fn a_few_thousand_answers_serve_a_volume() {
        let bytes = include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/../models/first.onnx"));
        let mlp = Mlp::from_onnx(bytes).expect("the shipped model is one of ours").0;
        for scene in evaluation_scenes(8192).iter().filter(|s| ["zipf 0.99", "files"].contains(&s.name.as_str())) {
            let wa = |placement: &mut dyn Placement| {
                let mut selection = victim::by_name("cost-age-class").expect("a known name");
                let n = u64::from(scene.blocks);
                sim::run(scene.geometry, scene.load(7).as_mut(), placement, selection.as_mut(), 10 * n, 5 * n).wa()
            };
            let none = wa(&mut NoSeparation);
            let mut asked = HashSet::new();
            let model = wa(&mut Learned::new(|row: &PlacementRow| {
                asked.insert(LikenessMask::ALL.of(row));
                mlp.predict(row)
            }));
            let kinds = asked.len();
            assert!(model < 0.7 * none && kinds < 1 << 15, "{}: {model} for {none}, {kinds} kinds of rows", scene.name);
        }
    }
}
