//! The model proxy: the daemon's side of the advisor (design, section 5).
//!
//! Beside the cleaner, above `gleanfs_gc`; knows no volume. Two models in two workers, either of which may be missing: one predicts how long a block will live, one
//! says which segments are worth cleaning. The write path and the cleaner look up what they said in memory and go on. Lifetimes are computed ahead by *likeness*: what was said of one row holds for all rows that differ by less than
//! matters for the choice of a class, so a few thousand answers serve a filesystem of any size, also for blocks that were never seen before.
//!
//! | file | duty |
//! |---|---|
//! | `placement` | the choice of a class: model or fallback, in the same call |
//! | `memo` | what the model has said, by likeness |
//! | `questions` | what it is still to be asked |
//! | `scores` | evidence while it only watches |
//! | `sampled`, `ghosts` | what the fallback alone would have cost: samples of the load, and the miniature that they are told to |
//! | `account` | what models may cost, for both kinds |
//! | `clock` | seconds since the mount |
//! | `shared` | all of these together, and the level of trust in force |
//! | `asker`, `oracle` | the thread that asks and keeps the books of trust; whom it asks |
//! | `victims`, `phases` | victims posted ahead, and the thread that asks for them; evidence of what they cost |
//! | `learner` | the trainer process, and what becomes of what it offers |
//! | `service` | the advisors of a mount: library, first models, swaps |
//!
//! No thread on the path of a write waits for another process or for the proxy's threads (I8). In an emergency nobody is asked; answers that are
//! in memory stay in use.

mod account;
#[cfg(test)]
mod adversaries;
mod asker;
mod clock;
mod ghosts;
pub mod learner;
mod memo;
mod oracle;
mod phases;
mod placement;
mod questions;
mod sampled;
mod scores;
pub mod service;
mod shared;
#[cfg(test)]
mod simulated;
mod victims;

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;

use gleanfs_gc::advisor::{RegretStatus, TrustConfig, TrustLevel};
use gleanfs_gc::placement::Placement;
use parking_lot::Mutex;

pub use account::Account;
pub use asker::Surroundings;
pub use ghosts::LogAround;
pub use oracle::{Asked, Oracle, Service};
pub use placement::{Fallback, LearnedPlacement};
pub use shared::Authority;
pub use victims::{Candidates, VictimProxy, VictimSurroundings, victim_trust_config};

/// Thresholds of trust for a mount: small enough that a load of a minute gets through all levels, if the model is worth it.
pub fn trust_config() -> TrustConfig {
    TrustConfig { scored_min: 1024, alarm_min: 128, freed_min: 16, deadlines_window: 32, ..TrustConfig::default() }
}

/// How a model stands with the mount.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Standing {
    /// The level in force.
    pub level: TrustLevel,
    /// What the mount's options let a model decide.
    pub authority: Authority,
    /// The last judged ratio of the cost of the model's choices over the fallback's.
    pub efficiency: Option<f64>,
    /// Predictions taken into memory, or victims posted.
    pub recommendations: u64,
}

/// Waits for a thread that was told to end.
fn join(thread: &Mutex<Option<JoinHandle<()>>>) {
    let Some(thread) = thread.lock().take() else { return };
    let name = thread.thread().name().unwrap_or_default().to_owned();
    if thread.join().is_err() {
        tracing::error!("the thread {name} ended in a panic");
    }
}

/// The running proxy of placement. Stopping it leaves the fallback in charge.
pub struct Proxy {
    shared: Arc<shared::Shared>,
    fallback: Fallback,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Proxy {
    /// Starts the thread that asks `oracle` and waits for each answer at most for `deadline`.
    pub fn start(
        oracle: Arc<dyn Oracle>,
        authority: Authority,
        trust: TrustConfig,
        deadline: Duration,
        fallback: Box<dyn Placement>,
        around: Surroundings,
    ) -> io::Result<Self> {
        let fallback = Arc::new(Mutex::new(fallback));
        let sampler = around.log.sampler();
        let shared = Arc::new(shared::Shared::new(authority, trust, sampler));
        let asker = asker::Asker::new(Arc::clone(&shared), oracle, deadline, Arc::clone(&fallback), around);
        let thread = std::thread::Builder::new().name("proxy".into()).spawn(move || asker.run())?;
        Ok(Self { shared, fallback, thread: Mutex::new(Some(thread)) })
    }

    /// The placement for a volume with this many data heads.
    pub fn placement(&self, heads: u8) -> Box<dyn Placement> {
        Box::new(LearnedPlacement::new(Arc::clone(&self.shared), Arc::clone(&self.fallback), heads))
    }

    /// For the learner, who says when a new model is an heir.
    fn shared(&self) -> Arc<shared::Shared> {
        Arc::clone(&self.shared)
    }

    /// Another fallback from the next choice on.
    pub fn set_fallback(&self, fallback: Box<dyn Placement>) {
        let old = std::mem::replace(&mut *self.fallback.lock(), fallback);
        self.shared.fallback_replaced();
        drop(old);
    }

    /// What it has come to.
    pub fn standing(&self) -> Standing {
        Standing {
            level: self.shared.level(),
            authority: self.shared.authority,
            efficiency: self.shared.trust.lock().status().efficiency,
            recommendations: self.shared.recommendations.load(Ordering::Relaxed),
        }
    }

    /// Of both kinds of models.
    pub fn account(&self) -> Arc<Account> {
        Arc::clone(&self.shared.account)
    }

    /// What models have cost.
    pub fn regret(&self) -> RegretStatus {
        *self.shared.regret.lock()
    }

    /// Ends the thread; it may be waiting for an answer, at most for the deadline.
    pub fn stop(&self) {
        self.shared.questions.stop();
        join(&self.thread);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.stop();
    }
}
