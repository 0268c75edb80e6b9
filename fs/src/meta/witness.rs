//! What clients may know of, kept where it outlives the process.
//!
//! Memory that a supervisor holds has the LSN of the newest operation that a client may have been told of. A
//! daemon that follows one that died compares it with what roll-forward found: so it knows, and need not guess, whether anything that
//! was accepted is lost. One store for each operation.
//!
//! Beside it stand **marks**: which request an operation was for, as long as that request is not answered. The kernel sends a request again whose
//! daemon died before it could answer, and so what was done for it already is not done once more.

use std::cell::Cell;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::MemfdFlags;
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

use crate::types::Lsn;

/// Of what follows it in [`Memory`]. A program that lays it out in another way must not go on with a mount of ours.
const LAYOUT: u64 = 1;
/// More than there are threads that answer requests.
const SLOTS: usize = 1023;

/// What daemons of one mount hand down. Zeros are the beginning of a mount.
#[repr(C)]
struct Memory {
    newest: AtomicU64,
    layout: AtomicU64,
    slots: [Slot; SLOTS],
}

const MEMORY_BYTES: usize = size_of::<Memory>();
const _: () = assert!(MEMORY_BYTES == 16 << 10);

/// Zeros are a free slot.
#[repr(C)]
struct Slot {
    /// The kernel's number of the request.
    request: AtomicU64,
    /// Of the operation that it committed; 0 until then.
    lsn: AtomicU64,
}

/// What the operations of a thread are for.
#[derive(Clone, Copy)]
enum Purpose {
    Anybody,
    /// The request in this slot.
    Request {
        slot: usize,
        is_done: bool,
    },
    Nobody,
}

thread_local! {
    static PURPOSE: Cell<Purpose> = const { Cell::new(Purpose::Anybody) };
}

fn on_behalf<T>(purpose: Purpose, work: impl FnOnce() -> T) -> T {
    /// Restores what was before, also when `work` panics.
    struct Restore(Purpose);
    impl Drop for Restore {
        fn drop(&mut self) {
            PURPOSE.set(self.0);
        }
    }
    let _restore = Restore(PURPOSE.replace(purpose));
    work()
}

/// Runs `work`, whose operations nobody was told of and nobody misses: access times, and the freeing of what was deleted before.
pub fn unwitnessed<T>(work: impl FnOnce() -> T) -> T {
    on_behalf(Purpose::Nobody, work)
}

/// Whether a daemon before us has done what the request in hand ([`Mark::during`]) asks for, so that it is only to be answered.
pub fn is_done() -> bool {
    matches!(PURPOSE.get(), Purpose::Request { is_done: true, .. })
}

/// The memory, mapped.
#[derive(Debug)]
pub struct Witness {
    memory: NonNull<Memory>,
}

// SAFETY: the memory is only touched through atomics, and stays mapped until the drop.
unsafe impl Send for Witness {}
// SAFETY: as above.
unsafe impl Sync for Witness {}

impl Witness {
    /// Memory of zeros, to be mapped by any number of processes one after the other.
    pub fn create() -> io::Result<OwnedFd> {
        let memory = rustix::fs::memfd_create("gleanfs-witness", MemfdFlags::CLOEXEC)?;
        rustix::fs::ftruncate(&memory, MEMORY_BYTES as u64)?;
        Ok(memory)
    }

    /// Maps it.
    pub fn map(memory: impl AsFd) -> io::Result<Self> {
        if rustix::fs::fstat(&memory)?.st_size < MEMORY_BYTES as i64 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        // SAFETY: a new mapping at a place of the kernel's choice, of bytes that the file has.
        let mapped = unsafe {
            let protection = ProtFlags::READ | ProtFlags::WRITE;
            mmap(std::ptr::null_mut(), MEMORY_BYTES, protection, MapFlags::SHARED, memory, 0)?
        };
        let witness = Self { memory: NonNull::new(mapped.cast()).ok_or(io::ErrorKind::AddrNotAvailable)? };
        match witness.memory().layout.load(Ordering::Acquire) {
            0 => witness.memory().layout.store(LAYOUT, Ordering::Release),
            LAYOUT => {}
            other => return Err(io::Error::other(format!("it is laid out in way {other}, we know {LAYOUT}"))),
        }
        Ok(witness)
    }

    fn memory(&self) -> &Memory {
        // SAFETY: mapped as long as `self` lives, and aligned to a page; all of it is atomics, for which any bytes will do.
        unsafe { self.memory.as_ref() }
    }

    /// The newest operation that a client may know of.
    pub fn accepted(&self) -> Lsn {
        Lsn(self.memory().newest.load(Ordering::Acquire))
    }

    /// The operation is about to enter the log, from where it may become durable before anything else happens here. The caller holds the state lock, so
    /// LSNs come in their order, and either [`Witness::note`]s or withdraws it before it lets go.
    pub(super) fn announce(&self, lsn: Lsn) {
        if let Purpose::Request { slot, .. } = PURPOSE.get() {
            self.memory().slots[slot].lsn.store(lsn.0, Ordering::Release);
        }
    }

    /// What was announced did not enter the log.
    pub(super) fn withdraw(&self) {
        self.announce(Lsn(0));
    }

    /// Clients may soon be told of the operation.
    pub(super) fn note(&self, lsn: Lsn) {
        if !matches!(PURPOSE.get(), Purpose::Nobody) {
            self.memory().newest.store(lsn.0, Ordering::Release);
        }
    }

    /// Nobody knows of anything: there is a new mount, or none yet.
    pub fn forget(&self) {
        self.memory().newest.store(0, Ordering::Release);
        self.memory().slots.iter().for_each(Slot::free);
    }

    /// Takes up what a daemon before us has marked. Nothing beyond `last` has happened. To be called before there is any operation.
    pub fn take_up(&self, last: Lsn) {
        let lost = |slot: &&Slot| !(1..=last.0).contains(&slot.lsn.load(Ordering::Acquire));
        self.memory().slots.iter().filter(lost).for_each(Slot::free);
    }

    /// Begins to mark what is committed for `request` of the kernel, or goes on with what a daemon before us has marked for it, if it was sent again. The mark
    /// must live until the request is answered. If all slots are taken, by dozens of deaths in a row, nothing is marked.
    pub fn mark(self: &Arc<Self>, request: u64, was_resent: bool) -> Mark {
        let slots = &self.memory().slots;
        let left = slots.iter().position(|slot| was_resent && slot.request.load(Ordering::Acquire) == request);
        let slot = left.or_else(|| slots.iter().position(|slot| slot.claim(request)));
        Mark { witness: Arc::clone(self), slot, is_done: left.is_some() }
    }
}

impl Slot {
    fn claim(&self, request: u64) -> bool {
        self.request.load(Ordering::Relaxed) == 0
            && self.request.compare_exchange(0, request, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    fn free(&self) {
        self.lsn.store(0, Ordering::Release);
        self.request.store(0, Ordering::Release);
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        // SAFETY: mapped by `map` with this length, and nobody has a reference any more.
        let _ = unsafe { munmap(self.memory.as_ptr().cast(), MEMORY_BYTES) };
    }
}

/// A request in hand. Dropping it means that it is answered, and nothing need be known of it any more.
#[derive(Debug)]
pub struct Mark {
    witness: Arc<Witness>,
    slot: Option<usize>,
    is_done: bool,
}

impl Mark {
    /// Runs `work` for the request; see [`is_done`].
    pub fn during<T>(&self, work: impl FnOnce() -> T) -> T {
        match self.slot {
            Some(slot) => on_behalf(Purpose::Request { slot, is_done: self.is_done }, work),
            None => work(),
        }
    }
}

impl Drop for Mark {
    fn drop(&mut self) {
        if let Some(slot) = self.slot {
            self.witness.memory().slots[slot].free();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The same memory for one daemon after the other.
    fn daemons() -> impl Fn() -> Arc<Witness> {
        let memory = Witness::create().unwrap();
        move || Arc::new(Witness::map(&memory).unwrap())
    }

    #[test]
    fn what_was_noted_is_seen_through_another_mapping_and_quiet_work_is_not() {
        let next = daemons();
        let (first, second) = (next(), next());
        first.note(Lsn(7));
        unwitnessed(|| first.note(Lsn(8)));
        drop(first);
        assert_eq!(second.accepted(), Lsn(7));
        second.forget();
        assert_eq!(next().accepted(), Lsn(0));
    }

    /// A daemon that dies with request 9 in hand, after it has done `work` for it.
    fn die(daemon: &Arc<Witness>, work: impl FnOnce(&Witness)) {
        let mark = daemon.mark(9, true);
        mark.during(|| work(daemon));
        std::mem::forget(mark);
    }

    #[test]
    fn what_was_committed_for_a_request_is_known_until_the_request_is_answered() {
        let next = daemons();
        die(&next(), |daemon| daemon.announce(Lsn(5)));
        let second = next();
        second.take_up(Lsn(5));
        die(&second, |_| assert!(is_done()));
        let third = next();
        third.take_up(Lsn(6));
        assert!(!third.mark(10, true).during(is_done));
        let again = third.mark(9, true);
        assert!(again.during(is_done) && !is_done());
        drop(again);
        assert!(!third.mark(9, true).during(is_done));
    }

    #[test]
    fn what_was_lost_withdrawn_or_done_for_nobody_is_to_be_done() {
        let next = daemons();
        die(&next(), |daemon| daemon.announce(Lsn(5)));
        next().take_up(Lsn(4));
        assert!(!next().mark(9, true).during(is_done));
        die(&next(), |daemon| {
            daemon.announce(Lsn(6));
            daemon.withdraw();
            unwitnessed(|| daemon.announce(Lsn(6)));
        });
        next().take_up(Lsn(6));
        assert!(!next().mark(9, true).during(is_done));
    }

    #[test]
    fn without_a_slot_a_request_is_served_unmarked() {
        let daemon = daemons()();
        let marks: Vec<_> = (1..=SLOTS as u64).map(|request| daemon.mark(request, false)).collect();
        assert!(marks.iter().all(|mark| mark.slot.is_some()));
        let one_more = daemon.mark(5000, false);
        assert!(one_more.slot.is_none() && !one_more.during(is_done));
        drop(marks);
        assert!(daemon.mark(5000, false).slot.is_some());
    }

    #[test]
    fn memory_of_another_layout_is_refused() {
        let memory = Witness::create().unwrap();
        Witness::map(&memory).unwrap().memory().layout.store(LAYOUT + 1, Ordering::Release);
        assert!(Witness::map(&memory).unwrap_err().to_string().contains("laid out"));
    }
}
