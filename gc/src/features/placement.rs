//! Features of blocks about to be written by a user or moved by the cleaner.

use super::history::{Entry, History, REGION_BLOCKS};
use super::lives::{Group, Life};
use super::{Feature, FileKind, LOG2_MAX, LOG2_MIN, Unit, log2_of_live, log2_of_live_feature};
use crate::placement::{DiscardFacts, Ewma, MoveFacts, WriteFacts, interval_code, interval_log2, relative_log2};

/// Position of a feature in a [`PlacementRow`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum PlacementFeature {
    NewestInterval,
    MeanInterval,
    RuleLifetime,
    Age,
    IsCleaning,
    WrittenOnce,
    Append,
    SmallFileBlocks,
    Position,
    WriteBlocks,
    RegionInterval,
    RegionIdle,
    FileInterval,
    FileIdle,
    FileAge,
    KindLife,
    KindTurnover,
    SuffixLife,
    FileLife,
}

/// log2 of the size, in blocks, from which on a file is large: a model should not have to go beyond the sizes that it was fitted to.
const SMALL_FILE_LOG2: f32 = 12.0;

const COUNT: usize = PlacementFeature::FileLife as usize + 1;

/// One value per feature of [`PLACEMENT`], in its order.
pub type PlacementRow = [f32; COUNT];

/// The features of placement, in the order of [`PlacementFeature`].
pub const PLACEMENT: [Feature; COUNT] = [
    log2_of_live_feature(
        "newest_interval",
        "interval between the user write under way and the one before it; unknown for moves and if written once",
    ),
    log2_of_live_feature(
        "mean_interval",
        "moving average of the intervals between user writes of the block, the one under way included; unknown if written once",
    ),
    log2_of_live_feature(
        "rule_lifetime",
        "what the interval rule (placement `ewma`) expects: for user writes a mean of the newest interval and those before, for moves the larger of age and mean_interval",
    ),
    log2_of_live_feature("age", "since the user wrote the block; the least at user writes"),
    flag("is_cleaning", "the cleaner moves the block; a user writes it otherwise"),
    flag("written_once", "the block was never overwritten"),
    flag("append", "a user write at or past the end of the file"),
    Feature {
        name: "small_file_blocks",
        unit: Unit::Log2Blocks,
        range: [0.0, SMALL_FILE_LOG2],
        meaning: "size of the file plus one, all files from 4096 blocks on alike; 0 if unknown",
    },
    Feature {
        name: "position",
        unit: Unit::Share,
        range: [0.0, 1.0],
        meaning: "place of the block within the file; 0 if its size is unknown",
    },
    Feature {
        name: "write_blocks",
        unit: Unit::Log2Blocks,
        range: [0.0, 32.0],
        meaning: "length of the user's write; 0 for moves",
    },
    log2_of_live_feature(
        "region_interval",
        "mean update interval of a block in the 64-block neighbourhood, from recent writes without this one",
    ),
    log2_of_live_feature("region_idle", "since the last user write in the neighbourhood, this one excepted"),
    log2_of_live_feature(
        "file_interval",
        "mean update interval of a block of the file, from recent writes without this one",
    ),
    log2_of_live_feature("file_idle", "since the last user write to the file, this one excepted"),
    log2_of_live_feature("file_age", "since the file was first seen, as long as it stayed in the table"),
    log2_of_live_feature(
        "kind_life",
        "mean log2 of the lifetimes of blocks that died recently, of files in the same directory whose names differ in their numbers or before the extension only",
    ),
    log2_of_live_feature(
        "kind_turnover",
        "blocks of files of that kind by the rate at which they die: how long one lives if they die evenly",
    ),
    log2_of_live_feature("suffix_life", "as kind_life, of files in any directory"),
    log2_of_live_feature("file_life", "as kind_life, of the file alone"),
];

/// Features that come from tables, so that they may be unknown.
const FROM_TABLES: [PlacementFeature; 9] = {
    use PlacementFeature::*;
    [RegionInterval, RegionIdle, FileInterval, FileIdle, FileAge, KindLife, KindTurnover, SuffixLife, FileLife]
};

const fn flag(name: &'static str, meaning: &'static str) -> Feature {
    Feature { name, unit: Unit::Flag, range: [0.0, 1.0], meaning }
}

/// Takes out of a row what comes from the table, as if it had fallen out of it.
pub(crate) fn forget_table(row: &mut PlacementRow) {
    use PlacementFeature::*;
    for f in FROM_TABLES {
        row[f as usize] = LOG2_MAX;
    }
    if row[IsCleaning as usize] > 0.0 {
        place_in_file(row, 0, 0);
    }
}

impl History {
    /// The row of a user's write, as seen before it; then notes the write.
    pub fn user_row(&mut self, w: &WriteFacts) -> PlacementRow {
        use PlacementFeature::*;
        if let Some(previous) = w.previous {
            self.note_deaths(w.ino, w.kind, w.blocks, w.now.saturating_sub(previous), w.now, w.live_blocks);
        }
        let mut row = self.shared(w.ino, w.first_block, w.kind, w.now, w.live_blocks);
        let file_blocks = w.file_size_bytes.div_ceil(4096);
        let newest = w.previous.map_or(LOG2_MAX, |p| log2_of_live(w.now.saturating_sub(p), w.live_blocks));
        row[NewestInterval as usize] = newest;
        let mean = interval_code(w.previous, w.previous_interval, w.now);
        row[MeanInterval as usize] = stored_interval(mean, w.live_blocks);
        row[RuleLifetime as usize] = Ewma::expects_written(w).clamp(LOG2_MIN, LOG2_MAX);
        row[Age as usize] = LOG2_MIN;
        row[WrittenOnce as usize] = flag_of(w.previous.is_none());
        row[Append as usize] = flag_of(w.append);
        row[WriteBlocks as usize] = (w.blocks.max(1) as f32).log2();
        place_in_file(&mut row, w.first_block, file_blocks);
        self.note(w.ino, w.first_block, w.blocks, file_blocks, w.now, w.live_blocks);
        groups(w.ino, w.kind).for_each(|group| self.lives.written(group, w.blocks.max(1), w.now));
        row
    }

    /// Blocks of a file are no longer used.
    pub fn discarded(&mut self, d: &DiscardFacts) {
        let blocks = u32::try_from(d.blocks).unwrap_or(u32::MAX);
        self.note_deaths(d.ino, d.kind, blocks, d.now.saturating_sub(d.birth), d.now, d.live_blocks);
    }

    fn note_deaths(&mut self, ino: u64, kind: FileKind, blocks: u32, lifetime: u64, now: u64, live_blocks: u64) {
        groups(ino, kind).for_each(|group| self.lives.died(group, blocks.max(1), lifetime, now, live_blocks));
    }

    /// The row of a block that the cleaner is about to move.
    pub fn cleaning_row(&self, m: &MoveFacts) -> PlacementRow {
        use PlacementFeature::*;
        let mut row = self.shared(m.ino, m.first_block, m.kind, m.now, m.live_blocks);
        row[NewestInterval as usize] = LOG2_MAX;
        row[MeanInterval as usize] = stored_interval(m.interval, m.live_blocks);
        row[Age as usize] = log2_of_live(m.now.saturating_sub(m.birth), m.live_blocks);
        row[RuleLifetime as usize] = Ewma::expects_moved(m).clamp(LOG2_MIN, LOG2_MAX);
        row[IsCleaning as usize] = 1.0;
        row[WrittenOnce as usize] = flag_of(m.interval == 0);
        if let Some(file) = self.file(m.ino) {
            place_in_file(&mut row, m.first_block, u64::from(file.file_blocks));
        }
        row
    }

    /// What both kinds of row take from the table.
    fn shared(&self, ino: u64, block: u64, kind: FileKind, now: u64, live_blocks: u64) -> PlacementRow {
        use PlacementFeature::*;
        let mut row = [0.0; COUNT];
        for f in FROM_TABLES {
            row[f as usize] = LOG2_MAX;
        }
        let mean = |group| clamped(self.lives.of(group).and_then(Life::mean_log2));
        row[KindLife as usize] = mean(Group::Kind(kind));
        row[SuffixLife as usize] = mean(Group::Suffix(kind.suffix));
        row[FileLife as usize] = mean(Group::File(ino));
        let of_kind = self.lives.of(Group::Kind(kind));
        row[KindTurnover as usize] = clamped(of_kind.and_then(|life| life.turnover_log2(now, live_blocks)));
        if let Some(region) = self.region(ino, block) {
            let blocks = u64::from(region.file_blocks).clamp(1, REGION_BLOCKS);
            row[RegionInterval as usize] = mean_interval(region, blocks, now, live_blocks);
            row[RegionIdle as usize] = log2_of_live(now.saturating_sub(region.last), live_blocks);
        }
        if let Some(file) = self.file(ino) {
            row[FileInterval as usize] = mean_interval(file, u64::from(file.file_blocks), now, live_blocks);
            row[FileIdle as usize] = log2_of_live(now.saturating_sub(file.last), live_blocks);
            row[FileAge as usize] = log2_of_live(now.saturating_sub(file.first), live_blocks);
        }
        row
    }
}

/// Whose deaths a block's counts among.
fn groups(ino: u64, kind: FileKind) -> impl Iterator<Item = Group> {
    [Group::File(ino), Group::Kind(kind), Group::Suffix(kind.suffix)].into_iter()
}

fn clamped(log2: Option<f32>) -> f32 {
    log2.map_or(LOG2_MAX, |log2| log2.clamp(LOG2_MIN, LOG2_MAX))
}

/// Blocks written at a steady rate `r` (of all writes) leave a heat of `r half_life / ln 2`; the mean interval of one of `blocks` is `blocks / r`.
fn mean_interval(e: &Entry, blocks: u64, now: u64, live_blocks: u64) -> f32 {
    let half_life = History::half_life(live_blocks);
    let rate = e.heat(now, half_life) * std::f32::consts::LN_2 / half_life as f32;
    let interval = blocks.max(1) as f32 / rate.max(f32::MIN_POSITIVE);
    (interval.log2() + relative_log2(1, live_blocks)).clamp(LOG2_MIN, LOG2_MAX)
}

fn stored_interval(code: u8, live_blocks: u64) -> f32 {
    interval_log2(code).map_or(LOG2_MAX, |log2| (log2 + relative_log2(1, live_blocks)).clamp(LOG2_MIN, LOG2_MAX))
}

fn place_in_file(row: &mut PlacementRow, block: u64, file_blocks: u64) {
    row[PlacementFeature::SmallFileBlocks as usize] = (1.0 + file_blocks as f32).log2().min(SMALL_FILE_LOG2);
    row[PlacementFeature::Position as usize] = (block as f32 / file_blocks.max(1) as f32).min(1.0);
}

fn flag_of(yes: bool) -> f32 {
    f32::from(u8::from(yes))
}

#[cfg(test)]
mod tests {
    use super::PlacementFeature::*;
    use super::*;

    const LIVE: u64 = 1 << 16;

    fn user(ino: u64, first_block: u64, now: u64, previous: Option<u64>) -> WriteFacts {
        WriteFacts {
            ino,
            first_block,
            blocks: 4,
            file_size_bytes: 4096 << 10,
            now,
            previous,
            live_blocks: LIVE,
            ..Default::default()
        }
    }

    #[test]
    fn the_order_of_names_is_that_of_the_enum() {
        assert_eq!(PLACEMENT[IsCleaning as usize].name, "is_cleaning");
        assert_eq!(PLACEMENT[WriteBlocks as usize].name, "write_blocks");
        assert_eq!(PLACEMENT[FileAge as usize].name, "file_age");
        assert_eq!(PLACEMENT[FileLife as usize].name, "file_life");
    }

    #[test]
    fn rows_stay_in_range_whatever_the_facts() {
        let mut h = History::new(4);
        for seed in 0..2000u64 {
            let r = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let live_blocks = r >> (r & 63);
            let w =
                WriteFacts { previous: Some(r >> 3), blocks: r as u32, live_blocks, ..user(r >> 60, r, r >> 5, None) };
            let m = MoveFacts {
                ino: r >> 60,
                birth: r,
                now: r >> 1,
                interval: r as u8,
                from_class: r as u8,
                live_blocks,
                ..Default::default()
            };
            for row in [h.user_row(&w), h.cleaning_row(&m)] {
                for (value, f) in row.iter().zip(&PLACEMENT) {
                    assert!((f.range[0]..=f.range[1]).contains(value), "{} = {value}", f.name);
                }
            }
        }
    }

    #[test]
    fn a_row_says_what_is_known_and_what_is_not() {
        let mut h = History::default();
        let new = h.user_row(&user(9, 512, 1000, None));
        assert_eq!(
            (new[NewestInterval as usize], new[WrittenOnce as usize], new[RegionIdle as usize]),
            (6.0, 1.0, 6.0)
        );
        assert_eq!((new[Position as usize], new[WriteBlocks as usize], new[IsCleaning as usize]), (0.5, 2.0, 0.0));
        let again = h.user_row(&user(9, 512, 1000 + LIVE / 4, Some(1000)));
        assert_eq!(
            (again[NewestInterval as usize], again[RegionIdle as usize], again[FileAge as usize]),
            (-2.0, -2.0, -2.0)
        );
        let m = MoveFacts {
            blocks: 1,
            ino: 9,
            first_block: 512,
            now: 1000 + LIVE,
            birth: 1000,
            interval: interval_code(Some(0), 0, 1 << 14),
            from_class: 4,
            live_blocks: LIVE,
            ..Default::default()
        };
        let moved = h.cleaning_row(&m);
        assert_eq!((moved[MeanInterval as usize], moved[Age as usize]), (-2.0, 0.0));
        assert_eq!(moved[Position as usize], 0.5);
    }

    #[test]
    fn mean_intervals_agree_with_the_rate() {
        let mut h = History::default();
        // One region gets every second write: a block of it is rewritten every 128 writes.
        for now in 0..LIVE * 2 {
            if now % 2 == 0 {
                h.note(3, now % 64, 1, 64, now, LIVE);
            }
        }
        let row = h.cleaning_row(&MoveFacts { ino: 3, now: LIVE * 2, live_blocks: LIVE, ..Default::default() });
        let expected = (128f32 / LIVE as f32).log2();
        assert!((row[RegionInterval as usize] - expected).abs() < 0.2, "{} {expected}", row[RegionInterval as usize]);
    }
}
