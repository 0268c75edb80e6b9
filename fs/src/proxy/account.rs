//! What the two proxies tell each other about the account of what models cost: there is one for both, since nobody can say whose fault a block is that
//! was moved too many.
//!
//! Atomics; nobody waits.

use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use gleanfs_gc::advisor::TrustLevel;

/// Kept by the proxy of placement.
#[derive(Default)]
pub struct Account {
    most: AtomicU8,
    victims_decided: AtomicBool,
}

impl Account {
    /// The most that a model may decide.
    pub fn most(&self) -> TrustLevel {
        TrustLevel::from_code(self.most.load(Ordering::Relaxed))
    }

    pub fn set_most(&self, most: TrustLevel) {
        self.most.store(most as u8, Ordering::Relaxed);
    }

    /// The most that the model of victims may: it decides whole volumes from its first level on, so nothing before the account can tell.
    pub fn most_for_victims(&self) -> TrustLevel {
        if self.most() == TrustLevel::Recommendation { TrustLevel::Recommendation } else { TrustLevel::Learning }
    }

    /// The model of victims decides.
    pub fn victims_decide(&self) {
        self.victims_decided.store(true, Ordering::Relaxed);
    }

    /// Whether it did since this was asked last.
    pub fn have_victims_decided(&self) -> bool {
        self.victims_decided.swap(false, Ordering::Relaxed)
    }
}
