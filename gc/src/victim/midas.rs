//! MiDAS's choice of a victim: the group that is longer than planned, there the oldest; else the emptiest of the last group.
//!
//! See [`crate::midas`] for the source. `do_gc` in the published `gc.c` looks at the groups from the first on, takes the oldest segment of the first that exceeds its size, and
//! otherwise the segment of the last group with most dead blocks. Full ones are passed over, up to [`PASSED_OVER`] of them. The emptiest of the last group is looked for
//! among the oldest of each bucket. Without a plan it is greedy. State: one pointer.

use std::sync::Arc;

use super::VictimPolicy;
use crate::index::UtilizationIndex;
use crate::midas::Plan;
use crate::segment::SegmentFacts;

/// Full segments that are passed over at the old end of a queue.
const PASSED_OVER: usize = 32;
/// Segments per bucket among which one of the last group is looked for.
const CANDIDATES: usize = 4;

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Midas {
    plan: Arc<Plan>,
}

impl Midas {
    /// One that follows this plan.
    pub fn with(plan: Arc<Plan>) -> Self {
        Self { plan }
    }

    fn of_a_queue(&self, index: &UtilizationIndex, queues: u8) -> Option<SegmentFacts> {
        let mut too_long = (0..queues).filter(|&group| index.class_len(group) > self.plan.size(group));
        too_long.find_map(|group| index.of_class(group).take(PASSED_OVER).find(|s| !s.is_full()))
    }
}

impl VictimPolicy for Midas {
    fn name(&self) -> &'static str {
        "midas"
    }

    /// As in the last group: `1 - u`.
    fn score(&self, s: &SegmentFacts, _now: u64) -> f64 {
        1.0 - s.utilization()
    }

    fn choose(&mut self, index: &UtilizationIndex, _now: u64) -> Option<SegmentFacts> {
        self.plan.saw_sealed(index.len() as u32);
        let queues = self.plan.queues();
        if queues == 0 {
            return index.emptiest();
        }
        let of_the_rest = || index.candidates(CANDIDATES).find(|s| s.class >= queues);
        self.of_a_queue(index, queues).or_else(of_the_rest).or_else(|| index.emptiest())
    }

    /// With the plan, which the placement may share.
    fn bytes(&self) -> usize {
        size_of_val(self) + size_of_val(&*self.plan)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::midas::Sizes;

    fn index(segments: &[(u8, u32)]) -> UtilizationIndex {
        let mut index = UtilizationIndex::new(segments.len() as u32, 100);
        for (seg, &(class, live)) in (0..).zip(segments) {
            let seal_clock = u64::from(seg) * 10;
            index.insert(SegmentFacts { seg, live, capacity: 100, class, seal_clock, ..Default::default() });
        }
        index
    }

    #[test]
    fn the_first_group_that_is_too_long_gives_its_oldest() {
        let plan = Arc::new(Plan::default());
        let mut policy = Midas::with(Arc::clone(&plan));
        let mut index = index(&[(1, 100), (1, 70), (1, 9), (0, 95), (0, 3), (5, 60), (4, 50)]);
        let mut chosen = |index: &UtilizationIndex| policy.choose(index, 100).map(|s| s.seg);
        assert_eq!(chosen(&index), Some(4), "greedy without a plan");
        plan.adopt(&Sizes { segments: [2, 2, 0, 0, 0, 0], queues: 2 });
        assert_eq!(plan.sealed(), 7);
        assert_eq!(chosen(&index), Some(1), "the oldest of group 1 that is not full");
        plan.adopt(&Sizes { segments: [1, 2, 0, 0, 0, 0], queues: 2 });
        assert_eq!(chosen(&index), Some(3), "group 0 before group 1");
        plan.adopt(&Sizes { segments: [2, 3, 0, 0, 0, 0], queues: 2 });
        assert_eq!(chosen(&index), Some(6), "the emptiest of what is no queue");
        index.remove(6);
        index.remove(5);
        assert_eq!(chosen(&index), Some(4), "anything rather than nothing");
    }
}
