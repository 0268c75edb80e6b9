//! Which rows are alike: rows that a placement model need not be asked about twice.
//!
//! A prediction chooses a class that is two units of log2 wide, so it does not pay to tell apart rows that differ by a fraction of
//! that. [`LikenessMask::of`] rounds each feature to a step and hashes the result: rows with the same [`Likeness`] share an answer. What the
//! model does not read is left out, so that it cannot part rows either.

use super::placement::{PLACEMENT, PlacementRow};

/// A hash of a rounded row. Different rows share one by chance as rarely as 64 bits allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Likeness(pub u64);

/// Steps to which the features are rounded, in the order of [`PLACEMENT`]. What says most about a block's lifetime, its own interval, is
/// rounded to half a class; what only corrects it more coarsely. Finer steps than these gain nothing in the simulator and ask more.
const STEPS: [f32; PLACEMENT.len()] =
    [2.0, 1.0, 0.5, 2.0, 1.0, 1.0, 1.0, 2.0, 0.5, 1.0, 0.125, 2.0, 4.0, 2.0, 4.0, 4.0];

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

    /// What the row is like.
    pub fn of(self, row: &PlacementRow) -> Likeness {
        let mut hash = u64::from(self.0) + 1;
        for (at, (value, step)) in row.iter().zip(STEPS).enumerate() {
            if self.0 & (1 << at) != 0 {
                // Not a number rounds to 0, what is out of range saturates.
                let rounded = (value / step).round() as i32 as u32;
                hash = (hash ^ u64::from(rounded)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
                hash ^= hash >> 29;
            }
        }
        Likeness(hash.wrapping_mul(0xd6e8_feb8_6659_fd93) ^ (hash >> 32))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::placement::{Learned, NoSeparation, Placement};
    use crate::train::{Mlp, evaluation_scenes};
    use crate::{sim, victim};

    #[test]
    fn what_differs_by_less_than_a_step_or_is_not_read_is_alike() {
        let row: PlacementRow = std::array::from_fn(|n| n as f32);
        let mut near = row;
        near[0] += 0.4;
        near[7] += 0.1;
        assert_eq!(LikenessMask::ALL.of(&row), LikenessMask::ALL.of(&near));
        near[0] += 1.0;
        assert_ne!(LikenessMask::ALL.of(&row), LikenessMask::ALL.of(&near));
        let some = LikenessMask::reading(["age", "position", "no such feature"]);
        assert_eq!(some.of(&row), some.of(&near));
        assert_eq!(some.bits().count_ones(), 2);
        assert_ne!(some.of(&row), LikenessMask::ALL.of(&row));
        let _ = LikenessMask::ALL.of(&[f32::NAN; PLACEMENT.len()]);
    }

    /// The shipped model, asked once about rows that are alike.
    #[test]
    fn answers_shared_by_like_rows_keep_the_models_gain() {
        let bytes = include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/../models/first.onnx"));
        let mlp = Mlp::from_onnx(bytes).expect("the shipped model is one of ours").0;
        for scene in evaluation_scenes(8192).iter().filter(|s| ["zipf 0.99", "files"].contains(&s.name.as_str())) {
            let wa = |placement: &mut dyn Placement| {
                let mut selection = victim::by_name("cost-age").expect("a known name");
                let n = u64::from(scene.blocks);
                sim::run(scene.geometry, scene.load(7).as_mut(), placement, selection.as_mut(), 10 * n, 5 * n).wa()
            };
            let (mut exact, mut asked) = (Learned::new(mlp.clone()), HashMap::new());
            let mut model = mlp.clone();
            let mut shared = Learned::new(|row: &PlacementRow| {
                let like = LikenessMask::ALL.of(row);
                *asked.entry(like).or_insert_with(|| crate::placement::LifetimeModel::predict(&mut model, row))
            });
            let (none, exact, shared) = (wa(&mut NoSeparation), wa(&mut exact), wa(&mut shared));
            let kinds = asked.len();
            eprintln!("{}: none {none:.3} exact {exact:.3} shared {shared:.3}, {kinds} kinds of rows", scene.name);
            assert!(shared - exact < 0.1 * (none - exact), "{}: {shared} for {exact}", scene.name);
            assert!(kinds < 1 << 14, "{kinds} kinds of rows");
        }
    }
}
