//! Which log head a block goes to: fixed rules, each in its own file, and the learned one.
//!
//! A placement maps a write to a class of expected lifetime, 0 the shortest; [`merge`] maps classes onto the log heads that there
//! are. What a policy remembers is of constant size: per block there is only what the extent holds, its birth (write clock of the last user
//! write) and the log2 of its last update interval.

mod block_table;
mod dac;
mod ewma;
mod file_classes;
mod interval;
mod learned;
mod memo;
mod midas;
mod none;
mod sepbit;
mod sfs;
mod user_cleaner;

pub(crate) use block_table::BlockTable;
pub use dac::Dac;
pub use ewma::Ewma;
pub use file_classes::FileClasses;
pub use interval::{interval_code, interval_log2};
pub use learned::{Learned, LifetimeModel};
pub use memo::Memo;
pub use midas::Midas;
pub use none::NoSeparation;
pub use sepbit::SepBit;
pub use sfs::Sfs;
pub use user_cleaner::UserCleaner;

use crate::features::FileKind;
use crate::segment::SegmentFacts;

/// A run of blocks that a user is writing, placed as a whole; the past that is given is the first block's.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct WriteFacts {
    pub ino: u64,
    pub kind: FileKind,
    /// First block within the file.
    pub first_block: u64,
    pub blocks: u32,
    /// Starts at or past the old end of the file.
    pub append: bool,
    /// Size of the file before.
    pub file_size_bytes: u64,
    /// Write clock.
    pub now: u64,
    /// Write clock of the version that is overwritten; `None` if the block is new.
    pub previous: Option<u64>,
    /// `interval_code` of the version that is overwritten; 0 if it was the first.
    pub previous_interval: u8,
    /// Live data blocks of the filesystem: the unit that makes lifetimes of different volumes comparable.
    pub live_blocks: u64,
}

/// A live block that the cleaner is moving.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct MoveFacts {
    pub ino: u64,
    pub kind: FileKind,
    pub first_block: u64,
    /// Blocks of the run that it begins, moved with it; 0 counts as one.
    pub blocks: u32,
    /// Write clock.
    pub now: u64,
    /// Write clock when the user wrote it.
    pub birth: u64,
    /// As the extent holds it ([`interval_code`]); 0: written once.
    pub interval: u8,
    /// Class of the segment that it leaves.
    pub from_class: u8,
    /// Live data blocks of the filesystem.
    pub live_blocks: u64,
}

/// Blocks of a file that are no longer used: it was removed or cut.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct DiscardFacts {
    pub ino: u64,
    pub kind: FileKind,
    pub first_block: u64,
    pub blocks: u64,
    /// Write clock.
    pub now: u64,
    /// Write clock when users wrote them.
    pub birth: u64,
    /// Live data blocks of the filesystem.
    pub live_blocks: u64,
}

/// Classes that two deciders gave to the same block.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Opinions {
    pub model: Option<u8>,
    pub rule: Option<u8>,
}

/// Chooses a class for every block written.
pub trait Placement: Send {
    /// The name by which users choose it.
    fn name(&self) -> &'static str;

    /// Classes in use: answers are below this.
    fn classes(&self) -> u8;

    fn user_write(&mut self, w: &WriteFacts) -> u8;

    fn cleaning_write(&mut self, m: &MoveFacts) -> u8;

    /// Blocks of a file are no longer used. Of blocks that are overwritten [`Self::user_write`] tells.
    fn discarded(&mut self, _d: &DiscardFacts) {}

    /// A segment was chosen as victim; `s` is how it was when chosen.
    fn segment_cleaned(&mut self, _s: &SegmentFacts, _now: u64) {}

    /// Blocks are moved in an emergency, to the one head that there is then: nobody is asked, only told. Must not allocate.
    fn emergency_move(&mut self, _m: &MoveFacts) {}

    /// Whether its classes are those of [`lifetime_class`].
    fn has_lifetime_classes(&self) -> bool {
        false
    }

    /// Whether a model made the last choice, for whoever counts.
    fn by_model(&self) -> bool {
        false
    }

    /// What lay behind the last choice, where a model and a rule have a say.
    fn opinions(&self) -> Opinions {
        Opinions::default()
    }

    /// Whether each block of a request wants to be asked about, and not the first for all. Of use to the simulator's oracles only.
    fn per_block(&self) -> bool {
        false
    }

    /// Memory held, its own size included; constant.
    fn bytes(&self) -> usize {
        size_of_val(self)
    }
}

/// Names that [`by_name`] knows.
pub const NAMES: [&str; 7] = ["none", "user-cleaner", "dac", "sfs", "sepbit", "ewma", "midas"];

/// The placement of that name (see [`NAMES`]).
pub fn by_name(name: &str) -> Option<Box<dyn Placement>> {
    Some(match name {
        "none" => Box::new(NoSeparation),
        "user-cleaner" => Box::new(UserCleaner),
        "dac" => Box::new(Dac::default()),
        "sfs" => Box::new(Sfs::default()),
        "sepbit" => Box::new(SepBit::default()),
        "ewma" => Box::new(Ewma),
        "midas" => Box::new(Midas::default()),
        _ => return None,
    })
}

/// The log head for a class: the identity if there are heads enough, otherwise neighbouring classes share one.
pub fn merge(class: u8, classes: u8, heads: u8) -> u8 {
    let (classes, heads) = (classes.max(1), heads.max(1));
    let class = class.min(classes - 1);
    if heads >= classes { class } else { (u16::from(class) * u16::from(heads) / u16::from(classes)) as u8 }
}

/// Classes of the policies that place by expected residual lifetime.
pub const LIFETIME_CLASSES: u8 = 6;

/// Class of a block that is expected to live for another `live_blocks * 2^residual_log2` user-written blocks: geometric, a factor of 4
/// wide, the coldest from twice the live blocks on. Not a number counts as coldest.
pub fn lifetime_class(residual_log2: f32) -> u8 {
    let class = (residual_log2 + 9.0) / 2.0;
    if class.is_nan() { LIFETIME_CLASSES - 1 } else { class.clamp(0.0, f32::from(LIFETIME_CLASSES - 1)) as u8 }
}

/// log2 of `blocks / live_blocks`.
pub(crate) fn relative_log2(blocks: u64, live_blocks: u64) -> f32 {
    (blocks.max(1) as f64 / live_blocks.max(1) as f64).log2() as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_known_and_says_itself() {
        for name in NAMES {
            assert_eq!(by_name(name).map(|p| p.name()), Some(name));
        }
        assert!(by_name("best").is_none());
    }

    #[test]
    fn every_policy_is_small_and_answers_below_its_classes() {
        for name in NAMES {
            let mut p = by_name(name).unwrap_or_else(|| unreachable!("{name} is in NAMES"));
            for n in 0..10_000u64 {
                let w = WriteFacts {
                    ino: n % 3,
                    first_block: n * n % 100,
                    now: n,
                    previous: (n > 100).then(|| n - n % 100),
                    live_blocks: 300,
                    ..Default::default()
                };
                let m = MoveFacts {
                    first_block: n % 100,
                    now: n,
                    birth: n / 2,
                    from_class: n as u8 % 20,
                    ..Default::default()
                };
                assert!(p.user_write(&w) < p.classes() && p.cleaning_write(&m) < p.classes(), "{name}");
                p.segment_cleaned(
                    &SegmentFacts { class: n as u8 % 20, capacity: 64, live: 32, ..Default::default() },
                    n,
                );
                p.emergency_move(&m);
            }
            assert!(p.bytes() <= 1 << 20, "{name}: {}", p.bytes());
            assert!(p.classes() <= 8, "{name}");
        }
        assert!(Dac::default().bytes() > 512 << 10 && Sfs::default().bytes() > 512 << 10);
    }

    #[test]
    fn merging_keeps_the_order_and_uses_every_head() {
        assert_eq!((0..6).map(|c| merge(c, 6, 6)).collect::<Vec<_>>(), [0, 1, 2, 3, 4, 5]);
        assert_eq!((0..6).map(|c| merge(c, 6, 3)).collect::<Vec<_>>(), [0, 0, 1, 1, 2, 2]);
        assert_eq!((0..6).map(|c| merge(c, 6, 4)).collect::<Vec<_>>(), [0, 0, 1, 2, 2, 3]);
        assert_eq!((merge(3, 6, 1), merge(9, 2, 4), merge(0, 0, 0)), (0, 1, 0));
    }

    #[test]
    fn lifetimes_fall_into_geometric_classes() {
        assert_eq!([-30.0, -7.1, -6.9, -1.0, 0.9, 1.1, 9.0].map(lifetime_class), [0, 0, 1, 4, 4, 5, 5]);
        assert_eq!(lifetime_class(f32::NAN), 5);
        assert_eq!(lifetime_class(f32::NEG_INFINITY), 0);
    }
}
