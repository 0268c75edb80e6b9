//! Fits a network to samples: Huber loss, Adam (Kingma and Ba, 2015), a learning rate that falls along a cosine.

use super::mlp::{Dense, Mlp, WIDTH_MAX};
use crate::sim::Sample;
use crate::sim::rng::Rng;

/// Settings of a fit.
#[derive(Clone, Copy, Debug)]
pub struct FitOptions {
    pub hidden: [usize; 2],
    pub epochs: usize,
    pub batch: usize,
    pub rate: f32,
}

impl Default for FitOptions {
    fn default() -> Self {
        Self { hidden: [32, 16], epochs: 12, batch: 64, rate: 3e-3 }
    }
}

/// Where the Huber loss turns from square to straight.
const HUBER: f32 = 3.0;

/// A network fitted to the samples, for rows that are not normalised. Same samples, options and seed: same network.
pub fn fit<const W: usize>(samples: &[Sample<W>], options: &FitOptions, seed: u64) -> Mlp {
    let (mean, deviation) = moments(samples);
    let centre = samples.iter().map(|s| s.label).sum::<f32>() / samples.len().max(1) as f32;
    let mut rng = Rng::new(seed);
    let mut mlp = Mlp::random(&[W, options.hidden[0], options.hidden[1], 1], &mut rng);
    let mut adam = Adam::new(&mlp);
    let mut gradient = Gradient::new(&mlp);
    let mut order: Vec<usize> = (0..samples.len()).collect();
    let steps = options.epochs * samples.len().div_ceil(options.batch);
    for epoch in 0..options.epochs {
        rng.shuffle(&mut order);
        for (n, batch) in order.chunks(options.batch).enumerate() {
            for &s in batch {
                let mut row = samples[s].row;
                row.iter_mut().zip(mean.iter().zip(&deviation)).for_each(|(x, (m, d))| *x = (*x - m) / d);
                gradient.add(&mlp, &row, samples[s].label - centre);
            }
            let done = (epoch * samples.len().div_ceil(options.batch) + n) as f32 / steps as f32;
            let rate = options.rate * 0.5 * (1.0 + (done * std::f32::consts::PI).cos());
            adam.step(&mut mlp, &mut gradient, rate, batch.len());
        }
    }
    mlp.fold_normalisation(&mean, &deviation);
    mlp.shift(centre);
    mlp
}

/// Mean and deviation of every feature; a constant feature has deviation 1.
fn moments<const W: usize>(samples: &[Sample<W>]) -> (Vec<f32>, Vec<f32>) {
    let n = samples.len().max(1) as f64;
    (0..W)
        .map(|i| {
            let mean = samples.iter().map(|s| f64::from(s.row[i])).sum::<f64>() / n;
            let variance = samples.iter().map(|s| (f64::from(s.row[i]) - mean).powi(2)).sum::<f64>() / n;
            (mean as f32, if variance < 1e-6 { 1.0 } else { variance.sqrt() as f32 })
        })
        .unzip()
}

/// Sums of gradients over a batch, by back-propagation.
struct Gradient {
    layers: Vec<Dense>,
    /// Inputs of every layer, and the output, of the row at hand.
    values: Vec<[f32; WIDTH_MAX]>,
}

impl Gradient {
    fn new(mlp: &Mlp) -> Self {
        Self { layers: mlp.constant().layers, values: vec![[0.0; WIDTH_MAX]; mlp.layers.len() + 1] }
    }

    fn add(&mut self, mlp: &Mlp, row: &[f32], label: f32) {
        let depth = mlp.layers.len();
        self.values[0][..row.len()].copy_from_slice(row);
        for (n, layer) in mlp.layers.iter().enumerate() {
            let (before, after) = self.values.split_at_mut(n + 1);
            layer.apply(&before[n][..layer.inputs], &mut after[0]);
            if n + 1 < depth {
                after[0][..layer.outputs].iter_mut().for_each(|v| *v = v.max(0.0));
            }
        }
        let mut slope = [0.0f32; WIDTH_MAX];
        slope[0] = (self.values[depth][0] - label).clamp(-HUBER, HUBER);
        for n in (0..depth).rev() {
            slope = self.back(n, &mlp.layers[n], &slope);
        }
    }

    /// Adds layer `n`'s gradient and answers the slope at its inputs.
    fn back(&mut self, n: usize, layer: &Dense, slope: &[f32; WIDTH_MAX]) -> [f32; WIDTH_MAX] {
        let (sum, x) = (&mut self.layers[n], &self.values[n]);
        let slope = &slope[..layer.outputs];
        let mut below = [0.0f32; WIDTH_MAX];
        sum.bias.iter_mut().zip(slope).for_each(|(b, s)| *b += s);
        for i in 0..layer.inputs {
            let row = i * layer.outputs..(i + 1) * layer.outputs;
            sum.weights[row.clone()].iter_mut().zip(slope).for_each(|(g, s)| *g += s * x[i]);
            // What a ReLU held at zero passes nothing back; the network's own inputs need no slope.
            if n > 0 && x[i] > 0.0 {
                below[i] = layer.weights[row].iter().zip(slope).map(|(w, s)| w * s).sum();
            }
        }
        below
    }
}

/// Adam's two moments of every parameter.
struct Adam {
    first: Vec<Dense>,
    second: Vec<Dense>,
    steps: i32,
}

impl Adam {
    fn new(mlp: &Mlp) -> Self {
        let mut zero = mlp.constant().layers;
        zero.iter_mut().for_each(|l| l.bias.fill(0.0));
        Self { first: zero.clone(), second: zero, steps: 0 }
    }

    /// Moves the network against the mean gradient of a batch and clears the sums.
    fn step(&mut self, mlp: &mut Mlp, gradient: &mut Gradient, rate: f32, batch: usize) {
        self.steps += 1;
        let (b1, b2) = (0.9f32, 0.999f32);
        let rate = rate * (1.0 - b2.powi(self.steps)).sqrt() / (1.0 - b1.powi(self.steps));
        let moments = self.first.iter_mut().zip(&mut self.second);
        for ((layer, sum), (first, second)) in mlp.layers.iter_mut().zip(&mut gradient.layers).zip(moments) {
            let update = |p: &mut [f32], g: &mut [f32], m: &mut [f32], v: &mut [f32]| {
                for (((p, g), m), v) in p.iter_mut().zip(g).zip(m).zip(v) {
                    let slope = std::mem::take(g) / batch as f32;
                    *m = b1 * *m + (1.0 - b1) * slope;
                    *v = b2 * *v + (1.0 - b2) * slope * slope;
                    *p -= rate * *m / (v.sqrt() + 1e-8);
                }
            };
            update(&mut layer.weights, &mut sum.weights, &mut first.weights, &mut second.weights);
            update(&mut layer.bias, &mut sum.bias, &mut first.bias, &mut second.bias);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::features::PlacementRow;

    fn samples(n: usize, seed: u64) -> Vec<Sample> {
        let mut rng = Rng::new(seed);
        (0..n)
            .map(|_| {
                let mut row = PlacementRow::default();
                row.iter_mut().for_each(|x| *x = 5.0 + 3.0 * rng.normal());
                Sample { row, label: (row[0] - row[1]).abs() - 0.5 * row[2] }
            })
            .collect()
    }

    #[test]
    fn it_learns_what_is_not_linear_and_repeats_itself() {
        let (train, test) = (samples(4000, 1), samples(500, 2));
        let mlp = fit(&train, &FitOptions::default(), 3);
        let mean = train.iter().map(|s| s.label).sum::<f32>() / train.len() as f32;
        let error: f32 = test.iter().map(|s| (mlp.predict(&s.row) - s.label).powi(2)).sum();
        let spread: f32 = test.iter().map(|s| (mean - s.label).powi(2)).sum();
        assert!(error < 0.05 * spread, "{error} of {spread}");
        assert_eq!(mlp, fit(&train, &FitOptions::default(), 3));
        assert_ne!(mlp, fit(&train, &FitOptions::default(), 4));
    }
}
