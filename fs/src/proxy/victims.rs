//! Recommendations of victims: asked for ahead, taken by the cleaner without waiting.
//!
//! The cleaner's threads take from a list in memory; nobody on that path waits for another process or for the thread here (I8). The list is used up from
//! its best end, is current for a while of the write clock only, and what is taken from it is validated by the cleaner again (I4). Whatever is missing, late or
//! not the model's turn, the fixed rule chooses, in the same call.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use gleanfs_gc::advisor::{Answer, Decider, ROWS_MAX, Trust, TrustConfig, TrustLevel};
use gleanfs_gc::features::{VICTIM, VictimContext};
use gleanfs_gc::segment::SegmentFacts;
use parking_lot::{Condvar, Mutex};

use crate::cleaner::{Recommendation, Recommender};

use super::account::Account;
use super::oracle::{Deadlines, Oracle};
use super::phases::{Phases, costs_in_shadow};
use super::shared::{Authority, level_of};
use super::{Standing, join};

/// How often the thread looks at the worker and at the phases.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// A list is current until this share of the live blocks was written.
const CURRENT_SHARE: u64 = 128;
/// Scores that the end of a phase gives trust: two pairs of phases are a judgement.
const SCORES_PER_PHASE: u64 = 32;

/// Thresholds of trust for victims.
pub fn victim_trust_config() -> TrustConfig {
    TrustConfig { scored_min: 4 * SCORES_PER_PHASE, deadlines_window: 32, ..TrustConfig::default() }
}

/// The segments that could be cleaned, as they are at one moment.
#[derive(Clone, Debug, Default)]
pub struct Candidates {
    pub context: VictimContext,
    /// At most [`ROWS_MAX`].
    pub facts: Vec<SegmentFacts>,
    /// Their rows, one after the other.
    pub values: Vec<f32>,
    /// What the fixed rule would choose.
    pub rule: Option<SegmentFacts>,
    /// Blocks that the cleaner has moved since the mount.
    pub moved_blocks: u64,
    /// The most live blocks to move in one operation just now.
    pub moves_max: u32,
}

/// Fills in what there is, `facts` and `values` only if it is told so.
type Look = dyn Fn(&mut Candidates, bool) + Send;

/// What the thread needs to know of the filesystem.
pub struct VictimSurroundings {
    /// Whether cleaning is so pressing that nobody is asked.
    pub emergency: Box<dyn Fn() -> bool + Send>,
    pub look: Box<Look>,
}

/// What the cleaner and the thread share.
struct Posted {
    list: Mutex<List>,
    level: AtomicU8,
    /// Whether it is the model's turn.
    by_model: AtomicBool,
    wishes: Mutex<Wishes>,
    wished: Condvar,
    recommendations: AtomicU64,
    trust: Mutex<Trust>,
    authority: Authority,
    /// What models may cost; `None` if nobody keeps an account.
    account: Option<Arc<Account>>,
}

#[derive(Default)]
struct List {
    /// The best last.
    victims: Vec<Recommendation>,
    /// Write clock from which on it is out of date.
    until: u64,
}

#[derive(Default)]
struct Wishes {
    list: bool,
    stop: bool,
}

impl Posted {
    fn level(&self) -> TrustLevel {
        TrustLevel::from_code(self.level.load(Ordering::Relaxed))
    }

    fn wish(&self, change: impl FnOnce(&mut Wishes)) {
        change(&mut self.wishes.lock());
        self.wished.notify_all();
    }
}

impl Recommender for Posted {
    fn victim(&self, now: u64) -> Option<Recommendation> {
        // Asked for also while the model only watches.
        self.wish(|w| w.list = true);
        if !self.by_model.load(Ordering::Relaxed) {
            return None;
        }
        let mut list = self.list.try_lock()?;
        if now > list.until { None } else { list.victims.pop() }
    }
}

/// The running thread. Stopping it leaves the fixed rule in charge.
pub struct VictimProxy {
    posted: Arc<Posted>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl VictimProxy {
    /// Starts the thread that asks `oracle` and waits for each answer at most for `deadline`.
    pub fn start(
        oracle: Arc<dyn Oracle>,
        authority: Authority,
        trust: TrustConfig,
        deadline: Duration,
        account: Option<Arc<Account>>,
        around: VictimSurroundings,
    ) -> io::Result<Self> {
        let posted = Arc::new(Posted {
            list: Mutex::default(),
            level: AtomicU8::new(TrustLevel::Fallback as u8),
            by_model: AtomicBool::new(false),
            wishes: Mutex::default(),
            wished: Condvar::new(),
            recommendations: AtomicU64::new(0),
            trust: Mutex::new(Trust::new(trust)),
            authority,
            account,
        });
        let asker = Asker::new(Arc::clone(&posted), oracle, deadline, around);
        let thread = std::thread::Builder::new().name("victims".into()).spawn(move || asker.run())?;
        Ok(Self { posted, thread: Mutex::new(Some(thread)) })
    }

    /// What the cleaner asks.
    pub fn recommender(&self) -> Arc<dyn Recommender> {
        Arc::clone(&self.posted) as Arc<dyn Recommender>
    }

    /// What it has come to.
    pub fn standing(&self) -> Standing {
        Standing {
            level: self.posted.level(),
            authority: self.posted.authority,
            efficiency: self.posted.trust.lock().status().efficiency,
            recommendations: self.posted.recommendations.load(Ordering::Relaxed),
        }
    }

    /// Ends the thread; it may be waiting for an answer, at most for the deadline.
    pub fn stop(&self) {
        self.posted.wish(|w| w.stop = true);
        join(&self.thread);
    }
}

impl Drop for VictimProxy {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The thread.
struct Asker {
    posted: Arc<Posted>,
    oracle: Arc<dyn Oracle>,
    deadline: Duration,
    around: VictimSurroundings,
    generation: u64,
    candidates: Candidates,
    answer: Answer,
    /// Worth and place of the candidates.
    order: Vec<(f32, usize)>,
    /// The next list, whose memory the one in place gives back.
    spare: Vec<Recommendation>,
    serial: u64,
    deadlines: Deadlines,
    phases: Phases,
    looked: Option<Instant>,
}

impl Asker {
    fn new(posted: Arc<Posted>, oracle: Arc<dyn Oracle>, deadline: Duration, around: VictimSurroundings) -> Self {
        Self {
            posted,
            oracle,
            deadline,
            around,
            generation: 0,
            candidates: Candidates {
                facts: Vec::with_capacity(ROWS_MAX),
                values: Vec::with_capacity(ROWS_MAX * VICTIM.len()),
                ..Candidates::default()
            },
            answer: Answer::with_capacity(),
            order: Vec::with_capacity(ROWS_MAX),
            spare: Vec::with_capacity(ROWS_MAX),
            serial: 0,
            deadlines: Deadlines::default(),
            phases: Phases::default(),
            looked: None,
        }
    }

    /// Until it is told to stop.
    fn run(mut self) {
        while let Some(wanted) = self.wait() {
            if self.looked.is_none_or(|at| at.elapsed() >= LOOK_EVERY) {
                self.look();
            }
            if wanted && self.serial > 0 && !(self.around.emergency)() {
                self.ask();
            }
        }
        self.posted.by_model.store(false, Ordering::Relaxed);
        self.posted.level.store(TrustLevel::Fallback as u8, Ordering::Relaxed);
    }

    /// Whether a list is wanted; `None` when it is time to end.
    fn wait(&self) -> Option<bool> {
        let mut wishes = self.posted.wishes.lock();
        if !wishes.list && !wishes.stop {
            self.posted.wished.wait_for(&mut wishes, LOOK_EVERY);
        }
        let wanted = std::mem::take(&mut wishes.list);
        (!wishes.stop).then_some(wanted)
    }

    /// Looks at the worker, at what cleaning has cost, and puts the level in force that follows.
    fn look(&mut self) {
        self.looked = Some(Instant::now());
        (self.around.look)(&mut self.candidates, false);
        let (now, live, moved) =
            (self.candidates.context.now, self.candidates.context.live_blocks, self.candidates.moved_blocks);
        let service = self.oracle.service();
        let ready = service.is_some_and(|service| service.ready);
        let level_before = self.posted.level();
        let posted = Arc::clone(&self.posted);
        let mut trust = posted.trust.lock();
        if let Some(service) = service.filter(|s| s.ready && s.serial != self.serial) {
            trust.model_changed();
            self.serial = service.serial;
            self.phases.model_changed(now);
        }
        trust.worker(ready);
        if let Some(account) = &posted.account {
            trust.permit(account.most_for_victims(), false);
        }
        self.deadlines.tell(&*self.oracle, &mut trust);
        if let Some(costs) = self.phases.look(level_before, now, live, moved) {
            (0..SCORES_PER_PHASE).for_each(|_| trust.scored(costs));
        }
        let level = level_of(posted.authority, &trust, ready);
        drop(trust);
        if level != level_before {
            posted.level.store(level as u8, Ordering::Relaxed);
            self.phases.begin(now);
        }
        let by_model = match posted.authority {
            Authority::Forced => ready,
            Authority::Earned(_) => self.phases.decider(level) == Decider::Model,
        };
        posted.by_model.store(by_model, Ordering::Relaxed);
        if let Some(account) = posted.account.as_ref().filter(|_| level > TrustLevel::Learning) {
            account.victims_decide();
        }
    }

    /// Asks about the candidates of this moment and posts what comes in time.
    fn ask(&mut self) {
        let candidates = &mut self.candidates;
        (self.around.look)(candidates, true);
        if candidates.facts.is_empty() {
            return;
        }
        self.generation += 1;
        if !self.oracle.post(self.generation, candidates.facts.len(), &candidates.values)
            || !self.oracle.answer(self.generation, self.deadline, &mut self.answer)
        {
            return;
        }
        let Answer { generation, values, model_serial, .. } = &self.answer;
        if *generation != self.generation || values.len() != candidates.facts.len() || *model_serial != self.serial {
            self.looked = None;
            return;
        }
        self.order.clear();
        let worths = values.iter().copied().zip(0..);
        self.order.extend(worths.filter(|&(worth, at)| worth.is_finite() && !self.candidates.facts[at].is_full()));
        self.order.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
        self.score();
        self.post();
    }

    /// While the model only watches, its first choice is scored beside the rule's.
    fn score(&self) {
        let Some((_, best)) = self.order.last() else { return };
        if let Some(rule) = self.candidates.rule.filter(|_| self.posted.level() == TrustLevel::Learning) {
            let facts = &self.candidates.facts;
            self.posted.trust.lock().scored(costs_in_shadow(&facts[*best], &rule, facts));
        }
    }

    fn post(&mut self) {
        let Candidates { context, facts, moves_max, .. } = &self.candidates;
        self.spare.clear();
        self.spare.extend(self.order.iter().map(|&(_, at)| Recommendation {
            seg: facts[at].seg,
            sealed: facts[at].seal_clock,
            moves_max: *moves_max,
        }));
        let until = context.now + (context.live_blocks / CURRENT_SHARE).max(1);
        self.posted.recommendations.fetch_add(self.spare.len() as u64, Ordering::Relaxed);
        let mut list = self.posted.list.lock();
        std::mem::swap(&mut list.victims, &mut self.spare);
        list.until = until;
    }
}

#[cfg(test)]
mod tests {
    use super::super::oracle::Service;
    use super::*;
    use gleanfs_gc::features::LikenessMask;

    /// Answers at once that fuller segments are better, or nothing at all.
    struct Contrary {
        answers: AtomicBool,
        asked: Mutex<Vec<f32>>,
    }

    impl Oracle for Contrary {
        fn service(&self) -> Option<Service> {
            Some(Service { ready: true, serial: 7, reads: LikenessMask::ALL, digest: 0 })
        }

        fn post(&self, _generation: u64, _rows: usize, values: &[f32]) -> bool {
            *self.asked.lock() = values.to_vec();
            self.answers.load(Ordering::Relaxed)
        }

        fn answer(&self, generation: u64, _patience: Duration, answer: &mut Answer) -> bool {
            let values = self.asked.lock().chunks(VICTIM.len()).map(|row| row[0]).collect();
            *answer = Answer { generation, values, model_serial: 7, ..Answer::default() };
            true
        }

        fn deadlines(&self) -> (u64, u64) {
            (0, 0)
        }
    }

    fn started(answers: bool, emergency: bool) -> (VictimProxy, Arc<AtomicU64>) {
        let now = Arc::new(AtomicU64::new(1000));
        let clock = Arc::clone(&now);
        let look = move |c: &mut Candidates, facts: bool| {
            c.context = VictimContext { now: clock.load(Ordering::Relaxed), live_blocks: 1280, free_share: 0.1 };
            c.moves_max = 9;
            if facts {
                c.facts.clear();
                c.values.clear();
                c.facts.extend([(3, 10), (4, 90), (5, 100), (6, 50)].map(|(seg, live)| SegmentFacts {
                    seg,
                    live,
                    capacity: 100,
                    seal_clock: u64::from(seg),
                    ..SegmentFacts::default()
                }));
                c.facts.iter().for_each(|s| c.values.extend_from_slice(&c.context.row(s, None)));
            }
        };
        let oracle = Arc::new(Contrary { answers: AtomicBool::new(answers), asked: Mutex::default() });
        let around = VictimSurroundings { emergency: Box::new(move || emergency), look: Box::new(look) };
        let proxy = VictimProxy::start(oracle, Authority::Forced, victim_trust_config(), LOOK_EVERY, None, around);
        (proxy.unwrap(), now)
    }

    /// The next recommendation, waited for as the cleaner never would.
    fn patiently(proxy: &VictimProxy, now: u64) -> Option<Recommendation> {
        let since = Instant::now();
        while since.elapsed() < Duration::from_secs(10) {
            if let Some(found) = proxy.recommender().victim(now) {
                return Some(found);
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        None
    }

    #[test]
    fn the_best_comes_first_full_ones_never_and_an_old_list_is_not_used() {
        let (proxy, now) = started(true, false);
        assert_eq!(patiently(&proxy, 1000), Some(Recommendation { seg: 4, sealed: 4, moves_max: 9 }));
        assert_eq!(proxy.recommender().victim(1000 + 11), None, "a hundredth of the live blocks was written since");
        now.store(1011, Ordering::Relaxed);
        assert_eq!(patiently(&proxy, 1011).map(|r| r.seg), Some(4), "asked again");
        proxy.stop();
        assert_eq!(proxy.recommender().victim(1011), None, "stopped");
    }

    #[test]
    fn nobody_is_asked_in_an_emergency_and_a_worker_that_does_not_answer_is_not_waited_for() {
        for (answers, emergency) in [(true, true), (false, false)] {
            let (proxy, _) = started(answers, emergency);
            for _ in 0..100 {
                assert_eq!(proxy.recommender().victim(1000), None);
                std::thread::sleep(Duration::from_millis(1));
            }
            assert_eq!(proxy.standing().recommendations, 0);
        }
    }
}
