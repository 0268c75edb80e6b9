//! What the model has said about rows like this one: a bounded table that the write path looks up.
//!
//! Below the proxy; no locks, no allocation after it was made. One word per entry, so that an entry is read and written whole: nobody waits
//! for anybody. Direct-mapped: a newcomer takes the place of what was there, which costs a question asked again.
//!
//! An entry is *current* if the model that said it is the one in service and it is not older than [`AGE_MAX_SECS`]. An answer depends on the
//! row alone, so age does no harm by itself; the limit only sees to it that a worker that has ended is noticed here too, and that an answer
//! to one row does not speak for all of its like for ever.

use std::sync::atomic::{AtomicU64, Ordering};

use gleanfs_gc::features::Likeness;

/// log2 of the entries: 512 KiB.
const ENTRIES_LOG2: u32 = 16;
/// After this an answer is asked for again, and used meanwhile.
pub const AGE_FRESH_SECS: u64 = 10;
/// After this it is not used any more.
pub const AGE_MAX_SECS: u64 = 60;
/// A question that was not answered after this is asked again.
const ANSWER_PATIENCE_SECS: u64 = 1;

/// Marks an entry that is a question under way, with no answer yet.
const ASKED: u64 = 15;
const CLASS_MAX: u64 = 14;

const SECS_BITS: u32 = 16;
const SERIAL_BITS: u32 = 11;

/// What the table says of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    /// The model's class.
    Class(u8),
    /// The model's class, and it is time to ask again.
    Aging(u8),
    /// Asked, not answered yet.
    Asked,
    Nothing,
}

/// An entry taken apart. From the top: tag 32, renewing 1, class 4, serial 11, seconds 16 bits.
#[derive(Clone, Copy)]
struct Entry {
    tag: u32,
    renewing: bool,
    class: u64,
    serial: u64,
    secs: u64,
}

impl Entry {
    fn pack(self) -> u64 {
        u64::from(self.tag) << 32 | u64::from(self.renewing) << 31 | self.class << 27 | self.serial << 16 | self.secs
    }

    fn unpack(word: u64) -> Self {
        Self {
            tag: (word >> 32) as u32,
            renewing: word >> 31 & 1 == 1,
            class: word >> 27 & 15,
            serial: word >> 16 & ((1 << SERIAL_BITS) - 1),
            secs: word & ((1 << SECS_BITS) - 1),
        }
    }

    fn age(self, now_secs: u64) -> u64 {
        now_secs.wrapping_sub(self.secs) & ((1 << SECS_BITS) - 1)
    }
}

/// The table.
pub struct Memo {
    entries: Box<[AtomicU64]>,
}

impl Memo {
    pub fn new() -> Self {
        Self { entries: (0..1 << ENTRIES_LOG2).map(|_| AtomicU64::new(0)).collect() }
    }

    /// What model `serial` has said of rows like this one.
    pub fn look(&self, like: Likeness, serial: u64, now_secs: u64) -> Known {
        let entry = Entry::unpack(self.slot(like).load(Ordering::Relaxed));
        if entry.tag != tag(like) || entry.serial != low(serial, SERIAL_BITS) {
            return Known::Nothing;
        }
        match (entry.class, entry.age(now_secs)) {
            (ASKED, age) if age <= ANSWER_PATIENCE_SECS => Known::Asked,
            (ASKED, _) => Known::Nothing,
            (class, age) if age <= AGE_FRESH_SECS || entry.renewing && age <= AGE_MAX_SECS => Known::Class(class as u8),
            (class, age) if age <= AGE_MAX_SECS => Known::Aging(class as u8),
            _ => Known::Nothing,
        }
    }

    /// Notes that the question is under way. What is known already stays in use.
    pub fn ask(&self, like: Likeness, serial: u64, now_secs: u64) {
        let slot = self.slot(like);
        let entry = Entry::unpack(slot.load(Ordering::Relaxed));
        let same = entry.tag == tag(like) && entry.serial == low(serial, SERIAL_BITS) && entry.class != ASKED;
        let asked = if same && entry.age(now_secs) <= AGE_MAX_SECS {
            Entry { renewing: true, ..entry }
        } else {
            fresh(like, ASKED, serial, now_secs)
        };
        slot.store(asked.pack(), Ordering::Relaxed);
    }

    /// Notes the answer.
    pub fn answer(&self, like: Likeness, class: u8, serial: u64, now_secs: u64) {
        let entry = fresh(like, u64::from(class).min(CLASS_MAX), serial, now_secs);
        self.slot(like).store(entry.pack(), Ordering::Relaxed);
    }

    fn slot(&self, like: Likeness) -> &AtomicU64 {
        &self.entries[(like.0 >> (64 - ENTRIES_LOG2)) as usize]
    }
}

fn fresh(like: Likeness, class: u64, serial: u64, now_secs: u64) -> Entry {
    let (serial, secs) = (low(serial, SERIAL_BITS), low(now_secs, SECS_BITS));
    Entry { tag: tag(like), renewing: false, class, serial, secs }
}

/// Never 0, which marks an unused entry.
fn tag(like: Likeness) -> u32 {
    like.0 as u32 | 1
}

fn low(value: u64, bits: u32) -> u64 {
    value & ((1 << bits) - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_known_until_it_is_old_or_the_model_another() {
        let (memo, like) = (Memo::new(), Likeness(0x1234_5678_9abc_def1));
        assert_eq!(memo.look(like, 1, 0), Known::Nothing);
        memo.ask(like, 1, 5);
        assert_eq!(memo.look(like, 1, 6), Known::Asked);
        assert_eq!(memo.look(like, 1, 9), Known::Nothing, "an answer that never came is asked for again");
        memo.answer(like, 3, 1, 5);
        assert_eq!(memo.look(like, 1, 5 + AGE_FRESH_SECS), Known::Class(3));
        assert_eq!(memo.look(like, 1, 6 + AGE_FRESH_SECS), Known::Aging(3));
        memo.ask(like, 1, 6 + AGE_FRESH_SECS);
        assert_eq!(memo.look(like, 1, 7 + AGE_FRESH_SECS), Known::Class(3), "asked once, used meanwhile");
        assert_eq!(memo.look(like, 1, 6 + AGE_MAX_SECS), Known::Nothing);
        assert_eq!(memo.look(like, 2, 5), Known::Nothing);
        assert_eq!(memo.look(Likeness(like.0 ^ 2), 1, 5), Known::Nothing);
    }

    #[test]
    fn clocks_and_serials_wrap() {
        let (memo, like) = (Memo::new(), Likeness(u64::MAX));
        memo.answer(like, 200, (1 << SERIAL_BITS) + 7, (1 << SECS_BITS) - 1);
        let known = memo.look(like, (1 << SERIAL_BITS) + 7, (1 << SECS_BITS) + 3);
        assert_eq!(known, Known::Class(CLASS_MAX as u8));
    }
}
