//! Where the events of a mount go: to every ring that somebody reads, and nowhere as long as nobody does.
//!
//! Events come in the order in which they are told. Moves and victims are told under placement's lock; a user's write is told once it is committed, and what is removed once it is gone, so these may
//! be a few events late. When nobody listens an event costs one load.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;

use super::event::{By, Choice, Event};
use super::ring::RingWriter;
use crate::placement::Placement;

/// Rings at most: those who record, and the trainer.
const RINGS_MAX: usize = 4;

/// The rings of a mount.
#[derive(Default)]
pub struct Taps {
    listening: AtomicBool,
    rings: Mutex<Vec<(u64, RingWriter)>>,
    next: AtomicU64,
}

/// A ring as users see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tap {
    pub id: u64,
    pub written: u64,
    pub dropped: u64,
}

impl Taps {
    /// Begins to fill a ring; its number, or nothing if there are too many.
    pub fn add(&self, ring: RingWriter) -> Option<u64> {
        let mut rings = self.rings.lock();
        rings.retain(|(_, ring)| !ring.has_ended());
        if rings.len() == RINGS_MAX {
            return None;
        }
        let id = self.next.fetch_add(1, Ordering::Relaxed) + 1;
        rings.push((id, ring));
        self.listening.store(true, Ordering::Relaxed);
        Some(id)
    }

    /// Closes a ring; what is in it stays to be read. False if there is none of this number.
    pub fn remove(&self, id: u64) -> bool {
        let mut rings = self.rings.lock();
        let there = rings.iter().any(|(of, ring)| *of == id && !ring.has_ended());
        rings.retain(|(of, ring)| *of != id && !ring.has_ended());
        self.listening.store(!rings.is_empty(), Ordering::Relaxed);
        there
    }

    /// Closes all.
    pub fn close(&self) {
        self.listening.store(false, Ordering::Relaxed);
        self.rings.lock().clear();
    }

    /// The rings that are being filled.
    pub fn taps(&self) -> Vec<Tap> {
        let rings = self.rings.lock();
        let tap = |(id, ring): &(u64, RingWriter)| {
            let (written, dropped) = ring.counts();
            Tap { id: *id, written, dropped }
        };
        rings.iter().filter(|(_, ring)| !ring.has_ended()).map(tap).collect()
    }

    /// Tells of an event, which is made only if somebody listens. Never waits for a reader, never allocates.
    pub fn tell(&self, event: impl FnOnce() -> Event) {
        if !self.listening.load(Ordering::Relaxed) {
            return;
        }
        let event = event().encode();
        let mut rings = self.rings.lock();
        rings.iter_mut().filter(|(_, ring)| !ring.has_ended()).for_each(|(_, ring)| ring.push(&event));
    }
}

impl Choice {
    /// The choice that a placement has just made.
    pub fn of(placement: &dyn Placement, class: u8) -> Self {
        let by = if placement.by_model() { By::Model } else { By::Rule };
        Self { by, class, classes: placement.classes(), opinions: placement.opinions() }
    }

    /// Of a move to the one head that there is in an emergency.
    pub fn emergency(head: u8, heads: u8) -> Self {
        Self { by: By::Emergency, class: head, classes: heads, ..Self::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::super::event::tests::write;
    use super::super::ring::RingReader;
    use super::*;

    #[test]
    fn every_ring_gets_what_happens_while_it_is_there() {
        let taps = Taps::default();
        taps.tell(|| unreachable!("nobody listens"));
        let ring = || {
            let writer = RingWriter::create().unwrap();
            let reader = RingReader::open(writer.fd().try_clone_to_owned().unwrap()).unwrap();
            (taps.add(writer).unwrap(), reader)
        };
        let (one, mut first) = ring();
        taps.tell(|| write(1));
        let (_, mut second) = ring();
        taps.tell(|| write(2));
        assert!(taps.remove(one) && !taps.remove(one));
        taps.tell(|| write(3));
        assert_eq!(taps.taps().iter().map(|tap| tap.written).collect::<Vec<_>>(), [2]);
        taps.close();
        taps.tell(|| unreachable!("nobody listens any more"));
        let (mut a, mut b) = (Vec::new(), Vec::new());
        assert!(first.take(9, |event| a.push(Event::decode(event).unwrap())).closed);
        assert!(second.take(9, |event| b.push(Event::decode(event).unwrap())).closed);
        assert_eq!((a, b), (vec![write(1), write(2)], vec![write(2), write(3)]));
    }

    #[test]
    fn there_are_not_too_many() {
        let taps = Taps::default();
        let add = || taps.add(RingWriter::create().unwrap());
        assert!((0..RINGS_MAX).all(|_| add().is_some()));
        assert_eq!(add(), None);
        taps.remove(1);
        assert_eq!(add(), Some(RINGS_MAX as u64 + 1));
    }
}
