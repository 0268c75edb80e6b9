//! Records samples for training: what a placement saw of a block, and how long the block then lived.

use super::rng::Rng;
use crate::features::history::History;
use crate::features::{LOG2_MAX, LOG2_MIN, PLACEMENT, PlacementRow, forget_table, rounded};
use crate::placement::{DiscardFacts, MoveFacts, WriteFacts, relative_log2};

const NONE: u32 = u32::MAX;
const FORGOTTEN: u32 = 6;
/// The mean log2 of an exponentially distributed lifetime is by this below the log2 of its mean: Euler's constant over ln 2.
const EULER_LOG2: f32 = 0.832_746;

/// A row of `W` features and what followed, here a lifetime.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample<const W: usize = { PLACEMENT.len() }> {
    pub row: [f32; W],
    /// What a model is to answer; of placements log2 of (residual lifetime / live blocks).
    pub label: f32,
}

impl<const W: usize> Sample<W> {
    /// The same with only the first features.
    pub fn first<const N: usize>(&self) -> Sample<N> {
        Sample { row: std::array::from_fn(|at| self.row[at]), label: self.label }
    }
}

/// A sample, and how it came about.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Observation<const W: usize = { PLACEMENT.len() }> {
    pub sample: Sample<W>,
    /// Write clock at which the row was seen.
    pub clock: u64,
    /// The block still lived at the end, and the label is only twice the age that it had then.
    pub censored: bool,
}

#[derive(Clone, Copy, Debug)]
struct Watch {
    row: PlacementRow,
    since: u64,
    /// The next watch of the same block.
    next: u32,
    expected: Option<f32>,
    label: Option<f32>,
}

/// Watches a random share of all writes until their blocks die.
#[derive(Debug)]
pub struct Recorder {
    history: History,
    rng: Rng,
    share: f64,
    watches_max: usize,
    watches: Vec<Watch>,
    /// First watch of each block.
    first: Vec<u32>,
    /// Mean interval between writes of each block, if the load knows it.
    mean_intervals: Vec<f64>,
    recording: bool,
    /// The row of the request under way.
    request: PlacementRow,
}

impl Recorder {
    /// Watches each write with probability `share`, up to `watches_max` of them.
    pub fn new(blocks: u32, share: f64, watches_max: usize, seed: u64) -> Self {
        Self {
            history: History::default(),
            rng: Rng::new(seed),
            share,
            watches_max,
            watches: Vec::new(),
            first: vec![NONE; blocks as usize],
            mean_intervals: Vec::new(),
            recording: true,
            request: PlacementRow::default(),
        }
    }

    /// Labels blocks by what the load says of them where it does, and not by what came of them: with independent writes the residual lifetime is distributed
    /// exponentially, whatever came before, and one outcome of that is off by a factor of 4.
    pub fn knowing(self, mean_intervals: Vec<f64>) -> Self {
        Self { mean_intervals, ..self }
    }

    /// Whether new writes are watched. What is watched already goes on being watched.
    pub fn set_recording(&mut self, on: bool) {
        self.recording = on;
    }

    /// A request; its blocks follow.
    pub(super) fn user_write(&mut self, w: &WriteFacts) {
        self.request = self.history.user_row(w);
    }

    pub(super) fn user_block(&mut self, block: u32, now: u64, live: u64) {
        self.watch(block, self.request, now, live);
    }

    pub(super) fn cleaning_write(&mut self, block: u32, m: &MoveFacts) {
        if self.recording && self.watches.len() < self.watches_max {
            let row = self.history.cleaning_row(m);
            self.watch(block, row, m.now, m.live_blocks);
        }
    }

    pub(super) fn discarded(&mut self, block: u32, d: &DiscardFacts) {
        self.history.discarded(d);
        self.died(block, d.now, d.live_blocks);
    }

    pub(super) fn died(&mut self, block: u32, now: u64, live_blocks: u64) {
        let mut at = std::mem::replace(&mut self.first[block as usize], NONE);
        while at != NONE {
            let watch = &mut self.watches[at as usize];
            watch.label = Some(label(now.saturating_sub(watch.since), live_blocks));
            at = watch.next;
        }
    }

    fn watch(&mut self, block: u32, row: PlacementRow, now: u64, live_blocks: u64) {
        if self.recording && self.watches.len() < self.watches_max && self.rng.chance(self.share) {
            let next = std::mem::replace(&mut self.first[block as usize], self.watches.len() as u32);
            let row = rounded(&self.perhaps_forgotten(row));
            let known = self.mean_intervals.get(block as usize);
            let expected = known.map(|mean| {
                (mean.log2() as f32 - EULER_LOG2 + relative_log2(1, live_blocks)).clamp(LOG2_MIN, LOG2_MAX)
            });
            self.watches.push(Watch { row, since: now, next, expected, label: None });
        }
    }

    /// In one row of [`FORGOTTEN`] what comes from the table is not known: on a volume of many files it often is not, and the simulated ones are small.
    fn perhaps_forgotten(&mut self, mut row: PlacementRow) -> PlacementRow {
        if self.rng.below(FORGOTTEN) == 0 {
            forget_table(&mut row);
        }
        row
    }

    /// All samples. Blocks that are still alive count as living twice as long as they have: leaving them out would teach that nothing is cold.
    pub fn finish(self, now: u64, live_blocks: u64) -> Vec<Sample> {
        self.observations(now, live_blocks).map(|seen| seen.sample).collect()
    }

    /// The same with their times, in the order of these.
    pub fn observations(self, now: u64, live_blocks: u64) -> impl Iterator<Item = Observation> {
        self.watches.into_iter().map(move |w| {
            let known = w.expected.or(w.label);
            let label = known.unwrap_or_else(|| label(2 * now.saturating_sub(w.since), live_blocks));
            Observation { sample: Sample { row: w.row, label }, clock: w.since, censored: known.is_none() }
        })
    }
}

fn label(lifetime: u64, live_blocks: u64) -> f32 {
    relative_log2(lifetime, live_blocks).clamp(LOG2_MIN, LOG2_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_residual_lifetimes_and_survivors_count_double() {
        let mut r = Recorder::new(4, 1.0, 10, 1);
        let w = |now| WriteFacts { now, live_blocks: 1024, ..Default::default() };
        r.user_write(&w(0));
        r.user_block(0, 0, 1024);
        r.user_write(&w(0));
        r.user_block(1, 0, 1024);
        r.cleaning_write(0, &MoveFacts { now: 512, live_blocks: 1024, ..Default::default() });
        r.died(0, 1024, 1024);
        r.set_recording(false);
        r.user_write(&w(1024));
        r.user_block(0, 1024, 1024);
        let seen: Vec<Observation> = r.observations(2048, 1024).collect();
        let labels: Vec<(f32, u64, bool)> = seen.iter().map(|o| (o.sample.label, o.clock, o.censored)).collect();
        assert_eq!(labels, [(0.0, 0, false), (2.0, 0, true), (-1.0, 512, false)]);
    }
}
