//! The levels of trust, and who decides what at each.

use serde::Serialize;

/// How much the recommendations may decide; ordered from no trust to full trust.
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
