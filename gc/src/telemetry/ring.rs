//! A bounded ring of events in shared memory: one writer in the daemon, one reader in another process.
//!
//! The writer never waits: what finds no room is dropped and counted. It believes nothing that the reader writes: a position that no honest reader could be
//! at, or a ring that has been full and untouched for [`PATIENCE`], ends it. All memory is taken when the ring is made.
//!
//! | at | 8 bytes |
//! |---|---|
//! | 0 | magic |
//! | 8 | events that fit |
//! | 16 | 1: nothing more will come |
//! | 64 | events written so far |
//! | 72 | events dropped so far |
//! | 128 | events read so far (the reader's) |
//! | 4096 | the events, each at its number modulo those that fit |

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::time::{Duration, Instant};

use super::event::EVENT_BYTES;
use crate::words::{SharedWords, Words};

/// Events that a ring holds: 8 MiB.
pub const RING_EVENTS: u64 = 1 << 17;
/// A reader that lets a full ring lie for so long has gone.
const PATIENCE: Duration = Duration::from_secs(10);

const MAGIC: u64 = u64::from_le_bytes(*b"GLEANRNG");
const AT_MAGIC: usize = 0;
const AT_EVENTS: usize = 8;
const AT_CLOSED: usize = 16;
const AT_WRITTEN: usize = 64;
const AT_DROPPED: usize = 72;
const AT_READ: usize = 128;
const SLOTS: usize = 4096;
const BYTES: usize = SLOTS + RING_EVENTS as usize * EVENT_BYTES;

fn slot(number: u64, events: u64) -> usize {
    SLOTS + (number % events) as usize * EVENT_BYTES
}

/// The daemon's end.
pub struct RingWriter<W: SharedWords = Words> {
    words: W,
    /// Events that fit.
    events: u64,
    written: u64,
    read_seen: u64,
    dropped: u64,
    full_since: Option<Instant>,
    ended: bool,
}

impl RingWriter {
    pub fn create() -> io::Result<Self> {
        let words = Words::create(c"gleanfs-telemetry", BYTES)?;
        words.prefault();
        Ok(Self::over(words, RING_EVENTS))
    }

    /// The descriptor that the reader opens.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.words.fd()
    }
}

impl<W: SharedWords> RingWriter<W> {
    fn over(words: W, events: u64) -> Self {
        words.store_u64(AT_EVENTS, events, Relaxed);
        words.store_u64(AT_MAGIC, MAGIC, Release);
        Self { words, events, written: 0, read_seen: 0, dropped: 0, full_since: None, ended: false }
    }

    /// Events written, and events dropped because there was no room.
    pub fn counts(&self) -> (u64, u64) {
        (self.written, self.dropped)
    }

    /// Whether nobody reads it any more.
    pub fn has_ended(&self) -> bool {
        self.ended
    }

    /// Appends an event, or counts it as dropped.
    pub fn push(&mut self, event: &[u8; EVENT_BYTES]) {
        if self.written - self.read_seen >= self.events && !self.make_room() {
            self.dropped += 1;
            self.words.store_u64(AT_DROPPED, self.dropped, Relaxed);
            return;
        }
        let at = slot(self.written, self.events);
        for (n, word) in event.as_chunks().0.iter().enumerate() {
            self.words.store_u64(at + 8 * n, u64::from_le_bytes(*word), Relaxed);
        }
        self.written += 1;
        self.words.store_u64(AT_WRITTEN, self.written, Release);
    }

    /// Looks how far the reader is.
    fn make_room(&mut self) -> bool {
        let read = self.words.load_u64(AT_READ, Acquire);
        if read < self.read_seen || read > self.written {
            self.ended = true;
        } else if read > self.read_seen {
            (self.read_seen, self.full_since) = (read, None);
            return true;
        } else if self.full_since.get_or_insert_with(Instant::now).elapsed() > PATIENCE {
            self.ended = true;
        }
        false
    }
}

impl<W: SharedWords> Drop for RingWriter<W> {
    fn drop(&mut self) {
        self.words.store_u64(AT_CLOSED, 1, Release);
    }
}

/// The other end.
pub struct RingReader<W: SharedWords = Words> {
    words: W,
    /// Events that fit.
    events: u64,
    read: u64,
    dropped: u64,
}

/// What one look at a ring brought.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    pub events: usize,
    /// Dropped since the last look.
    pub lost: u64,
    /// Nothing more will come.
    pub closed: bool,
}

impl RingReader {
    pub fn open(fd: OwnedFd) -> Result<Self, String> {
        Self::over(Words::open(fd, BYTES)?, RING_EVENTS)
    }
}

impl<W: SharedWords> RingReader<W> {
    fn over(words: W, events: u64) -> Result<Self, String> {
        if words.load_u64(AT_MAGIC, Acquire) != MAGIC || words.load_u64(AT_EVENTS, Relaxed) != events {
            return Err("shared memory: made by another version of this program".into());
        }
        let read = words.load_u64(AT_READ, Relaxed);
        Ok(Self { words, events, read, dropped: 0 })
    }

    /// Hands out what there is, at most `events_max` events.
    pub fn take(&mut self, events_max: usize, mut each: impl FnMut(&[u8; EVENT_BYTES])) -> Taken {
        // Before the events, so that none comes after it.
        let closed = self.words.load_u64(AT_CLOSED, Acquire) != 0;
        let there = self.words.load_u64(AT_WRITTEN, Acquire).saturating_sub(self.read).min(self.events);
        let events = there.min(events_max as u64);
        for number in self.read..self.read + events {
            let at = slot(number, self.events);
            let mut event = [0; EVENT_BYTES];
            for (n, word) in event.as_chunks_mut().0.iter_mut().enumerate() {
                *word = self.words.load_u64(at + 8 * n, Relaxed).to_le_bytes();
            }
            each(&event);
        }
        self.read += events;
        self.words.store_u64(AT_READ, self.read, Release);
        let dropped = self.words.load_u64(AT_DROPPED, Relaxed);
        let lost = dropped.saturating_sub(std::mem::replace(&mut self.dropped, dropped));
        Taken { events: events as usize, lost, closed: closed && events == there }
    }
}

#[cfg(test)]
mod races;

#[cfg(test)]
mod tests {
    use super::*;

    fn event(n: u64) -> [u8; EVENT_BYTES] {
        let mut event = [n as u8; EVENT_BYTES];
        event[..8].copy_from_slice(&n.to_le_bytes());
        event
    }

    fn pair() -> (RingWriter, RingReader) {
        let writer = RingWriter::create().unwrap();
        let reader = RingReader::open(writer.fd().try_clone_to_owned().unwrap()).unwrap();
        (writer, reader)
    }

    #[test]
    fn all_events_come_in_order_from_another_thread() {
        const EVENTS: u64 = 5 * RING_EVENTS;
        let (mut writer, mut reader) = pair();
        std::thread::scope(|scope| {
            scope.spawn(move || {
                for n in 0..EVENTS {
                    while writer.written - writer.words.u64(AT_READ).load(Relaxed) == RING_EVENTS {
                        std::thread::yield_now();
                    }
                    writer.push(&event(n));
                }
                assert_eq!(writer.counts(), (EVENTS, 0));
            });
            let mut next = 0;
            loop {
                let taken = reader.take(1000, |found| {
                    assert_eq!(*found, event(next));
                    next += 1;
                });
                if taken.closed {
                    break;
                }
            }
            assert_eq!(next, EVENTS);
        });
    }

    #[test]
    fn what_finds_no_room_is_counted() {
        let (mut writer, mut reader) = pair();
        (0..RING_EVENTS + 5).for_each(|n| writer.push(&event(n)));
        assert_eq!((writer.counts(), writer.has_ended()), ((RING_EVENTS, 5), false));
        let mut last = 0;
        let taken = reader.take(usize::MAX, |e| last = u64::from_le_bytes(*e.first_chunk().unwrap()));
        assert_eq!((taken.events as u64, taken.lost, taken.closed, last), (RING_EVENTS, 5, false, RING_EVENTS - 1));
        writer.push(&event(7));
        drop(writer);
        assert_eq!(reader.take(9, |_| {}), Taken { events: 1, lost: 0, closed: true });
    }

    #[test]
    fn a_reader_that_lies_or_has_gone_ends_it() {
        let (mut writer, _reader) = pair();
        writer.words.u64(AT_READ).store(u64::MAX, Relaxed);
        (0..RING_EVENTS).for_each(|n| writer.push(&event(n)));
        assert!(!writer.has_ended(), "nobody has looked yet");
        writer.push(&event(1));
        assert!(writer.has_ended());
        let (mut writer, _reader) = pair();
        (0..=RING_EVENTS).for_each(|n| writer.push(&event(n)));
        writer.full_since = Some(Instant::now() - PATIENCE * 2);
        writer.push(&event(1));
        assert!(writer.has_ended());
    }

    #[test]
    fn other_memory_is_no_ring() {
        let other = Words::create(c"test", BYTES).unwrap();
        assert!(RingReader::open(other.fd().try_clone_to_owned().unwrap()).is_err());
        assert!(RingReader::open(crate::words::sealed_copy(b"x").unwrap()).is_err());
    }
}
