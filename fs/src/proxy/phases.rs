//! Whether the model's victims are better: the model and the fixed rule decide by turns, and what cleaning cost in either's turn is compared.
//!
//! Pure. Choices of victims cannot be paired as those of log heads can: who takes the cheap segments leaves the dear ones to the other. So the
//! turns, or *phases*, are long (half of the live blocks written), and of each only the second half counts: what lies in the segments by then is its own
//! doing. While the model only watches, nobody knows what would have come of its choices; then what they cost at once is compared
//! ([`cost_now`]), generously, because to spend more now for the sake of later is what a good choice may do.

use gleanfs_gc::advisor::{Costs, Decider, TrustLevel};
use gleanfs_gc::segment::SegmentFacts;

/// A phase lasts for this share of the live blocks.
const PHASE_SHARE: u64 = 2;
/// Fewer blocks written are no phase.
const PHASE_BLOCKS_MIN: u64 = 4096;
/// Of so many phases at *recommendation* one stays the rule's, for comparison.
const CONTROL_EVERY: u64 = 16;
/// A watching model may spend this much more at once than the rule does.
const SPEND_MAX: f64 = 1.5;

/// Moves per block that cleaning this segment gives.
pub fn cost_now(s: &SegmentFacts) -> f64 {
    f64::from(s.live) / f64::from(s.capacity.saturating_sub(s.live).max(1))
}

/// What is scored while the model watches: its choice, the rule's, and all candidates on average.
pub fn costs_in_shadow(model: &SegmentFacts, rule: &SegmentFacts, candidates: &[SegmentFacts]) -> Costs {
    let mean = candidates.iter().map(cost_now).sum::<f64>() / candidates.len().max(1) as f64;
    Costs { model: cost_now(model), fallback: SPEND_MAX * cost_now(rule), alike: SPEND_MAX * mean }
}

/// Whose turn it is, and what the turns have cost.
#[derive(Debug, Default)]
pub struct Phases {
    number: u64,
    start: u64,
    /// Write clock and moved blocks in the middle of the phase.
    middle: Option<(u64, u64)>,
    /// Moves per written block in either's last phase: the model's, the rule's.
    costs: [Option<f64>; 2],
}

impl Phases {
    /// Who decides at this level.
    pub fn decider(&self, level: TrustLevel) -> Decider {
        let by_model = match level {
            TrustLevel::Fallback | TrustLevel::Learning => false,
            TrustLevel::Collaboration => self.number.is_multiple_of(2),
            TrustLevel::Recommendation => self.number % CONTROL_EVERY != CONTROL_EVERY - 1,
        };
        if by_model { Decider::Model } else { Decider::Fallback }
    }

    /// A new phase, because who decides has changed.
    pub fn begin(&mut self, now: u64) {
        (self.start, self.middle) = (now, None);
    }

    /// Another model: what the old one cost says nothing.
    pub fn model_changed(&mut self, now: u64) {
        self.costs[0] = None;
        self.begin(now);
    }

    /// Looks at the write clock and at all blocks moved so far. At the end of a phase of which both sides are known, what they cost.
    pub fn look(&mut self, level: TrustLevel, now: u64, live_blocks: u64, moved: u64) -> Option<Costs> {
        let length = (live_blocks / PHASE_SHARE).max(PHASE_BLOCKS_MIN);
        let passed = now.saturating_sub(self.start);
        if self.middle.is_none() && passed >= length / 2 {
            self.middle = Some((now, moved));
        }
        let (then, moved_then) = self.middle?;
        if passed < length || now == then {
            return None;
        }
        let cost = moved.saturating_sub(moved_then) as f64 / (now - then) as f64;
        let side = usize::from(self.decider(level) == Decider::Fallback);
        self.costs[side] = Some(cost);
        self.number += 1;
        self.begin(now);
        // Nothing is known of making no difference; that the rule gains something was seen before the model came so far.
        let [Some(model), Some(fallback)] = self.costs else { return None };
        (level >= TrustLevel::Collaboration).then_some(Costs { model, fallback, alike: 2.0 * model.max(fallback) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes two phases' worth in small steps; the model's phases move `model` blocks per written one, the rule's `rule`.
    fn compared(level: TrustLevel, model: u64, rule: u64) -> Option<Costs> {
        let (mut phases, mut moved, mut last) = (Phases::default(), 0, None);
        for now in (0..100_000).step_by(100) {
            moved += 100 * if phases.decider(level) == Decider::Model { model } else { rule };
            last = phases.look(level, now, 20_000, moved).or(last);
        }
        last
    }

    #[test]
    fn both_take_turns_and_each_pays_for_its_own() {
        let costs = compared(TrustLevel::Collaboration, 2, 5).unwrap();
        assert_eq!((costs.model, costs.fallback), (2.0, 5.0));
        assert_eq!(compared(TrustLevel::Learning, 2, 5), None);
    }

    #[test]
    fn in_charge_the_model_leaves_a_phase_in_sixteen_to_the_rule() {
        let phases = |number| Phases { number, ..Phases::default() };
        let by_rule = (0..32).filter(|n| phases(*n).decider(TrustLevel::Recommendation) == Decider::Fallback);
        assert_eq!(by_rule.collect::<Vec<_>>(), [15, 31]);
        assert_eq!(phases(0).decider(TrustLevel::Learning), Decider::Fallback);
    }

    #[test]
    fn a_watching_model_is_scored_by_what_its_choice_costs_at_once() {
        let s = |live| SegmentFacts { live, capacity: 100, ..SegmentFacts::default() };
        let costs = costs_in_shadow(&s(60), &s(50), &[s(50), s(60), s(90)]);
        assert_eq!((costs.model, costs.fallback), (1.5, 1.5));
        assert!(costs.alike > 5.0);
    }
}
