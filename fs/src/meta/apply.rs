//! Applying edits to the state: the one code for running operations and for roll-forward.
//!
//! Keeps I3: whatever starts or stops being reachable is counted in its segment, and every count of the state is exact after each
//! operation. Infallible after [`State::prepare`].

use smallvec::SmallVec;
use std::ops::ControlFlow;

use crate::error::{Error, Result};
use crate::format::DecodeError;
use crate::format::edit::Edit;
use crate::format::key::{Key, Kind};
use crate::format::value::{EXTENT_BLOCKS_MAX, Extent, ExtentKind, Inode, Time, Value};
use crate::log::Log;
use crate::types::{BlockAddr, Ino, WriteClock};

use super::state::State;
use super::view::View;

/// Longest run that one extent without data may promise.
const PROMISE_BLOCKS_MAX: u32 = 1 << 20;
/// Extents merge only if they were born within as many ticks of the write clock.
const MERGE_TICKS_MAX: u64 = 1024;

/// An extent with its first file block.
#[derive(Clone, Debug)]
pub struct Mapped {
    pub first: u64,
    pub extent: Extent,
}

impl Mapped {
    pub fn end(&self) -> u64 {
        self.first.saturating_add(u64::from(self.extent.blocks))
    }

    /// The part within `first..end`.
    pub(crate) fn within(&self, first: u64, end: u64) -> Self {
        let from = self.first.max(first);
        let to = self.end().min(end).max(from);
        Self { first: from, extent: self.extent.slice((from - self.first) as u32, (to - from) as u32) }
    }
}

/// The extents that overlap `first..end` of `ino`, whole and in order. None reaches into the next: that is checked, since nobody has before.
pub fn overlapping(view: &(impl View + ?Sized), ino: Ino, first: u64, end: u64) -> Result<SmallVec<[Mapped; 4]>> {
    let found = overlapping_unchecked(view, ino, first, end)?;
    match found.windows(2).find(|pair| pair[0].end() > pair[1].first) {
        Some(pair) => Err(reaches_in(pair[1].first)),
        None => Ok(found),
    }
}

fn reaches_in(first: u64) -> Error {
    DecodeError::BadValue { what: "extent of a file", value: first }.into()
}

fn overlapping_unchecked(view: &(impl View + ?Sized), ino: Ino, first: u64, end: u64) -> Result<SmallVec<[Mapped; 4]>> {
    let mut found = SmallVec::new();
    if let Some((key, Value::Extent(extent))) = view.floor(&Key::extent(ino, first))?
        && key.ino == ino
        && key.offset.saturating_add(u64::from(extent.blocks)) > first
    {
        found.push(Mapped { first: key.offset, extent });
    }
    if first.saturating_add(1) < end {
        view.scan(&Key::extent(ino, first + 1), &Key::extent(ino, end - 1), &mut |key, value| {
            if let Value::Extent(extent) = value {
                found.push(Mapped { first: key.offset, extent: extent.clone() });
            }
            ControlFlow::Continue(())
        })?;
    }
    Ok(found)
}

/// A run of data blocks that a file no longer has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Discarded {
    pub ino: Ino,
    pub first: u64,
    pub blocks: u32,
    pub birth: WriteClock,
}

/// What an operation took away from files, without what it wrote in its place.
pub type Discards = SmallVec<[Discarded; 4]>;

/// What comes where something is carved out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Instead {
    Data,
    Nothing,
}

/// Changes of live blocks, collected over one operation and counted under one lock.
#[derive(Default)]
struct Deltas {
    born: SmallVec<[(BlockAddr, u32); 4]>,
    died: SmallVec<[(BlockAddr, u32); 4]>,
    discarded: Discards,
    /// A total that the medium said too low.
    short: Option<&'static str>,
}

impl Deltas {
    fn less(&mut self, total: &mut u64, by: u64, what: &'static str) {
        if *total < by {
            self.short.get_or_insert(what);
        }
        *total = total.saturating_sub(by);
    }
}

impl State {
    /// Makes sure that every node that `edits` touch is in memory, so that applying them cannot fail.
    pub fn prepare(&self, edits: &[Edit]) -> Result<()> {
        for edit in edits {
            let (ino, first, end) = match edit {
                Edit::Put { key, .. } | Edit::Delete { key } => {
                    self.tree.prepare(key)?;
                    continue;
                }
                Edit::Written { ino, .. } => {
                    self.tree.prepare(&Key::inode(*ino))?;
                    continue;
                }
                Edit::Map { ino, first, extent } => (*ino, *first, first.saturating_add(u64::from(extent.blocks))),
                Edit::Unmap { ino, first, blocks } => (*ino, *first, first.saturating_add(*blocks)),
                Edit::Move { ino, first, crcs, .. } => (*ino, *first, first.saturating_add(crcs.len() as u64)),
                Edit::Lose { ino, first, blocks, .. } => (*ino, *first, first.saturating_add(u64::from(*blocks))),
            };
            self.tree.prepare(&Key::inode(ino))?;
            // What ends before `first` too: a new extent may join it, also where another one begins at `first` now.
            let before = self.tree.floor(&Key::extent(ino, first.saturating_sub(1)))?.map(|(key, _)| key);
            let from = before.filter(|key| key.ino == ino && key.kind == Kind::Extent);
            self.tree.prepare_range(&from.unwrap_or(Key::extent(ino, first)), &Key::extent(ino, end))?;
            self.check_apart(ino, first, end)?;
        }
        Ok(())
    }

    /// What [`overlapping`] checks, without a copy of anything.
    fn check_apart(&self, ino: Ino, first: u64, end: u64) -> Result<()> {
        let end_of = |key: &Key, extent: &Extent| key.offset.saturating_add(u64::from(extent.blocks));
        let mut reached = match self.tree.floor(&Key::extent(ino, first))? {
            Some((key, Value::Extent(extent))) if key.ino == ino => end_of(&key, extent),
            _ => 0,
        };
        let mut wrong = None;
        if first.saturating_add(1) < end {
            self.tree.scan(&Key::extent(ino, first + 1), &Key::extent(ino, end - 1), |key, value| {
                let Value::Extent(extent) = value else { return ControlFlow::Continue(()) };
                if key.offset < reached {
                    wrong = Some(key.offset);
                    return ControlFlow::Break(());
                }
                reached = end_of(key, extent);
                ControlFlow::Continue(())
            })?;
        }
        wrong.map_or(Ok(()), |first| Err(reaches_in(first)))
    }

    /// Applies prepared edits of one operation. Counts of the medium that turn out wrong stop the log: what was read of it may be
    /// right, and nothing more is written (I3).
    pub fn apply(&mut self, edits: &[Edit], log: &Log) -> Discards {
        let mut deltas = Deltas::default();
        for edit in edits {
            self.apply_one(edit, &mut deltas);
        }
        let mut inner = log.lock();
        let clock = inner.clock();
        for (addr, blocks) in deltas.born {
            inner.segments.born(log.place(addr).0, blocks);
        }
        for (addr, blocks) in deltas.died {
            inner.segments.died(log.place(addr).0, blocks, clock);
        }
        let short = deltas.short.map(|what| format!("there are fewer {what} than were freed"));
        let broken = short.or_else(|| inner.segments.broken().map(str::to_owned));
        drop(inner);
        if let Some(why) = broken {
            log.fail(why);
        }
        deltas.discarded
    }

    fn apply_one(&mut self, edit: &Edit, deltas: &mut Deltas) {
        match edit {
            Edit::Put { key, value } => self.put(*key, value.clone()),
            Edit::Delete { key } => {
                self.tree.remove(key);
            }
            Edit::Map { ino, first, extent } => {
                let end = first + u64::from(extent.blocks);
                let removed = self.carve(*ino, *first, end, Instead::Data, deltas);
                self.add(*ino, Mapped { first: *first, extent: extent.clone() }, deltas);
                self.count_blocks(*ino, u64::from(extent.blocks), removed);
            }
            Edit::Unmap { ino, first, blocks } => {
                let removed = self.carve(*ino, *first, first.saturating_add(*blocks), Instead::Nothing, deltas);
                self.count_blocks(*ino, 0, removed);
            }
            Edit::Move { ino, first, old, new, crcs } => {
                let end = first + crcs.len() as u64;
                for part in self.still_at(*ino, *first, end, *old) {
                    let mut extent = part.extent.clone();
                    extent.addr = new.offset(part.first - first);
                    self.replace(*ino, &part, extent, deltas);
                }
            }
            Edit::Lose { ino, first, blocks, old } => {
                for part in self.still_at(*ino, *first, first + u64::from(*blocks), *old) {
                    let extent = Extent {
                        kind: ExtentKind::Lost,
                        addr: BlockAddr::NONE,
                        crcs: SmallVec::new(),
                        ..part.extent.clone()
                    };
                    self.replace(*ino, &part, extent, deltas);
                }
            }
            Edit::Written { ino, size, time } => self.written(*ino, *size, *time),
        }
    }

    fn put(&mut self, key: Key, value: Value) {
        match value {
            Value::Inode(mut inode) => {
                if let Some(old) = self.inode(key.ino) {
                    inode.blocks = old.blocks;
                }
                self.next_ino = self.next_ino.max(key.ino.0 + 1);
                self.tree.insert(key, Value::Inode(inode));
            }
            value => {
                self.tree.insert(key, value);
            }
        }
    }

    fn inode(&self, ino: Ino) -> Option<&Inode> {
        match self.tree.get(&Key::inode(ino)) {
            Ok(Some(Value::Inode(inode))) => Some(inode),
            Ok(_) => None,
            Err(e) => panic!("the edit was not prepared: {e}"),
        }
    }

    fn written(&mut self, ino: Ino, size: Option<u64>, time: Time) {
        self.tree.update(&Key::inode(ino), |value| {
            if let Value::Inode(inode) = value {
                inode.size = size.unwrap_or(inode.size);
                inode.mtime = time;
                inode.ctime = time;
            }
        });
    }

    fn count_blocks(&mut self, ino: Ino, added: u64, removed: u64) {
        if added == removed {
            return;
        }
        self.tree.update(&Key::inode(ino), |value| {
            if let Value::Inode(inode) = value {
                inode.blocks = inode.blocks.saturating_add(added).saturating_sub(removed);
            }
        });
    }

    /// Parts of `first..end` that still stand at `old`, `old + 1`, ... (I4).
    fn still_at(&self, ino: Ino, first: u64, end: u64, old: BlockAddr) -> SmallVec<[Mapped; 4]> {
        let mut parts = overlapping_unchecked(&self.tree, ino, first, end).expect("the edit was prepared");
        for part in &mut parts {
            *part = part.within(first, end);
        }
        parts.retain(|part| part.extent.kind == ExtentKind::Data && part.extent.addr == old.offset(part.first - first));
        parts
    }

    /// Puts `extent` in the place of `part`, which is mapped; the file's blocks stay as many.
    fn replace(&mut self, ino: Ino, part: &Mapped, extent: Extent, deltas: &mut Deltas) {
        self.carve(ino, part.first, part.end(), Instead::Data, deltas);
        self.add(ino, Mapped { first: part.first, extent }, deltas);
    }

    /// Makes `first..end` a hole; returns how many of its blocks were mapped.
    fn carve(&mut self, ino: Ino, first: u64, end: u64, instead: Instead, deltas: &mut Deltas) -> u64 {
        let mut removed = 0;
        for old in overlapping_unchecked(&self.tree, ino, first, end).expect("the edit was prepared") {
            self.tree.remove(&Key::extent(ino, old.first));
            if old.first < first {
                self.insert(ino, old.within(old.first, first));
            }
            if old.end() > end {
                self.insert(ino, old.within(end, old.end()));
            }
            let gone = old.within(first, end);
            removed += u64::from(gone.extent.blocks);
            self.uncount(&gone.extent, deltas);
            if instead == Instead::Nothing && gone.extent.kind == ExtentKind::Data {
                let Extent { blocks, birth, .. } = gone.extent;
                deltas.discarded.push(Discarded { ino, first: gone.first, blocks, birth });
            }
        }
        removed
    }

    fn uncount(&mut self, extent: &Extent, deltas: &mut Deltas) {
        let blocks = u64::from(extent.blocks);
        match extent.kind {
            ExtentKind::Data => {
                deltas.less(&mut self.totals.data_blocks, blocks, "blocks of data");
                deltas.died.push((extent.addr, extent.blocks));
            }
            ExtentKind::Unwritten => deltas.less(&mut self.totals.promised_blocks, blocks, "promised blocks"),
            ExtentKind::Lost => {}
        }
    }

    /// Maps a hole.
    fn add(&mut self, ino: Ino, new: Mapped, deltas: &mut Deltas) {
        let blocks = u64::from(new.extent.blocks);
        match new.extent.kind {
            ExtentKind::Data => {
                self.totals.data_blocks += blocks;
                deltas.born.push((new.extent.addr, new.extent.blocks));
            }
            ExtentKind::Unwritten => self.totals.promised_blocks += blocks,
            ExtentKind::Lost => {}
        }
        self.insert_merged(ino, new);
    }

    fn insert_merged(&mut self, ino: Ino, mut new: Mapped) {
        let before = new.first.checked_sub(1).and_then(|last| {
            match self.tree.floor(&Key::extent(ino, last)).expect("the edit was prepared") {
                Some((key, Value::Extent(e))) if key.ino == ino => joined(key.offset, e, &new),
                _ => None,
            }
        });
        if let Some(joined) = before {
            new = joined;
        }
        let end = new.end();
        let after = match self.tree.get(&Key::extent(ino, end)).expect("the edit was prepared") {
            Some(Value::Extent(e)) => joined(new.first, &new.extent, &Mapped { first: end, extent: e.clone() }),
            _ => None,
        };
        if let Some(joined) = after {
            self.tree.remove(&Key::extent(ino, end));
            new = joined;
        }
        self.insert(ino, new);
    }

    fn insert(&mut self, ino: Ino, mapped: Mapped) {
        self.tree.insert(Key::extent(ino, mapped.first), Value::Extent(mapped.extent));
    }
}

/// The two extents as one, if they are neighbours in the file and on the device and alike.
fn joined(first: u64, left: &Extent, right: &Mapped) -> Option<Mapped> {
    let r = &right.extent;
    let blocks = left.blocks.checked_add(r.blocks)?;
    let adjacent = first.saturating_add(u64::from(left.blocks)) == right.first && left.kind == r.kind;
    let alike = match left.kind {
        ExtentKind::Data => {
            blocks <= EXTENT_BLOCKS_MAX
                && left.addr.offset(u64::from(left.blocks)) == r.addr
                && left.interval == r.interval
                && left.birth.0.abs_diff(r.birth.0) <= MERGE_TICKS_MAX
        }
        ExtentKind::Unwritten | ExtentKind::Lost => blocks <= PROMISE_BLOCKS_MAX,
    };
    (adjacent && alike).then(|| {
        let mut extent = left.clone();
        extent.blocks = blocks;
        extent.crcs.extend_from_slice(&r.crcs);
        Mapped { first, extent }
    })
}
