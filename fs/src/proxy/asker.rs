//! The proxy's thread: asks what the write path would like to know, stores the answers, and keeps the books of trust.
//!
//! Nobody waits for it. It waits for the worker, at most for the deadline, with no lock held that anybody else takes on the path of a write.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use gleanfs_gc::advisor::{Answer, Costs, Decider, ROWS_MAX, TrustLevel};
use gleanfs_gc::features::PLACEMENT;
use gleanfs_gc::placement::lifetime_class;

use super::ghosts::{Ghosts, LogAround};
use super::oracle::{Deadlines, Oracle};
use super::placement::Fallback;
use super::questions::{Question, Questions};
use super::shared::{Blocks, Evidence, Inheritance, Shared, level_of};

/// How often it looks at the worker and at the evidence.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Decisions that one look gives trust at most: a burst is one observation of the load, not many.
const SCORED_MAX: u64 = 256;
/// After a change of level this share of the live blocks is written before work counts: what lies in the segments is still the old
/// level's.
const SETTLING_SHARE: u64 = 8;

/// What the thread needs to know of the filesystem.
pub struct Surroundings {
    /// Whether cleaning is so pressing that nobody is asked.
    pub emergency: Box<dyn Fn() -> bool + Send>,
    pub segment_blocks: u32,
    pub log: LogAround,
}

/// See the module.
pub(super) struct Asker {
    shared: Arc<Shared>,
    oracle: Arc<dyn Oracle>,
    emergency: Box<dyn Fn() -> bool + Send>,
    segment_blocks: u32,
    ghosts: Ghosts,
    /// How long an answer is waited for.
    deadline: Duration,
    generation: u64,
    values: Vec<f32>,
    answer: Answer,
    looked: Option<Instant>,
    deadlines: Deadlines,
    /// Write clock and live blocks when there was evidence last.
    clock: (u64, u64),
    /// Work does not count before this write clock.
    settled: u64,
    model: Blocks,
    fallback: Blocks,
}

impl Asker {
    pub fn new(
        shared: Arc<Shared>,
        oracle: Arc<dyn Oracle>,
        deadline: Duration,
        fallback: Fallback,
        around: Surroundings,
    ) -> Self {
        Self {
            ghosts: Ghosts::new(Arc::clone(&shared), fallback, around.log),
            shared,
            oracle,
            emergency: around.emergency,
            segment_blocks: around.segment_blocks,
            deadline,
            generation: 0,
            values: Vec::with_capacity(ROWS_MAX * PLACEMENT.len()),
            answer: Answer::with_capacity(),
            looked: None,
            deadlines: Deadlines::default(),
            clock: (0, 0),
            settled: 0,
            model: Blocks::default(),
            fallback: Blocks::default(),
        }
    }

    /// Until it is told to stop.
    pub fn run(mut self) {
        let mut taken = Questions::spare();
        self.look();
        while self.shared.questions.take(&mut taken, LOOK_EVERY) {
            if self.looked.is_none_or(|at| at.elapsed() >= LOOK_EVERY) {
                self.look();
            }
            for batch in taken.chunks(ROWS_MAX) {
                self.ask(batch);
            }
            taken.clear();
        }
        self.shared.set_asking(false);
        self.shared.set_level(TrustLevel::Fallback);
    }

    /// Asks about a batch and stores what comes in time. What does not is asked again when somebody wants to know it again.
    fn ask(&mut self, batch: &[Question]) {
        if (self.emergency)() {
            return;
        }
        self.values.clear();
        batch.iter().for_each(|question| self.values.extend_from_slice(&question.row));
        self.generation += 1;
        if !self.oracle.post(self.generation, batch.len(), &self.values)
            || !self.oracle.answer(self.generation, self.deadline, &mut self.answer)
        {
            return;
        }
        let Answer { generation, values, model_serial, .. } = &self.answer;
        // Of a model that took over just now nothing is known yet, not even what it reads.
        if *generation != self.generation || values.len() != batch.len() || *model_serial != self.shared.serial() {
            self.looked = None;
            return;
        }
        let now = self.shared.now_secs();
        let mut stored = 0;
        for (question, y) in batch.iter().zip(values).filter(|(_, y)| y.is_finite()) {
            self.shared.memo.answer(question.like, lifetime_class(*y), *model_serial, now);
            stored += 1;
        }
        self.shared.recommendations.fetch_add(stored, Ordering::Relaxed);
    }

    /// Looks at the worker and the evidence, and puts the level in force that follows from them.
    pub(super) fn look(&mut self) {
        self.looked = Some(Instant::now());
        let service = self.oracle.service();
        let ready = service.is_some_and(|service| service.ready);
        let evidence = self.shared.take_evidence();
        if evidence.now > 0 {
            self.clock = (evidence.now, evidence.live_blocks);
        }
        let shared = Arc::clone(&self.shared);
        let most = self.ghosts.passed(&evidence, shared.level());
        let regret = self.ghosts.status();
        *shared.regret.lock() = regret;
        let mut trust = shared.trust.lock();
        if let Some(service) = service.filter(|s| s.ready && s.serial != shared.serial()) {
            // An heir goes on where the one before it was: learned models follow each other faster than any could be judged.
            if shared.set_model(service.serial, service.reads, service.digest) == Inheritance::Stranger {
                trust.model_changed();
            }
        }
        trust.worker(ready);
        trust.permit(most, regret.regret_blocks > 0.0);
        self.deadlines.tell(&*self.oracle, &mut trust);
        self.count(&mut trust, &evidence);
        let level = level_of(shared.authority, &trust, ready);
        drop(trust);
        if level != shared.level() {
            shared.set_level(level);
            self.settled = self.clock.0 + self.clock.1 / SETTLING_SHARE;
            (self.model, self.fallback) = (Blocks::default(), Blocks::default());
        }
        shared.set_asking(ready && !(self.emergency)());
    }

    /// Tells trust what both choices cost.
    fn count(&mut self, trust: &mut gleanfs_gc::advisor::Trust, evidence: &Evidence) {
        let prices = &evidence.prices;
        let mean = |sum: f64| sum / prices.count.max(1) as f64;
        let costs = Costs {
            model: mean(prices.model.max(prices.leashed)),
            fallback: mean(prices.fallback),
            alike: mean(prices.alike),
        };
        for _ in 0..prices.count.min(SCORED_MAX) {
            trust.scored(costs);
        }
        if self.clock.0 < self.settled {
            return;
        }
        let unit = u64::from(self.segment_blocks.max(1));
        for (by, sum, new) in [
            (Decider::Model, &mut self.model, &evidence.model),
            (Decider::Fallback, &mut self.fallback, &evidence.fallback),
        ] {
            sum.written += new.written;
            sum.moved += new.moved;
            // Work is counted per segment's worth of what users wrote: so many segments had to be freed for it.
            if sum.written >= unit {
                let freed = sum.written / unit;
                // With half of what was written: where next to nothing is moved, twice as much is still next to nothing.
                let work = sum.moved + freed * unit / 2;
                match self.shared.level() {
                    TrustLevel::Learning => trust.worked_before(by, work, freed),
                    _ => trust.worked(by, work, freed),
                }
                *sum = Blocks { written: sum.written % unit, moved: 0 };
            }
        }
    }
}
