//! How much the recommendations may decide, from what has been seen of them.
//!
//! A pure state machine: evidence goes in, a level comes out, nothing else happens. The levels are
//! those of the kernel ML library's proposal. Up goes one level at a time, on evidence; down too,
//! for repeated misses or when the model falls behind the fallback. Between the two thresholds
//! nothing changes, so that noise does not swing it.
//!
//! Two kinds of evidence. *Scores* price both choices for the same blocks, at every level: they are paired, so what differs between
//! blocks does not disturb them, and a judgement is good to a few per cent. They alone raise a model. *Work* is what the blocks of either have cost the
//! cleaner. The two groups of blocks differ, and on a skewed load they differ much and for good; so work counts only if it is gross, and at *collaboration*
//! it is set against what the two groups cost before, when the fallback decided for both.
//!
//! A model that is as good must not be kept out by noise, and a worse one must not stay: the thresholds leave room for equals, a model that is
//! behind time after time goes down even if it is not far behind, and each fall doubles the evidence that the next step up takes. So what a bad
//! model can cost is bounded: the time that it decides shrinks against the time that it watches.

use serde::Serialize;

/// See the module's description; ordered from no trust to full trust.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum TrustLevel {
    /// The fallback decides.
    Fallback,
    /// The fallback decides; the model's answers are scored against its choices.
    Learning,
    /// The model decides an eighth of the operations: enough to see what comes of it, too little to do harm.
    Collaboration,
    /// The model decides.
    Recommendation,
}

impl TrustLevel {
    /// The level that `code as u8` came from.
    pub fn from_code(code: u8) -> TrustLevel {
        const LEVELS: [TrustLevel; 4] =
            [TrustLevel::Fallback, TrustLevel::Learning, TrustLevel::Collaboration, TrustLevel::Recommendation];
        LEVELS[usize::from(code) % LEVELS.len()]
    }

    /// Who decides the operation with this hash (of an inode or a stretch of one). The same hash has the
    /// same decider for as long as the level lasts.
    pub fn assign(self, hash: u64) -> Decider {
        // The upper bits of a multiplicative hash: neighbouring inodes must not fall together.
        let bucket = hash.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 60;
        let model_buckets = match self {
            TrustLevel::Fallback | TrustLevel::Learning => 0,
            TrustLevel::Collaboration => 2,
            TrustLevel::Recommendation => 15,
        };
        if bucket < model_buckets { Decider::Model } else { Decider::Fallback }
    }
}

/// Who decides an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Decider {
    Model,
    Fallback,
}

/// Most judgements that a model which has fallen again and again must pass for a step up.
const PROBATION_MAX: u32 = 32;

/// Thresholds. Ratios are the model's cost over the fallback's: below 1 the model is better.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct TrustConfig {
    /// Scored decisions that make up one judgement while learning.
    pub scored_min: u64,
    /// Segments that each side must have freed for one judgement of their work.
    pub freed_min: u64,
    /// A ratio up to this is a step up: as good, as far as can be told.
    pub promote_ratio: f64,
    /// Where making no difference between blocks costs less than this over the fallback, no step up, unless the model is better by as much.
    pub telling_ratio: f64,
    /// A ratio above this so many times in a row is a step down ...
    pub behind_ratio: f64,
    pub behind_times: u32,
    /// ... and above this at once.
    pub demote_ratio: f64,
    /// The same while learning, where nothing is at stake and little is known at first.
    pub demote_ratio_learning: f64,
    /// Of the last so many scores a ratio above this ends trust at once: nothing like the model that was trusted.
    pub alarm_min: u64,
    pub alarm_ratio: f64,
    /// The same for work.
    pub demote_ratio_work: f64,
    /// Deadlines that make up one judgement of punctuality.
    pub deadlines_window: u64,
    /// A larger share of missed deadlines is a step down.
    pub missed_share_max: f64,
    /// With a larger share of missed deadlines there is no step up.
    pub missed_share_promote: f64,
    /// Observations that a model sits out after it failed to learn; doubles each time ...
    pub sit_out_min: u64,
    /// ... up to this.
    pub sit_out_max: u64,
}

impl Default for TrustConfig {
    fn default() -> TrustConfig {
        TrustConfig {
            scored_min: 64,
            freed_min: 16,
            promote_ratio: 1.05,
            telling_ratio: 1.2,
            behind_ratio: 1.08,
            behind_times: 3,
            demote_ratio: 1.2,
            demote_ratio_learning: 2.0,
            alarm_min: 64,
            alarm_ratio: 2.0,
            demote_ratio_work: 1.4,
            deadlines_window: 64,
            missed_share_max: 0.25,
            missed_share_promote: 0.05,
            sit_out_min: 256,
            sit_out_max: 16_384,
        }
    }
}

/// What the cleaner's work cost under one decider.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Work {
    pub moved_blocks: f64,
    pub freed_segments: f64,
}

impl Work {
    fn per_segment(&self) -> f64 {
        self.moved_blocks / self.freed_segments.max(1.0)
    }

    fn halve(&mut self) {
        self.moved_blocks /= 2.0;
        self.freed_segments /= 2.0;
    }
}

/// What choices for the same block would have cost, in any one unit.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Costs {
    pub model: f64,
    pub fallback: f64,
    /// Of making no difference between blocks.
    pub alike: f64,
}

impl Costs {
    fn are_usable(&self) -> bool {
        [self.model, self.fallback, self.alike].iter().all(|cost| cost.is_finite() && *cost >= 0.0)
    }
}

/// The state machine.
#[derive(Debug, Clone)]
pub struct Trust {
    config: TrustConfig,
    level: TrustLevel,
    available: bool,
    /// What the account of what models have cost allows.
    most: TrustLevel,
    scores: Scores,
    /// Those of the alarm.
    recent: Scores,
    model: Work,
    fallback: Work,
    /// What the two groups of *collaboration* cost while the fallback decides for both.
    before: [Work; 2],
    /// Judgements in a row that found the model behind.
    behind: u32,
    /// Judgements that found it as good, less those that did not.
    good: u32,
    /// So many of them it takes for a step up.
    probation: u32,
    deadlines: Deadlines,
    sit_out: u64,
    sit_out_next: u64,
    promotions: u64,
    demotions: u64,
    efficiency: Option<f64>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Scores {
    count: u64,
    costs: Costs,
}

impl Scores {
    fn add(&mut self, costs: &Costs) {
        self.count += 1;
        self.costs.model += costs.model;
        self.costs.fallback += costs.fallback;
        self.costs.alike += costs.alike;
    }
}

#[derive(Debug, Clone, Copy, Default)]
struct Deadlines {
    met: u64,
    missed: u64,
    /// Share missed in the last full window.
    share: f64,
}

/// The state machine as users see it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct TrustStatus {
    pub level: TrustLevel,
    pub promotions: u64,
    pub demotions: u64,
    /// The last judged ratio of the model's cost to the fallback's.
    pub efficiency: Option<f64>,
    pub missed_share: f64,
    pub model: Work,
    pub fallback: Work,
    /// Observations until the model gets another chance.
    pub sit_out: u64,
}

impl Trust {
    pub fn new(config: TrustConfig) -> Trust {
        Trust {
            config,
            level: TrustLevel::Fallback,
            available: false,
            most: TrustLevel::Recommendation,
            scores: Scores::default(),
            recent: Scores::default(),
            model: Work::default(),
            fallback: Work::default(),
            before: [Work::default(); 2],
            behind: 0,
            good: 0,
            probation: 1,
            deadlines: Deadlines::default(),
            sit_out: 0,
            sit_out_next: config.sit_out_min,
            promotions: 0,
            demotions: 0,
            efficiency: None,
        }
    }

    /// The level in force: *fallback* whenever there is no worker.
    pub fn level(&self) -> TrustLevel {
        if self.available { self.level } else { TrustLevel::Fallback }
    }

    /// Who decides the operation with this hash at the level in force.
    pub fn assign(&self, hash: u64) -> Decider {
        self.level().assign(hash)
    }

    /// A worker became ready or went away. Going away costs one level, but not what was learned.
    pub fn worker(&mut self, ready: bool) {
        if ready == self.available {
            return;
        }
        self.available = ready;
        if ready {
            self.level = match self.level {
                TrustLevel::Fallback if self.sit_out == 0 => TrustLevel::Learning,
                level => level,
            };
        } else if self.level > TrustLevel::Learning {
            self.step_down();
        }
    }

    /// The most that a model may decide ([`super::Regret::most`]), from now on and at once. `has_cost`: by all that is known models have cost more
    /// than they saved.
    pub fn permit(&mut self, most: TrustLevel, has_cost: bool) {
        self.most = most;
        // One that has saved more is stopped, too, but not for being worse, whatever its scores say.
        if most <= TrustLevel::Learning && self.level == TrustLevel::Recommendation && has_cost {
            self.fall();
        }
        while self.level > most.max(TrustLevel::Learning) {
            self.step_down();
        }
    }

    /// Another model: what was seen of the old one means nothing.
    pub fn model_changed(&mut self) {
        let Trust { config, available, most, promotions, demotions, .. } = *self;
        *self = Trust { most, promotions, demotions, ..Trust::new(config) };
        self.worker(available);
    }

    /// What choices for a block would have cost.
    pub fn scored(&mut self, costs: Costs) {
        self.observed();
        if self.level() == TrustLevel::Fallback || !costs.are_usable() {
            return;
        }
        self.scores.add(&costs);
        self.recent.add(&costs);
        if self.recent.count >= self.config.alarm_min {
            let Costs { model, fallback, .. } = std::mem::take(&mut self.recent).costs;
            if self.level > TrustLevel::Learning && self.compare(model, fallback) > self.config.alarm_ratio {
                self.efficiency = Some(self.compare(model, fallback));
                self.fall_to_learning();
                return;
            }
        }
        if self.scores.count >= self.config.scored_min {
            let Costs { model, fallback, alike } = std::mem::take(&mut self.scores).costs;
            self.judge(self.compare(model, fallback), self.compare(alike, fallback));
        }
    }

    /// What cleaning cost before anything was left to the model, by who would decide at *collaboration*.
    pub fn worked_before(&mut self, group: Decider, moved_blocks: u64, freed_segments: u64) {
        self.observed();
        let [model, fallback] = &mut self.before;
        let work = if group == Decider::Model { &mut *model } else { &mut *fallback };
        work.moved_blocks += moved_blocks as f64;
        work.freed_segments += freed_segments as f64;
        if model.freed_segments.min(fallback.freed_segments) > 8.0 * self.config.freed_min as f64 {
            // Keeps the record recent.
            model.halve();
            fallback.halve();
        }
    }

    /// The ratio of the two groups' costs while nobody made a difference between them; 1 if that is not known.
    fn ratio_before(&self) -> f64 {
        let [model, fallback] = &self.before;
        let known = |work: &Work| work.freed_segments >= self.config.freed_min as f64 && work.moved_blocks > 0.0;
        if known(model) && known(fallback) { model.per_segment() / fallback.per_segment() } else { 1.0 }
    }

    /// What cleaning cost: live blocks moved and segments freed, by who chose.
    pub fn worked(&mut self, by: Decider, moved_blocks: u64, freed_segments: u64) {
        self.observed();
        let work = match by {
            Decider::Model => &mut self.model,
            Decider::Fallback => &mut self.fallback,
        };
        work.moved_blocks += moved_blocks as f64;
        work.freed_segments += freed_segments as f64;
        let enough = self.config.freed_min as f64;
        if self.level() < TrustLevel::Collaboration {
            // Keeps the fallback's record recent while nothing is judged.
            if self.fallback.freed_segments > 8.0 * enough {
                self.fallback.halve();
            }
        } else if self.model.freed_segments >= enough && self.fallback.freed_segments >= enough {
            let (model, fallback) = (self.model.per_segment(), self.fallback.per_segment());
            self.model.halve();
            self.fallback.halve();
            let before = if self.level == TrustLevel::Collaboration { self.ratio_before() } else { 1.0 };
            if self.compare(model, fallback) / before > self.config.demote_ratio_work {
                self.fall();
            }
        }
    }

    /// A batch was answered in time, or not.
    pub fn deadline(&mut self, met: bool) {
        let deadlines = &mut self.deadlines;
        if met {
            deadlines.met += 1;
        } else {
            deadlines.missed += 1;
        }
        let total = deadlines.met + deadlines.missed;
        if total < self.config.deadlines_window.max(1) {
            return;
        }
        deadlines.share = deadlines.missed as f64 / total as f64;
        (deadlines.met, deadlines.missed) = (0, 0);
        if deadlines.share > self.config.missed_share_max && self.level > TrustLevel::Learning {
            self.step_down();
        }
    }

    pub fn status(&self) -> TrustStatus {
        TrustStatus {
            level: self.level(),
            promotions: self.promotions,
            demotions: self.demotions,
            efficiency: self.efficiency,
            missed_share: self.deadlines.share,
            model: self.model,
            fallback: self.fallback,
            sit_out: self.sit_out,
        }
    }

    /// Time passes in observations.
    fn observed(&mut self) {
        self.sit_out = self.sit_out.saturating_sub(1);
        if self.sit_out == 0 && self.available && self.level == TrustLevel::Fallback {
            self.level = TrustLevel::Learning;
        }
    }

    /// The model's cost over the fallback's. Two costs of nothing are equal; something against nothing is far behind.
    fn compare(&self, model_cost: f64, fallback_cost: f64) -> f64 {
        if model_cost == fallback_cost { 1.0 } else { model_cost / fallback_cost.max(f64::MIN_POSITIVE) }
    }

    /// `alike` is what no separation at all would cost over the fallback: where that is little, a model that knows nothing looks as good as one that
    /// does, and there is nothing to be gained by it.
    fn judge(&mut self, ratio: f64, alike: f64) {
        self.efficiency = Some(ratio);
        let learning = self.level == TrustLevel::Learning;
        let demote_ratio = if learning { self.config.demote_ratio_learning } else { self.config.demote_ratio };
        self.behind = if ratio > self.config.behind_ratio { self.behind + 1 } else { 0 };
        if ratio > demote_ratio || self.behind >= self.config.behind_times && !learning {
            self.fall();
            return;
        }
        if alike < self.config.telling_ratio && ratio > 1.0 / self.config.telling_ratio {
            return;
        }
        self.good = if ratio <= self.config.promote_ratio { self.good + 1 } else { self.good.saturating_sub(1) };
        if self.level < self.most
            && self.good >= self.probation
            && self.deadlines.share <= self.config.missed_share_promote
        {
            self.step_up();
        }
    }

    /// Steps down for being worse; it will take more to step up again.
    fn fall(&mut self) {
        self.probation = (self.probation * 2).min(PROBATION_MAX);
        self.step_down();
    }

    fn fall_to_learning(&mut self) {
        while self.level > TrustLevel::Collaboration {
            self.step_down();
        }
        self.fall();
    }

    fn step_up(&mut self) {
        self.level = match self.level {
            TrustLevel::Fallback | TrustLevel::Learning => TrustLevel::Collaboration,
            TrustLevel::Collaboration => {
                self.sit_out_next = self.config.sit_out_min;
                TrustLevel::Recommendation
            }
            TrustLevel::Recommendation => return,
        };
        self.promotions += 1;
        self.forget();
    }

    fn step_down(&mut self) {
        self.level = match self.level {
            TrustLevel::Recommendation => TrustLevel::Collaboration,
            TrustLevel::Collaboration => TrustLevel::Learning,
            TrustLevel::Learning => {
                self.sit_out = self.sit_out_next;
                self.sit_out_next = (self.sit_out_next * 2).min(self.config.sit_out_max);
                TrustLevel::Fallback
            }
            TrustLevel::Fallback => return,
        };
        self.demotions += 1;
        self.forget();
    }

    /// Each level is judged on what was seen at it.
    fn forget(&mut self) {
        (self.scores, self.recent) = (Scores::default(), Scores::default());
        self.model = Work::default();
        self.fallback = Work::default();
        (self.behind, self.good) = (0, 0);
        (self.deadlines.met, self.deadlines.missed) = (0, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ready() -> Trust {
        let mut trust = Trust::new(TrustConfig::default());
        trust.worker(true);
        trust
    }

    fn score(trust: &mut Trust, model: f64, fallback: f64) {
        for _ in 0..TrustConfig::default().scored_min {
            trust.scored(Costs { model, fallback, alike: 2.0 * fallback });
        }
    }

    /// Work until the next judgement and a little further.
    fn work(trust: &mut Trust, model_moves: u64, fallback_moves: u64) {
        for _ in 0..TrustConfig::default().freed_min {
            trust.worked(Decider::Model, model_moves, 1);
            trust.worked(Decider::Fallback, fallback_moves, 1);
        }
    }

    fn at_recommendation() -> Trust {
        let mut trust = ready();
        score(&mut trust, 1.0, 2.0);
        score(&mut trust, 1.0, 2.0);
        assert_eq!(trust.level(), TrustLevel::Recommendation);
        trust
    }

    #[test]
    fn trust_is_earned_step_by_step() {
        let mut trust = Trust::new(TrustConfig::default());
        assert_eq!(trust.level(), TrustLevel::Fallback);
        trust.worker(true);
        assert_eq!(trust.level(), TrustLevel::Learning);
        score(&mut trust, 1.0, 2.0);
        assert_eq!(trust.level(), TrustLevel::Collaboration);
        work(&mut trust, 100, 200);
        assert_eq!(trust.level(), TrustLevel::Collaboration, "work raises nobody");
        score(&mut trust, 1.0, 2.0);
        assert_eq!((trust.level(), trust.status().promotions), (TrustLevel::Recommendation, 2));
        assert_eq!(trust.status().efficiency, Some(0.5));
    }

    #[test]
    fn a_model_that_falls_behind_goes_all_the_way_down() {
        let mut trust = at_recommendation();
        work(&mut trust, 300, 200);
        assert_eq!(trust.level(), TrustLevel::Collaboration);
        work(&mut trust, 300, 200);
        assert_eq!(trust.level(), TrustLevel::Learning);
        score(&mut trust, 5.0, 2.0);
        assert_eq!(trust.level(), TrustLevel::Fallback);
    }

    #[test]
    fn a_model_that_cannot_learn_sits_out_longer_each_time() {
        let mut trust = ready();
        let mut pauses = Vec::new();
        for _ in 0..3 {
            score(&mut trust, 5.0, 2.0);
            pauses.push(trust.status().sit_out);
            while trust.level() == TrustLevel::Fallback {
                trust.worked(Decider::Fallback, 10, 1);
            }
        }
        assert_eq!(pauses, [256, 512, 1024]);
    }

    #[test]
    fn between_the_thresholds_nothing_changes() {
        let mut trust = at_recommendation();
        for _ in 0..20 {
            work(&mut trust, 250, 200);
            score(&mut trust, 1.07, 1.0);
        }
        assert_eq!(trust.level(), TrustLevel::Recommendation);
        let mut trust = ready();
        score(&mut trust, 1.0, 2.0);
        for _ in 0..20 {
            work(&mut trust, 250, 200);
            score(&mut trust, 1.07, 1.0);
        }
        assert_eq!(trust.level(), TrustLevel::Collaboration);
    }

    /// A model whose true ratio is `ratio`, scored with noise. Answers with the share of the scores seen at *recommendation*.
    fn share_in_charge(ratio: f64, noise: f64, seed: u64) -> f64 {
        let mut rng = crate::sim::rng::Rng::new(seed);
        let mut trust = ready();
        let (mut in_charge, rounds) = (0, 40_000);
        for _ in 0..rounds {
            let mut seen = |cost: f64| (cost * (1.0 + noise * f64::from(rng.normal()))).max(0.0);
            trust.scored(Costs { model: seen(ratio), fallback: seen(1.0), alike: 2.0 });
            in_charge += u32::from(trust.level() == TrustLevel::Recommendation);
        }
        f64::from(in_charge) / f64::from(rounds)
    }

    #[test]
    fn noise_keeps_no_equal_out_and_no_worse_one_in() {
        // Of a single score; two per cent of a judgement.
        let noise = 0.02 * 32f64.sqrt();
        for seed in 1..6 {
            for ratio in [0.9, 0.98, 1.0, 1.02] {
                let share = share_in_charge(ratio, noise, seed);
                assert!(share > 0.9, "a model of {ratio} is in charge for {share}");
            }
            for ratio in [1.12, 1.3] {
                let share = share_in_charge(ratio, noise, seed);
                assert!(share < 0.1, "a model of {ratio} is in charge for {share}");
            }
        }
    }

    #[test]
    fn where_nothing_makes_a_difference_nothing_is_proved() {
        let mut trust = ready();
        for _ in 0..1000 {
            trust.scored(Costs { model: 1.0, fallback: 1.0, alike: 1.1 });
        }
        assert_eq!(trust.level(), TrustLevel::Learning);
        for _ in 0..100 {
            trust.scored(Costs { model: 0.8, fallback: 1.0, alike: 1.1 });
        }
        assert_eq!(trust.level(), TrustLevel::Collaboration);
    }

    #[test]
    fn groups_that_always_differed_are_no_evidence() {
        let mut trust = ready();
        for _ in 0..32 {
            trust.worked_before(Decider::Model, 130, 1);
            trust.worked_before(Decider::Fallback, 100, 1);
        }
        score(&mut trust, 1.0, 1.0);
        assert_eq!(trust.level(), TrustLevel::Collaboration);
        work(&mut trust, 160, 100);
        assert_eq!(trust.level(), TrustLevel::Collaboration);
        work(&mut trust, 400, 100);
        assert_eq!(trust.level(), TrustLevel::Learning);
    }

    #[test]
    fn one_miss_costs_nothing_and_many_cost_a_level() {
        let mut trust = at_recommendation();
        for i in 0..640 {
            trust.deadline(i % 32 != 0);
        }
        assert_eq!(trust.level(), TrustLevel::Recommendation);
        for i in 0..64 {
            trust.deadline(i % 2 == 0);
        }
        assert_eq!(trust.level(), TrustLevel::Collaboration);
        score(&mut trust, 1.0, 2.0);
        assert_eq!(trust.level(), TrustLevel::Collaboration, "no step up while deadlines are missed");
        (0..64).for_each(|_| trust.deadline(true));
        score(&mut trust, 1.0, 2.0);
        assert_eq!(trust.level(), TrustLevel::Recommendation);
    }

    #[test]
    fn without_a_worker_the_fallback_decides() {
        let mut trust = at_recommendation();
        trust.worker(false);
        assert_eq!(trust.level(), TrustLevel::Fallback);
        assert_eq!(trust.assign(0), Decider::Fallback);
        trust.worker(true);
        assert_eq!(trust.level(), TrustLevel::Collaboration, "a crash costs a level");
        trust.model_changed();
        assert_eq!(trust.level(), TrustLevel::Learning, "another model starts anew");
    }

    #[test]
    fn who_owes_goes_back_to_learning_and_rises_no_more_until_it_is_paid() {
        let mut trust = at_recommendation();
        trust.permit(TrustLevel::Learning, true);
        for _ in 0..10 {
            score(&mut trust, 1.0, 2.0);
            assert_eq!(trust.level(), TrustLevel::Learning);
        }
        trust.model_changed();
        score(&mut trust, 1.0, 2.0);
        assert_eq!(trust.level(), TrustLevel::Learning, "another model owes the same");
        trust.permit(TrustLevel::Collaboration, true);
        (0..10).for_each(|_| score(&mut trust, 1.0, 2.0));
        assert_eq!(trust.level(), TrustLevel::Collaboration);
        trust.permit(TrustLevel::Recommendation, true);
        score(&mut trust, 1.0, 2.0);
        assert_eq!(trust.level(), TrustLevel::Recommendation);
        score(&mut trust, 5.0, 2.0);
        assert_eq!(trust.level(), TrustLevel::Learning, "nothing like what was trusted");
    }

    #[test]
    fn a_model_stopped_for_what_it_cost_needs_more_evidence_the_next_time() {
        let judgements = |has_cost: bool| {
            let mut trust = at_recommendation();
            trust.permit(TrustLevel::Learning, has_cost);
            trust.permit(TrustLevel::Recommendation, has_cost);
            (1..).find(|_| {
                score(&mut trust, 1.0, 2.0);
                trust.level() == TrustLevel::Recommendation
            })
        };
        assert_eq!((judgements(false), judgements(true)), (Some(2), Some(4)));
    }

    #[test]
    fn operations_are_shared_out_by_level() {
        let share = |trust: &Trust| (0..16_000).filter(|&ino| trust.assign(ino) == Decider::Model).count();
        assert_eq!(share(&ready()), 0);
        let mut trust = ready();
        score(&mut trust, 1.0, 2.0);
        assert!((1_800..2_200).contains(&share(&trust)), "{}", share(&trust));
        assert!((14_500..15_500).contains(&share(&at_recommendation())));
    }

    proptest! {
        #[test]
        fn no_evidence_breaks_it(events in proptest::collection::vec((0u8..6, any::<f64>(), any::<f64>()), 0..2000)) {
            let mut trust = Trust::new(TrustConfig { scored_min: 3, freed_min: 2, deadlines_window: 4, sit_out_min: 5,
                                                     ..TrustConfig::default() });
            for (event, a, b) in events {
                match event {
                    0 => trust.scored(Costs { model: a, fallback: b, alike: b }),
                    1 => trust.worked(Decider::Model, a.abs() as u64 % 1000, b.abs() as u64 % 3),
                    2 => trust.worked(Decider::Fallback, a.abs() as u64 % 1000, b.abs() as u64 % 3),
                    3 => trust.deadline(a > 0.0),
                    4 => trust.worker(a > 0.0),
                    _ => trust.model_changed(),
                }
                prop_assert!(trust.level() == TrustLevel::Fallback || trust.available);
                prop_assert!(trust.efficiency.is_none_or(|e| e >= 0.0));
            }
        }
    }
}
