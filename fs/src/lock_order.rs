//! The order in which a thread may take the locks of the volume and of what works on it: written down once, and checked at every lock that is
//! taken in a debug build. A release build checks nothing.
//!
//! Beside `types`, below all layers. The locks of the devices come below everything here, those of the model proxy are leaves.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::time::Duration;

use parking_lot::Condvar;

/// What a lock guards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The contents of the inodes of a stripe (`namespace::locks`).
    Contents,
    /// One victim at a time, and what the cleaner works with.
    Cleaning,
    /// What the background threads are asked for.
    Wishes,
    /// One checkpoint or extension at a time; the superblock's slots.
    Checkpoint,
    /// Placement of writes. A leaf as far as the volume is concerned: what a model's placement looks up has locks of its own.
    Placement,
    /// Key tree, tables and counters.
    State,
    /// Rounds of group commit.
    Flush,
    /// Heads, chunks and the segment table.
    Log,
    /// The fixed policy of victims.
    Policy,
    /// Who recommends victims.
    Recommender,
    /// Size and name of the image.
    Shape,
}

/// The order: under what each lock may be taken. What is not named here may not be held.
#[cfg(debug_assertions)]
const fn may_be_held(taking: Place) -> &'static [Place] {
    use Place::*;
    match taking {
        Contents => &[],
        Cleaning => &[Contents],
        Wishes | Checkpoint | Placement => &[Contents, Cleaning],
        State | Flush => &[Contents, Cleaning, Checkpoint],
        Log => &[Contents, Cleaning, Checkpoint, State, Flush],
        Policy | Recommender => &[Contents, Cleaning, Log],
        Shape => &[Contents, Cleaning, Checkpoint, Placement, State, Log],
    }
}

/// What may be held while the device works: nothing that an operation waits for but its own file's contents.
#[cfg(debug_assertions)]
const OVER_IO: &[Place] = &[Place::Contents, Place::Cleaning, Place::Checkpoint];

#[cfg(debug_assertions)]
mod record {
    use std::cell::Cell;

    use super::{OVER_IO, Place, may_be_held};

    thread_local! {
        /// Number of locks of each place that this thread holds.
        static HELD: Cell<[u8; 16]> = const { Cell::new([0; 16]) };
    }

    fn first_held_outside(allowed: &[Place]) -> Option<usize> {
        let held = HELD.get();
        (0..held.len()).find(|n| held[*n] > 0 && !allowed.iter().any(|place| *place as usize == *n))
    }

    /// One lock that is held.
    pub struct Held(Place);

    impl Held {
        pub fn take(place: Place) -> Self {
            if let Some(n) = first_held_outside(may_be_held(place)) {
                panic!("the lock of {place:?} is taken under lock {n} of `Place`: against the order");
            }
            Self::note(place)
        }

        /// Of a lock that was had without waiting, which is no danger.
        pub fn note(place: Place) -> Self {
            let mut held = HELD.get();
            held[place as usize] += 1;
            HELD.set(held);
            Self(place)
        }
    }

    impl Drop for Held {
        fn drop(&mut self) {
            let mut held = HELD.get();
            held[self.0 as usize] -= 1;
            HELD.set(held);
        }
    }

    pub fn assert_fit_for_io() {
        if let Some(n) = first_held_outside(OVER_IO) {
            panic!("the device works while lock {n} of `Place` is held");
        }
    }
}

#[cfg(not(debug_assertions))]
mod record {
    use super::Place;

    pub struct Held;

    impl Held {
        #[inline(always)]
        pub fn take(_: Place) -> Self {
            Self
        }

        #[inline(always)]
        pub fn note(_: Place) -> Self {
            Self
        }
    }

    #[inline(always)]
    pub fn assert_fit_for_io() {}
}

use record::Held;
/// To be called wherever a device works: panics in a debug build if a lock is held that nobody may hold over I/O.
pub use record::assert_fit_for_io;

/// A mutex with its place in the order.
pub struct Mutex<T> {
    lock: parking_lot::Mutex<T>,
    place: Place,
}

/// What is locked, until it is dropped.
pub struct MutexGuard<'a, T> {
    guard: parking_lot::MutexGuard<'a, T>,
    _held: Held,
}

impl<T> Mutex<T> {
    pub fn new(place: Place, value: T) -> Self {
        Self { lock: parking_lot::Mutex::new(value), place }
    }

    pub fn lock(&self) -> MutexGuard<'_, T> {
        let held = Held::take(self.place);
        MutexGuard { guard: self.lock.lock(), _held: held }
    }

    pub fn into_inner(self) -> T {
        self.lock.into_inner()
    }

    pub fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        let guard = self.lock.try_lock()?;
        Some(MutexGuard { guard, _held: Held::note(self.place) })
    }
}

impl<T> MutexGuard<'_, T> {
    /// Lets go of the lock until `event` is told, and takes it again.
    pub fn wait(&mut self, event: &Condvar) {
        event.wait(&mut self.guard);
    }

    /// The same for `timeout` at the longest.
    pub fn wait_for(&mut self, event: &Condvar, timeout: Duration) {
        event.wait_for(&mut self.guard, timeout);
    }
}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.guard
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.guard
    }
}

/// A lock for many readers or one writer, with its place in the order.
pub struct RwLock<T> {
    lock: parking_lot::RwLock<T>,
    place: Place,
}

/// What is locked for reading, until it is dropped.
pub struct ReadGuard<'a, T> {
    guard: parking_lot::RwLockReadGuard<'a, T>,
    _held: Held,
}

/// What is locked for writing, until it is dropped.
pub struct WriteGuard<'a, T> {
    guard: parking_lot::RwLockWriteGuard<'a, T>,
    _held: Held,
}

impl<T> RwLock<T> {
    pub fn new(place: Place, value: T) -> Self {
        Self { lock: parking_lot::RwLock::new(value), place }
    }

    pub fn read(&self) -> ReadGuard<'_, T> {
        let held = Held::take(self.place);
        ReadGuard { guard: self.lock.read(), _held: held }
    }

    pub fn write(&self) -> WriteGuard<'_, T> {
        let held = Held::take(self.place);
        WriteGuard { guard: self.lock.write(), _held: held }
    }

    pub fn into_inner(self) -> T {
        self.lock.into_inner()
    }
}

impl<T> Deref for ReadGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.guard
    }
}

impl<T> Deref for WriteGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.guard
    }
}

impl<T> DerefMut for WriteGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.guard
    }
}

impl<T: fmt::Debug> fmt::Debug for Mutex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.lock.fmt(f)
    }
}

impl<T: fmt::Debug> fmt::Debug for RwLock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.lock.fmt(f)
    }
}

#[cfg(all(test, debug_assertions))]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::device::{Device, MemoryDevice};
    use crate::types::BlockAddr;

    #[test]
    fn the_order_is_allowed_and_may_begin_anew() {
        let (checkpoint, state, log) =
            (Mutex::new(Place::Checkpoint, 1), RwLock::new(Place::State, 2), Mutex::new(Place::Log, 3));
        for _ in 0..2 {
            let (a, b, c) = (checkpoint.lock(), state.write(), log.lock());
            assert_eq!(*a + *b + *c, 6);
        }
        drop(log.lock());
        assert_eq!(*state.read(), 2);
    }

    #[test]
    #[should_panic(expected = "against the order")]
    fn the_state_under_the_log_is_refused() {
        let (state, log) = (RwLock::new(Place::State, ()), Mutex::new(Place::Log, ()));
        let _log = log.lock();
        drop(state.read());
    }

    #[test]
    #[should_panic(expected = "against the order")]
    fn reading_twice_is_refused_since_a_writer_may_come_between() {
        let state = RwLock::new(Place::State, ());
        let _first = state.read();
        drop(state.read());
    }

    #[test]
    fn a_lock_that_was_had_without_waiting_counts_for_what_comes_after() {
        let (cleaning, contents) = (Mutex::new(Place::Cleaning, ()), RwLock::new(Place::Contents, ()));
        let held = contents.write();
        assert!(cleaning.try_lock().is_some());
        drop(held);
        let _cleaning = cleaning.try_lock().unwrap();
        let refused = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(contents.read())));
        assert!(refused.is_err());
    }

    #[test]
    fn a_device_works_under_the_checkpoints_lock_and_not_under_the_states() {
        let device = Arc::new(MemoryDevice::new(64, 16));
        let (checkpoint, state) = (Mutex::new(Place::Checkpoint, ()), RwLock::new(Place::State, ()));
        let write = || device.write(BlockAddr(3), &crate::device::AlignedBuf::new(1)).unwrap();
        let _checkpoint = checkpoint.lock();
        write();
        let _state = state.read();
        let refused = std::panic::catch_unwind(std::panic::AssertUnwindSafe(write));
        assert!(refused.is_err());
    }
}
