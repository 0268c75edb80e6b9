//! The ghost of a mount and the account that it is for: told what was sampled and what was moved, answers whether a model may decide.
//!
//! Lives on the proxy's thread alone.

use std::sync::Arc;

use gleanfs_gc::advisor::{Period, Regret, RegretConfig, RegretStatus, TrustLevel};
use gleanfs_gc::ghost::{Ghost, Sampler, Seen};
use gleanfs_gc::placement::{self, Ewma, Placement};
use gleanfs_gc::victim::VictimPolicy;

use super::placement::Fallback;
use super::sampled::Sampled;
use super::shared::{Evidence, Shared};

/// What a ghost has to know of the log that it is a miniature of.
pub struct LogAround {
    /// Data blocks that users may fill.
    pub capacity_blocks: u64,
    /// Data blocks, live or not, that the log holds before it has to be cleaned.
    pub stored_blocks: Box<dyn Fn() -> u64 + Send>,
    /// The fixed rule that chooses victims.
    pub victim: Box<dyn VictimPolicy>,
    /// Blocks in the ghost at most.
    pub ghost_blocks_max: u64,
}

impl LogAround {
    pub fn sampler(&self) -> Sampler {
        Sampler::new(self.capacity_blocks, self.ghost_blocks_max)
    }
}

/// See the module.
pub(super) struct Ghosts {
    shared: Arc<Shared>,
    fallback: Fallback,
    fallbacks: u64,
    stored_blocks: Box<dyn Fn() -> u64 + Send>,
    ghost: Ghost,
    moved: u64,
    taken: Vec<Seen>,
    regret: Regret,
}

impl Ghosts {
    pub fn new(shared: Arc<Shared>, fallback: Fallback, log: LogAround) -> Self {
        let ghost = Ghost::new(log.capacity_blocks, shared.sampled.sampler(), again(&fallback), log.victim);
        Self {
            fallbacks: shared.fallbacks(),
            shared,
            fallback,
            stored_blocks: log.stored_blocks,
            ghost,
            moved: 0,
            taken: Sampled::spare(),
            regret: Regret::new(RegretConfig::default()),
        }
    }

    /// The most that a model may decide, after this.
    pub fn passed(&mut self, evidence: &Evidence, level: TrustLevel) -> TrustLevel {
        if self.shared.fallbacks() != self.fallbacks {
            self.fallbacks = self.shared.fallbacks();
            self.ghost.set_placement(again(&self.fallback));
            self.regret.fallback_changed();
        }
        let ghost_moved = self.simulate(evidence);
        let victims_decided = self.shared.account.have_victims_decided();
        let written = evidence.model.written + evidence.fallback.written;
        if written > 0 {
            self.regret.passed(&Period {
                written: written as f64,
                moved: (evidence.model.moved + evidence.fallback.moved) as f64,
                ghost_moved,
                live_blocks: evidence.live_blocks as f64,
                in_charge: level == TrustLevel::Recommendation || victims_decided,
            });
        }
        let most = self.regret.most();
        self.shared.account.set_most(most);
        most
    }

    /// Tells the ghost what was sampled. Answers with what it moved, by its rate.
    fn simulate(&mut self, evidence: &Evidence) -> f64 {
        self.taken.clear();
        let lost = self.shared.sampled.take(&mut self.taken);
        if evidence.now > 0 {
            self.ghost.set_room((self.stored_blocks)().saturating_sub(evidence.live_blocks));
        }
        self.ghost.see(&self.taken);
        let moved = self.ghost.outcome().moved;
        let new = moved - std::mem::replace(&mut self.moved, moved);
        let seen = self.taken.len() as f64;
        new as f64 / self.shared.sampled.sampler().rate() * (seen + lost as f64) / seen.max(1.0)
    }

    pub fn status(&self) -> RegretStatus {
        self.regret.status()
    }
}

/// The fallback's like, with a memory of its own.
fn again(fallback: &Fallback) -> Box<dyn Placement> {
    placement::by_name(fallback.lock().name()).unwrap_or_else(|| Box::new(Ewma))
}
