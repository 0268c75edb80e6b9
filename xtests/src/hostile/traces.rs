//! Recorded loads of other machines, and the rings and files of telemetry.

use std::io::Cursor;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Mutex, PoisonError};

use gleanfs_gc::sim::trace::{NAMES, Requests, by_name};
use gleanfs_gc::telemetry::{EVENT_BYTES, Event, Header, RING_EVENTS, RingWriter};
use gleanfs_gc::words::Words;

/// Requests that are read of one input: more say nothing new, and a few bytes of gzip stand for gigabytes.
const REQUESTS_MAX: usize = 20_000;

/// The first byte says as which format the others are read.
pub(super) fn read(input: &[u8]) {
    let Some((format, bytes)) = input.split_first() else { return };
    let format = NAMES.get(usize::from(*format)).and_then(|name| by_name(name));
    let Ok(requests) = Requests::new("trace".into(), Cursor::new(bytes.to_vec()), format) else { return };
    for request in requests.take(REQUESTS_MAX) {
        let Ok(request) = request else { return };
        assert!(request.offset_bytes.checked_add(request.len_bytes).is_some_and(|end| end <= 1 << 63));
    }
}

/// A file of events, and a ring whose reader writes anything anywhere.
pub(super) fn telemetry(input: &[u8]) {
    for record in input.as_chunks().0 {
        let _ = Header::decode(record);
        if let Ok(event) = Event::decode(record) {
            assert_eq!(Event::decode(&event.encode()), Ok(event), "an event is not read as it was written");
        }
    }
    lie_to_ring(input);
}

/// A ring's writer, and what its reader could write to.
struct Ring {
    writer: RingWriter,
    words: Words,
}

impl Ring {
    /// A ring without room, so that what its reader says matters.
    fn full() -> Self {
        let mut writer = RingWriter::create().expect("there is memory for a ring");
        let fd = writer.fd().try_clone_to_owned().expect("a descriptor");
        let bytes = rustix::fs::fstat(&fd).expect("it has a size").st_size as usize;
        let words = Words::open(fd, bytes).expect("it is one");
        (0..RING_EVENTS).for_each(|_| writer.push(&[0; EVENT_BYTES]));
        Self { writer, words }
    }
}

/// Writes what the input says where it says, with an event after each: the writer takes no harm and counts what it drops.
fn lie_to_ring(input: &[u8]) {
    // Making one costs 8 MiB, so inputs share one until they have ended it.
    static RING: Mutex<Option<Ring>> = Mutex::new(None);
    let mut ring = RING.lock().unwrap_or_else(PoisonError::into_inner);
    for lie in input.as_chunks::<10>().0 {
        let Ring { writer, words } = ring.get_or_insert_with(Ring::full);
        let at = usize::from(u16::from_le_bytes([lie[0], lie[1]])) * 8;
        let word = u64::from_le_bytes(std::array::from_fn(|n| lie[2 + n]));
        words.u64(at % words.bytes()).store(word, Relaxed);
        let (written, dropped) = writer.counts();
        writer.push(&[1; EVENT_BYTES]);
        assert_eq!(writer.counts().0 + writer.counts().1, written + dropped + 1, "an event is lost and not counted");
        if writer.has_ended() {
            *ring = None;
        }
    }
}
