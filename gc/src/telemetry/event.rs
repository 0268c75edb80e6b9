//! One event, and how it is encoded: 64 bytes, little-endian, the same in rings and in files.
//!
//! | at | bytes | write, move | discard | victim | lost |
//! |---|---|---|---|---|---|
//! | 0 | 1 | 1, 2 | 3 | 4 | 5 |
//! | 1 | 1 | flags: 1 append, 2 overwrites, 4 chosen by the model, 8 in an emergency | 0 | flags | 0 |
//! | 2 | 1 | class chosen | 0 | class | 0 |
//! | 3 | 1 | classes there are | 0 | 0 | 0 |
//! | 4 | 1 | class of the model, 255: none | 0 | 0 | 0 |
//! | 5 | 1 | class of the rule, 255: none | 0 | 0 | 0 |
//! | 6 | 1 | interval code | 0 | 0 | 0 |
//! | 7 | 1 | class of the segment left | 0 | 0 | 0 |
//! | 8 | 8 | inode | inode | segment | events |
//! | 16 | 8 | first block | first block | live, capacity (4 each) | 0 |
//! | 24 | 8 | write clock | write clock | write clock | 0 |
//! | 32 | 8 | write clock of the version before, of the birth | of the birth | of the seal | 0 |
//! | 40 | 8 | live blocks of the filesystem | the same | mean write clock of its blocks | 0 |
//! | 48 | 4 | blocks | blocks | clock of the last death (8) | 0 |
//! | 52 | 4 | blocks of the file, before | 0 | | 0 |
//! | 56 | 8 | kind of the file: suffix, directory (4 each) | the same | 0 | 0 |

use crate::features::FileKind;
use crate::placement::{DiscardFacts, MoveFacts, Opinions, WriteFacts};
use crate::segment::SegmentFacts;

pub const EVENT_BYTES: usize = 64;

const APPEND: u8 = 1;
const OVERWRITES: u8 = 2;
const BY_MODEL: u8 = 4;
const EMERGENCY: u8 = 8;
const NO_CLASS: u8 = 255;

/// Who chose.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum By {
    #[default]
    Rule,
    Model,
    Emergency,
}

/// A choice of a class, and what lay behind it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Choice {
    pub by: By,
    pub class: u8,
    /// Classes that there were.
    pub classes: u8,
    pub opinions: Opinions,
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Event {
    Write(WriteFacts, Choice),
    Move(MoveFacts, Choice),
    Discard(DiscardFacts),
    /// A segment was cleaned that was like this when it was chosen.
    Victim {
        segment: SegmentFacts,
        now: u64,
        by: By,
    },
    /// So many events are missing here.
    Lost(u64),
}

/// Bytes that are none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an event of kind {0}, which there is not")]
pub struct NotAnEvent(pub u8);

impl Event {
    pub fn encode(&self) -> [u8; EVENT_BYTES] {
        let mut bytes = Bytes([0; EVENT_BYTES]);
        match self {
            Self::Write(w, choice) => {
                bytes.choice(1, choice);
                bytes.0[1] |= if w.append { APPEND } else { 0 } | if w.previous.is_some() { OVERWRITES } else { 0 };
                bytes.0[6] = w.previous_interval;
                let file_blocks = u32::try_from(w.file_size_bytes.div_ceil(4096)).unwrap_or(u32::MAX);
                bytes.place(w.ino, w.first_block, w.now, w.previous.unwrap_or_default(), w.live_blocks);
                bytes.u32s(48, [w.blocks, file_blocks, w.kind.suffix, w.kind.dir]);
            }
            Self::Move(m, choice) => {
                bytes.choice(2, choice);
                (bytes.0[6], bytes.0[7]) = (m.interval, m.from_class);
                bytes.place(m.ino, m.first_block, m.now, m.birth, m.live_blocks);
                bytes.u32s(48, [m.blocks, 0, m.kind.suffix, m.kind.dir]);
            }
            Self::Discard(d) => {
                bytes.0[0] = 3;
                bytes.place(d.ino, d.first_block, d.now, d.birth, d.live_blocks);
                bytes.u32s(48, [u32::try_from(d.blocks).unwrap_or(u32::MAX), 0, d.kind.suffix, d.kind.dir]);
            }
            Self::Victim { segment: s, now, by } => {
                (bytes.0[0], bytes.0[1], bytes.0[2]) = (4, flags(*by), s.class);
                let filling = u64::from(s.live) | u64::from(s.capacity) << 32;
                bytes.place(s.seg.into(), filling, *now, s.seal_clock, s.write_clock);
                bytes.u64(48, s.invalidate_clock);
            }
            Self::Lost(events) => {
                bytes.0[0] = 5;
                bytes.u64(8, *events);
            }
        }
        bytes.0
    }

    pub fn decode(bytes: &[u8; EVENT_BYTES]) -> Result<Self, NotAnEvent> {
        let b = Bytes(*bytes);
        let (flags, kind) = (bytes[1], FileKind { suffix: b.get_u32(56), dir: b.get_u32(60) });
        let by = if flags & EMERGENCY != 0 {
            By::Emergency
        } else if flags & BY_MODEL != 0 {
            By::Model
        } else {
            By::Rule
        };
        let class = |byte: u8| (byte != NO_CLASS).then_some(byte);
        let opinions = Opinions { model: class(bytes[4]), rule: class(bytes[5]) };
        let choice = Choice { by, class: bytes[2], classes: bytes[3], opinions };
        let [first, second, now, before, last] = [8, 16, 24, 32, 40].map(|at| b.get_u64(at));
        Ok(match bytes[0] {
            1 => {
                let facts = WriteFacts {
                    ino: first,
                    kind,
                    first_block: second,
                    blocks: b.get_u32(48),
                    append: flags & APPEND != 0,
                    file_size_bytes: u64::from(b.get_u32(52)) * 4096,
                    now,
                    previous: (flags & OVERWRITES != 0).then_some(before),
                    previous_interval: bytes[6],
                    live_blocks: last,
                };
                Self::Write(facts, choice)
            }
            2 => {
                let facts = MoveFacts {
                    ino: first,
                    kind,
                    first_block: second,
                    blocks: b.get_u32(48),
                    now,
                    birth: before,
                    interval: bytes[6],
                    from_class: bytes[7],
                    live_blocks: last,
                };
                Self::Move(facts, choice)
            }
            3 => Self::Discard(DiscardFacts {
                ino: first,
                kind,
                first_block: second,
                blocks: b.get_u32(48).into(),
                now,
                birth: before,
                live_blocks: last,
            }),
            4 => {
                let segment = SegmentFacts {
                    seg: first as u32,
                    live: second as u32,
                    capacity: (second >> 32) as u32,
                    class: bytes[2],
                    seal_clock: before,
                    write_clock: last,
                    invalidate_clock: b.get_u64(48),
                };
                Self::Victim { segment, now, by }
            }
            5 => Self::Lost(first),
            other => return Err(NotAnEvent(other)),
        })
    }
}

fn flags(by: By) -> u8 {
    match by {
        By::Rule => 0,
        By::Model => BY_MODEL,
        By::Emergency => EMERGENCY,
    }
}

struct Bytes([u8; EVENT_BYTES]);

impl Bytes {
    fn choice(&mut self, kind: u8, choice: &Choice) {
        let class = |class: Option<u8>| class.unwrap_or(NO_CLASS);
        let Choice { by, class: chosen, classes, opinions } = choice;
        self.0[..6].copy_from_slice(&[
            kind,
            flags(*by),
            *chosen,
            *classes,
            class(opinions.model),
            class(opinions.rule),
        ]);
    }

    fn place(&mut self, first: u64, second: u64, now: u64, before: u64, last: u64) {
        for (at, value) in [(8, first), (16, second), (24, now), (32, before), (40, last)] {
            self.u64(at, value);
        }
    }

    fn u64(&mut self, at: usize, value: u64) {
        self.0[at..at + 8].copy_from_slice(&value.to_le_bytes());
    }

    fn u32s(&mut self, at: usize, values: [u32; 4]) {
        for (word, value) in self.0[at..].chunks_exact_mut(4).zip(values) {
            word.copy_from_slice(&value.to_le_bytes());
        }
    }

    fn get_u64(&self, at: usize) -> u64 {
        u64::from_le_bytes(std::array::from_fn(|n| self.0[at + n]))
    }

    fn get_u32(&self, at: usize) -> u32 {
        u32::from_le_bytes(std::array::from_fn(|n| self.0[at + n]))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;

    pub fn write(now: u64) -> Event {
        let facts = WriteFacts {
            ino: 70,
            kind: FileKind { suffix: 8, dir: 9 },
            first_block: 5,
            blocks: 3,
            append: true,
            file_size_bytes: 8192,
            now,
            previous: Some(4),
            previous_interval: 17,
            live_blocks: 1000,
        };
        let opinions = Opinions { model: Some(2), rule: Some(4) };
        Event::Write(facts, Choice { by: By::Model, class: 2, classes: 6, opinions })
    }

    #[test]
    fn every_event_comes_back() {
        let kind = FileKind { suffix: 1 << 31, dir: 3 };
        let emergency = Choice { by: By::Emergency, class: 5, classes: 6, ..Choice::default() };
        let moved = MoveFacts {
            ino: 1 << 40,
            kind,
            first_block: 1 << 50,
            blocks: 9,
            now: 7,
            birth: 6,
            interval: 5,
            from_class: 4,
            live_blocks: 3,
        };
        let discarded = DiscardFacts { ino: 1, kind, first_block: 2, blocks: 3, now: 4, birth: 5, live_blocks: 6 };
        let segment =
            SegmentFacts { seg: 1, live: 2, capacity: 3, class: 4, seal_clock: 5, write_clock: 6, invalidate_clock: 7 };
        let all = [
            write(11),
            Event::Write(WriteFacts::default(), Choice::default()),
            Event::Move(moved, emergency),
            Event::Discard(discarded),
            Event::Victim { segment, now: 8, by: By::Model },
            Event::Lost(77),
        ];
        for event in all {
            assert_eq!(Event::decode(&event.encode()), Ok(event));
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::array::uniform32(any::<u8>())) {
            let mut event = [0; EVENT_BYTES];
            event[..32].copy_from_slice(&bytes);
            event[32..].copy_from_slice(&bytes);
            if let Ok(found) = Event::decode(&event) {
                prop_assert_eq!(Event::decode(&found.encode()), Ok(found));
            }
        }
    }
}
