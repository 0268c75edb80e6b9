//! What a configuration of the chain costs: live shares of its victims, and write amplification.
//!
//! A queue of `n` segments that takes in the share `t` of the user writes holds each for `n S / t` of the write clock (half a segment less: the one being filled). What of it is alive at the
//! end follows from the survival of versions between the ages at which they enter and leave, and is what the next queue takes in: a Markov chain, of which the
//! steady state is known without iterating. The last group takes in what is left and recycles. It is taken for a log that is cleaned in order, with a hot and a cold part
//! (Desnoyers, "Analytic Models of SSD Write Performance", ACM TOS 10(2), 2014): hot is what is overwritten within 0.7 of the mean interval, as in MiDAS's `model.c`.

use super::intervals::Survival;
use super::plan::Sizes;
use super::{CLASSES, HOT};

/// Share of the mean interval below which blocks of the last group are hot.
const HOT_BELOW: f64 = 0.7;
/// What was written once counts as overwritten after so many volumes.
const NEVER_VOLUMES: f64 = 4.0;

/// What the chain is fed with.
#[derive(Debug)]
pub(super) struct Input<'a> {
    pub rest: &'a Survival,
    /// Versions in the HOT group; nothing is known of them while there were none.
    pub hot: Option<&'a Survival>,
    /// Share of the user writes that goes to the HOT group.
    pub hot_share: f64,
    pub segment_blocks: f64,
    pub live_blocks: f64,
    /// Segments of all groups together.
    pub segments: f64,
}

/// What is expected of a configuration.
#[derive(Clone, Debug, Default)]
pub(crate) struct Forecast {
    /// Live share of the victims of each queue.
    pub live: [f64; CLASSES as usize],
    pub wa: f64,
}

/// The forecast for these sizes; `None` if the last group has no room, or less data than none.
pub(super) fn forecast(input: &Input<'_>, sizes: &Sizes) -> Option<Forecast> {
    let mut f = Forecast { wa: 1.0, ..Default::default() };
    let (mut taken, mut entered, mut age) = (1.0 - input.hot_share, 1.0 - input.hot_share, 0.0);
    let (mut space, mut live) = (input.segments, input.live_blocks);
    for group in 0..sizes.queues {
        let size = f64::from(sizes.segments[usize::from(group)]);
        let span = |taken: f64| (size - 0.5) * input.segment_blocks / taken;
        space -= size;
        if group == HOT {
            if let Some(hot) = input.hot.filter(|_| input.hot_share > 0.0) {
                let end = span(input.hot_share);
                f.live[0] = hot.alive(end);
                live -= input.hot_share * hot.live_between(0.0, end);
                taken += input.hot_share * f.live[0];
                f.wa += input.hot_share * f.live[0];
            }
            continue;
        }
        let end = age + span(taken);
        let survivors = input.rest.alive(end) / input.rest.alive(age).max(1e-9);
        live -= taken / input.rest.alive(age).max(1e-9) * input.rest.live_between(age, end);
        f.live[usize::from(group)] = survivors;
        taken *= survivors;
        f.wa += taken;
        (entered, age) = (taken, end);
    }
    if sizes.queues <= 1 {
        entered = taken;
    }
    let alpha = space * input.segment_blocks / live;
    if live <= 0.0 || alpha <= 1.0 {
        return None;
    }
    // In the steady state each block that comes in makes the group clean so much that as many go out.
    f.wa += entered * (last_group(input, entered, age, live, alpha) - 1.0);
    Some(f)
}

/// Write amplification of the last group, which is entered at `age` by the share `entered` of the user writes.
fn last_group(input: &Input<'_>, entered: f64, age: f64, live: f64, alpha: f64) -> f64 {
    let s = input.rest;
    let scale = entered / s.alive(age).max(1e-9);
    let (dying, time) = s.dying_between(age, s.end());
    let never = (s.alive(age) - dying).max(0.0);
    let never_time = NEVER_VOLUMES * input.live_blocks;
    let mean = (time + never * never_time) / (dying + never).max(1e-9);
    let (hot, hot_time) = s.dying_between(age, (mean * HOT_BELOW).max(age));
    let traffic = hot / (dying + never).max(1e-9);
    // A version in `interval` blocks of the clock is that many blocks alive, those of the queues before taken off.
    let hot_space = (scale * (hot_time - hot * age) / live).clamp(0.0, 1.0);
    hot_cold_fifo(alpha, traffic, hot_space)
}

/// A log that is cleaned in order, of which the share `space` gets the share `traffic` of the writes, each evenly: solves
/// `A = 1 + r / (e^(r alpha / (f A)) - 1) + (1 - r) / (e^((1 - r) alpha / ((1 - f) A)) - 1)`.
fn hot_cold_fifo(alpha: f64, traffic: f64, space: f64) -> f64 {
    let part = |r: f64, f: f64, a: f64| if r <= 0.0 || f <= 0.0 { 0.0 } else { r / (r * alpha / (f * a)).exp_m1() };
    let excess = |a: f64| 1.0 + part(traffic, space, a) + part(1.0 - traffic, 1.0 - space, a) - a;
    let (mut low, mut high) = (1.0, 2.0);
    while excess(high) > 0.0 && high < 1e4 {
        (low, high) = (high, high * 2.0);
    }
    for _ in 0..24 {
        let middle = f64::midpoint(low, high);
        if excess(middle) > 0.0 { low = middle } else { high = middle }
    }
    f64::midpoint(low, high)
}

#[cfg(test)]
mod tests {
    use super::super::Intervals;
    use super::*;
    use crate::sim::fifo_uniform;

    #[test]
    fn the_published_values_of_the_hot_and_cold_log_come_out() {
        let alpha = 1.0 / 0.85;
        for (share, expected) in [(0.8, 3.87), (0.9, 4.43), (0.95, 5.13)] {
            let found = hot_cold_fifo(alpha, share, 1.0 - share);
            assert!((found / expected - 1.0).abs() < 0.005, "{share}: {found} for {expected}");
        }
        assert!((hot_cold_fifo(alpha, 0.3, 0.3) / fifo_uniform(alpha) - 1.0).abs() < 1e-3);
    }

    /// Independent uniform writes of 64 Ki blocks.
    fn uniform() -> Survival {
        let (mut intervals, mut rng) = (Intervals::default(), crate::rng::Rng::new(3));
        for _ in 0..300_000 {
            intervals.note(Some((-(1.0 - rng.unit()).ln() * 65_536.0) as u64), 1);
        }
        intervals.survival().expect("not empty")
    }

    fn input(rest: &Survival) -> Input<'_> {
        Input { rest, hot: None, hot_share: 0.0, segment_blocks: 256.0, live_blocks: 65_536.0, segments: 301.0 }
    }

    #[test]
    fn one_group_is_a_fifo_log_and_a_queue_splits_it() {
        let rest = uniform();
        let one = forecast(&input(&rest), &Sizes::default()).expect("there is room");
        let alpha = 301.0 * 256.0 / 65_536.0;
        // The split of what is alike into hot and cold by the interval seen is MiDAS's, and not quite right.
        assert!((one.wa / fifo_uniform(alpha) - 1.0).abs() < 0.3, "{} {}", one.wa, fifo_uniform(alpha));
        let sizes = Sizes { segments: [1, 64, 0, 0, 0, 0], queues: 2 };
        let two = forecast(&input(&rest), &sizes).expect("there is room");
        let expected = (-63.5 * 256.0 / 65_536.0f64).exp();
        assert!((two.live[1] / expected - 1.0).abs() < 0.02, "{} {expected}", two.live[1]);
        assert!(two.wa > 1.0 + expected);
        let tight = Sizes { segments: [1, 300, 0, 0, 0, 0], queues: 2 };
        assert!(forecast(&input(&rest), &tight).is_none());
    }
}
