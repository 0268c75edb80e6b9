//! The thresholds between the levels.

use serde::Serialize;

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
