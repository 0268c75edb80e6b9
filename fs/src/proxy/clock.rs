//! Seconds since the proxy was made. Tests wait for nothing: there it is as late as they say.

#[cfg(test)]
use std::sync::atomic::{AtomicU64, Ordering};
#[cfg(not(test))]
use std::time::Instant;

/// The clock.
pub struct Clock {
    #[cfg(not(test))]
    since: Instant,
    #[cfg(test)]
    passed_secs: AtomicU64,
}

#[cfg(not(test))]
impl Clock {
    pub fn new() -> Self {
        Self { since: Instant::now() }
    }

    pub fn now_secs(&self) -> u64 {
        self.since.elapsed().as_secs()
    }
}

#[cfg(test)]
impl Clock {
    pub fn new() -> Self {
        Self { passed_secs: AtomicU64::new(0) }
    }

    pub fn now_secs(&self) -> u64 {
        self.passed_secs.load(Ordering::Relaxed)
    }

    pub fn pass(&self, secs: u64) {
        self.passed_secs.fetch_add(secs, Ordering::Relaxed);
    }
}
