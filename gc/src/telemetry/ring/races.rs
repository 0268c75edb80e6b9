//! The ring in every interleaving of writer and reader, and that each of its orders is needed.

use std::sync::Arc;

use loom::thread;

use super::*;
use crate::words::modelled::{Access, Modelled, explore_and_weaken, rounds};

fn ring(events: u64, weak: Option<Access>) -> (RingWriter<Arc<Modelled>>, RingReader<Arc<Modelled>>) {
    let positions = [AT_CLOSED, AT_WRITTEN, AT_DROPPED, AT_READ];
    let words = Arc::new(Modelled::new(positions, weak));
    let writer = RingWriter::over(words.clone(), events);
    (writer, RingReader::over(words, events).unwrap())
}

fn event(n: u64) -> [u8; EVENT_BYTES] {
    std::array::from_fn(|at| (n + at as u64) as u8)
}

/// Events that come must be these, from `next` on.
fn take(reader: &mut RingReader<Arc<Modelled>>, next: &mut u64, events_max: usize) -> Taken {
    reader.take(events_max, |found| {
        assert_eq!(*found, event(*next));
        *next += 1;
    })
}

#[test]
fn events_come_whole_and_the_end_comes_last() {
    let needed =
        [Access::Store(AT_WRITTEN), Access::Load(AT_WRITTEN), Access::Store(AT_CLOSED), Access::Load(AT_CLOSED)];
    explore_and_weaken(&needed, |weak| {
        let (mut writer, mut reader) = ring(rounds(), weak);
        let daemon = thread::spawn(move || (0..rounds()).for_each(|n| writer.push(&event(n))));
        let mut next = 0;
        let closed = (0..2).any(|_| take(&mut reader, &mut next, 9).closed);
        assert!(!closed || next == rounds(), "it was called closed with {next} events read");
        daemon.join().unwrap();
        assert!(closed || take(&mut reader, &mut next, 9).closed);
        assert_eq!(next, rounds());
    });
}

#[test]
fn an_event_takes_the_place_of_one_that_was_read_or_none() {
    explore_and_weaken(&[Access::Store(AT_READ), Access::Load(AT_READ)], |weak| {
        let (mut writer, mut reader) = ring(2, weak);
        (0..2).for_each(|n| writer.push(&event(n)));
        let daemon = thread::spawn(move || {
            writer.push(&event(2));
            assert!(!writer.has_ended(), "an honest position was called impossible");
            writer.counts()
        });
        let mut next = 0;
        let taken = take(&mut reader, &mut next, 1);
        assert_eq!((taken.events, next), (1, 1));
        let counts = daemon.join().unwrap();
        assert!(counts == (3, 0) || counts == (2, 1), "{counts:?}");
        let rest = take(&mut reader, &mut next, 9);
        assert_eq!((next, taken.lost + rest.lost), counts);
        assert!(rest.closed);
    });
}
