//! The cleaner: gives room to the log by moving live blocks out of sealed segments.
//!
//! Beside `namespace`, above `meta` and `log`. A policy (`gleanfs_gc`) chooses; this moves. Every victim and every block is validated
//! again (I4): a bad choice costs speed, never data. Cleaning frees nothing until a checkpoint is durable (I2, I5).
//!
//! - `moving`: one segment emptied. - `workspace`: the memory for it. - `marks`: watermarks and pressure. - `background`: the threads. - `relief`: operations that
//!   wait for room. - `pacing`: how fast users may write meanwhile.

mod background;
mod marks;
mod moving;
mod pacing;
mod relief;
mod workspace;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Instant;

use gleanfs_gc::features::VictimContext;
use gleanfs_gc::index::UtilizationIndex;
use gleanfs_gc::segment::SegmentFacts;
use gleanfs_gc::telemetry::{By, Event};
use gleanfs_gc::victim::{Greedy, VictimPolicy};
use parking_lot::Condvar;

use crate::error::Result;
use crate::format::chunk::PAYLOAD_MAX;
use crate::lock_order::{Mutex, MutexGuard, Place};
use crate::meta::volume::Volume;
use crate::types::SegNo;

use workspace::Workspace;

pub use background::Background;
pub use marks::{Marks, Pressure};
pub use moving::Moved;

/// Who chose a victim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decider {
    /// The advisor's model.
    Model,
    /// The fixed policy.
    Fallback,
    /// Greedy, in an emergency.
    Emergency,
}

/// What one decider's choices came to.
#[derive(Debug, Default)]
pub struct Work {
    pub segments: AtomicU64,
    pub moved_blocks: AtomicU64,
    /// Blocks of the cleaned segments that need not be moved.
    pub freed_blocks: AtomicU64,
    pub nodes: AtomicU64,
}

/// Work done since the mount.
#[derive(Debug, Default)]
pub struct Counters {
    pub model: Work,
    pub fallback: Work,
    pub emergency: Work,
    pub lost_blocks: AtomicU64,
    /// Operations that had to wait for room, and the longest wait.
    pub waits: AtomicU64,
    pub longest_wait_us: AtomicU64,
    /// Time for which answers were held back, all together.
    pub throttled_us: AtomicU64,
}

/// A victim that somebody recommends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recommendation {
    pub seg: u32,
    /// Write clock of its seal, by which it is known to be still the same.
    pub sealed: u64,
    /// The most live blocks to move in one operation.
    pub moves_max: u32,
}

/// Who recommends, ahead of need; asked without waiting.
pub trait Recommender: Send + Sync {
    /// The best that is at hand and current at this write clock. It is not offered again.
    fn victim(&self, now: u64) -> Option<Recommendation>;
}

/// Recommendations that are looked at for one decision: the first may name what is being cleaned or was just now.
const RECOMMENDATIONS_TRIED: usize = 4;
/// Of what fits one operation, the share that calm cleaning moves at once.
const CALM_SHARE: u32 = 4;

/// The cleaner of a volume.
pub struct Cleaner {
    volume: Arc<Volume>,
    pacing: pacing::Pacing,
    policy: Mutex<Box<dyn VictimPolicy>>,
    recommender: Mutex<Option<Arc<dyn Recommender>>>,
    enabled: AtomicBool,
    /// Everything happens on the callers' threads.
    inline: bool,
    /// One victim at a time.
    cleaning: Mutex<Workspace>,
    /// The background thread empties a segment and does not wait for room.
    at_work: AtomicBool,
    wishes: Mutex<Wishes>,
    wished: Condvar,
    pub counters: Counters,
}

/// What was decided.
struct Choice {
    decider: Decider,
    victim: SegmentFacts,
    /// The most live blocks to move in one operation.
    moves_max: u32,
}

/// What the background threads are asked for.
#[derive(Default)]
struct Wishes {
    clean: bool,
    checkpoint: bool,
    /// The cleaner found nothing that it could clean.
    is_stuck: bool,
    stop: bool,
}

impl Cleaner {
    /// A cleaner for `volume`, which it serves as relief from now on. `inline`: no threads are to be started.
    pub fn new(volume: Arc<Volume>, policy: Box<dyn VictimPolicy>, inline: bool) -> Arc<Self> {
        let cleaner = Arc::new(Self {
            pacing: pacing::Pacing::new(),
            policy: Mutex::new(Place::Policy, policy),
            recommender: Mutex::new(Place::Recommender, None),
            enabled: AtomicBool::new(true),
            inline,
            cleaning: Mutex::new(Place::Cleaning, Workspace::new(volume.room().segment_blocks, volume.heads())),
            at_work: AtomicBool::new(false),
            wishes: Mutex::new(Place::Wishes, Wishes::default()),
            wished: Condvar::new(),
            counters: Counters::default(),
            volume: Arc::clone(&volume),
        });
        let relief: Weak<Self> = Arc::downgrade(&cleaner);
        volume.set_relief(relief);
        volume.attend();
        cleaner
    }

    /// The fixed policy from now on.
    pub fn set_policy(&self, policy: Box<dyn VictimPolicy>) {
        *self.policy.lock() = policy;
    }

    pub fn policy_name(&self) -> &'static str {
        self.policy.lock().name()
    }

    /// Whose recommendations are used, or nobody's.
    pub fn set_recommender(&self, recommender: Option<Arc<dyn Recommender>>) {
        *self.recommender.lock() = recommender;
    }

    /// Idle and paced cleaning on or off; operations that wait for room are served either way.
    pub fn set_enabled(&self, enabled: bool) {
        self.enabled.store(enabled, Ordering::Relaxed);
        self.wish(|w| w.clean = enabled);
    }

    pub fn is_enabled(&self) -> bool {
        self.enabled.load(Ordering::Relaxed)
    }

    /// Those of the device's present size.
    pub fn marks(&self) -> Marks {
        Marks::new(&self.volume.room())
    }

    /// Blocks of a segment.
    pub fn segment_blocks(&self) -> u32 {
        self.volume.room().segment_blocks
    }

    /// How pressing it is. Segments that only wait for a checkpoint count: it is on its way, and greed would not bring it sooner.
    pub fn pressure(&self) -> Pressure {
        self.marks().pressure(self.obtainable())
    }

    /// Cleans one segment. `None` if there is none worth it. The longest part holds no lock that an operation needs.
    pub fn clean_one(&self) -> Result<Option<moving::Moved>> {
        self.clean_next(self.cleaning.lock())
    }

    fn clean_next(&self, mut space: MutexGuard<'_, Workspace>) -> Result<Option<moving::Moved>> {
        let emergency = self.pressure() == Pressure::Emergency;
        let begun = Instant::now();
        if let Some(seg) = self.to_drain().filter(|_| !emergency) {
            return self.drain(seg, &mut space).map(Some);
        }
        let Some(Choice { decider, victim, moves_max }) = self.choose(emergency) else { return Ok(None) };
        let how = moving::How { emergency, moves_max, lost: &self.counters.lost_blocks };
        let seg = SegNo(victim.seg);
        let moved = moving::empty_segment(&self.volume, seg, &how, &mut space)?;
        self.volume.log().lock().segments.set_aside(seg);
        let work = match decider {
            Decider::Model => &self.counters.model,
            Decider::Fallback => &self.counters.fallback,
            Decider::Emergency => &self.counters.emergency,
        };
        work.segments.fetch_add(1, Ordering::Relaxed);
        work.moved_blocks.fetch_add(u64::from(moved.blocks), Ordering::Relaxed);
        work.nodes.fetch_add(u64::from(moved.nodes), Ordering::Relaxed);
        let freed = self.volume.room().segment_blocks.saturating_sub(moved.blocks + moved.nodes);
        work.freed_blocks.fetch_add(u64::from(freed), Ordering::Relaxed);
        self.pacing.cleaned(freed, begun.elapsed());
        self.tell(&victim, decider);
        Ok(Some(moved))
    }

    /// A segment that the device takes nothing for any more, with something live in it.
    fn to_drain(&self) -> Option<SegNo> {
        self.volume.log().lock().segments.to_drain()
    }

    /// Moves what lives out of a bad segment while it can still be read. That gives no room, so nobody is told of a victim.
    fn drain(&self, seg: SegNo, space: &mut Workspace) -> Result<moving::Moved> {
        let lost = &self.counters.lost_blocks;
        let how = moving::How { emergency: false, moves_max: self.moves_max(), lost };
        let moved = moving::empty_segment(&self.volume, seg, &how, space)?;
        self.volume.log().lock().segments.set_aside(seg);
        tracing::warn!("moved {} blocks out of segment {seg}, which is out of use", moved.blocks);
        Ok(moved)
    }

    /// Whether some segment is less utilized than `utilization_max`.
    pub fn gain_left(&self, utilization_max: f64) -> bool {
        self.volume.log().lock().segments.index.emptiest().is_some_and(|s| s.utilization() < utilization_max)
    }

    /// Rule 2 of the two axes: in an emergency greedy decides, in process; otherwise a recommendation at hand, otherwise the
    /// fixed policy, in the same call.
    fn choose(&self, emergency: bool) -> Option<Choice> {
        let (now, shortage) = (self.volume.write_clock().0, self.shortage());
        // In an emergency nobody is asked, so nothing needs to be known.
        let context = if emergency { VictimContext::default() } else { self.context(now) };
        let inner = self.volume.log().lock();
        let index = &inner.segments.index;
        let greedy = Greedy.choose(index, now)?;
        let choice = |decider, s: &SegmentFacts| Choice { decider, victim: *s, moves_max: PAYLOAD_MAX };
        if emergency {
            return Some(choice(Decider::Emergency, &greedy));
        }
        // The shorter room is, the less of what could be gained now may be given up for a gain to come.
        let gain_min = shortage * f64::from(greedy.capacity - greedy.live);
        let gains_enough = |s: &SegmentFacts| f64::from(s.capacity - s.live) >= gain_min;
        match self.recommended(index, now).filter(|(s, _)| gains_enough(s)) {
            Some((s, moves_max)) => Some(Choice { moves_max, ..choice(Decider::Model, &s) }),
            None => {
                let chosen = self.ask(index, &context)?;
                Some(choice(Decider::Fallback, if gains_enough(&chosen) { &chosen } else { &greedy }))
            }
        }
    }

    /// A recommended segment that is still sealed, has not been another since, and is not full (I4), and how much of it to move at once.
    fn recommended(&self, index: &UtilizationIndex, now: u64) -> Option<(SegmentFacts, u32)> {
        let recommender = self.recommender.lock().clone()?;
        let current = |r: Recommendation| {
            let s = index.get(r.seg).filter(|s| s.seal_clock == r.sealed && !s.is_full())?;
            Some((*s, r.moves_max))
        };
        (0..RECOMMENDATIONS_TRIED).map_while(|_| recommender.victim(now)).find_map(current)
    }

    /// The most live blocks that a recommendation has moved in one operation: few while there is room, so that users' writes come between.
    pub fn moves_max(&self) -> u32 {
        let calm = PAYLOAD_MAX / CALM_SHARE;
        calm + (f64::from(PAYLOAD_MAX - calm) * self.shortage()) as u32
    }

    /// Shows `see` the index, what the volume is like, and what the fixed policy would choose, under the log's lock.
    pub fn survey<T>(&self, see: impl FnOnce(&UtilizationIndex, VictimContext, Option<SegmentFacts>) -> T) -> T {
        let context = self.context(self.volume.write_clock().0);
        let inner = self.volume.log().lock();
        let rule = self.ask(&inner.segments.index, &context);
        see(&inner.segments.index, context, rule)
    }

    /// What the volume is like. Takes locks that may not be asked for under the log's.
    fn context(&self, now: u64) -> VictimContext {
        let free_share = self.volume.log().available_segments() as f32 / self.volume.identity().segments.max(1) as f32;
        VictimContext { now, live_blocks: self.volume.live_data_blocks(), free_share }
    }

    /// The fixed policy's choice.
    fn ask(&self, index: &UtilizationIndex, context: &VictimContext) -> Option<SegmentFacts> {
        let mut policy = self.policy.lock();
        policy.tell(context);
        policy.choose(index, context.now)
    }

    /// Blocks moved since the mount, whoever chose the victims.
    pub fn moved_blocks(&self) -> u64 {
        let Counters { model, fallback, emergency, .. } = &self.counters;
        [model, fallback, emergency].iter().map(|work| work.moved_blocks.load(Ordering::Relaxed)).sum()
    }

    /// The facts are those of the choice, but for the class: the index takes segments of nodes for class 0.
    fn tell(&self, victim: &SegmentFacts, decider: Decider) {
        let now = self.volume.write_clock().0;
        let class = self.volume.log().lock().segments.get(SegNo(victim.seg)).head;
        let segment = SegmentFacts { class, ..*victim };
        let by = match decider {
            Decider::Model => By::Model,
            Decider::Fallback => By::Rule,
            Decider::Emergency => By::Emergency,
        };
        let mut placement = self.volume.placement.lock();
        placement.segment_cleaned(&segment, now);
        self.volume.taps.tell(|| Event::Victim { segment, now, by });
    }

    fn wish(&self, change: impl FnOnce(&mut Wishes)) {
        change(&mut self.wishes.lock());
        self.wished.notify_all();
    }

    fn note_wait(&self, since: Instant) {
        let us = since.elapsed().as_micros() as u64;
        self.counters.waits.fetch_add(1, Ordering::Relaxed);
        self.counters.longest_wait_us.fetch_max(us, Ordering::Relaxed);
    }
}
