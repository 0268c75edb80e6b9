//! What a model may cost: an account of the blocks that were moved too many while it had a say.
//!
//! Pure. What the fallback alone would have cost comes from a miniature ([`crate::ghost`]), whose bias is measured while the fallback decides alone:
//! then both should be the same. Once the model has a say, every block moved beyond that is *debt*, until what the model spoiled has been cleaned away; a
//! small share of what is written pays it back. With more debt than [`RegretConfig::debt_max`] the model may not decide, until all of it is paid. So over any
//! window the blocks moved too many are at most the largest debt and what the window paid: a leaky bucket.
//!
//! The account belongs to the mount, not to a model: to change models is no way round it.

use serde::Serialize;

use super::TrustLevel;

/// Shares are of the blocks that it takes to write all live blocks once, moved ones included.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct RegretConfig {
    /// More debt, and the model may not decide.
    pub debt_max: f64,
    /// What was paid ahead, or moved too few, is remembered up to this.
    pub credit_max: f64,
    /// Share of all blocks written, moved ones included, that is paid back.
    pub paid_share: f64,
    /// Live blocks to be written under the fallback alone before what the segments hold is its own doing.
    pub settling: f64,
    /// Live blocks to be written after that before the miniature's bias is known.
    pub calibrating: f64,
    /// Live blocks written after which a measurement of bias counts half.
    pub memory: f64,
}

impl Default for RegretConfig {
    fn default() -> Self {
        Self { debt_max: 0.02, credit_max: 0.01, paid_share: 0.015, settling: 1.0, calibrating: 1.0, memory: 1.0 }
    }
}

/// What happened since the account was told last, in blocks of the volume.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Period {
    /// By users.
    pub written: f64,
    /// By the cleaner.
    pub moved: f64,
    /// What the miniature moved, by its rate.
    pub ghost_moved: f64,
    /// Live blocks at its end.
    pub live_blocks: f64,
    /// Whether a model was at *recommendation*.
    pub in_charge: bool,
}

/// The account.
#[derive(Debug, Clone)]
pub struct Regret {
    config: RegretConfig,
    /// Moved under the fallback alone, really and in the miniature; recent ones count most.
    known: Cost,
    /// Live blocks written under the fallback alone: since a model decided last, and of those with which the bias was measured.
    alone: f64,
    measured: f64,
    debt: f64,
    stopped: bool,
    stops: u64,
    /// Since the mount, while a model had a say.
    total: Cost,
    total_written: f64,
}

#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Cost {
    actual: f64,
    ghost: f64,
}

/// The account as users see it. Costs are blocks moved per block written by users, while a model was in charge.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct RegretStatus {
    pub cost: Option<f64>,
    pub ghost_cost: Option<f64>,
    /// Blocks moved too many so far, and the same in per cent of what users wrote meanwhile; negative if the model saved some.
    pub regret_blocks: f64,
    pub regret_percent: f64,
    /// What is not paid back yet.
    pub debt_blocks: f64,
    /// How often the model was stopped.
    pub stops: u64,
}

impl Regret {
    pub fn new(config: RegretConfig) -> Self {
        Self {
            config,
            known: Cost::default(),
            alone: f64::INFINITY,
            measured: 0.0,
            debt: 0.0,
            stopped: false,
            stops: 0,
            total: Cost::default(),
            total_written: 0.0,
        }
    }

    /// The most that a model may decide. While the bias is not known, only so much that it needs no account.
    pub fn most(&self) -> TrustLevel {
        match (self.stopped, self.is_calibrated()) {
            (true, _) => TrustLevel::Learning,
            (false, false) => TrustLevel::Collaboration,
            (false, true) => TrustLevel::Recommendation,
        }
    }

    pub fn is_calibrated(&self) -> bool {
        self.measured >= self.config.calibrating && self.known.ghost > 0.0
    }

    /// Another fallback, of which nothing is known.
    pub fn fallback_changed(&mut self) {
        (self.known, self.measured) = (Cost::default(), 0.0);
        self.alone = 0.0;
    }

    /// What the miniature's blocks stand for.
    pub fn bias(&self) -> f64 {
        if self.known.ghost > 0.0 { self.known.actual / self.known.ghost } else { 1.0 }
    }

    pub fn passed(&mut self, period: &Period) {
        let live = period.live_blocks.max(1.0);
        let volumes = period.written / live;
        self.alone = if period.in_charge { 0.0 } else { self.alone + volumes };
        if self.alone >= self.config.settling {
            self.measure(period, volumes);
        }
        let expected = period.ghost_moved * self.bias();
        self.book(period, expected, live);
    }

    fn measure(&mut self, period: &Period, volumes: f64) {
        let begins = self.known == Cost::default();
        if begins && (period.moved == 0.0 || period.ghost_moved == 0.0) {
            // One of the two logs is not full yet.
            return;
        }
        let kept = (-volumes / self.config.memory * std::f64::consts::LN_2).exp();
        self.known.actual = self.known.actual * kept + period.moved;
        self.known.ghost = self.known.ghost * kept + period.ghost_moved;
        self.measured += volumes;
    }

    fn book(&mut self, period: &Period, expected: f64, live: f64) {
        // Under the fallback alone what differs is the miniature's noise.
        let excess = if self.alone < self.config.settling { period.moved - expected } else { 0.0 };
        if self.alone < self.config.settling {
            self.total.actual += period.moved;
            self.total.ghost += expected;
            self.total_written += period.written;
        }
        let paid = self.config.paid_share * (period.written + expected);
        let unit = live * (1.0 + expected / period.written.max(1.0)).min(4.0);
        self.debt = (self.debt + excess - paid).max(-self.config.credit_max * unit);
        if !self.stopped && self.debt > self.config.debt_max * unit {
            self.stopped = true;
            self.stops += 1;
        } else if self.debt <= 0.0 {
            self.stopped = false;
        }
    }

    pub fn status(&self) -> RegretStatus {
        let per_written = |moved: f64| (self.total_written > 0.0).then(|| moved / self.total_written);
        let regret_blocks = self.total.actual - self.total.ghost;
        RegretStatus {
            cost: per_written(self.total.actual),
            ghost_cost: per_written(self.total.ghost),
            regret_blocks,
            regret_percent: 100.0 * per_written(regret_blocks).unwrap_or_default(),
            debt_blocks: self.debt.max(0.0),
            stops: self.stops,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIVE: f64 = 1000.0;

    /// A hundredth of a volume is written; `cost` blocks are moved for each, the miniature moves half a block.
    fn step(regret: &mut Regret, cost: f64, in_charge: bool) {
        let written = LIVE / 100.0;
        regret.passed(&Period {
            written,
            moved: cost * written,
            ghost_moved: 0.5 * written,
            live_blocks: LIVE,
            in_charge,
        });
    }

    fn calibrated() -> Regret {
        let mut regret = Regret::new(RegretConfig::default());
        assert_eq!(regret.most(), TrustLevel::Collaboration, "nothing is known yet");
        (0..150).for_each(|_| step(&mut regret, 0.6, false));
        assert_eq!(regret.most(), TrustLevel::Recommendation);
        assert!((regret.bias() - 1.2).abs() < 1e-9);
        regret
    }

    #[test]
    fn a_model_that_costs_no_more_is_never_stopped() {
        let mut regret = calibrated();
        (0..10_000).for_each(|_| step(&mut regret, 0.61, true));
        let status = regret.status();
        assert_eq!((regret.most(), status.stops), (TrustLevel::Recommendation, 0));
        assert!((status.regret_percent - 1.0).abs() < 1e-6, "{status:?}");
    }

    #[test]
    fn one_that_does_is_stopped_until_all_is_paid() {
        let mut regret = calibrated();
        let steps = (1..).take_while(|_| {
            step(&mut regret, 1.6, true);
            regret.most() == TrustLevel::Recommendation
        });
        assert!(steps.count() < 6, "a hundredth of a volume each; some was paid ahead, twice as much may be owed");
        // What was spoiled goes on to cost.
        (0..20).for_each(|_| step(&mut regret, 0.8, false));
        let debt = regret.status().debt_blocks;
        assert!(debt > 30.0, "{debt}");
        let mut volumes = 0.0;
        while regret.most() == TrustLevel::Learning {
            step(&mut regret, 0.6, false);
            volumes += 0.01;
        }
        // 0.015 * 1.6 blocks for each that is written.
        assert!((volumes - debt / 24.0).abs() < 0.1, "{debt} paid in {volumes}");
    }

    #[test]
    fn savings_are_remembered_for_a_little_while_only() {
        let mut regret = calibrated();
        (0..10_000).for_each(|_| step(&mut regret, 0.3, true));
        assert!(regret.status().regret_blocks < 0.0);
        (0..20).for_each(|_| step(&mut regret, 1.6, true));
        assert_eq!(regret.most(), TrustLevel::Learning);
    }

    #[test]
    fn what_is_spoiled_is_no_measure_and_another_fallback_is_measured_anew() {
        let mut regret = calibrated();
        (0..10).for_each(|_| step(&mut regret, 5.0, true));
        (0..90).for_each(|_| step(&mut regret, 5.0, false));
        assert!((regret.bias() - 1.2).abs() < 1e-9);
        let mut regret = calibrated();
        regret.fallback_changed();
        assert_eq!(regret.most(), TrustLevel::Collaboration);
    }
}
