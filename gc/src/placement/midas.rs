//! MiDAS's placement: along a chain of groups, and the planning of it.
//!
//! See [`crate::midas`] for the source. User writes go to group 1, or to the HOT group 0; what survives in a queue goes on to the next group; what survives in the last stays there.
//! Before there is a plan, survivors move on a group, up to the last, class 5. Planning needs to know how many segments there are, which the victim's side says; alone
//! this stays the chain without sizes. State: 514 KiB.

use std::sync::Arc;

use super::{DiscardFacts, MoveFacts, Placement, WriteFacts};
use crate::midas::{CLASSES, HOT, HotBlocks, Intervals, LAST, Observed, Plan, best};
use crate::segment::SegmentFacts;

/// User writes of an epoch, in volumes.
const EPOCH_VOLUMES: u64 = 4;
/// A plan must promise less than this share of what was measured.
const WORTH_CHANGING: f64 = 0.95;
/// Deviation of a live share that proves a plan wrong.
const DEVIATION_MAX: f64 = 0.1;
/// Victims of a group that are needed to say so.
const VICTIMS_MIN: u32 = 4;
/// First group of user writes that are not hot.
const FIRST: u8 = 1;

/// Victims of a group since the plan was given time to take effect.
#[derive(Clone, Copy, Debug, Default)]
struct Victims {
    count: u32,
    live: f64,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Midas {
    plan: Arc<Plan>,
    hot: HotBlocks,
    intervals: Intervals,
    segment_blocks: u32,
    /// Blocks in this epoch: written by users, those of them to the HOT group, moved.
    written: u64,
    hot_written: u64,
    moved: u64,
    victims: [Victims; CLASSES as usize],
    /// Live shares that the plan in force promised, until they have been checked.
    promised: Option<[f64; CLASSES as usize]>,
}

impl Midas {
    /// One that makes this plan.
    pub fn with(plan: Arc<Plan>) -> Self {
        Self { plan, ..Default::default() }
    }

    /// Where what survives in a group goes.
    fn next(&self, group: u8) -> u8 {
        let next = group.saturating_add(1).min(LAST);
        if next >= self.plan.queues() && self.plan.recycles() { LAST } else { next }
    }

    fn first(&self) -> u8 {
        self.next(HOT).max(FIRST)
    }

    /// The time that `written` stands for: collects for the check in the second third of the first half of an epoch, as the published code does.
    fn advance(&mut self, live_blocks: u64) {
        let epoch = EPOCH_VOLUMES * live_blocks.max(1);
        if self.promised.is_some() && self.written < epoch / 3 {
            self.victims = Default::default();
        } else if self.written >= epoch / 2 {
            self.check();
        }
        if self.written >= epoch {
            self.replan(live_blocks);
        }
    }

    /// Gives up the plan from the first group on that does not keep its promise.
    fn check(&mut self) {
        let Some(promised) = self.promised.take() else { return };
        let is_wrong = |group: u8| {
            let Victims { count, live } = self.victims[usize::from(group)];
            let found = live / f64::from(count.max(1));
            count >= VICTIMS_MIN && (found - promised[usize::from(group)]).abs() > DEVIATION_MAX
        };
        if let Some(group) = (0..self.plan.queues()).find(|&group| is_wrong(group)) {
            self.plan.give_up_from(group);
        }
    }

    fn replan(&mut self, live_blocks: u64) {
        let measured = 1.0 + self.moved as f64 / self.written as f64;
        let seen = Observed {
            intervals: &self.intervals,
            hot_share: self.hot_written as f64 / self.written as f64,
            young: self.hot.young(),
            segment_blocks: self.segment_blocks,
            live_blocks,
            segments: self.plan.sealed(),
        };
        let known = self.segment_blocks > 0 && seen.segments > 0;
        if let Some((sizes, forecast)) = best(&seen).filter(|(_, f)| known && f.wa < WORTH_CHANGING * measured) {
            self.plan.adopt(&sizes);
            self.promised = Some(forecast.live);
        }
        self.intervals.forget();
        (self.written, self.hot_written, self.moved) = (0, 0, 0);
        self.victims = Default::default();
    }
}

impl Placement for Midas {
    fn name(&self) -> &'static str {
        "midas"
    }

    fn classes(&self) -> u8 {
        CLASSES
    }

    fn user_write(&mut self, w: &WriteFacts) -> u8 {
        self.advance(w.live_blocks);
        let blocks = w.blocks.max(1);
        self.intervals.note(w.previous.map(|previous| w.now.saturating_sub(previous)), blocks);
        self.written += u64::from(blocks);
        if self.hot.write(w) {
            self.hot_written += u64::from(blocks);
            return HOT;
        }
        self.first()
    }

    fn cleaning_write(&mut self, m: &MoveFacts) -> u8 {
        self.emergency_move(m);
        self.next(m.from_class)
    }

    /// A block device is seldom told; the published code never is.
    fn discarded(&mut self, d: &DiscardFacts) {
        let blocks = u32::try_from(d.blocks).unwrap_or(u32::MAX);
        self.intervals.removed(d.now.saturating_sub(d.birth), blocks);
    }

    fn emergency_move(&mut self, m: &MoveFacts) {
        self.moved += u64::from(m.blocks.max(1));
        self.hot.moved(m.ino, m.first_block, m.blocks, m.from_class == HOT);
    }

    fn segment_cleaned(&mut self, s: &SegmentFacts, now: u64) {
        self.segment_blocks = s.capacity;
        let victims = &mut self.victims[usize::from(s.class.min(LAST))];
        victims.count += 1;
        victims.live += s.utilization();
        if s.class == HOT {
            self.hot.cleaned(s.age(now));
        }
    }

    fn bytes(&self) -> usize {
        size_of_val(self) + size_of_val(&*self.plan) + self.hot.bytes() + self.intervals.bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::midas::Sizes;

    fn moved(from_class: u8) -> MoveFacts {
        MoveFacts { blocks: 1, from_class, ..Default::default() }
    }

    #[test]
    fn survivors_go_on_to_the_next_group_and_stay_in_the_last() {
        let plan = Arc::new(Plan::default());
        let mut p = Midas::with(Arc::clone(&plan));
        let w = WriteFacts { live_blocks: 100, blocks: 1, ..Default::default() };
        let route = |p: &mut Midas| [0, 1, 2, 3, 4, 5, 9].map(|class| p.cleaning_write(&moved(class)));
        assert_eq!((p.user_write(&w), route(&mut p)), (1, [1, 2, 3, 4, 5, 5, 5]));
        plan.adopt(&Sizes { segments: [1, 9, 9, 0, 0, 0], queues: 3 });
        assert_eq!((p.user_write(&w), route(&mut p)), (1, [1, 2, 5, 5, 5, 5, 5]));
        plan.adopt(&Sizes { segments: [1, 0, 0, 0, 0, 0], queues: 1 });
        assert_eq!((p.user_write(&w), route(&mut p)), (5, [5, 5, 5, 5, 5, 5, 5]));
        plan.give_up_from(0);
        assert_eq!((p.user_write(&w), route(&mut p)), (1, [1, 2, 3, 4, 5, 5, 5]));
    }

    #[test]
    fn a_promise_that_is_not_kept_ends_the_plan_from_there() {
        let plan = Arc::new(Plan::default());
        let mut p = Midas::with(Arc::clone(&plan));
        plan.adopt(&Sizes { segments: [1, 9, 9, 9, 0, 0], queues: 4 });
        p.promised = Some([0.1, 0.5, 0.5, 0.5, 0.0, 0.0]);
        for now in 0..=200 {
            let w = WriteFacts {
                now,
                live_blocks: 100,
                blocks: 1,
                previous: Some(now.saturating_sub(9)),
                ..Default::default()
            };
            p.user_write(&w);
            // What is cleaned before the plan had time does not count.
            let live = if now < 133 { 99 } else { 50 };
            for (class, live) in [(1, live), (2, live + 15), (3, 90)] {
                p.segment_cleaned(&SegmentFacts { class, live, capacity: 100, ..Default::default() }, now);
            }
        }
        assert_eq!((plan.queues(), plan.recycles(), p.promised), (2, false, None));
    }

    #[test]
    fn a_plan_is_made_when_an_epoch_ends_and_sizes_are_known() {
        let plan = Arc::new(Plan::default());
        let mut p = Midas::with(Arc::clone(&plan));
        let mut write = |epochs: u64| {
            for now in 0..EPOCH_VOLUMES * 10_000 * epochs + 1 {
                let w = WriteFacts {
                    now,
                    first_block: now % 1000,
                    blocks: 1,
                    live_blocks: 10_000,
                    // Nine of ten writes are short-lived, but not so surely that they are hot.
                    previous: Some(now.saturating_sub(if now % 10 == 0 { 90_000 } else { 300 + now % 700 })),
                    ..Default::default()
                };
                p.user_write(&w);
                p.cleaning_write(&MoveFacts { first_block: now % 1000, ..moved(1) });
                p.segment_cleaned(&SegmentFacts { class: 1, live: 8, capacity: 64, ..Default::default() }, now);
            }
        };
        write(1);
        assert_eq!(plan.queues(), 0, "nobody said how many segments there are");
        plan.saw_sealed(190);
        write(1);
        assert!(plan.queues() >= 2 && plan.recycles(), "{plan:?}");
        assert!((15..30).contains(&plan.size(1)), "1000 blocks of the clock are 16 segments: {plan:?}");
    }
}
