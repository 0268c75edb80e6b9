//! Committing operations: plan, prepare, check the space, log, apply, as one step under the state lock.

use std::sync::atomic::Ordering;

use gleanfs_gc::placement::{DiscardFacts, WriteFacts, interval_code, merge};
use gleanfs_gc::telemetry::{By, Choice, Event};
use smallvec::SmallVec;

use crate::error::{Error, Result};
use crate::format::chunk::encode_operation;
use crate::format::edit::Edit;
use crate::format::key::{Key, Kind};
use crate::format::value::{Extent, ExtentKind, Value};
use crate::lock_order::WriteGuard;
use crate::log::{HeadId, Inner, Purpose, Reserved, Ticket};
use crate::types::{BLOCK_SIZE, BlockAddr, Lsn, WriteClock};

use super::apply::{Discarded, overlapping};
use super::moves::Moves;
use super::patience::may_wait;
use super::space::RELEASE_TRANCHE_BLOCKS;
use super::state::State;
use super::view::View;
use super::volume::{Plan, RecordRoom, Volume, WriteHint, bytes_of};

/// Head of records that have no payload of their own.
const RECORD_HEAD: HeadId = 0;
/// One `Map`, and an inode with edits of its extended attributes.
const WRITE_ROOM: RecordRoom = RecordRoom { fixed: 1024, per_block: 4 };
/// A move of a single block takes at most this many bytes of a record.
const MOVE_ROOM: RecordRoom = RecordRoom { fixed: 64, per_block: 48 };

/// How a commit went.
enum Step<T> {
    Done(T),
    /// Nothing happened: there must be room first.
    Wait(Purpose),
}

impl Volume {
    /// Plans and commits one operation: `plan` runs on the newest state with all other operations held off, its edits become
    /// one record and take effect. An error of `plan` changes nothing. `NoSpace` if the edits need more room than is left;
    /// edits that only free or replace never fail so. An empty list of edits logs nothing.
    ///
    /// Edits are at most a few KiB when encoded (`RECORD_BYTES_MAX`): long work is cut into several operations.
    pub fn transact<T>(&self, plan: impl FnMut(&dyn View) -> Result<Plan<T>>) -> Result<T> {
        self.transact_for(Purpose::User, plan)
    }

    /// [`Volume::transact`] with the reserve that `purpose` may draw on.
    pub(crate) fn transact_for<T>(
        &self,
        purpose: Purpose,
        mut plan: impl FnMut(&dyn View) -> Result<Plan<T>>,
    ) -> Result<T> {
        self.writable()?;
        let mut squeezed = false;
        loop {
            match self.commit(None, purpose, &mut plan) {
                Ok(Step::Done(value)) => return Ok(value),
                Ok(Step::Wait(purpose)) => self.relieve(purpose)?,
                Err(Error::NoSpace) if !squeezed => self.squeeze(&mut squeezed)?,
                Err(e) => return Err(e),
            }
        }
    }

    /// The same with up to `hint.blocks` blocks of payload (at most `WRITE_BLOCKS_MAX`): `fill` writes them into the log's buffer (the
    /// one copy), then `plan` gets them as one data extent, to be mapped by an `Edit::Map` at its place
    /// (`birth` and `interval` are filled in when it commits). The log may have room for fewer blocks, at least one: what `fill`
    /// gets is what is written, and the caller comes again for the rest. Both may be called again from the start.
    pub fn write<T>(
        &self,
        hint: &WriteHint,
        fill: impl FnMut(&mut [u8]),
        mut plan: impl FnMut(&dyn View, &Extent) -> Result<Plan<T>>,
    ) -> Result<T> {
        self.writable()?;
        let (head, facts, choice) = self.place_user_write(hint);
        let mut blocks = 0;
        let done = self.write_to(head, hint.blocks, fill, |view, extent| {
            blocks = extent.blocks;
            plan(view, extent)
        })?;
        self.placed.by(choice.by == By::Model).user.fetch_add(u64::from(blocks), Ordering::Relaxed);
        // Only now: what was asked about may be begun anew, or be written in part.
        self.taps.tell(|| Event::Write(WriteFacts { blocks, ..facts }, choice));
        Ok(done)
    }

    /// Appends as much of `bytes` (whole blocks) as the log takes at once to a head, and commits the edits that `plan` makes of its address and
    /// its checksums in `moves`. For the cleaner, which has verified the bytes; how many blocks it was.
    pub(crate) fn append_moved(
        &self,
        head: HeadId,
        bytes: &[u8],
        moves: &mut Moves,
        plan: impl Fn(BlockAddr, &mut Moves),
    ) -> Result<u32> {
        let wanted = (bytes.len() / BLOCK_SIZE) as u32;
        loop {
            let mut ticket = self.reserve(head, wanted, MOVE_ROOM, Purpose::Cleaner)?;
            let payload = ticket.payload();
            payload.copy_from_slice(&bytes[..payload.len()]);
            moves.crcs.clear();
            moves.crcs.extend(payload.chunks_exact(BLOCK_SIZE).map(crc32fast::hash));
            plan(ticket.addr(), moves);
            let blocks = ticket.blocks();
            match self.commit_moves(ticket, moves)? {
                Step::Done(()) => return Ok(blocks),
                // The ticket is gone: a checkpoint that somebody waits for must be able to write its chunk.
                Step::Wait(purpose) => self.relieve(purpose)?,
            }
        }
    }

    fn commit_moves(&self, ticket: Ticket<'_>, moves: &mut Moves) -> Result<Step<()>> {
        let mut ticket = Some(ticket);
        loop {
            match self.commit_edits(self.state.write(), &mut ticket, Purpose::Cleaner, moves.edits_mut()) {
                Err(Error::NodeMiss(id)) => self.load(id)?,
                step => return step,
            }
        }
    }

    /// Payload to a head of the caller's choice.
    fn write_to<T>(
        &self,
        head: HeadId,
        blocks: u32,
        mut fill: impl FnMut(&mut [u8]),
        mut plan: impl FnMut(&dyn View, &Extent) -> Result<Plan<T>>,
    ) -> Result<T> {
        let mut squeezed = false;
        loop {
            let mut ticket = self.reserve(head, blocks, WRITE_ROOM, Purpose::User)?;
            fill(ticket.payload());
            let extent = Extent {
                kind: ExtentKind::Data,
                blocks: ticket.blocks(),
                addr: ticket.addr(),
                birth: WriteClock(0),
                interval: 0,
                crcs: ticket.payload().chunks_exact(BLOCK_SIZE).map(crc32fast::hash).collect(),
            };
            // The ticket ends with the attempt: a checkpoint that somebody waits for must be able to write its chunk.
            match self.commit(Some(ticket), Purpose::User, |view| plan(view, &extent)) {
                Ok(Step::Done(value)) => return Ok(value),
                Ok(Step::Wait(purpose)) => self.relieve(purpose)?,
                Err(Error::NoSpace) if !squeezed => self.squeeze(&mut squeezed)?,
                Err(e) => return Err(e),
            }
        }
    }

    /// Dirty nodes take room twice until a checkpoint: it may be all that is missing.
    fn squeeze(&self, squeezed: &mut bool) -> Result<()> {
        if !may_wait() {
            return Err(Error::MustWait);
        }
        *squeezed = true;
        self.checkpoint_for_room()
    }

    fn reserve(&self, head: HeadId, blocks: u32, record: RecordRoom, purpose: Purpose) -> Result<Ticket<'_>> {
        loop {
            match self.log.reserve(head, blocks, record.fixed, record.per_block, purpose)? {
                Reserved::Room(ticket) => return Ok(ticket),
                Reserved::Full => self.relieve(purpose)?,
            }
        }
    }

    /// One commit; loads nodes as they are missed, and never waits for anything else.
    fn commit<T>(
        &self,
        mut ticket: Option<Ticket<'_>>,
        purpose: Purpose,
        mut plan: impl FnMut(&dyn View) -> Result<Plan<T>>,
    ) -> Result<Step<T>> {
        loop {
            match self.try_commit(&mut ticket, purpose, &mut plan) {
                Err(Error::NodeMiss(id)) => self.load(id)?,
                step => return step,
            }
        }
    }

    /// One attempt, all of it under the state lock, none of it waiting.
    fn try_commit<T>(
        &self,
        ticket: &mut Option<Ticket<'_>>,
        purpose: Purpose,
        plan: &mut impl FnMut(&dyn View) -> Result<Plan<T>>,
    ) -> Result<Step<T>> {
        let state = self.state.write();
        let Plan { mut edits, value } = plan(&*state)?;
        if edits.is_empty() {
            return Ok(Step::Done(value));
        }
        Ok(match self.commit_edits(state, ticket, purpose, &mut edits)? {
            Step::Done(()) => Step::Done(value),
            Step::Wait(purpose) => Step::Wait(purpose),
        })
    }

    /// Commits what was planned on `state`, which was not let go since. For the cleaner this allocates nothing but what the tree may need.
    fn commit_edits(
        &self,
        mut state: WriteGuard<'_, State>,
        ticket: &mut Option<Ticket<'_>>,
        purpose: Purpose,
        edits: &mut [Edit],
    ) -> Result<Step<()>> {
        state.prepare(edits)?;
        let purpose = if purpose == Purpose::User && releases(edits) { Purpose::Release } else { purpose };
        // I5: dirty metadata stays within what the checkpoint's reserve can take, and within the cache.
        if self.dirty_share_of(&state) >= 1.0 {
            return Ok(Step::Wait(purpose));
        }
        if purpose != Purpose::Cleaner {
            self.check_space(&state, edits)?;
        }
        let ticks = if purpose == Purpose::Cleaner { 0 } else { payload_blocks(edits) };
        let lsn = {
            let inner = self.log.lock();
            if purpose != Purpose::Cleaner {
                stamp(&state, &inner, edits)?;
            }
            inner.last_lsn().next()
        };
        let witness = self.witness.get().filter(|_| purpose != Purpose::Cleaner);
        if let Some(witness) = witness {
            witness.announce(lsn);
        }
        let logged = self.log_record(ticket, lsn, edits, purpose, &mut state.record);
        if let Some(witness) = witness {
            match logged {
                Ok(Reserved::Room(())) => witness.note(lsn),
                _ => witness.withdraw(),
            }
        }
        if let Reserved::Full = logged? {
            return Ok(Step::Wait(purpose));
        }
        self.log.lock().tick(ticks);
        let discards = state.apply(edits, &self.log);
        self.trim_locked(&mut state);
        // I2: only now may the chunk be written and its segment sealed; its live blocks are counted.
        *ticket = None;
        if ticks > 0 {
            self.user_bytes.fetch_add(bytes_of(ticks as u32), Ordering::Relaxed);
        }
        let live_blocks = state.totals.data_blocks;
        drop(state);
        self.tell_discards(&discards, live_blocks);
        Ok(Step::Done(()))
    }

    /// Tells placement what it will see no more of.
    fn tell_discards(&self, discards: &[Discarded], live_blocks: u64) {
        if discards.is_empty() {
            return;
        }
        let now = self.write_clock().0;
        let mut placement = self.placement.lock();
        for Discarded { ino, first, blocks, birth } in discards {
            let facts = DiscardFacts {
                ino: ino.0,
                kind: self.kinds.of(*ino),
                first_block: *first,
                blocks: (*blocks).into(),
                now,
                birth: birth.0,
                live_blocks,
            };
            placement.discarded(&facts);
            self.taps.tell(|| Event::Discard(facts));
        }
    }

    /// Puts the record into the log: with its payload if it has some.
    fn log_record(
        &self,
        ticket: &mut Option<Ticket<'_>>,
        lsn: Lsn,
        edits: &[Edit],
        purpose: Purpose,
        record: &mut Vec<u8>,
    ) -> Result<Reserved<()>> {
        record.clear();
        encode_operation(lsn, edits, record);
        match ticket {
            Some(ticket) => {
                ticket.commit(lsn, record);
                Ok(Reserved::Room(()))
            }
            None => self.log.append(RECORD_HEAD, lsn, record, purpose),
        }
    }

    /// I7: what the edits add must fit; what they replace or free needs no room.
    fn check_space(&self, state: &State, edits: &[Edit]) -> Result<()> {
        let (mut added, mut removed) = (0, 0);
        for edit in edits {
            match edit {
                Edit::Map { ino, first, extent } => {
                    let end = first + u64::from(extent.blocks);
                    let old = overlapping(&state.tree, *ino, *first, end)?;
                    let mapped: u64 = old.iter().map(|m| m.end().min(end) - m.first.max(*first)).sum();
                    added += u64::from(extent.blocks) - mapped;
                }
                Edit::Put { key, .. } if state.tree.get(key)?.is_none() => added += 1,
                Edit::Delete { key } if state.tree.get(key)?.is_some() => removed += 1,
                _ => {}
            }
        }
        // An item for an item: unlinking puts one on a list. Overwriting may have split extents beyond what users may fill (it is never
        // refused), and even then a full filesystem can be emptied.
        let added: u64 = added.saturating_sub(removed);
        if added == 0 {
            return Ok(());
        }
        let limit = self.capacity_blocks() + if releases(edits) { RELEASE_TRANCHE_BLOCKS } else { 0 };
        if state.used_blocks() + added > limit { Err(Error::NoSpace) } else { Ok(()) }
    }

    /// The head for a user's write, from what placement knows without inferring anything, and what it was chosen from and how.
    fn place_user_write(&self, hint: &WriteHint) -> (HeadId, WriteFacts, Choice) {
        let state = self.state.read();
        let previous = match state.tree.floor(&Key::extent(hint.ino, hint.first)) {
            Ok(Some((key, Value::Extent(e))))
                if key.ino == hint.ino && key.offset + u64::from(e.blocks) > hint.first =>
            {
                (e.kind == ExtentKind::Data).then_some((e.birth.0, e.interval))
            }
            _ => None,
        };
        let live_blocks = state.totals.data_blocks;
        drop(state);
        let facts = WriteFacts {
            ino: hint.ino.0,
            kind: self.kinds.of(hint.ino),
            first_block: hint.first,
            blocks: hint.blocks,
            append: hint.append,
            file_size_bytes: hint.file_size,
            now: self.log.write_clock().0,
            previous: previous.map(|p| p.0),
            previous_interval: previous.map_or(0, |p| p.1),
            live_blocks,
        };
        let mut placement = self.placement.lock();
        let class = placement.user_write(&facts);
        let choice = Choice::of(&**placement, class);
        (merge(class, choice.classes, self.heads), facts, choice)
    }
}

/// Whether an operation gives something back, so that a full filesystem must allow it.
fn releases(edits: &[Edit]) -> bool {
    edits.iter().any(|edit| match edit {
        Edit::Delete { key } => key.kind != Kind::Orphan,
        Edit::Unmap { .. } => true,
        _ => false,
    })
}

/// Blocks of user data that the edits map.
fn payload_blocks(edits: &[Edit]) -> u64 {
    edits.iter().map(|edit| edit.blocks_written().count() as u64).sum()
}

/// Fills in when each extent was written and how long its predecessors lived on average.
fn stamp(state: &State, inner: &Inner, edits: &mut [Edit]) -> Result<()> {
    let mut now = inner.clock();
    for edit in edits {
        let Edit::Map { ino, first, extent } = edit else { continue };
        if extent.kind != ExtentKind::Data {
            continue;
        }
        let old: SmallVec<_> = overlapping(&state.tree, *ino, *first, *first + 1)?;
        let before = old.first().filter(|m| m.extent.kind == ExtentKind::Data).map(|m| &m.extent);
        extent.birth = now;
        let stored = before.map_or(0, |old| old.interval);
        extent.interval = interval_code(before.map(|old| old.birth.0), stored, now.0);
        now.0 += u64::from(extent.blocks);
    }
    Ok(())
}
