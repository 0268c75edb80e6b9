//! The segment table in memory: the state of every segment that was ever used, and the index of victims.
//!
//! One place moves a segment from state to state: free -> open -> sealed -> prefree -> free. A segment is *sealed* only when
//! everything in it is written and nobody can add to it, so a sealed segment without live blocks stays without. Keeps I2 (prefree
//! becomes free by [`SegmentTable::release`] alone, once a slot that says so is durable) and I3 (live counts). One that the device refuses becomes
//! *bad* as soon as nobody fills it any more, and stays so; what is live in it stays where it is until the cleaner moves it.

use std::collections::BTreeSet;

use gleanfs_gc::index::UtilizationIndex;
use gleanfs_gc::segment::SegmentFacts;

use crate::format::superblock::HEADS_MAX;
use crate::format::table::{SEGMENTS_PER_PAGE, StoredSegment, StoredState};
use crate::types::{SegNo, WriteClock};

use super::heads::{HeadId, NODE_HEAD};
use super::number_set::NumberSet;

/// Where a segment is in its life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SegmentState {
    #[default]
    Free,
    /// A head fills it, or chunks of it are not written yet.
    Open,
    /// Written as a whole; may be cleaned.
    Sealed,
    /// Nothing in it is live, but what is durable may still need it.
    Prefree,
    /// The device refuses it: nothing is written to it any more. Blocks may be live in it.
    Bad,
}

/// What is known of a segment.
#[derive(Clone, Copy, Debug, Default)]
pub struct Segment {
    pub state: SegmentState,
    pub head: HeadId,
    pub live: u32,
    pub opened: WriteClock,
    pub sealed: WriteClock,
    pub invalidated: WriteClock,
}

/// Numbers of segments by state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SegmentCounts {
    pub free: u32,
    pub open: u32,
    pub sealed: u32,
    pub prefree: u32,
    pub bad: u32,
}

/// The segment table.
pub struct SegmentTable {
    entries: Vec<Segment>,
    first: SegNo,
    segments: u32,
    /// Blocks that can be written in each segment.
    capacity: u32,
    /// Free segments below the frontier that no allocation list names.
    free: NumberSet,
    prefree: NumberSet,
    /// Sealed segments that were cleaned and whose last live blocks (nodes, pages) leave with the next checkpoint.
    aside: NumberSet,
    /// Open segments that the device refuses: bad once nobody fills them.
    refused: NumberSet,
    bad: NumberSet,
    /// Segments of which something could not be read when they were cleaned. They are left alone until the next mount: what cannot be read now may
    /// be readable then, and to choose them again and again would gain nothing.
    kept: NumberSet,
    /// Segments that hold log since the last checkpoint was taken: at most those that it or an extension lists.
    in_log: NumberSet,
    dirty_pages: NumberSet,
    counts: SegmentCounts,
    /// How the medium contradicts itself, if it does; the first that was found.
    broken: Option<String>,
    /// Sealed segments, for the choice of victims.
    pub index: UtilizationIndex,
}

impl SegmentTable {
    /// A table of which nothing was ever used. `capacity`: writable blocks per segment.
    pub fn new(first: SegNo, segments: u32, capacity: u32) -> Self {
        Self {
            entries: vec![Segment::default(); first.0 as usize],
            first,
            segments,
            capacity,
            free: NumberSet::with_room(segments as usize),
            prefree: NumberSet::with_room(segments as usize),
            aside: NumberSet::with_room(segments as usize),
            refused: NumberSet::default(),
            bad: NumberSet::default(),
            kept: NumberSet::default(),
            in_log: NumberSet::with_room(segments as usize),
            dirty_pages: NumberSet::with_room(segments as usize / SEGMENTS_PER_PAGE + 1),
            counts: SegmentCounts { free: segments - first.0, ..SegmentCounts::default() },
            broken: None,
            index: UtilizationIndex::new(0, capacity),
        }
    }

    /// Segments from this one on were never used.
    pub fn frontier(&self) -> SegNo {
        SegNo(self.entries.len() as u32)
    }

    /// The device has more segments from now on, none of them ever used.
    pub fn grow(&mut self, segments: u32) {
        self.counts.free += segments - self.segments;
        self.segments = segments;
        for set in [&mut self.free, &mut self.prefree, &mut self.aside, &mut self.in_log] {
            set.grow(segments as usize);
        }
    }

    /// Segments below `frontier` were given to an allocation list at least once, whether or not the table has entries for them.
    pub fn set_frontier(&mut self, frontier: SegNo) {
        self.entries.resize(self.entries.len().max(frontier.0 as usize), Segment::default());
        self.index.grow(frontier.0);
    }

    pub fn get(&self, seg: SegNo) -> Segment {
        self.entries.get(seg.0 as usize).copied().unwrap_or_default()
    }

    /// Blocks that can be written in `seg`.
    pub fn capacity(&self, _seg: SegNo) -> u32 {
        self.capacity
    }

    pub fn counts(&self) -> SegmentCounts {
        self.counts
    }

    pub fn prefree_count(&self) -> usize {
        self.prefree.len()
    }

    /// Used segments with their numbers.
    pub fn iter(&self) -> impl Iterator<Item = (SegNo, &Segment)> {
        let first = self.first.0;
        self.entries.iter().enumerate().skip(first as usize).map(|(n, s)| (SegNo(n as u32), s))
    }

    /// How the medium contradicts itself, if it does: entries that no checkpoint writes, or counts that are not those of what the tree has. What was
    /// found is counted as well as can be, so that the rest can be read; nothing may be written any more (I1, I3).
    pub fn broken(&self) -> Option<&str> {
        self.broken.as_deref()
    }

    fn contradict(&mut self, why: String) {
        self.broken.get_or_insert(why);
    }

    /// Takes over an entry of a checkpoint taken at `clock`. Used segments come in as sealed; the heads' are opened again by
    /// [`SegmentTable::reopen`].
    pub fn load(&mut self, seg: SegNo, stored: &StoredSegment, clock: WriteClock) {
        let live_max = if stored.state == StoredState::Free { 0 } else { self.capacity };
        let is_sound = stored.live <= live_max
            && usize::from(stored.head) < HEADS_MAX
            && stored.opened.max(stored.sealed).max(stored.invalidated) <= clock;
        if !is_sound {
            self.contradict(format!("the entry of segment {seg} is one that no checkpoint writes"));
        }
        let entry = self.entry(seg);
        entry.head = stored.head.min(NODE_HEAD);
        entry.live = stored.live.min(live_max);
        entry.opened = stored.opened.min(clock);
        entry.sealed = stored.sealed.min(clock);
        entry.invalidated = stored.invalidated.min(clock);
        match stored.state {
            StoredState::Free => {}
            StoredState::Used => self.set_state(seg, SegmentState::Sealed),
            StoredState::Bad => self.set_state(seg, SegmentState::Bad),
        }
    }

    /// After loading and replay: sealed segments without live blocks are prefree, and free ones below the frontier are for the
    /// taking, unless the allocation list `reserved` names them.
    pub fn settle(&mut self, reserved: &BTreeSet<SegNo>) {
        for n in self.first.0..self.entries.len() as u32 {
            let (seg, entry) = (SegNo(n), self.entries[n as usize]);
            match entry.state {
                SegmentState::Sealed if entry.live == 0 => self.set_state(seg, SegmentState::Prefree),
                SegmentState::Free if !reserved.contains(&seg) => {
                    self.free.insert(seg.0 as usize);
                }
                _ => {}
            }
        }
    }

    /// A head goes on with a segment after a mount.
    pub fn reopen(&mut self, seg: SegNo, head: HeadId) {
        self.entry(seg).head = head;
        self.set_state(seg, SegmentState::Open);
    }

    pub fn open(&mut self, seg: SegNo, head: HeadId, clock: WriteClock) {
        let entry = self.entry(seg);
        // I1: overwriting a used segment would lose data, so this is checked in every build.
        assert_eq!((entry.state, entry.live), (SegmentState::Free, 0), "segment {seg} is opened while in use");
        self.in_log.insert(seg.0 as usize);
        self.open_again(seg, head, clock);
    }

    /// Replay comes to a segment that an extended log opened. It may be one that the checkpoint knows as used: its old blocks are counted
    /// until the log, in its order, has moved the last of them and only then brings new ones.
    pub fn open_again(&mut self, seg: SegNo, head: HeadId, clock: WriteClock) {
        let entry = self.entry(seg);
        *entry = Segment { head, opened: clock, sealed: clock, invalidated: clock, ..*entry };
        self.set_state(seg, SegmentState::Open);
    }

    /// Nobody writes to `seg` any more and all of it is written.
    pub fn seal(&mut self, seg: SegNo, clock: WriteClock) {
        if self.get(seg).state != SegmentState::Open {
            return;
        }
        let is_refused = self.refused.contains(seg.0 as usize);
        self.refused.remove(seg.0 as usize);
        let entry = self.entry(seg);
        entry.sealed = clock;
        let next = match entry.live {
            _ if is_refused => SegmentState::Bad,
            0 => SegmentState::Prefree,
            _ => SegmentState::Sealed,
        };
        self.set_state(seg, next);
    }

    /// Blocks of `seg` became reachable. Checked in every build, since a count that is wrong may be the medium's ([`SegmentTable::broken`]).
    pub fn born(&mut self, seg: SegNo, blocks: u32) {
        let Segment { live, state, .. } = self.get(seg);
        let live = live.saturating_add(blocks);
        if !self.is_of_log(seg) {
            return self.contradict(format!("blocks come to life in segment {seg}, which is not part of the log"));
        }
        if live > self.capacity {
            return self.contradict(format!("I3: more live blocks than segment {seg} can hold"));
        }
        if !matches!(state, SegmentState::Open | SegmentState::Sealed) {
            return self.contradict(format!("I2: blocks come to life in segment {seg}, which is {state:?}"));
        }
        self.entry(seg).live = live;
        self.index.set_live(seg.0, live, 0);
        self.touch(seg);
    }

    /// Blocks of `seg` are not reachable any more; checked like [`SegmentTable::born`].
    pub fn died(&mut self, seg: SegNo, blocks: u32, clock: WriteClock) {
        if !self.is_of_log(seg) {
            return self.contradict(format!("blocks died in segment {seg}, which is not part of the log"));
        }
        let live = self.get(seg).live;
        if live < blocks {
            return self.contradict(format!("I3: {blocks} blocks died in segment {seg}, which has {live}"));
        }
        let entry = self.entry(seg);
        entry.live -= blocks;
        entry.invalidated = clock;
        let (live, state) = (entry.live, entry.state);
        if live == 0 && state == SegmentState::Sealed {
            self.set_state(seg, SegmentState::Prefree);
        } else {
            self.index.set_live(seg.0, live, clock.0);
        }
        self.touch(seg);
    }

    /// Prefree segments now: what the checkpoint being taken will free.
    pub fn prefree(&self) -> Vec<SegNo> {
        self.prefree.iter().map(number).collect()
    }

    /// The log begins anew, in these segments and those that are opened from now on.
    pub fn begin_log(&mut self, segments: impl IntoIterator<Item = SegNo>) {
        self.in_log.clear();
        segments.into_iter().for_each(|seg| self.in_log.insert(seg.0 as usize));
    }

    /// Up to `most` prefree segments of which no log since the last checkpoint is needed.
    pub fn reusable(&self, most: usize) -> Vec<SegNo> {
        self.prefree.iter().filter(|n| !self.in_log.contains(*n)).take(most).map(number).collect()
    }

    pub fn reusable_count(&self) -> usize {
        self.prefree.len() - self.in_log.common(&self.prefree)
    }

    /// A cleaned segment is no victim again before the next checkpoint, with which the nodes in it leave.
    pub fn set_aside(&mut self, seg: SegNo) {
        if matches!(self.get(seg).state, SegmentState::Sealed | SegmentState::Bad) {
            self.index.remove(seg.0);
            self.aside.insert(seg.0 as usize);
        }
    }

    /// Part of the segment cannot be read, so it cannot be emptied: it is no victim any more while this mount lasts.
    pub fn keep(&mut self, seg: SegNo) {
        if matches!(self.get(seg).state, SegmentState::Sealed | SegmentState::Bad) {
            self.index.remove(seg.0);
            self.kept.insert(seg.0 as usize);
        }
    }

    /// A bad segment in which blocks are live, and which was not tried since the last checkpoint.
    pub fn to_drain(&self) -> Option<SegNo> {
        let left_alone = |seg: &SegNo| self.aside.contains(seg.0 as usize) || self.kept.contains(seg.0 as usize);
        self.bad.iter().map(number).find(|seg| self.get(*seg).live > 0 && !left_alone(seg))
    }

    /// Blocks that the log cannot have while this mount lasts: those of bad segments and of segments that cannot be emptied, without what is live in them.
    pub fn lost_room(&self) -> u64 {
        let room = |n: usize| u64::from(self.capacity.saturating_sub(self.get(number(n)).live));
        let kept_alone = self.kept.iter().filter(|n| !self.bad.contains(*n));
        self.bad.iter().chain(kept_alone).map(room).sum()
    }

    /// Segments set aside since the last checkpoint.
    pub fn aside_count(&self) -> usize {
        self.aside.len()
    }

    /// A checkpoint is durable: whatever was set aside and still has live blocks may be chosen again.
    pub fn bring_back(&mut self) {
        while let Some(seg) = self.aside.pop_first().map(number) {
            if self.get(seg).state == SegmentState::Sealed && !self.kept.contains(seg.0 as usize) {
                self.index_sealed(seg);
            }
        }
    }

    /// The slot that was waited for is durable and the device gave the segment back: it is free (I2).
    /// `listed`: the allocation list of that slot names it.
    pub fn release(&mut self, seg: SegNo, listed: bool) {
        // I2: giving back what is live would lose data, so this is checked in every build.
        assert_eq!(
            (self.get(seg).state, self.get(seg).live),
            (SegmentState::Prefree, 0),
            "segment {seg} is given back"
        );
        self.set_state(seg, SegmentState::Free);
        if listed {
            self.free.remove(seg.0 as usize);
        }
    }

    /// The device refused the segment, which is never used again. One that is being filled becomes bad when it is sealed: until then what is on its way
    /// comes to life in it.
    pub fn condemn(&mut self, seg: SegNo) {
        match self.get(seg).state {
            SegmentState::Open => self.refused.insert(seg.0 as usize),
            SegmentState::Bad => {}
            _ => {
                self.free.remove(seg.0 as usize);
                self.set_state(seg, SegmentState::Bad);
            }
        }
    }

    /// Whether the device refuses it.
    pub fn is_refused(&self, seg: SegNo) -> bool {
        self.refused.contains(seg.0 as usize) || self.bad.contains(seg.0 as usize)
    }

    /// Up to `count` free segments that no list names yet: freed ones first, then never used ones.
    pub fn take_free(&mut self, count: usize) -> Vec<SegNo> {
        let mut taken = Vec::with_capacity(count);
        while taken.len() < count {
            if let Some(seg) = self.free.pop_first().map(number) {
                taken.push(seg);
            } else if (self.entries.len() as u32) < self.segments {
                taken.push(SegNo(self.entries.len() as u32));
                self.entries.push(Segment::default());
            } else {
                break;
            }
        }
        self.index.grow(self.entries.len() as u32);
        taken
    }

    /// Segments that the next checkpoint, or the one after it, makes available.
    pub fn later(&self) -> u32 {
        (self.prefree_count() + self.aside_count() + self.unlisted_free()) as u32
    }

    /// Free segments that no list names.
    pub fn unlisted_free(&self) -> usize {
        self.free.len() + (self.segments as usize - self.entries.len())
    }

    /// The page of the table that holds `seg`, and its place there.
    pub fn page_of(seg: SegNo) -> (u64, usize) {
        (u64::from(seg.0) / SEGMENTS_PER_PAGE as u64, seg.0 as usize % SEGMENTS_PER_PAGE)
    }

    /// Pages with changed entries that were not taken yet; the caller takes them one by one while it makes more.
    pub fn take_dirty_page(&mut self) -> Option<u64> {
        self.dirty_pages.pop_first().map(|page| page as u64)
    }

    /// Has the next checkpoint write a page elsewhere.
    pub fn mark_page(&mut self, page: u64) {
        self.dirty_pages.insert(page as usize);
    }

    /// Forgets which pages are dirty: the checkpoint being taken holds all of them.
    pub fn clear_dirty(&mut self) {
        self.dirty_pages.clear();
    }

    /// A page as a checkpoint stores it: prefree segments are free in it.
    pub fn stored_page(&self, page: u64) -> Vec<StoredSegment> {
        let first = page as usize * SEGMENTS_PER_PAGE;
        (first..first + SEGMENTS_PER_PAGE).map(|n| self.get(SegNo(n as u32)).stored()).collect()
    }

    fn is_of_log(&self, seg: SegNo) -> bool {
        seg >= self.first && seg.0 < self.segments
    }

    fn entry(&mut self, seg: SegNo) -> &mut Segment {
        let n = seg.0 as usize;
        assert!(self.is_of_log(seg), "segment {seg} is not part of the log");
        if n >= self.entries.len() {
            self.entries.resize(n + 1, Segment::default());
            self.index.grow(n as u32 + 1);
        }
        &mut self.entries[n]
    }

    fn touch(&mut self, seg: SegNo) {
        self.dirty_pages.insert(Self::page_of(seg).0 as usize);
    }

    /// The one place where a segment changes its state.
    fn set_state(&mut self, seg: SegNo, to: SegmentState) {
        let from = std::mem::replace(&mut self.entry(seg).state, to);
        *self.count(from) -= 1;
        *self.count(to) += 1;
        match from {
            SegmentState::Sealed => {
                self.index.remove(seg.0);
            }
            SegmentState::Prefree => {
                self.prefree.remove(seg.0 as usize);
            }
            _ => {}
        }
        match to {
            SegmentState::Sealed => self.index_sealed(seg),
            SegmentState::Prefree => self.prefree.insert(seg.0 as usize),
            SegmentState::Free => self.free.insert(seg.0 as usize),
            SegmentState::Bad => self.bad.insert(seg.0 as usize),
            SegmentState::Open => {}
        }
        if to == SegmentState::Free || to == SegmentState::Prefree {
            self.kept.remove(seg.0 as usize);
        }
        // The medium knows a prefree segment as free already.
        if (from, to) != (SegmentState::Prefree, SegmentState::Free) {
            self.touch(seg);
        }
    }

    fn index_sealed(&mut self, seg: SegNo) {
        let s = self.get(seg);
        self.index.insert(SegmentFacts {
            seg: seg.0,
            live: s.live,
            capacity: self.capacity,
            class: if s.head == NODE_HEAD { 0 } else { s.head },
            seal_clock: s.sealed.0,
            write_clock: s.opened.0.midpoint(s.sealed.0),
            invalidate_clock: s.invalidated.0,
        });
    }

    fn count(&mut self, state: SegmentState) -> &mut u32 {
        match state {
            SegmentState::Free => &mut self.counts.free,
            SegmentState::Open => &mut self.counts.open,
            SegmentState::Sealed => &mut self.counts.sealed,
            SegmentState::Prefree => &mut self.counts.prefree,
            SegmentState::Bad => &mut self.counts.bad,
        }
    }
}

/// A member of a set as what it is.
fn number(n: usize) -> SegNo {
    SegNo(n as u32)
}

impl Segment {
    fn stored(&self) -> StoredSegment {
        let state = match self.state {
            SegmentState::Free | SegmentState::Prefree => StoredState::Free,
            SegmentState::Open | SegmentState::Sealed => StoredState::Used,
            SegmentState::Bad => StoredState::Bad,
        };
        if state == StoredState::Free {
            return StoredSegment::default();
        }
        StoredSegment {
            state,
            head: self.head,
            live: self.live,
            opened: self.opened,
            sealed: self.sealed,
            invalidated: self.invalidated,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEG: SegNo = SegNo(3);

    fn table(stored: StoredSegment) -> SegmentTable {
        let mut table = SegmentTable::new(SegNo(1), 10, 64);
        table.load(SEG, &stored, WriteClock(100));
        table
    }

    fn used(live: u32) -> StoredSegment {
        StoredSegment { state: StoredState::Used, live, ..StoredSegment::default() }
    }

    #[test]
    fn counts_that_the_medium_has_wrong_break_the_table_and_nothing_else() {
        let lies: [fn(&mut SegmentTable); 5] = [
            |t| t.died(SEG, 6, WriteClock(7)),
            |t| t.born(SEG, 61),
            |t| t.born(SegNo(4), 1),
            |t| t.born(SegNo(10), 1),
            |t| t.died(SegNo(0), 1, WriteClock(7)),
        ];
        for lie in lies {
            let mut table = table(used(5));
            table.died(SEG, 1, WriteClock(7));
            assert_eq!(table.broken(), None);
            lie(&mut table);
            assert!(table.broken().is_some());
            assert_eq!(table.get(SEG).live, 4);
        }
    }

    #[test]
    fn entries_that_no_checkpoint_writes_are_found_when_they_are_loaded() {
        let free = StoredSegment { live: 1, ..StoredSegment::default() };
        let later = StoredSegment { sealed: WriteClock(101), ..used(1) };
        for lie in [used(65), free, later, StoredSegment { head: 16, ..used(1) }] {
            assert!(table(lie).broken().is_some(), "{lie:?}");
        }
        assert_eq!(table(used(64)).broken(), None);
    }
}
