//! What the write path and the proxy's thread share: answers, questions, evidence, and the level of trust in force.
//!
//! Everything here is read and written without waiting for the other side: atomics, and short locks that hold nothing but a copy.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};

use gleanfs_gc::advisor::{Decider, RegretStatus, Trust, TrustConfig, TrustLevel};
use gleanfs_gc::features::{Likeness, LikenessMask, PlacementRow, rounded};
use gleanfs_gc::ghost::Sampler;
use parking_lot::Mutex;

use super::account::Account;
use super::clock::Clock;
use super::memo::{Known, Memo};
use super::questions::{Question, Questions};
use super::sampled::Sampled;
use super::scores::Prices;

/// How much the mount's options let a model decide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Authority {
    /// What it has earned, at most this.
    Earned(TrustLevel),
    /// Everything, from its first answer on, whatever that costs.
    Forced,
}

/// The level that follows from what was earned and from what the mount's options say.
pub fn level_of(authority: Authority, trust: &Trust, ready: bool) -> TrustLevel {
    match authority {
        Authority::Earned(most) => trust.level().min(most),
        Authority::Forced if ready => TrustLevel::Recommendation,
        Authority::Forced => TrustLevel::Fallback,
    }
}

/// Blocks written and moved, by whose data it was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Blocks {
    pub written: u64,
    pub moved: u64,
}

/// What was seen since the thread looked last.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Evidence {
    pub model: Blocks,
    pub fallback: Blocks,
    pub prices: Prices,
    /// Write clock and live blocks at the end of it.
    pub now: u64,
    pub live_blocks: u64,
}

impl Evidence {
    pub fn of(&mut self, decider: Decider) -> &mut Blocks {
        match decider {
            Decider::Model => &mut self.model,
            Decider::Fallback => &mut self.fallback,
        }
    }

    /// Adds what came later.
    fn add(&mut self, later: &Self) {
        for (sum, more) in [(&mut self.model, &later.model), (&mut self.fallback, &later.fallback)] {
            sum.written += more.written;
            sum.moved += more.moved;
        }
        self.prices.add(&later.prices);
        (self.now, self.live_blocks) = (later.now, later.live_blocks);
    }
}

/// What a new model takes over from the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inheritance {
    /// Its trust, and what its choices have come to: it means the same by them, and has been better.
    Heir,
    Stranger,
}

/// See the module.
pub struct Shared {
    pub memo: Memo,
    pub questions: Questions,
    pub sampled: Sampled,
    pub trust: Mutex<Trust>,
    pub account: Arc<Account>,
    /// What models have cost; written by the thread alone.
    pub regret: Mutex<RegretStatus>,
    /// Predictions that were taken into the table.
    pub recommendations: AtomicU64,
    pub authority: Authority,
    level: AtomicU8,
    /// The model in service; 0: none was yet.
    serial: AtomicU64,
    /// Counts the models that did not inherit what was known of the one before.
    lineage: AtomicU64,
    /// Digest of the model that may; 0: none.
    successor: AtomicU64,
    /// The model in service was fitted to this mount's load, and better than the rule on writes that came after.
    examined: AtomicBool,
    /// Counts the fallbacks.
    fallbacks: AtomicU64,
    mask: AtomicU32,
    /// Whether questions have a chance to be answered.
    asking: AtomicBool,
    pub clock: Clock,
    evidence: Mutex<Evidence>,
}

impl Shared {
    pub fn new(authority: Authority, trust: TrustConfig, sampler: Sampler) -> Self {
        Self {
            memo: Memo::new(),
            questions: Questions::new(),
            sampled: Sampled::new(sampler),
            trust: Mutex::new(Trust::new(trust)),
            account: Arc::default(),
            regret: Mutex::default(),
            recommendations: AtomicU64::new(0),
            authority,
            level: AtomicU8::new(TrustLevel::Fallback as u8),
            serial: AtomicU64::new(0),
            lineage: AtomicU64::new(0),
            successor: AtomicU64::new(0),
            examined: AtomicBool::new(false),
            fallbacks: AtomicU64::new(0),
            mask: AtomicU32::new(LikenessMask::ALL.bits()),
            asking: AtomicBool::new(false),
            clock: Clock::new(),
            evidence: Mutex::default(),
        }
    }

    /// The level in force.
    pub fn level(&self) -> TrustLevel {
        TrustLevel::from_code(self.level.load(Ordering::Relaxed))
    }

    /// Who decides what has this hash at the level in force.
    pub fn assign(&self, hash: u64) -> Decider {
        let level = self.level();
        if self.authority == Authority::Forced && level == TrustLevel::Recommendation {
            // No control group: what is measured is the model.
            return Decider::Model;
        }
        level.assign(hash)
    }

    pub fn set_level(&self, level: TrustLevel) {
        self.level.store(level as u8, Ordering::Relaxed);
    }

    pub fn serial(&self) -> u64 {
        self.serial.load(Ordering::Relaxed)
    }

    /// Another model answers from now on; what the old one has said does not count any more.
    pub fn set_model(&self, serial: u64, reads: LikenessMask, digest: u64) -> Inheritance {
        let heir = digest != 0 && digest == self.successor.load(Ordering::Relaxed) && self.serial() != 0;
        self.examined.store(heir, Ordering::Relaxed);
        if !heir {
            self.lineage.fetch_add(1, Ordering::Relaxed);
        }
        self.mask.store(reads.bits(), Ordering::Relaxed);
        self.serial.store(serial, Ordering::Relaxed);
        if heir { Inheritance::Heir } else { Inheritance::Stranger }
    }

    /// The model with this digest was better than the one in charge on the same writes. Whatever else comes first is a stranger.
    pub fn expect_successor(&self, digest: u64) {
        self.successor.store(digest, Ordering::Relaxed);
    }

    /// Whether the model in service has been better than the rule on this mount's own later writes.
    pub fn is_examined(&self) -> bool {
        self.examined.load(Ordering::Relaxed)
    }

    /// How often a model came of which nothing was known.
    pub fn lineage(&self) -> u64 {
        self.lineage.load(Ordering::Relaxed)
    }

    /// How often the fallback was replaced.
    pub fn fallbacks(&self) -> u64 {
        self.fallbacks.load(Ordering::Relaxed)
    }

    pub fn fallback_replaced(&self) {
        self.fallbacks.fetch_add(1, Ordering::Relaxed);
    }

    pub fn set_asking(&self, asking: bool) {
        self.asking.store(asking, Ordering::Relaxed);
    }

    pub fn now_secs(&self) -> u64 {
        self.clock.now_secs()
    }

    /// What the model said of rows like this one, if that is at hand and current; sees to it that it will be. Never waits, never allocates.
    pub fn predicted(&self, row: &PlacementRow) -> Option<u8> {
        let serial = self.serial();
        if serial == 0 {
            return None;
        }
        let row = rounded(row);
        let like = LikenessMask::from_bits(self.mask.load(Ordering::Relaxed)).of(&row);
        let now = self.now_secs();
        match self.memo.look(like, serial, now) {
            Known::Class(class) => Some(class),
            Known::Aging(class) => {
                self.ask(like, &row, serial, now);
                Some(class)
            }
            Known::Asked => None,
            Known::Nothing => {
                self.ask(like, &row, serial, now);
                None
            }
        }
    }

    fn ask(&self, like: Likeness, row: &PlacementRow, serial: u64, now_secs: u64) {
        if self.asking.load(Ordering::Relaxed) && self.questions.push(Question { like, row: *row }) {
            self.memo.ask(like, serial, now_secs);
        }
    }

    /// Hands evidence over and clears it; if the thread just holds the lock, the caller keeps it for the next time.
    pub fn hand_over(&self, evidence: &mut Evidence) {
        if let Some(mut sum) = self.evidence.try_lock() {
            sum.add(evidence);
            *evidence = Evidence::default();
        }
    }

    pub fn take_evidence(&self) -> Evidence {
        std::mem::take(&mut *self.evidence.lock())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_model_that_was_examined_is_an_heir() {
        let earned = Authority::Earned(TrustLevel::Recommendation);
        let shared = Shared::new(earned, TrustConfig::default(), Sampler::new(1 << 20, 1 << 10));
        let comes = |serial, digest| (shared.set_model(serial, LikenessMask::ALL, digest), shared.is_examined());
        shared.expect_successor(7);
        assert_eq!(comes(1, 7), (Inheritance::Stranger, false), "there was none before it");
        assert_eq!(comes(2, 8), (Inheritance::Stranger, false), "somebody else's came first");
        assert_eq!(comes(3, 7), (Inheritance::Heir, true));
        assert_eq!((comes(4, 0), shared.lineage()), ((Inheritance::Stranger, false), 3));
    }
}
