//! A device in memory for tests: sparse, with a volatile write cache, power cuts, planted faults and, if asked, zones.
//!
//! It promises exactly what [`Device`] promises and takes everything else away: what is not flushed survives a
//! [`MemoryDevice::crash`] only by a seeded lottery. Each run is a function of its calls and seeds, so that a failure can be replayed.
//! Invariant: `visible` is `durable` with all of `pending` applied, unless a flush has failed.

mod crash;
mod faults;
mod medium;

use std::collections::BTreeSet;
use std::io;

use parking_lot::Mutex;
use rustix::io::Errno;

use super::counters::Counters;
use super::rules::{Span, ZoneRules, ZonedSpec};
use super::{Device, DeviceError, Geometry, Result, Traffic, Zone, ZoneCondition, ZoneKind};
use crate::types::{BLOCK_SIZE, BlockAddr};
use crash::{Dice, survive};
use faults::Faults;
pub use faults::{Fault, FaultOp, Hold, Remains};
use medium::{Medium, Op};

/// What a write that goes wrong may leave in place of its bytes.
const GARBAGE: u8 = 0xdb;

/// A device in memory.
#[derive(Debug)]
pub struct MemoryDevice {
    geometry: Mutex<Geometry>,
    state: Mutex<State>,
    counters: Counters,
}

#[derive(Clone, Debug)]
struct State {
    /// What a power cut leaves for certain.
    durable: Medium,
    /// What reads see.
    visible: Medium,
    /// Changes since the last flush, in order.
    pending: Vec<Op>,
    /// The rules of a zoned device.
    rules: Option<ZoneRules>,
    /// Blocks that cannot be read until they are written again.
    unreadable: BTreeSet<u64>,
    faults: Faults,
    /// Writes until the power goes; `None`: it stays.
    writes_left: Option<u64>,
    flushes_lost: bool,
    /// Seeds the lottery after a failed flush.
    failed_flushes: u64,
}

impl MemoryDevice {
    /// A conventional device of `total_blocks` zeros, in zones of `zone_blocks`.
    pub fn new(total_blocks: u64, zone_blocks: u32) -> Self {
        Self::with(Geometry::conventional(total_blocks, zone_blocks), None)
    }

    /// An empty zoned device. Panics if the shape is impossible.
    pub fn zoned(spec: ZonedSpec) -> Self {
        spec.validate().expect("a possible shape");
        Self::with(spec.geometry(), Some(ZoneRules::new(spec)))
    }

    fn with(geometry: Geometry, rules: Option<ZoneRules>) -> Self {
        let medium = Medium::new(geometry.zone_blocks);
        let state = State {
            durable: medium.clone(),
            visible: medium,
            pending: Vec::new(),
            rules,
            unreadable: BTreeSet::new(),
            faults: Faults::default(),
            writes_left: None,
            flushes_lost: false,
            failed_flushes: 0,
        };
        Self { geometry: Mutex::new(geometry), state: Mutex::new(state), counters: Counters::default() }
    }

    /// The device after a power cut now: all that was flushed, and of the rest what the lottery of `seed` lets survive. The new
    /// device has power, no faults and fresh counters; this one is left as it is.
    pub fn crash(&self, seed: u64) -> Self {
        let state = self.state.lock().clone();
        let mut durable = state.durable;
        let sequential = |zone| is_sequential(state.rules.as_ref(), zone);
        survive(&mut durable, &state.pending, sequential, &mut Dice::new(seed));
        let rules = state.rules.as_ref().map(|rules| rules_after(rules, &durable));
        let after = Self::with(self.geometry(), rules);
        {
            let mut fresh = after.state.lock();
            fresh.visible = durable.clone();
            fresh.durable = durable;
            fresh.unreadable = state.unreadable;
        }
        after
    }

    /// A second device with the same contents, flushed and not; it has power, no faults and fresh counters.
    pub fn snapshot(&self) -> Self {
        let mut state = self.state.lock().clone();
        state.faults.clear();
        state.writes_left = None;
        state.flushes_lost = false;
        Self { geometry: Mutex::new(self.geometry()), state: Mutex::new(state), counters: Counters::default() }
    }

    /// Power goes after `writes` more writes: from then on everything fails with EIO, and only [`Self::crash`] is of use.
    pub fn crash_after(&self, writes: u64) {
        self.state.lock().writes_left = Some(writes);
    }

    /// Whether the power that [`Self::crash_after`] limited is gone.
    pub fn power_is_gone(&self) -> bool {
        self.state.lock().writes_left == Some(0)
    }

    /// Plants a failure. Several may be planted; each counts for itself.
    pub fn plant(&self, fault: Fault) {
        self.state.lock().faults.plant(fault);
    }

    /// Takes all planted failures away.
    pub fn clear_faults(&self) {
        self.state.lock().faults.clear();
    }

    /// Runs `run` on a device that works, and lets the planted failures strike again afterwards.
    pub fn without_faults<T>(&self, run: impl FnOnce() -> T) -> T {
        let planted = self.state.lock().faults.take();
        let done = run();
        self.state.lock().faults.put_back(planted);
        done
    }

    /// Holds up the operation of this kind that comes after `spared` more.
    pub fn hold(&self, op: FaultOp, spared: u64) -> Hold {
        self.state.lock().faults.hold(op, spared)
    }

    /// Operations of this kind since the device was made, failed ones too.
    pub fn operations(&self, op: FaultOp) -> u64 {
        self.state.lock().faults.seen(op)
    }

    /// Operations that failed because of a planted fault.
    pub fn struck(&self) -> u64 {
        self.state.lock().faults.struck()
    }

    /// Waits where a test holds an operation of this kind up.
    fn pause(&self, op: FaultOp) {
        let waiting = self.state.lock().faults.held_up(op);
        if let Some(waiting) = waiting {
            waiting.wait();
        }
    }

    /// From now on flushes say that they succeeded and make nothing durable, as broken hardware does (`true`), or work again.
    pub fn lose_flushes(&self, lost: bool) {
        self.state.lock().flushes_lost = lost;
    }

    /// Makes a block unreadable (EIO) until it is written or reset.
    pub fn poison(&self, addr: BlockAddr) {
        self.state.lock().unreadable.insert(addr.0);
    }

    /// Changes a block behind everybody's back, flushed and visible contents alike, as bit rot does.
    pub fn tamper(&self, addr: BlockAddr, change: impl Fn(&mut [u8; BLOCK_SIZE])) {
        let mut state = self.state.lock();
        state.durable.tamper(addr.0, &change);
        state.visible.tamper(addr.0, &change);
        // What still waits in the cache would bring the old bytes back in a crash.
        for op in &mut state.pending {
            if let Op::Write { addr: first, data, .. } = op
                && let Some(block) = addr.0.checked_sub(*first).and_then(|i| data.get_mut(i as usize))
            {
                change(std::sync::Arc::make_mut(block));
            }
        }
    }

    /// Puts a zone of a zoned device into a condition, as failing hardware does. Nothing happens on a conventional one.
    pub fn force_condition(&self, zone: u32, condition: ZoneCondition) {
        if let Some(rules) = &mut self.state.lock().rules {
            rules.force(zone, condition);
        }
    }

    /// Operations that a power cut could lose.
    pub fn unflushed(&self) -> usize {
        self.state.lock().pending.len()
    }

    /// Blocks that take memory: those ever written and not reset since.
    pub fn stored_blocks(&self) -> usize {
        self.state.lock().visible.stored_blocks()
    }

    /// Carries out a change of zone `zone`: checks faults and rules, then makes the operation pending.
    fn change_zone(
        &self,
        op: &'static str,
        kind: FaultOp,
        zone: u32,
        run: impl FnOnce(&mut State, &Zone) -> io::Result<()>,
    ) -> Result<()> {
        self.pause(kind);
        let z = self.zone(zone)?;
        let mut state = self.state.lock();
        let result = state.enter(kind).and_then(|()| {
            state.rules.as_ref().map_or(Ok(()), |rules| rules.admit_change(zone).map(drop))?;
            run(&mut state, &z)
        });
        result.map_err(|e| DeviceError::new(op, z.start, u64::from(z.size_blocks), e))
    }
}

fn is_sequential(rules: Option<&ZoneRules>, zone: u32) -> bool {
    rules.is_some_and(|rules| rules.spec().kind(zone) == ZoneKind::Sequential)
}

/// The rules with write pointers where the medium has them. What has failed stays so.
fn rules_after(before: &ZoneRules, medium: &Medium) -> ZoneRules {
    let mut rules = ZoneRules::new(before.spec());
    for (zone, pointer) in medium.pointers() {
        rules.settle(zone, pointer);
    }
    for zone in 0..before.spec().zones {
        if let Ok(condition) = before.report(zone).map(|z| z.condition)
            && condition.has_failed()
        {
            rules.force(zone, condition);
        }
    }
    rules
}

impl State {
    /// Every operation passes here: no power and planted faults end it.
    fn enter(&mut self, op: FaultOp) -> io::Result<()> {
        self.strike(op).map_or(Ok(()), |(errno, _)| Err(errno.into()))
    }

    fn strike(&mut self, op: FaultOp) -> Option<(Errno, Remains)> {
        if self.writes_left == Some(0) {
            return Some((Errno::IO, Remains::Nothing));
        }
        self.faults.strike(op)
    }

    fn change(&mut self, op: Op) {
        self.visible.apply(&op);
        self.pending.push(op);
    }

    fn read(&mut self, addr: BlockAddr, blocks: u64, buf: &mut [u8]) -> io::Result<()> {
        self.enter(FaultOp::Read)?;
        if self.unreadable.range(addr.0..addr.0 + blocks).next().is_some() {
            return Err(Errno::IO.into());
        }
        if let Some(rules) = &self.rules {
            for span in rules.spec().spans(addr, blocks) {
                rules.readable(span.zone)?;
            }
        }
        let (parts, _) = buf.as_chunks_mut::<BLOCK_SIZE>();
        for (at, part) in (addr.0..).zip(parts) {
            self.visible.read(at, part);
        }
        Ok(())
    }

    fn write(&mut self, zone: u32, addr: BlockAddr, blocks: u64, buf: &[u8]) -> io::Result<()> {
        if let Some((errno, remains)) = self.strike(FaultOp::Write) {
            let (left, garbage) = match remains {
                Remains::Nothing => return Err(errno.into()),
                Remains::Blocks(left) => (left, None),
                Remains::Garbage(left) => (left, Some(GARBAGE)),
            };
            let left = u64::from(left).min(blocks);
            let mut arrived = buf[..left as usize * BLOCK_SIZE].to_vec();
            garbage.into_iter().for_each(|byte| arrived.fill(byte));
            self.take(zone, addr, left, &arrived)?;
            return Err(errno.into());
        }
        self.take(zone, addr, blocks, buf)?;
        self.writes_left = self.writes_left.map(|n| n - 1);
        Ok(())
    }

    /// Takes a write into the cache.
    fn take(&mut self, zone: u32, addr: BlockAddr, blocks: u64, buf: &[u8]) -> io::Result<()> {
        if let Some(rules) = &mut self.rules {
            let span: Span = rules.admit_write(addr, blocks)?;
            rules.advance(span);
        }
        for at in addr.0..addr.0 + blocks {
            self.unreadable.remove(&at);
        }
        self.change(Op::write(zone, addr.0, buf));
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        match self.enter(FaultOp::Flush) {
            Ok(()) if self.flushes_lost => {}
            Ok(()) => {
                for op in std::mem::take(&mut self.pending) {
                    self.durable.apply(&op);
                }
            }
            Err(e) if self.writes_left == Some(0) => return Err(e),
            Err(e) => {
                // Reads still see what was written, but no later flush saves it: the cache thinks that it is clean.
                self.failed_flushes += 1;
                let pending = std::mem::take(&mut self.pending);
                let rules = self.rules.as_ref();
                let mut dice = Dice::new(self.failed_flushes);
                survive(&mut self.durable, &pending, |zone| is_sequential(rules, zone), &mut dice);
                return Err(e);
            }
        }
        Ok(())
    }
}

impl Device for MemoryDevice {
    fn geometry(&self) -> Geometry {
        *self.geometry.lock()
    }

    fn zone(&self, zone: u32) -> Result<Zone> {
        match &self.state.lock().rules {
            None => self.geometry().conventional_zone_for("report", zone),
            Some(rules) => rules
                .report(zone)
                .map_err(|fault| DeviceError::new("report", self.geometry().zone_start(zone), 0, fault.into())),
        }
    }

    fn read(&self, addr: BlockAddr, buf: &mut [u8]) -> Result<()> {
        let blocks = self.geometry().check_transfer("read", addr, buf.len())?;
        self.pause(FaultOp::Read);
        self.state.lock().read(addr, blocks, buf).map_err(|e| DeviceError::new("read", addr, blocks, e))?;
        self.counters.count_read(buf.len());
        Ok(())
    }

    fn write(&self, addr: BlockAddr, buf: &[u8]) -> Result<()> {
        let blocks = self.geometry().check_transfer("write", addr, buf.len())?;
        self.pause(FaultOp::Write);
        let zone = self.geometry().zone_of(addr);
        self.state.lock().write(zone, addr, blocks, buf).map_err(|e| DeviceError::new("write", addr, blocks, e))?;
        self.counters.count_write(buf.len());
        Ok(())
    }

    fn flush(&self) -> Result<()> {
        self.pause(FaultOp::Flush);
        self.state.lock().flush().map_err(|e| DeviceError::new("flush", BlockAddr::NONE, 0, e))?;
        self.counters.count_flush();
        Ok(())
    }

    fn reserve(&self, zone: u32) -> Result<()> {
        self.change_zone("reserve", FaultOp::Reserve, zone, |_, _| Ok(()))
    }

    fn finish(&self, zone: u32) -> Result<()> {
        self.change_zone("finish", FaultOp::Finish, zone, |state, z| {
            if let Some(rules) = &mut state.rules
                && z.kind == ZoneKind::Sequential
            {
                rules.finish(zone)?;
                state.change(Op::Finish { zone, capacity: z.capacity_blocks });
            }
            Ok(())
        })
    }

    fn reset(&self, zone: u32) -> Result<()> {
        self.change_zone("reset", FaultOp::Reset, zone, |state, z| {
            if let Some(rules) = &mut state.rules {
                rules.reset(zone)?;
            }
            state.unreadable.retain(|at| !(z.start.0..z.start.0 + u64::from(z.size_blocks)).contains(at));
            state.change(Op::Reset { zone, addr: z.start.0, blocks: z.size_blocks });
            Ok(())
        })?;
        self.counters.count_reset();
        Ok(())
    }

    fn traffic(&self) -> Traffic {
        self.counters.traffic()
    }

    /// Memory is made longer at once and stays so, also after a power cut.
    fn grow(&self, blocks: Option<u64>) -> Result<Geometry> {
        let mut geometry = self.geometry.lock();
        let wanted = blocks.unwrap_or(0).max(geometry.address_blocks());
        *geometry = match &mut self.state.lock().rules {
            None => Geometry::conventional(wanted, geometry.zone_blocks),
            Some(rules) => {
                rules.grow((wanted / u64::from(geometry.zone_blocks)) as u32);
                rules.spec().geometry()
            }
        };
        Ok(*geometry)
    }
}

#[cfg(test)]
mod tests;
