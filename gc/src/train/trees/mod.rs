//! Gradient-boosted regression trees: what a volume's own load is learnt with, since they are fitted in a fraction of a second.

mod fit;
mod onnx;

pub use fit::{TreeOptions, fit_trees};

use crate::features::PlacementRow;
use crate::placement::LifetimeModel;

/// A node of a tree: an inner one sends rows on, a leaf adds its value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Node {
    /// `None`: a leaf.
    pub split: Option<Split>,
    pub value: f32,
}

/// Rows whose feature is at most the threshold go to the first child.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Split {
    pub feature: u16,
    pub threshold: f32,
    pub children: [u16; 2],
}

/// The sum of some trees and a constant.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Trees {
    pub base: f32,
    pub trees: Vec<Vec<Node>>,
}

impl Trees {
    /// The answer for one row.
    pub fn predict(&self, row: &[f32]) -> f32 {
        self.base
            + self
                .trees
                .iter()
                .map(|tree| answer(tree, |split| row[usize::from(split.feature)] <= split.threshold))
                .sum::<f32>()
    }

    /// The same with every answer `y` made `y * factor + shift`.
    pub fn rescaled(mut self, factor: f32, shift: f32) -> Self {
        self.base = self.base * factor + shift;
        self.trees.iter_mut().flatten().for_each(|node| node.value *= factor);
        self
    }

    /// The same constant without any tree.
    pub fn constant(&self) -> Self {
        Self { trees: Vec::new(), ..*self }
    }
}

impl LifetimeModel for Trees {
    fn predict(&mut self, row: &PlacementRow) -> f32 {
        Trees::predict(self, row)
    }
}

fn answer(tree: &[Node], goes_first: impl Fn(&Split) -> bool) -> f32 {
    let mut node = &tree[0];
    while let Some(split) = &node.split {
        node = &tree[usize::from(split.children[usize::from(!goes_first(split))])];
    }
    node.value
}
