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

mod config;
mod evidence;
mod level;
#[cfg(test)]
mod tests;

use serde::Serialize;

pub use config::TrustConfig;
pub use evidence::{Costs, Work};
use evidence::{Deadlines, Scores};
pub use level::{Decider, TrustLevel};

/// Most judgements that a model which has fallen again and again must pass for a step up.
const PROBATION_MAX: u32 = 32;

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
