//! The simulated log: segments, heads, the map, and the cleaner that keeps it going.
//!
//! Invariants: a segment's live count is the number of its blocks that the map names; what is sealed is in the index; a free
//! segment is in the free list alone.

use std::collections::HashMap;

use super::Outcome;
use super::fates::FateRecorder;
use super::load::{BlockWrite, Load, Op};
use super::record::Recorder;
use super::tally::Tally;
use crate::features::{FileKind, VictimContext};
use crate::index::UtilizationIndex;
use crate::placement::{DiscardFacts, MoveFacts, Placement, WriteFacts, interval_code, merge};
use crate::segment::SegmentFacts;
use crate::victim::VictimPolicy;

const NONE: u32 = u32::MAX;
/// The smallest reserve of free segments with which cleaning always finds room.
const RESERVE: u32 = 2;

/// When the cleaner starts, one victim at a time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Trigger {
    /// More than this share of the stored blocks is dead.
    GarbageShare(f64),
    /// Fewer free segments than this.
    FreeSegments(u32),
}

/// Sizes of the simulated log.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Geometry {
    pub segments: u32,
    pub segment_blocks: u32,
    pub heads: u8,
    pub trigger: Trigger,
}

impl Geometry {
    /// A device of which `blocks` live blocks are the share `utilization`, everything else included.
    ///
    /// # Panics
    /// If that leaves no room for the heads and the reserve.
    pub fn full(blocks: u32, segment_blocks: u32, utilization: f64, heads: u8) -> Self {
        let segments = (f64::from(blocks) / utilization / f64::from(segment_blocks)).round() as u32;
        let trigger = Trigger::FreeSegments(u32::from(heads) + RESERVE);
        let needed = blocks.div_ceil(segment_blocks) + 2 * u32::from(heads) + RESERVE;
        assert!(needed < segments, "{segments} segments are too few for {heads} heads");
        Self { segments, segment_blocks, heads, trigger }
    }

    /// Room enough that only the share of garbage starts the cleaner.
    pub fn garbage(blocks: u32, segment_blocks: u32, share: f64, heads: u8) -> Self {
        let stored = (f64::from(blocks) / (1.0 - share) / f64::from(segment_blocks)).ceil() as u32;
        let segments = stored + 3 * u32::from(heads) + RESERVE + 2;
        Self { segments, segment_blocks, heads, trigger: Trigger::GarbageShare(share) }
    }

    /// Blocks that hold data in steady state: all but the free segments and, on average, half of every open one.
    pub fn physical_blocks(&self) -> f64 {
        let free = match self.trigger {
            Trigger::FreeSegments(n) => f64::from(n),
            Trigger::GarbageShare(_) => 0.0,
        };
        (f64::from(self.segments) - free - 0.5 * f64::from(self.heads)) * f64::from(self.segment_blocks)
    }
}

/// Where a block of the volume is, what an extent would remember of it, and whose it is. Within one cache line: every write comes here, at random.
#[derive(Clone, Copy, Debug)]
#[repr(align(32))]
struct Block {
    /// Physical place, or `NONE`.
    place: u32,
    interval: u8,
    /// That its user's write got.
    class: u8,
    birth: u64,
    ino: u64,
    file_block: u64,
}

const UNUSED: Block = Block { place: NONE, interval: 0, class: 0, birth: 0, ino: 0, file_block: 0 };
/// Operations that are drawn ahead, so that the memory that they need is fetched side by side.
const AHEAD: usize = 64;

/// A segment being filled.
#[derive(Clone, Copy, Debug)]
struct Open {
    seg: u32,
    used: u32,
    class: u8,
    birth_sum: u64,
}

/// The simulated log.
#[derive(Debug)]
pub struct Simulator {
    geometry: Geometry,
    index: UtilizationIndex,
    blocks: Vec<Block>,
    /// Of files whose kind the load knows.
    kinds: HashMap<u64, FileKind>,
    /// Block of the volume that each physical place was written for.
    owner: Vec<u32>,
    /// Live blocks of each segment.
    live: Vec<u32>,
    /// When a block of each segment died last, or it was opened.
    invalidated: Vec<u64>,
    fates: Option<FateRecorder>,
    tally: Option<Box<Tally>>,
    each_block: bool,
    heads: Vec<Option<Open>>,
    free: Vec<u32>,
    /// Operations drawn ahead, and live blocks of the victim with their places. Empty between calls.
    ahead: Vec<Op>,
    moving: Vec<(u32, Block)>,
    /// Class of the write request under way.
    request_class: u8,
    live_blocks: u64,
    stored_blocks: u64,
    done: Outcome,
}

impl Simulator {
    /// An empty log for a volume of blocks `0..blocks`.
    pub fn new(geometry: Geometry, blocks: u32) -> Self {
        let Geometry { segments, segment_blocks, heads, .. } = geometry;
        Self {
            geometry,
            index: UtilizationIndex::new(segments, segment_blocks),
            blocks: vec![UNUSED; blocks as usize],
            kinds: HashMap::new(),
            owner: vec![NONE; (segments * segment_blocks) as usize],
            live: vec![0; segments as usize],
            invalidated: vec![0; segments as usize],
            fates: None,
            tally: None,
            each_block: false,
            heads: vec![None; usize::from(heads)],
            free: (0..segments).rev().collect(),
            ahead: Vec::with_capacity(AHEAD),
            moving: Vec::with_capacity(segment_blocks as usize),
            request_class: 0,
            live_blocks: 0,
            stored_blocks: 0,
            done: Outcome::default(),
        }
    }

    /// For policies that do not ask for the age of segments ([`VictimPolicy::asks_ages`]), and then several times as fast. To be called before the first
    /// write.
    pub fn without_ages(self) -> Self {
        let Geometry { segments, segment_blocks, .. } = self.geometry;
        Self { index: UtilizationIndex::without_ages(segments, segment_blocks), ..self }
    }

    /// Asks the placement about each block of a request, as a block device would, and not about the first for all, as the filesystem does.
    pub fn placing_each_block(self) -> Self {
        Self { each_block: true, ..self }
    }

    /// What happened since the beginning.
    pub fn outcome(&self) -> Outcome {
        self.done
    }

    /// The write clock.
    pub fn now(&self) -> u64 {
        self.done.user
    }

    pub fn live_blocks(&self) -> u64 {
        self.live_blocks
    }

    /// Sealed segments.
    pub fn index(&self) -> &UtilizationIndex {
        &self.index
    }

    /// When the cleaner starts from now on. A trigger that the geometry has no room for ends in a panic.
    pub fn set_trigger(&mut self, trigger: Trigger) {
        self.geometry.trigger = trigger;
    }

    /// From now on counts victims and deaths, beginning at nothing.
    pub fn count(&mut self) {
        self.tally = Some(Box::default());
    }

    /// What was counted; from now on nothing is.
    pub fn take_tally(&mut self) -> Option<Tally> {
        self.tally.take().map(|tally| *tally)
    }

    /// From now on records what becomes of candidates.
    pub fn record_fates(&mut self, recorder: FateRecorder) {
        self.fates = Some(recorder);
    }

    /// The recorder, which then records no more.
    pub fn take_fates(&mut self) -> Option<FateRecorder> {
        self.fates.take()
    }

    /// Lets the load write `writes` blocks, and the cleaner do what that makes necessary.
    pub fn drive(
        &mut self,
        load: &mut dyn Load,
        placement: &mut dyn Placement,
        victim: &mut dyn VictimPolicy,
        mut recorder: Option<&mut Recorder>,
        writes: u64,
    ) {
        let end = self.done.user + writes;
        while self.done.user < end {
            let mut ahead = std::mem::take(&mut self.ahead);
            ahead.extend((self.done.user..end).take(AHEAD).map(|_| load.next_op()));
            self.fetch(ahead.iter().map(Op::block));
            for op in ahead.drain(..) {
                self.step(&op, placement, recorder.as_deref_mut());
                while self.must_clean() && self.clean(placement, victim, recorder.as_deref_mut()) {}
            }
            self.ahead = ahead;
        }
    }

    /// Reads what will be needed of these blocks. None of these reads waits for another, as those do that decide what comes next.
    fn fetch(&self, blocks: impl Iterator<Item = u32>) {
        std::hint::black_box(blocks.fold(0, |all, block| all ^ self.blocks[block as usize].place));
    }

    fn step(&mut self, op: &Op, placement: &mut dyn Placement, recorder: Option<&mut Recorder>) {
        match op {
            Op::Discard(block) => self.discard(*block, placement, recorder),
            Op::Write(w) => self.write(w, placement, recorder),
        }
        if let Some(fates) = &mut self.fates {
            let blocks = &self.blocks;
            let lives = |b: u32, since| blocks[b as usize].place != NONE && blocks[b as usize].birth < since;
            fates.settle(self.done.user, lives);
        }
    }

    fn discard(&mut self, block: u32, placement: &mut dyn Placement, recorder: Option<&mut Recorder>) {
        let Block { place, ino, file_block, birth, .. } = self.blocks[block as usize];
        if place == NONE {
            return;
        }
        let facts = DiscardFacts {
            ino,
            kind: self.kind(ino),
            first_block: file_block,
            blocks: 1,
            now: self.now(),
            birth,
            live_blocks: self.live_blocks,
        };
        placement.discarded(&facts);
        if let Some(r) = recorder {
            r.discarded(block, &facts);
        }
        self.kill(block);
    }

    fn kind(&self, ino: u64) -> FileKind {
        if self.kinds.is_empty() { FileKind::default() } else { self.kinds.get(&ino).copied().unwrap_or_default() }
    }

    /// A request is placed as a whole, as the filesystem does: its first block speaks for all, unless the placement insists.
    fn write(&mut self, w: &BlockWrite, placement: &mut dyn Placement, mut recorder: Option<&mut Recorder>) {
        let now = self.now();
        let old = Some(self.blocks[w.block as usize]).filter(|old| old.place != NONE);
        let (previous, previous_interval) = (old.map(|b| b.birth), old.map_or(0, |b| b.interval));
        if let Some(r) = recorder.as_deref_mut() {
            r.died(w.block, now, self.live_blocks);
        }
        let per_block = self.each_block || placement.per_block();
        if w.kind.is_known() && w.request_at == 0 {
            self.kinds.insert(w.ino, w.kind);
        }
        if w.request_at == 0 || per_block {
            let facts = WriteFacts {
                ino: w.ino,
                kind: w.kind,
                first_block: w.file_block,
                blocks: if per_block { 1 } else { w.request_blocks },
                append: w.append,
                file_size_bytes: w.file_blocks * 4096,
                now,
                previous,
                previous_interval,
                live_blocks: self.live_blocks.max(1),
            };
            self.request_class = placement.user_write(&facts);
            if let Some(r) = recorder.as_deref_mut() {
                r.user_write(&facts);
            }
        }
        if let Some(r) = recorder {
            r.user_block(w.block, now, self.live_blocks.max(1));
        }
        self.kill(w.block);
        let interval = interval_code(previous, previous_interval, now);
        self.done.user += 1;
        self.live_blocks += 1;
        let class = self.request_class;
        let written = Block { place: NONE, interval, class, birth: now, ino: w.ino, file_block: w.file_block };
        self.append(w.block, written, class, placement.classes());
    }

    /// Makes a block of the volume unused.
    fn kill(&mut self, block: u32) {
        let b = &mut self.blocks[block as usize];
        let place = std::mem::replace(&mut b.place, NONE);
        if place == NONE {
            return;
        }
        if let Some(tally) = &mut self.tally {
            tally.died(b.class, self.done.user - b.birth, self.live_blocks);
        }
        let seg = place / self.geometry.segment_blocks;
        self.live[seg as usize] -= 1;
        self.invalidated[seg as usize] = self.done.user;
        self.live_blocks -= 1;
        self.index.set_live(seg, self.live[seg as usize], self.done.user);
    }

    /// Writes a block to the head of its class; seals the segment when it is full.
    fn append(&mut self, block: u32, state: Block, class: u8, classes: u8) {
        let head = usize::from(merge(class, classes, self.geometry.heads));
        let mut open = self.heads[head].take().unwrap_or_else(|| {
            let seg = self.free.pop().expect("the trigger keeps free segments in reserve");
            self.invalidated[seg as usize] = self.done.user;
            Open { seg, used: 0, class, birth_sum: 0 }
        });
        let place = open.seg * self.geometry.segment_blocks + open.used;
        self.blocks[block as usize] = Block { place, ..state };
        self.owner[place as usize] = block;
        self.live[open.seg as usize] += 1;
        self.stored_blocks += 1;
        open.used += 1;
        open.birth_sum += state.birth;
        if open.used < self.geometry.segment_blocks {
            self.heads[head] = Some(open);
        } else {
            self.seal(open);
        }
    }

    fn seal(&mut self, open: Open) {
        self.index.insert(SegmentFacts {
            seg: open.seg,
            live: self.live[open.seg as usize],
            capacity: self.geometry.segment_blocks,
            class: open.class,
            seal_clock: self.now(),
            write_clock: open.birth_sum / u64::from(open.used),
            invalidate_clock: self.invalidated[open.seg as usize],
        });
    }

    fn must_clean(&self) -> bool {
        match self.geometry.trigger {
            Trigger::FreeSegments(low) => (self.free.len() as u32) < low,
            Trigger::GarbageShare(share) => {
                let garbage = self.stored_blocks - self.live_blocks;
                garbage as f64 > share * self.stored_blocks as f64
            }
        }
    }

    /// Tells the policy what a mount would, and the recorder what is to be chosen from.
    fn before_choice(&mut self, victim: &mut dyn VictimPolicy) {
        let free_share = self.free.len() as f32 / self.geometry.segments as f32;
        let context = VictimContext { now: self.now(), live_blocks: self.live_blocks, free_share };
        victim.tell(&context);
        let Some(fates) = &mut self.fates else { return };
        let (size, owner, blocks) = (self.geometry.segment_blocks, &self.owner, &self.blocks);
        fates
            .decision(&self.index, &context, |seg| live_in(seg, size, owner, blocks).map(|(block, _)| block).collect());
    }

    /// Cleans one victim; `false` if there is none.
    fn clean(
        &mut self,
        placement: &mut dyn Placement,
        victim: &mut dyn VictimPolicy,
        mut recorder: Option<&mut Recorder>,
    ) -> bool {
        let now = self.now();
        self.before_choice(victim);
        let Some(facts) = victim.choose(&self.index, now).and_then(|s| self.index.remove(s.seg)) else { return false };
        placement.segment_cleaned(&facts, now);
        if let Some(tally) = &mut self.tally {
            tally.victim(facts.utilization());
        }
        let first = (facts.seg * self.geometry.segment_blocks) as usize;
        self.fetch(self.owner[first..first + self.geometry.segment_blocks as usize].iter().copied());
        let mut moving = std::mem::take(&mut self.moving);
        moving.extend(live_in(facts.seg, self.geometry.segment_blocks, &self.owner, &self.blocks));
        for (block, b) in moving.drain(..) {
            let m = MoveFacts {
                ino: b.ino,
                kind: self.kind(b.ino),
                first_block: b.file_block,
                blocks: 1,
                now,
                birth: b.birth,
                interval: b.interval,
                from_class: facts.class,
                live_blocks: self.live_blocks,
            };
            if let Some(r) = recorder.as_deref_mut() {
                r.cleaning_write(block, &m);
            }
            let class = placement.cleaning_write(&m);
            self.live[facts.seg as usize] -= 1;
            self.done.moved += 1;
            self.append(block, b, class, placement.classes());
        }
        self.moving = moving;
        self.stored_blocks -= u64::from(self.geometry.segment_blocks);
        self.done.victims += 1;
        self.free.push(facts.seg);
        true
    }
}

/// The live blocks of a segment that is full, with their state.
fn live_in<'a>(seg: u32, size: u32, owner: &'a [u32], blocks: &'a [Block]) -> impl Iterator<Item = (u32, Block)> + 'a {
    let places = seg * size..(seg + 1) * size;
    let owned = places.map(move |place| (place, owner[place as usize]));
    owned.filter(move |&(place, block)| blocks[block as usize].place == place).map(|(_, b)| (b, blocks[b as usize]))
}

#[cfg(test)]
mod tests {
    use super::super::load::{Overwrites, Pattern};
    use super::super::{Files, Recorder};
    use super::*;
    use crate::placement::SepBit;
    use crate::victim::CostAge;

    fn check(sim: &Simulator) {
        let s = sim.geometry.segment_blocks;
        let mut live = vec![0u32; sim.geometry.segments as usize];
        for (block, b) in sim.blocks.iter().enumerate().filter(|(_, b)| b.place != NONE) {
            assert_eq!(sim.owner[b.place as usize] as usize, block);
            live[(b.place / s) as usize] += 1;
        }
        assert_eq!(live, sim.live);
        assert!(sim.index.iter().all(|f| f.live == live[f.seg as usize]));
        let open = sim.heads.iter().flatten().count();
        assert_eq!(sim.index.len() + open + sim.free.len(), sim.geometry.segments as usize);
        let used: u64 = sim.heads.iter().flatten().map(|o| u64::from(o.used)).sum();
        assert_eq!(sim.stored_blocks, sim.index.len() as u64 * u64::from(s) + used);
    }

    #[test]
    fn counts_are_exact_under_every_kind_of_load() {
        let geometry = Geometry::garbage(4096, 32, 0.15, 6);
        let mut loads: Vec<Box<dyn Load>> = [
            Pattern::Uniform,
            Pattern::Zipf(1.1),
            Pattern::Tenants { theta: 1.0, percent: [60, 30, 10] },
            Pattern::Circular,
        ]
        .into_iter()
        .map(|p| Box::new(Overwrites::new(4096, p, 1)) as Box<dyn Load>)
        .collect();
        loads.push(Box::new(Files::new(4096, 2)));
        for load in &mut loads {
            let mut sim = Simulator::new(geometry, 4096);
            let mut recorder = Recorder::new(4096, 0.1, 1000, 3);
            for _ in 0..10 {
                sim.drive(load.as_mut(), &mut SepBit::default(), &mut CostAge, Some(&mut recorder), 3000);
                check(&sim);
            }
            assert_eq!(sim.outcome().user, 30_000);
            assert!(sim.outcome().victims > 0);
        }
    }
}
