//! Whether an operation on this thread may wait for room.
//!
//! Threads that answer requests must stay free for those that need no room (reads, lookups), so they try first without waiting and leave
//! an operation that cannot go on at once to a thread that may wait for the cleaner and the checkpoint. Every operation
//! that changes something can be begun anew: what it has committed before it gave up is committed again, with the same result.

use std::cell::Cell;

thread_local! {
    static IMPATIENT: Cell<bool> = const { Cell::new(false) };
}

/// Runs `attempt`; where it would wait for room it ends with [`crate::error::Error::MustWait`] instead.
pub fn without_waiting<T>(attempt: impl FnOnce() -> T) -> T {
    /// Restores what was before, also when `attempt` panics.
    struct Restore(bool);
    impl Drop for Restore {
        fn drop(&mut self) {
            IMPATIENT.set(self.0);
        }
    }
    let _restore = Restore(IMPATIENT.replace(true));
    attempt()
}

/// Whether this thread may wait.
pub fn may_wait() -> bool {
    !IMPATIENT.get()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn impatience_ends_with_the_attempt_even_in_a_panic() {
        assert!(may_wait());
        without_waiting(|| {
            without_waiting(|| assert!(!may_wait()));
            assert!(!may_wait());
        });
        assert!(may_wait());
        assert!(std::panic::catch_unwind(|| without_waiting(|| panic!("as the test wants"))).is_err());
        assert!(may_wait());
    }
}
