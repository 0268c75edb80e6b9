//! The search for the number and sizes of groups: MiDAS's two phases.
//!
//! First group by group: the last is split, and the size of the new one before it that promises least is kept. Then, in rounds, each size is tried again with the others fixed. Where the
//! original tries every number of segments, here steps grow with the size, so that a large volume costs no more than a small one: the write that ends an
//! epoch waits for it, a few milliseconds once in four volumes' writes.

use super::chain::{Forecast, Input, forecast};
use super::intervals::Intervals;
use super::plan::Sizes;
use super::{HOT, LAST};

/// Rounds of the second phase.
const ROUNDS: usize = 4;
/// A size tried is larger than the one before by this share, and by one at least.
const GROWTH: f64 = 0.1;
/// The HOT group is at most a share of the volume: the original tries up to 30 segments.
const HOT_SHARE_MAX: f64 = 0.25;
/// Segments that the last group keeps.
const LAST_MIN: f64 = 8.0;

/// Of the short-lived at least this share counts as caught, so that the HOT group is tried at all.
const CAUGHT_MIN: f64 = 0.05;

/// What was seen in an epoch.
#[derive(Debug)]
pub(crate) struct Observed<'a> {
    pub intervals: &'a Intervals,
    /// Share of the user writes that went to the HOT group.
    pub hot_share: f64,
    /// Age up to which a death was young.
    pub young: u64,
    pub segment_blocks: u32,
    pub live_blocks: u64,
    /// Segments of all groups together.
    pub segments: u32,
}

/// The configuration that promises least write amplification.
pub(crate) fn best(seen: &Observed<'_>) -> Option<(Sizes, Forecast)> {
    let lives = seen.intervals.survival()?;
    let young = 1.0 - lives.alive(seen.young as f64);
    let input = Input {
        lives: &lives,
        caught: (seen.hot_share / young.max(1e-9)).clamp(CAUGHT_MIN, 1.0),
        segment_blocks: f64::from(seen.segment_blocks),
        live_blocks: seen.live_blocks as f64,
        segments: f64::from(seen.segments),
    };
    let mut best = Best::of(&input, Sizes { queues: 1, ..Default::default() }, HOT)?;
    for group in HOT + 1..LAST {
        let mut more = best.sizes.clone();
        more.queues = group + 1;
        match Best::of(&input, more, group) {
            Some(split) if split.forecast.wa < best.forecast.wa => best = split,
            _ => break,
        }
    }
    for _ in 0..ROUNDS {
        let before = best.forecast.wa;
        for group in HOT..best.sizes.queues {
            let tried = Best::of(&input, best.sizes.clone(), group);
            best = tried.filter(|t| t.forecast.wa < best.forecast.wa).unwrap_or(best);
        }
        if best.forecast.wa == before {
            break;
        }
    }
    Some((best.sizes, best.forecast))
}

struct Best {
    sizes: Sizes,
    forecast: Forecast,
}

impl Best {
    /// The best size of one group, those of the others given.
    fn of(input: &Input<'_>, mut sizes: Sizes, group: u8) -> Option<Self> {
        let others: u32 = (0..sizes.queues).filter(|g| *g != group).map(|g| sizes.segments[usize::from(g)]).sum();
        let most = match group {
            HOT => input.segments * HOT_SHARE_MAX,
            _ => input.segments,
        };
        let most = most.min(input.segments - f64::from(others) - LAST_MIN);
        let (mut size, mut best) = (1u32, None::<Self>);
        while f64::from(size) <= most {
            sizes.segments[usize::from(group)] = size;
            // Nothing larger has room either.
            let Some(forecast) = forecast(input, &sizes) else { break };
            if best.as_ref().is_none_or(|b| forecast.wa < b.forecast.wa) {
                best = Some(Self { sizes: sizes.clone(), forecast });
            }
            size += ((f64::from(size) * GROWTH) as u32).max(1);
        }
        best
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bimodal_load_gets_a_queue_that_lets_the_short_lived_die() {
        let (mut intervals, mut rng) = (Intervals::default(), crate::rng::Rng::new(3));
        // Nine of ten writes go to 4096 blocks in turn, more or less, the others to 61440.
        for _ in 0..200_000 {
            let mean = 4096.0 / 0.9;
            intervals.note(Some((mean * (0.8 + 0.4 * rng.unit())) as u64), 9);
            intervals.note(Some((-(1.0 - rng.unit()).ln() * 614_400.0) as u64), 1);
        }
        let seen = Observed {
            intervals: &intervals,
            hot_share: 0.0,
            young: 65_536,
            segment_blocks: 64,
            live_blocks: 65_536,
            segments: 1204,
        };
        let (sizes, forecast) = best(&seen).expect("there is room");
        // All of the short-lived are dead after 1.2 of their interval: 85 segments and a half.
        assert!(sizes.queues >= 2 && (83..100).contains(&sizes.segments[1]), "{sizes:?} {forecast:?}");
        assert!(forecast.live[1] < 0.11 && forecast.wa < 1.5, "{forecast:?}");
    }

    #[test]
    fn nothing_seen_is_no_plan() {
        let none = Intervals::default();
        let seen =
            Observed { intervals: &none, hot_share: 0.0, young: 9, segment_blocks: 64, live_blocks: 1, segments: 9 };
        assert!(best(&seen).is_none());
    }
}
