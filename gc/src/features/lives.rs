//! How long blocks have lived lately that died, by file and by kind of file, in one bounded table.
//!
//! A new block has no past; those of its kind that came before it have. What is lost costs a feature, nothing else. Size: 32 bytes an entry, 128 KiB for the
//! default of 4096 entries, whatever the size of the filesystem.

use super::kind::FileKind;
use crate::placement::relative_log2;

/// log2 of the entries by default.
pub const LIVES_LOG2: u32 = 12;
/// Half-life of what is known, in live blocks: long enough to see what comes once in a while.
const HALF_LIFE: u64 = 2;
/// Entries among which a key may lie.
const WAYS: usize = 4;

/// Whose deaths are counted together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    File(u64),
    /// Files with names of one shape in one directory.
    Kind(FileKind),
    /// Files with names of one shape, wherever they are.
    Suffix(u32),
}

impl Group {
    /// `None`: nothing is known to group by.
    fn key(self) -> Option<u64> {
        let (salt, key) = match self {
            Self::File(ino) => (1, ino),
            Self::Kind(kind) if kind.is_known() => (2, u64::from(kind.suffix) << 32 | u64::from(kind.dir)),
            Self::Suffix(suffix) if suffix != 0 => (3, u64::from(suffix)),
            Self::Kind(_) | Self::Suffix(_) => return None,
        };
        let mut h = (key ^ salt << 61).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        h = (h ^ (h >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
        Some(h ^ (h >> 29))
    }
}

/// What is known of a group. Counts are halved every half-life.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Life {
    tag: u32,
    deaths: f32,
    /// Sum of log2 of the lifetimes, as shares of the live blocks.
    logs: f32,
    /// Blocks that live, as far as they were seen to be written.
    live: f32,
    /// Write clock that the counts are of.
    last: u64,
    /// Write clock of the last write.
    written: u64,
}

impl Life {
    /// Mean log2 of the lifetimes, as shares of the live blocks, if anything died.
    pub fn mean_log2(&self) -> Option<f32> {
        (self.deaths >= 0.5).then(|| self.logs / self.deaths)
    }

    /// log2 of how long a block lives that dies at the rate at which those of the group do, as a share of the live blocks.
    pub fn turnover_log2(&self, now: u64, live_blocks: u64) -> Option<f32> {
        let half_life = half_life(live_blocks);
        let deaths = self.deaths * faded(now.saturating_sub(self.last), half_life);
        let per_write = deaths * std::f32::consts::LN_2 / half_life as f32;
        (self.deaths >= 0.5)
            .then(|| (self.live.max(1.0) / per_write.max(f32::MIN_POSITIVE)).log2() + relative_log2(1, live_blocks))
    }

    fn fade(&mut self, now: u64, live_blocks: u64) {
        let share = faded(now.saturating_sub(self.last), half_life(live_blocks));
        (self.deaths, self.logs, self.last) = (self.deaths * share, self.logs * share, now.max(self.last));
    }
}

fn half_life(live_blocks: u64) -> u64 {
    live_blocks.saturating_mul(HALF_LIFE).max(1)
}

fn faded(elapsed: u64, half_life: u64) -> f32 {
    (-(elapsed as f64) / half_life as f64).exp2() as f32
}

/// The table.
#[derive(Debug)]
pub struct Lives {
    entries: Vec<Life>,
}

impl Default for Lives {
    fn default() -> Self {
        Self { entries: vec![Life::default(); 1 << LIVES_LOG2] }
    }
}

impl Lives {
    /// Heap bytes held.
    pub fn bytes(&self) -> usize {
        self.entries.len() * size_of::<Life>()
    }

    pub fn of(&self, group: Group) -> Option<&Life> {
        let (set, tag) = self.place(group)?;
        self.entries[set..set + WAYS].iter().find(|e| e.tag == tag)
    }

    /// Blocks of the group were written.
    pub fn written(&mut self, group: Group, blocks: u32, now: u64) {
        if let Some(life) = self.entry(group, now) {
            life.live += blocks as f32;
            life.written = now;
        }
    }

    /// Blocks of the group died after `lifetime`.
    pub fn died(&mut self, group: Group, blocks: u32, lifetime: u64, now: u64, live_blocks: u64) {
        if let Some(life) = self.entry(group, now) {
            life.fade(now, live_blocks);
            life.deaths += blocks as f32;
            life.logs += blocks as f32 * relative_log2(lifetime, live_blocks);
            life.live = (life.live - blocks as f32).max(0.0);
        }
    }

    /// The entry of a group, which takes the place of the one of its few that was used longest ago if there is none.
    fn entry(&mut self, group: Group, now: u64) -> Option<&mut Life> {
        let (set, tag) = self.place(group)?;
        let set = &mut self.entries[set..set + WAYS];
        let at = match set.iter().position(|e| e.tag == tag) {
            Some(at) => at,
            None => {
                let at = (0..WAYS).min_by_key(|&at| (set[at].tag != 0, set[at].last.max(set[at].written)))?;
                set[at] = Life { tag, last: now, ..Life::default() };
                at
            }
        };
        Some(&mut set[at])
    }

    /// First entry of the set and tag (never 0, which marks an unused slot).
    fn place(&self, group: Group) -> Option<(usize, u32)> {
        let h = group.key()?;
        Some((h as usize & (self.entries.len() - WAYS), (h >> 32) as u32 | 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIVE: u64 = 1 << 10;
    const LOG: Group = Group::Kind(FileKind { suffix: 3, dir: 4 });

    #[test]
    fn lifetimes_are_known_by_group_and_what_is_old_counts_less() {
        let mut lives = Lives::default();
        assert_eq!(lives.of(LOG), None);
        lives.written(LOG, 64, 0);
        lives.died(LOG, 32, LIVE / 4, 256, LIVE);
        let life = *lives.of(LOG).unwrap();
        assert_eq!(life.mean_log2(), Some(-2.0));
        assert!((life.live - 32.0).abs() < 0.01);
        lives.died(LOG, 32, LIVE, 256 + 2 * LIVE, LIVE);
        let mean = lives.of(LOG).and_then(Life::mean_log2).unwrap();
        assert!((mean + 2.0 / 3.0).abs() < 1e-3, "half of the old weight is left: {mean}");
        assert_eq!(lives.of(Group::Suffix(3)), None);
        assert_eq!(lives.of(Group::Kind(FileKind::default())), None);
    }

    #[test]
    fn turnover_is_what_a_steady_group_shows() {
        let mut lives = Lives::default();
        // 128 blocks of which one dies and one comes every second tick of the clock: each lives for 256 ticks.
        lives.written(LOG, 128, 0);
        for now in (2..40 * LIVE).step_by(2) {
            lives.written(LOG, 1, now);
            lives.died(LOG, 1, 256, now, LIVE);
        }
        let life = lives.of(LOG).unwrap();
        let turnover = life.turnover_log2(40 * LIVE, LIVE).unwrap();
        assert!((turnover + 2.0).abs() < 0.1, "{turnover}");
        assert!((life.mean_log2().unwrap() + 2.0).abs() < 0.01);
    }

    #[test]
    fn the_table_is_bounded_and_keeps_what_is_used() {
        let mut lives = Lives::default();
        for n in 0..100_000 {
            lives.written(Group::File(n), 1, n);
            lives.died(LOG, 1, 10, n, LIVE);
        }
        assert_eq!((lives.bytes(), lives.of(LOG).is_some()), (128 << 10, true));
    }
}
