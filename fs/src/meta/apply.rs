//! Applying edits to the state: the one code for running operations and for roll-forward.
//!
//! Keeps I3: whatever starts or stops being reachable is counted in its segment, and every count of the state is exact after each
//! operation. Infallible after [`State::prepare`].

use smallvec::SmallVec;
use std::ops::ControlFlow;

use crate::error::{Error, Result};
use crate::format::DecodeError;
use crate::format::chunk::PAYLOAD_MAX;
use crate::format::edit::Edit;
use crate::format::key::{Key, Kind};
use crate::format::value::{EXTENT_BLOCKS_MAX, Extent, ExtentKind, Inode, Time, Value};
use crate::log::Log;
use crate::types::{BlockAddr, Ino, WriteClock};

use super::state::State;
use super::tree::Tree;
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

/// Visits the extents that overlap `first..end` of `ino`, whole and in order, each with its first file block. Copies nothing.
pub(crate) fn visit_overlapping(
    tree: &Tree,
    ino: Ino,
    first: u64,
    end: u64,
    mut visit: impl FnMut(u64, &Extent),
) -> Result<()> {
    if let Some((key, Value::Extent(extent))) = tree.floor(&Key::extent(ino, first))?
        && key.ino == ino
        && key.offset.saturating_add(u64::from(extent.blocks)) > first
    {
        visit(key.offset, extent);
    }
    if first.saturating_add(1) < end {
        tree.scan(&Key::extent(ino, first + 1), &Key::extent(ino, end - 1), |key, value| {
            if let Value::Extent(extent) = value {
                visit(key.offset, extent);
            }
            ControlFlow::Continue(())
        })?;
    }
    Ok(())
}

/// Extents in the order of their file blocks. Four are more than most operations meet.
type Extents = SmallVec<[Mapped; 4]>;

/// The same as a view shows them, copied. None reaches into the next: that is checked, since nobody has before.
pub fn overlapping(view: &(impl View + ?Sized), ino: Ino, first: u64, end: u64) -> Result<Extents> {
    let mut found = Extents::new();
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
    match found.windows(2).find(|pair| pair[0].end() > pair[1].first) {
        Some(pair) => Err(reaches_in(pair[1].first)),
        None => Ok(found),
    }
}

fn reaches_in(first: u64) -> Error {
    DecodeError::BadValue { what: "extent of a file", value: first }.into()
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

/// Changes of live blocks, collected over one operation and counted under one lock. Kept from one operation to the next.
pub(crate) struct Deltas {
    born: Vec<(BlockAddr, u32)>,
    died: Vec<(BlockAddr, u32)>,
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

impl Default for Deltas {
    fn default() -> Self {
        // As many blocks as one operation moves.
        let room = || Vec::with_capacity(PAYLOAD_MAX as usize);
        Self { born: room(), died: room(), discarded: Discards::new(), short: None }
    }
}

impl State {
    /// Makes sure that every node that `edits` touch is in memory and that extents there are apart, so that applying them cannot fail.
    pub fn prepare(&self, edits: &[Edit]) -> Result<()> {
        self.prepare_as_it_is(edits)?;
        edits.iter().filter_map(Edit::range).try_for_each(|(ino, first, end)| self.check_apart(ino, first, end))
    }

    /// The same where extents may reach into each other: for a repair, which has yet to mend that.
    pub(crate) fn prepare_as_it_is(&self, edits: &[Edit]) -> Result<()> {
        for edit in edits {
            let Some((ino, first, end)) = edit.range() else {
                match edit {
                    Edit::Put { key, .. } | Edit::Delete { key } => self.tree.prepare(key)?,
                    Edit::Written { ino, .. } => self.tree.prepare(&Key::inode(*ino))?,
                    _ => unreachable!("the others have a range"),
                }
                continue;
            };
            self.tree.prepare(&Key::inode(ino))?;
            // What ends before `first` too: a new extent may join it, also where another one begins at `first` now.
            let before = self.tree.floor(&Key::extent(ino, first.saturating_sub(1)))?.map(|(key, _)| key);
            let from = before.filter(|key| key.ino == ino && key.kind == Kind::Extent);
            self.tree.prepare_range(&from.unwrap_or(Key::extent(ino, first)), &Key::extent(ino, end))?;
        }
        Ok(())
    }

    /// What [`overlapping`] checks, without a copy of anything.
    fn check_apart(&self, ino: Ino, first: u64, end: u64) -> Result<()> {
        let (mut reached, mut wrong) = (0, None);
        visit_overlapping(&self.tree, ino, first, end, |start, extent| {
            if start < reached {
                wrong.get_or_insert(start);
            }
            reached = start.saturating_add(u64::from(extent.blocks));
        })?;
        wrong.map_or(Ok(()), |start| Err(reaches_in(start)))
    }

    /// The extents that overlap, copied. The edit was prepared, so they are in memory.
    fn mapped(&self, ino: Ino, first: u64, end: u64) -> Extents {
        let mut found = Extents::new();
        let visit = |first, extent: &Extent| found.push(Mapped { first, extent: extent.clone() });
        visit_overlapping(&self.tree, ino, first, end, visit).expect("the edit was prepared");
        found
    }

    /// Applies prepared edits of one operation. Counts of the medium that turn out wrong stop the log: what was read of it may be
    /// right, and nothing more is written (I3).
    pub fn apply(&mut self, edits: &[Edit], log: &Log) -> Discards {
        for edit in edits {
            self.apply_one(edit);
        }
        let mut inner = log.lock();
        let clock = inner.clock();
        for (addr, blocks) in self.deltas.born.drain(..) {
            inner.segments.born(log.place(addr).0, blocks);
        }
        for (addr, blocks) in self.deltas.died.drain(..) {
            inner.segments.died(log.place(addr).0, blocks, clock);
        }
        let short = self.deltas.short.take().map(|what| format!("there are fewer {what} than were freed"));
        let broken = short.or_else(|| inner.segments.broken().map(str::to_owned));
        drop(inner);
        if let Some(why) = broken {
            log.fail(why);
        }
        std::mem::take(&mut self.deltas.discarded)
    }

    /// Applies prepared edits without counting in which segments blocks live: for a repair, which counts anew at its end. The totals must be
    /// far from zero.
    pub(crate) fn apply_uncounted(&mut self, edits: &[Edit]) {
        edits.iter().for_each(|edit| self.apply_one(edit));
        self.deltas = Deltas::default();
    }

    fn apply_one(&mut self, edit: &Edit) {
        match edit {
            Edit::Put { key, value } => self.put(*key, value.clone()),
            Edit::Delete { key } => {
                self.tree.remove(key);
            }
            Edit::Map { ino, first, extent } => {
                let end = first + u64::from(extent.blocks);
                let removed = self.carve(*ino, *first, end, Instead::Data);
                self.add(*ino, Mapped { first: *first, extent: extent.clone() });
                self.count_blocks(*ino, u64::from(extent.blocks), removed);
            }
            Edit::Unmap { ino, first, blocks } => {
                let removed = self.carve(*ino, *first, first.saturating_add(*blocks), Instead::Nothing);
                self.count_blocks(*ino, 0, removed);
            }
            Edit::Move { ino, first, old, new, crcs } => {
                if self.move_whole(*ino, *first, crcs.len() as u32, *old, *new) {
                    return;
                }
                let end = first + crcs.len() as u64;
                for part in self.still_at(*ino, *first, end, *old) {
                    let mut extent = part.extent.clone();
                    extent.addr = new.offset(part.first - first);
                    self.replace(*ino, &part, extent);
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
                    self.replace(*ino, &part, extent);
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

    /// Moves an extent that has just these blocks, stands at `old` and joins no neighbour at `new`: where it is, without a copy. False if it is
    /// otherwise, and then nothing happened.
    fn move_whole(&mut self, ino: Ino, first: u64, blocks: u32, old: BlockAddr, new: BlockAddr) -> bool {
        let key = Key::extent(ino, first);
        let Some(Value::Extent(extent)) = self.tree.get(&key).expect("the edit was prepared") else { return false };
        let at = Shape::of(first, extent);
        if at.kind != ExtentKind::Data || at.blocks != blocks || at.addr != old {
            return false;
        }
        let there = Shape { addr: new, ..at };
        if self.shape_before(ino, first).is_some_and(|before| before.joins(&there))
            || self.shape_at(ino, there.end()).is_some_and(|after| there.joins(&after))
        {
            return false;
        }
        self.tree.update(&key, |value| {
            if let Value::Extent(extent) = value {
                extent.addr = new;
            }
        });
        self.deltas.died.push((old, blocks));
        self.deltas.born.push((new, blocks));
        true
    }

    /// The extent that begins at `first`.
    fn shape_at(&self, ino: Ino, first: u64) -> Option<Shape> {
        match self.tree.get(&Key::extent(ino, first)).expect("the edit was prepared") {
            Some(Value::Extent(extent)) => Some(Shape::of(first, extent)),
            _ => None,
        }
    }

    /// The last extent that begins before `first`.
    fn shape_before(&self, ino: Ino, first: u64) -> Option<Shape> {
        let last = first.checked_sub(1)?;
        match self.tree.floor(&Key::extent(ino, last)).expect("the edit was prepared") {
            Some((key, Value::Extent(extent))) if key.ino == ino => Some(Shape::of(key.offset, extent)),
            _ => None,
        }
    }

    /// Parts of `first..end` that still stand at `old`, `old + 1`, ... (I4).
    fn still_at(&self, ino: Ino, first: u64, end: u64, old: BlockAddr) -> Extents {
        let mut parts = self.mapped(ino, first, end);
        for part in &mut parts {
            *part = part.within(first, end);
        }
        parts.retain(|part| part.extent.kind == ExtentKind::Data && part.extent.addr == old.offset(part.first - first));
        parts
    }

    /// Puts `extent` in the place of `part`, which is mapped; the file's blocks stay as many.
    fn replace(&mut self, ino: Ino, part: &Mapped, extent: Extent) {
        self.carve(ino, part.first, part.end(), Instead::Data);
        self.add(ino, Mapped { first: part.first, extent });
    }

    /// Makes `first..end` a hole; returns how many of its blocks were mapped.
    fn carve(&mut self, ino: Ino, first: u64, end: u64, instead: Instead) -> u64 {
        let mut removed = 0;
        for old in self.mapped(ino, first, end) {
            self.tree.remove(&Key::extent(ino, old.first));
            if old.first < first {
                self.insert(ino, old.within(old.first, first));
            }
            if old.end() > end {
                self.insert(ino, old.within(end, old.end()));
            }
            let gone = old.within(first, end);
            removed += u64::from(gone.extent.blocks);
            self.uncount(&gone.extent);
            if instead == Instead::Nothing && gone.extent.kind == ExtentKind::Data {
                let Extent { blocks, birth, .. } = gone.extent;
                self.deltas.discarded.push(Discarded { ino, first: gone.first, blocks, birth });
            }
        }
        removed
    }

    fn uncount(&mut self, extent: &Extent) {
        let blocks = u64::from(extent.blocks);
        match extent.kind {
            ExtentKind::Data => {
                self.deltas.less(&mut self.totals.data_blocks, blocks, "blocks of data");
                self.deltas.died.push((extent.addr, extent.blocks));
            }
            ExtentKind::Unwritten => self.deltas.less(&mut self.totals.promised_blocks, blocks, "promised blocks"),
            ExtentKind::Lost => {}
        }
    }

    /// Maps a hole.
    fn add(&mut self, ino: Ino, new: Mapped) {
        let blocks = u64::from(new.extent.blocks);
        match new.extent.kind {
            ExtentKind::Data => {
                self.totals.data_blocks += blocks;
                self.deltas.born.push((new.extent.addr, new.extent.blocks));
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

/// All of an extent but its checksums.
#[derive(Clone, Copy)]
struct Shape {
    first: u64,
    kind: ExtentKind,
    blocks: u32,
    addr: BlockAddr,
    birth: WriteClock,
    interval: u8,
}

impl Shape {
    fn of(first: u64, extent: &Extent) -> Self {
        let Extent { kind, blocks, addr, birth, interval, .. } = *extent;
        Self { first, kind, blocks, addr, birth, interval }
    }

    fn end(&self) -> u64 {
        self.first.saturating_add(u64::from(self.blocks))
    }

    /// Whether `right` is the neighbour in the file and on the device and alike, so that both are one extent.
    fn joins(&self, right: &Self) -> bool {
        let Some(blocks) = self.blocks.checked_add(right.blocks) else { return false };
        let alike = match self.kind {
            ExtentKind::Data => {
                blocks <= EXTENT_BLOCKS_MAX
                    && self.addr.offset(u64::from(self.blocks)) == right.addr
                    && self.interval == right.interval
                    && self.birth.0.abs_diff(right.birth.0) <= MERGE_TICKS_MAX
            }
            ExtentKind::Unwritten | ExtentKind::Lost => blocks <= PROMISE_BLOCKS_MAX,
        };
        self.end() == right.first && self.kind == right.kind && alike
    }
}

/// The two extents as one, if they join.
fn joined(first: u64, left: &Extent, right: &Mapped) -> Option<Mapped> {
    Shape::of(first, left).joins(&Shape::of(right.first, &right.extent)).then(|| {
        let mut extent = left.clone();
        extent.blocks += right.extent.blocks;
        extent.crcs.extend_from_slice(&right.extent.crcs);
        Mapped { first, extent }
    })
}
