//! A small fully connected network with ReLU between the layers and one output.

use crate::features::PlacementRow;
use crate::placement::LifetimeModel;
use crate::sim::rng::Rng;

/// Widest layer.
pub const WIDTH_MAX: usize = 64;

/// One layer: `y = x W + b`.
#[derive(Clone, Debug, PartialEq)]
pub struct Dense {
    pub inputs: usize,
    pub outputs: usize,
    /// `[inputs][outputs]`, as ONNX's Gemm has it.
    pub weights: Vec<f32>,
    pub bias: Vec<f32>,
}

impl Dense {
    /// He initialization: weights with variance `2 / inputs`.
    pub fn random(inputs: usize, outputs: usize, rng: &mut Rng) -> Self {
        let scale = (2.0 / inputs as f32).sqrt();
        let weights = (0..inputs * outputs).map(|_| rng.normal() * scale).collect();
        Self { inputs, outputs, weights, bias: vec![0.0; outputs] }
    }

    /// Both layers as one: each has inputs of its own unless they are shared, and outputs of its own unless these are to be averaged.
    fn beside(&self, other: &Self, share_inputs: bool, average: bool) -> Self {
        let inputs = if share_inputs { self.inputs } else { self.inputs + other.inputs };
        let outputs = if average { self.outputs } else { self.outputs + other.outputs };
        assert!(inputs <= WIDTH_MAX && outputs <= WIDTH_MAX);
        let mut both = Self { inputs, outputs, weights: vec![0.0; inputs * outputs], bias: vec![0.0; outputs] };
        let scale = if average { 0.5 } else { 1.0 };
        let (row, column) = (if share_inputs { 0 } else { self.inputs }, if average { 0 } else { self.outputs });
        for (layer, row, column) in [(self, 0, 0), (other, row, column)] {
            for (i, weights) in layer.weights.chunks_exact(layer.outputs).enumerate() {
                let at = (row + i) * outputs + column;
                both.weights[at..at + layer.outputs].iter_mut().zip(weights).for_each(|(sum, w)| *sum += scale * w);
            }
            both.bias[column..].iter_mut().zip(&layer.bias).for_each(|(sum, b)| *sum += scale * b);
        }
        both
    }

    /// Writes `x W + b` to the front of `y`.
    pub fn apply(&self, x: &[f32], y: &mut [f32]) {
        let y = &mut y[..self.outputs];
        y.copy_from_slice(&self.bias);
        for (x, row) in x.iter().zip(self.weights.chunks_exact(self.outputs)) {
            for (y, w) in y.iter_mut().zip(row) {
                *y += x * w;
            }
        }
    }
}

/// The network.
#[derive(Clone, Debug, PartialEq)]
pub struct Mlp {
    pub layers: Vec<Dense>,
}

impl Mlp {
    /// Random layers of these widths, the input's first and 1 last.
    pub fn random(widths: &[usize], rng: &mut Rng) -> Self {
        Self { layers: widths.windows(2).map(|w| Dense::random(w[0], w[1], rng)).collect() }
    }

    pub fn inputs(&self) -> usize {
        self.layers.first().map_or(0, |l| l.inputs)
    }

    /// The output for one row, of which the first values are its inputs.
    pub fn predict(&self, row: &[f32]) -> f32 {
        let (mut x, mut y) = ([0.0f32; WIDTH_MAX], [0.0f32; WIDTH_MAX]);
        x[..row.len()].copy_from_slice(row);
        for (n, layer) in self.layers.iter().enumerate() {
            layer.apply(&x[..layer.inputs], &mut y);
            if n + 1 < self.layers.len() {
                y[..layer.outputs].iter_mut().for_each(|v| *v = v.max(0.0));
            }
            std::mem::swap(&mut x, &mut y);
        }
        x[0]
    }

    /// The same function of rows that are not normalised: `(x - mean) / deviation` becomes part of the first layer.
    pub fn fold_normalisation(&mut self, mean: &[f32], deviation: &[f32]) {
        let Some(first) = self.layers.first_mut() else { return };
        for (i, row) in first.weights.chunks_exact_mut(first.outputs).enumerate() {
            for (w, b) in row.iter_mut().zip(&mut first.bias) {
                *w /= deviation[i];
                *b -= *w * mean[i];
            }
        }
    }

    /// One network that answers with the mean of both: their layers side by side, nothing between them, the last ones halved and added up.
    ///
    /// # Panics
    /// If they differ in depth or inputs, or would be too wide together.
    pub fn mean(&self, other: &Self) -> Self {
        assert!(self.layers.len() == other.layers.len() && self.inputs() == other.inputs());
        let last = self.layers.len() - 1;
        let pairs = self.layers.iter().zip(&other.layers).enumerate();
        Self { layers: pairs.map(|(n, (a, b))| a.beside(b, n == 0, n == last)).collect() }
    }

    /// Adds to the output.
    pub fn shift(&mut self, by: f32) {
        if let Some(last) = self.layers.last_mut() {
            last.bias.iter_mut().for_each(|b| *b += by);
        }
    }

    /// The same shape, but all weights zero: the answer is the last bias, whatever the row.
    pub fn constant(&self) -> Self {
        let mut mlp = self.clone();
        mlp.layers.iter_mut().for_each(|l| l.weights.fill(0.0));
        mlp
    }
}

impl LifetimeModel for Mlp {
    fn predict(&mut self, row: &PlacementRow) -> f32 {
        Mlp::predict(self, row)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mean_of_two_answers_in_between() {
        let mut rng = Rng::new(2);
        let (a, b) = (Mlp::random(&[3, 8, 4, 1], &mut rng), Mlp::random(&[3, 6, 5, 1], &mut rng));
        for row in [[0.3f32, 4.0, -1.0], [-2.0, 0.0, 7.0]] {
            let expected = (a.predict(&row) + b.predict(&row)) / 2.0;
            assert!((a.mean(&b).predict(&row) - expected).abs() < 1e-4);
        }
    }

    #[test]
    fn normalisation_can_be_folded_in() {
        let mut rng = Rng::new(1);
        let mlp = Mlp::random(&[3, 8, 4, 1], &mut rng);
        let (mean, deviation) = ([1.0, -2.0, 30.0], [2.0, 0.5, 10.0]);
        let row = [0.3f32, 4.0, 17.0];
        let normal: Vec<f32> = row.iter().zip(mean.iter().zip(&deviation)).map(|(x, (m, d))| (x - m) / d).collect();
        let mut folded = mlp.clone();
        folded.fold_normalisation(&mean, &deviation);
        assert!((mlp.predict(&normal) - folded.predict(&row)).abs() < 1e-4);
        folded.shift(1.5);
        assert!((mlp.predict(&normal) + 1.5 - folded.predict(&row)).abs() < 1e-4);
        assert_eq!(mlp.constant().predict(&row), 0.0);
    }
}
