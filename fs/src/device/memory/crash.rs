//! The lottery of a power cut: which unflushed operations reached the medium, and how much of each.
//!
//! Nothing is promised between flushes, so any subset may survive and each write may be torn between sectors. Only a
//! sequential zone is written in order: there a prefix of its operations survives, torn between blocks.

use std::collections::BTreeMap;

use super::medium::{Medium, Op, SECTORS_PER_BLOCK};

/// A small seeded generator (SplitMix64, Steele et al. 2014): the same seed gives the same crash on every machine.
#[derive(Clone, Debug)]
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`, which must not be 0.
    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }
}

/// What a cut does to one stream of operations.
#[derive(Clone, Copy, Debug)]
enum Fate {
    /// The first so many survive, the next in part.
    Prefix(usize),
    /// Each has luck of its own.
    Scattered,
}

/// Ways in which a whole cut goes; nothing and everything are the extremes that a fair lottery would hardly ever draw.
#[derive(Clone, Copy, Debug)]
enum Style {
    Nothing,
    Everything,
    InOrder,
    Scattered,
}

/// Lets a seeded part of `pending` reach `medium`. `ordered` tells the zones that are written in order.
pub(super) fn survive(medium: &mut Medium, pending: &[Op], ordered: impl Fn(u32) -> bool, dice: &mut Dice) {
    let style = match dice.below(8) {
        0 => Style::Nothing,
        1 => Style::Everything,
        2 | 3 => Style::InOrder,
        _ => Style::Scattered,
    };
    // Each ordered zone is a stream of its own, all the rest is one.
    let stream = |op: &Op| ordered(op.zone()).then_some(op.zone());
    let mut lengths = BTreeMap::<Option<u32>, usize>::new();
    for op in pending {
        *lengths.entry(stream(op)).or_default() += 1;
    }
    let fates: BTreeMap<_, _> = lengths.iter().map(|(s, n)| (*s, draw(style, s.is_some(), *n, dice))).collect();
    let mut seen = BTreeMap::<Option<u32>, usize>::new();
    for op in pending {
        let stream = stream(op);
        let place = seen.entry(stream).or_default();
        match fates[&stream] {
            Fate::Prefix(cut) if *place < cut => medium.apply(op),
            Fate::Prefix(cut) if *place == cut && !matches!(style, Style::Nothing) => {
                tear(medium, op, stream.is_some(), dice)
            }
            Fate::Prefix(_) => {}
            Fate::Scattered => match dice.below(4) {
                0 => {}
                1 => medium.apply(op),
                _ => tear(medium, op, false, dice),
            },
        }
        *place += 1;
    }
}

fn draw(style: Style, ordered: bool, length: usize, dice: &mut Dice) -> Fate {
    match style {
        Style::Nothing => Fate::Prefix(0),
        Style::Everything => Fate::Prefix(length),
        Style::Scattered if !ordered => Fate::Scattered,
        Style::InOrder | Style::Scattered => Fate::Prefix(dice.below(length + 1)),
    }
}

/// Lets a part of one operation survive: some blocks from its front in an ordered zone; else a front, a back, or any of its sectors.
fn tear(medium: &mut Medium, op: &Op, ordered: bool, dice: &mut Dice) {
    let units = match op {
        Op::Write { data, .. } if ordered => return medium.apply_prefix(op, dice.below(data.len())),
        Op::Write { data, .. } => data.len() * SECTORS_PER_BLOCK,
        Op::Reset { .. } | Op::Finish { .. } if ordered => return,
        Op::Reset { blocks, .. } => *blocks as usize,
        Op::Finish { .. } => return,
    };
    let cut = dice.below(units + 1);
    match dice.below(3) {
        0 => medium.apply_torn(op, |unit| unit < cut),
        1 => medium.apply_torn(op, |unit| unit >= cut),
        _ => medium.apply_torn(op, |_| dice.below(2) == 0),
    }
}
