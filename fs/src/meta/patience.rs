//! Whether, and for what, an operation on this thread may wait.
//!
//! Threads that answer requests must stay free for those that need no room (reads, lookups), so they try first without waiting and leave
//! an operation that cannot go on at once to a thread that may wait for the cleaner and the checkpoint. Every operation
//! that changes something can be begun anew: what it has committed before it gave up is committed again, with the same result.
//!
//! And whoever cleans in order to take a checkpoint must not wait for one: nobody else may be about to take it (I8).

use std::cell::Cell;

/// What is waited for, the least first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Patience {
    Nothing,
    /// Buffers and segments on their way.
    Writers,
    /// Whatever gives room, a checkpoint by another thread included.
    Checkpoints,
}

thread_local! {
    static PATIENCE: Cell<Patience> = const { Cell::new(Patience::Checkpoints) };
}

/// Runs `attempt`; where it would wait for room it ends with [`crate::error::Error::MustWait`] instead.
pub fn without_waiting<T>(attempt: impl FnOnce() -> T) -> T {
    with_at_most(Patience::Nothing, attempt)
}

/// Runs `attempt`; where only a checkpoint could give it room it ends with [`crate::error::Error::MustWait`].
pub fn without_waiting_for_checkpoints<T>(attempt: impl FnOnce() -> T) -> T {
    with_at_most(Patience::Writers, attempt)
}

fn with_at_most<T>(patience: Patience, attempt: impl FnOnce() -> T) -> T {
    /// Restores what was before, also when `attempt` panics.
    struct Restore(Patience);
    impl Drop for Restore {
        fn drop(&mut self) {
            PATIENCE.set(self.0);
        }
    }
    let _restore = Restore(PATIENCE.replace(patience.min(PATIENCE.get())));
    attempt()
}

/// Whether this thread may wait at all.
pub fn may_wait() -> bool {
    PATIENCE.get() > Patience::Nothing
}

/// Whether it may wait for a checkpoint by another thread.
pub fn may_wait_for_checkpoints() -> bool {
    PATIENCE.get() == Patience::Checkpoints
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn impatience_ends_with_the_attempt_even_in_a_panic() {
        assert!(may_wait() && may_wait_for_checkpoints());
        without_waiting(|| {
            without_waiting_for_checkpoints(|| assert!(!may_wait()));
            assert!(!may_wait());
        });
        without_waiting_for_checkpoints(|| assert!(may_wait() && !may_wait_for_checkpoints()));
        assert!(may_wait() && may_wait_for_checkpoints());
        assert!(std::panic::catch_unwind(|| without_waiting(|| panic!("as the test wants"))).is_err());
        assert!(may_wait());
    }
}
