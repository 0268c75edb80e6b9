//! Fitting trees.
//!
//! Friedman, "Greedy Function Approximation: A Gradient Boosting Machine" (2001), with squared loss; features in bins and trees that grow leaf by leaf,
//! the best split first, as in LightGBM (Ke et al., NIPS 2017). No chance is involved: the same samples give the same trees.

use std::collections::BinaryHeap;

use super::{Node, Split, Trees};
use crate::sim::Sample;

/// Settings of a fit.
#[derive(Clone, Copy, Debug)]
pub struct TreeOptions {
    pub trees: usize,
    /// Leaves of a tree at most.
    pub leaves: usize,
    /// Share of what a tree would correct that it does correct.
    pub rate: f32,
    /// Samples in a leaf at least.
    pub leaf_samples: usize,
}

impl Default for TreeOptions {
    fn default() -> Self {
        Self { trees: 40, leaves: 31, rate: 0.12, leaf_samples: 20 }
    }
}

/// Values of a feature that are told apart at most.
const BINS: usize = 64;
/// Samples that a leaf is thought to have beside its own, which say nothing: keeps small leaves modest.
const SHRINKAGE: f64 = 10.0;

/// Trees fitted to the samples; without samples the constant 0.
pub fn fit_trees<const W: usize>(samples: &[Sample<W>], options: &TreeOptions) -> Trees {
    let n = samples.len().max(1);
    let base = (samples.iter().map(|s| f64::from(s.label)).sum::<f64>() / n as f64) as f32;
    let mut fitted = Trees { base, trees: Vec::new() };
    if samples.is_empty() {
        return fitted;
    }
    let table = Table::of(samples);
    let mut missing: Vec<f32> = samples.iter().map(|s| s.label - base).collect();
    for _ in 0..options.trees {
        let grown = Grower::new(&table, &missing, options).grow();
        for leaf in &grown.leaves {
            let value = grown.nodes[leaf.node].value;
            grown.order[leaf.from..leaf.to].iter().for_each(|&s| missing[s as usize] -= value);
        }
        if grown.nodes.len() == 1 {
            break;
        }
        fitted.trees.push(grown.nodes);
    }
    fitted
}

/// The samples with every feature in bins.
struct Table {
    /// By feature, the upper bounds of all bins but the last.
    bounds: Vec<Vec<f32>>,
    /// By sample, then by feature.
    bins: Vec<u8>,
    features: usize,
}

impl Table {
    fn of<const W: usize>(samples: &[Sample<W>]) -> Self {
        let bounds: Vec<Vec<f32>> = (0..W).map(|f| bounds(samples.iter().map(|s| s.row[f]).collect())).collect();
        let bin = |s: &Sample<W>, f: usize| bounds[f].partition_point(|bound| *bound < s.row[f]) as u8;
        let bins = samples.iter().flat_map(|s| (0..W).map(move |f| (s, f))).map(|(s, f)| bin(s, f)).collect();
        Self { bounds, bins, features: W }
    }

    fn row(&self, sample: u32) -> &[u8] {
        let at = sample as usize * self.features;
        &self.bins[at..at + self.features]
    }
}

/// Bounds between bins that hold about equally many values; in the middle between two values.
fn bounds(mut values: Vec<f32>) -> Vec<f32> {
    values.sort_unstable_by(f32::total_cmp);
    let mut distinct = values.clone();
    distinct.dedup();
    let middle = |below: f32, above: f32| below + (above - below) / 2.0;
    if distinct.len() <= BINS {
        return distinct.windows(2).map(|pair| middle(pair[0], pair[1])).collect();
    }
    let cuts = (1..BINS).map(|n| values[n * values.len() / BINS]);
    let mut bounds: Vec<f32> = cuts
        .filter_map(|value| {
            let at = distinct.partition_point(|d| *d < value);
            Some(middle(*distinct.get(at.checked_sub(1)?)?, value))
        })
        .collect();
    bounds.dedup();
    bounds
}

/// Sum and number of what is missing in each bin of each feature.
type Histogram = Vec<[(f64, u32); BINS]>;

/// A leaf that may yet be split: samples `order[from..to]`.
#[derive(Clone, Copy, Debug)]
struct Leaf {
    node: usize,
    from: usize,
    to: usize,
}

/// The best split of a leaf. The heap has the largest gain on top.
struct Candidate {
    gain: f64,
    feature: usize,
    bin: usize,
    leaf: Leaf,
    histogram: Histogram,
}

impl PartialEq for Candidate {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Candidate {}

impl PartialOrd for Candidate {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Candidate {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.gain.total_cmp(&other.gain).then(other.leaf.node.cmp(&self.leaf.node))
    }
}

/// One tree while it grows.
struct Grower<'a> {
    table: &'a Table,
    missing: &'a [f32],
    options: &'a TreeOptions,
    nodes: Vec<Node>,
    order: Vec<u32>,
    /// Those that will not be split.
    leaves: Vec<Leaf>,
    heap: BinaryHeap<Candidate>,
}

/// A tree and where the samples fell.
struct Grown {
    nodes: Vec<Node>,
    order: Vec<u32>,
    leaves: Vec<Leaf>,
}

impl<'a> Grower<'a> {
    fn new(table: &'a Table, missing: &'a [f32], options: &'a TreeOptions) -> Self {
        let order = (0..missing.len() as u32).collect();
        Self { table, missing, options, nodes: Vec::new(), order, leaves: Vec::new(), heap: BinaryHeap::new() }
    }

    fn grow(mut self) -> Grown {
        let root = Leaf { node: 0, from: 0, to: self.order.len() };
        let histogram = self.histogram(root);
        self.plant(root, histogram);
        while self.leaves.len() + self.heap.len() < self.options.leaves {
            let Some(best) = self.heap.pop() else { break };
            self.split(best);
        }
        self.leaves.extend(self.heap.drain().map(|candidate| candidate.leaf));
        Grown { nodes: self.nodes, order: self.order, leaves: self.leaves }
    }

    fn histogram(&self, leaf: Leaf) -> Histogram {
        let mut histogram = vec![[(0.0, 0); BINS]; self.table.features];
        for &sample in &self.order[leaf.from..leaf.to] {
            let missing = f64::from(self.missing[sample as usize]);
            for (bins, &bin) in histogram.iter_mut().zip(self.table.row(sample)) {
                let bin = &mut bins[usize::from(bin)];
                *bin = (bin.0 + missing, bin.1 + 1);
            }
        }
        histogram
    }

    /// Makes a leaf a node and looks for its best split.
    fn plant(&mut self, leaf: Leaf, histogram: Histogram) {
        let (sum, count) = histogram[0].iter().fold((0.0, 0), |all, bin| (all.0 + bin.0, all.1 + bin.1));
        let value = (sum / (f64::from(count) + SHRINKAGE)) as f32 * self.options.rate;
        self.nodes.push(Node { split: None, value });
        let least = self.options.leaf_samples as u32;
        let score = |sum: f64, count: u32| sum * sum / (f64::from(count) + SHRINKAGE);
        let mut best = (0.0, 0, 0);
        for (feature, bins) in histogram.iter().enumerate() {
            let mut below = (0.0, 0);
            for (bin, here) in bins.iter().enumerate().take(self.table.bounds[feature].len()) {
                below = (below.0 + here.0, below.1 + here.1);
                if below.1 < least || count - below.1 < least {
                    continue;
                }
                let gain = score(below.0, below.1) + score(sum - below.0, count - below.1) - score(sum, count);
                if gain > best.0 {
                    best = (gain, feature, bin);
                }
            }
        }
        match best {
            (gain, feature, bin) if gain > 0.0 => self.heap.push(Candidate { gain, feature, bin, leaf, histogram }),
            _ => self.leaves.push(leaf),
        }
    }

    fn split(&mut self, candidate: Candidate) {
        let Candidate { feature, bin, leaf, mut histogram, .. } = candidate;
        let goes_first = |sample: &u32| usize::from(self.table.row(*sample)[feature]) <= bin;
        let (first, second): (Vec<u32>, Vec<u32>) = self.order[leaf.from..leaf.to].iter().partition(|s| goes_first(s));
        let middle = leaf.from + first.len();
        self.order[leaf.from..middle].copy_from_slice(&first);
        self.order[middle..leaf.to].copy_from_slice(&second);
        let children = [self.nodes.len(), self.nodes.len() + 1];
        let threshold = self.table.bounds[feature][bin];
        let numbers = children.map(|node| node as u16);
        self.nodes[leaf.node].split = Some(Split { feature: feature as u16, threshold, children: numbers });
        let leaves = [
            Leaf { node: children[0], from: leaf.from, to: middle },
            Leaf { node: children[1], from: middle, to: leaf.to },
        ];
        // The smaller child is counted, the larger one is what remains.
        let smaller = usize::from(first.len() > second.len());
        let counted = self.histogram(leaves[smaller]);
        for (all, part) in histogram.iter_mut().flatten().zip(counted.iter().flatten()) {
            *all = (all.0 - part.0, all.1 - part.1);
        }
        let mut histograms = [counted, histogram];
        if smaller == 1 {
            histograms.swap(0, 1);
        }
        leaves.into_iter().zip(histograms).for_each(|(leaf, histogram)| self.plant(leaf, histogram));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::rng::Rng;

    fn samples(n: usize, seed: u64) -> Vec<Sample<4>> {
        let mut rng = Rng::new(seed);
        let value =
            |row: &[f32; 4]| if row[0] > 3.0 { 5.0 } else { row[1] } + f32::from(u8::from(row[2] > 0.0)) * row[1];
        (0..n)
            .map(|_| {
                let row = std::array::from_fn(|_| 5.0 * rng.normal());
                Sample { row, label: value(&row) + 0.2 * rng.normal() }
            })
            .collect()
    }

    #[test]
    fn what_is_not_linear_is_learnt_and_no_chance_is_involved() {
        let (train, test) = (samples(8000, 1), samples(1000, 2));
        let trees = fit_trees(&train, &TreeOptions { trees: 80, ..TreeOptions::default() });
        let error: f32 = test.iter().map(|s| (trees.predict(&s.row) - s.label).powi(2)).sum();
        let spread: f32 = test.iter().map(|s| (trees.base - s.label).powi(2)).sum();
        assert!(error < 0.03 * spread, "{error} of {spread}");
        assert_eq!(trees, fit_trees(&train, &TreeOptions { trees: 80, ..TreeOptions::default() }));
        assert!(
            trees.trees.iter().all(|tree| tree.len() <= 61 && tree.iter().filter(|n| n.split.is_none()).count() <= 31)
        );
        assert_eq!(trees.constant().predict(&test[0].row), trees.base);
    }

    #[test]
    fn few_samples_and_none_are_no_trouble() {
        assert_eq!(fit_trees::<4>(&[], &TreeOptions::default()), Trees::default());
        let few = samples(10, 3);
        let trees = fit_trees(&few, &TreeOptions::default());
        assert!(trees.trees.is_empty(), "too few for two leaves");
        let same: Vec<Sample<1>> = vec![Sample { row: [1.0], label: 2.0 }; 100];
        assert_eq!(fit_trees(&same, &TreeOptions::default()).predict(&[7.0]), 2.0);
    }
}
