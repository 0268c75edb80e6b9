//! The rules of a zoned device, as a state machine without any I/O.
//!
//! Shared by the zoned image and the device in memory, so that both refuse exactly what hardware refuses: a write off the pointer, past
//! the capacity, over the active limit, or into a zone that is full, read-only or offline. Zones are opened by being written
//! ("implicitly"); at the open limit the one written longest ago is closed, as devices do.
//! Invariants: open zones <= `open_max`; open and closed zones <= `active_max`; pointer <= capacity.

use std::io;

use super::{Geometry, Zone, ZoneCondition, ZoneKind};
use crate::types::BlockAddr;

/// Shape and limits of an emulated zoned device. Conventional zones come first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ZonedSpec {
    /// Zones, the conventional ones included.
    pub zones: u32,
    /// Address step from zone to zone, in blocks; any number.
    pub zone_blocks: u32,
    /// Writable blocks of a sequential zone, `<= zone_blocks`.
    pub capacity_blocks: u32,
    /// Conventional zones, fewer than `zones`.
    pub conventional: u32,
    pub open_max: Option<u32>,
    pub active_max: Option<u32>,
}

/// Why a zoned device refuses an operation.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ZoneFault {
    #[error("write at block {at} of zone {zone}, whose write pointer is at {pointer}")]
    OffPointer { zone: u32, at: u32, pointer: u32 },
    #[error("write up to block {end} of zone {zone}, which holds {capacity}")]
    PastCapacity { zone: u32, end: u64, capacity: u32 },
    #[error("zone {zone} is full")]
    Full { zone: u32 },
    #[error("zone {zone} cannot be opened: {limit} zones are active, which is the limit")]
    ActiveLimit { zone: u32, limit: u32 },
    #[error("zone {zone} is read-only")]
    ReadOnly { zone: u32 },
    #[error("zone {zone} is offline")]
    Offline { zone: u32 },
    #[error("there is no zone {zone}, the device has {zones}")]
    NoSuchZone { zone: u32, zones: u32 },
}

impl From<ZoneFault> for io::Error {
    fn from(fault: ZoneFault) -> Self {
        Self::other(fault)
    }
}

impl ZonedSpec {
    /// A sentence about what is impossible in this shape.
    pub fn validate(&self) -> Result<(), String> {
        let Self { zones, zone_blocks, capacity_blocks, conventional, open_max, active_max } = *self;
        if zones == 0 || zone_blocks == 0 || capacity_blocks == 0 {
            return Err("zones, zone size and zone capacity must not be zero".into());
        }
        if capacity_blocks > zone_blocks {
            return Err(format!(
                "the zone capacity of {capacity_blocks} blocks is larger than the zone size of {zone_blocks}"
            ));
        }
        if conventional >= zones {
            return Err(format!(
                "of {zones} zones {conventional} cannot be conventional: one at least must be sequential"
            ));
        }
        if open_max == Some(0) || active_max == Some(0) {
            return Err("a limit of no open or active zones leaves nothing to write to".into());
        }
        match (open_max, active_max) {
            (Some(open), Some(active)) if open > active => {
                Err(format!("{open} open zones cannot be more than {active} active zones"))
            }
            _ => Ok(()),
        }
    }

    /// The same as the device reports it.
    pub fn geometry(&self) -> Geometry {
        let sequential = u64::from(self.zones - self.conventional) * u64::from(self.capacity_blocks);
        Geometry {
            zones: self.zones,
            zone_blocks: self.zone_blocks,
            total_blocks: u64::from(self.conventional) * u64::from(self.zone_blocks) + sequential,
            zoned: true,
            open_max: self.open_max,
            active_max: self.active_max,
        }
    }

    /// Whether zone `zone` takes random writes.
    pub fn kind(&self, zone: u32) -> ZoneKind {
        if zone < self.conventional { ZoneKind::Conventional } else { ZoneKind::Sequential }
    }

    /// Writable blocks of zone `zone`.
    pub fn capacity(&self, zone: u32) -> u32 {
        if zone < self.conventional { self.zone_blocks } else { self.capacity_blocks }
    }

    /// Splits `blocks` blocks from `addr` on at the borders of zones.
    pub fn spans(self, addr: BlockAddr, blocks: u64) -> impl Iterator<Item = Span> {
        let step = u64::from(self.zone_blocks);
        let mut at = addr.0;
        let end = addr.0 + blocks;
        std::iter::from_fn(move || {
            let offset = at % step;
            let part = (step - offset).min(end - at);
            let span = Span { zone: u32::try_from(at / step).ok()?, offset: offset as u32, blocks: part as u32 };
            at += part;
            (part > 0).then_some(span)
        })
    }
}

/// A run of blocks inside one zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    pub zone: u32,
    /// First block, counted from the zone's start.
    pub offset: u32,
    pub blocks: u32,
}

#[derive(Clone, Copy, Debug)]
struct State {
    pointer: u32,
    condition: ZoneCondition,
}

/// State of all zones of an emulated device.
#[derive(Clone, Debug)]
pub struct ZoneRules {
    spec: ZonedSpec,
    zones: Vec<State>,
    /// Open sequential zones, the one written longest ago first.
    open: Vec<u32>,
    closed: u32,
}

impl ZoneRules {
    /// All zones empty. The shape must be valid.
    pub fn new(spec: ZonedSpec) -> Self {
        let state = |zone| match spec.kind(zone) {
            ZoneKind::Conventional => State { pointer: 0, condition: ZoneCondition::Open },
            ZoneKind::Sequential => State { pointer: 0, condition: ZoneCondition::Empty },
        };
        Self { spec, zones: (0..spec.zones).map(state).collect(), open: Vec::new(), closed: 0 }
    }

    /// The device now has `zones`, if these are more than before; the new ones are sequential and empty.
    pub fn grow(&mut self, zones: u32) {
        let empty = State { pointer: 0, condition: ZoneCondition::Empty };
        self.zones.resize(self.zones.len().max(zones as usize), empty);
        self.spec.zones = self.zones.len() as u32;
    }

    pub fn spec(&self) -> ZonedSpec {
        self.spec
    }

    /// What the device says of zone `zone`.
    pub fn report(&self, zone: u32) -> Result<Zone, ZoneFault> {
        let state = *self.zones.get(zone as usize).ok_or(ZoneFault::NoSuchZone { zone, zones: self.spec.zones })?;
        let kind = self.spec.kind(zone);
        Ok(Zone {
            start: self.spec.geometry().zone_start(zone),
            size_blocks: self.spec.zone_blocks,
            capacity_blocks: self.spec.capacity(zone),
            write_pointer: (kind == ZoneKind::Sequential).then_some(state.pointer),
            kind,
            condition: state.condition,
        })
    }

    /// Blocks of zone `zone` that hold data; an error if it is offline.
    pub fn readable(&self, zone: u32) -> Result<u32, ZoneFault> {
        let z = self.report(zone)?;
        match z.condition {
            ZoneCondition::Offline => Err(ZoneFault::Offline { zone }),
            _ => Ok(z.write_pointer.unwrap_or(z.capacity_blocks)),
        }
    }

    /// Checks a write and opens the zone for it; [`Self::advance`] then moves the pointer. A refused write changes nothing.
    pub fn admit_write(&mut self, addr: BlockAddr, blocks: u64) -> Result<Span, ZoneFault> {
        let zone = self.spec.geometry().zone_of(addr);
        let z = self.report(zone)?;
        let offset = (addr.0 - z.start.0) as u32;
        let end = u64::from(offset) + blocks;
        self.check_changeable(zone, z.condition)?;
        if z.condition == ZoneCondition::Full {
            return Err(ZoneFault::Full { zone });
        }
        if let Some(pointer) = z.write_pointer.filter(|p| *p != offset) {
            return Err(ZoneFault::OffPointer { zone, at: offset, pointer });
        }
        if end > u64::from(z.capacity_blocks) {
            return Err(ZoneFault::PastCapacity { zone, end, capacity: z.capacity_blocks });
        }
        if z.kind == ZoneKind::Sequential {
            self.open(zone, z.condition)?;
        }
        Ok(Span { zone, offset, blocks: blocks as u32 })
    }

    /// Moves the pointer of a zone over an admitted write.
    pub fn advance(&mut self, span: Span) {
        if self.spec.kind(span.zone) == ZoneKind::Sequential {
            let pointer = span.offset + span.blocks;
            if pointer == self.spec.capacity(span.zone) {
                self.settle(span.zone, pointer);
            } else {
                self.zones[span.zone as usize].pointer = pointer;
            }
        }
    }

    /// Puts the pointer of a sequential zone where the medium says it is; the zone is empty, closed or full afterwards.
    pub fn settle(&mut self, zone: u32, pointer: u32) {
        if self.spec.kind(zone) == ZoneKind::Sequential {
            let condition = match pointer {
                0 => ZoneCondition::Empty,
                p if p >= self.spec.capacity(zone) => ZoneCondition::Full,
                _ => ZoneCondition::Closed,
            };
            self.enter(zone, condition);
            self.zones[zone as usize].pointer = pointer.min(self.spec.capacity(zone));
        }
    }

    /// Marks a zone full.
    pub fn finish(&mut self, zone: u32) -> Result<(), ZoneFault> {
        self.check_changeable(zone, self.report(zone)?.condition)?;
        self.settle(zone, self.spec.capacity(zone));
        Ok(())
    }

    /// Empties a zone.
    pub fn reset(&mut self, zone: u32) -> Result<(), ZoneFault> {
        self.check_changeable(zone, self.report(zone)?.condition)?;
        self.settle(zone, 0);
        Ok(())
    }

    /// Checks that zone `zone` exists and may be reset or finished.
    pub fn admit_change(&self, zone: u32) -> Result<Zone, ZoneFault> {
        let z = self.report(zone)?;
        self.check_changeable(zone, z.condition)?;
        Ok(z)
    }

    /// Puts a zone into `condition` as a failing device does (read-only, offline), for tests of what comes above.
    pub fn force(&mut self, zone: u32, condition: ZoneCondition) {
        self.enter(zone, condition);
    }

    /// Zones open now, and zones active (open or closed).
    pub fn slots(&self) -> (u32, u32) {
        (self.open.len() as u32, self.open.len() as u32 + self.closed)
    }

    fn check_changeable(&self, zone: u32, condition: ZoneCondition) -> Result<(), ZoneFault> {
        match condition {
            ZoneCondition::ReadOnly => Err(ZoneFault::ReadOnly { zone }),
            ZoneCondition::Offline => Err(ZoneFault::Offline { zone }),
            _ => Ok(()),
        }
    }

    fn open(&mut self, zone: u32, was: ZoneCondition) -> Result<(), ZoneFault> {
        if let Some(limit) = self.spec.active_max
            && was == ZoneCondition::Empty
            && self.slots().1 >= limit
        {
            return Err(ZoneFault::ActiveLimit { zone, limit });
        }
        if let Some(limit) = self.spec.open_max
            && was != ZoneCondition::Open
            && self.open.len() as u32 >= limit
        {
            let oldest = self.open[0];
            self.enter(oldest, ZoneCondition::Closed);
        }
        self.enter(zone, ZoneCondition::Open);
        Ok(())
    }

    /// The one place that moves a sequential zone from condition to condition.
    fn enter(&mut self, zone: u32, condition: ZoneCondition) {
        let state = &mut self.zones[zone as usize];
        if self.spec.kind(zone) == ZoneKind::Sequential {
            match state.condition {
                ZoneCondition::Open => self.open.retain(|z| *z != zone),
                ZoneCondition::Closed => self.closed -= 1,
                _ => {}
            }
            match condition {
                ZoneCondition::Open => self.open.push(zone),
                ZoneCondition::Closed => self.closed += 1,
                _ => {}
            }
        }
        state.condition = condition;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> ZonedSpec {
        ZonedSpec {
            zones: 6,
            zone_blocks: 10,
            capacity_blocks: 8,
            conventional: 1,
            open_max: Some(2),
            active_max: Some(3),
        }
    }

    fn write(rules: &mut ZoneRules, addr: u64, blocks: u64) -> Result<(), ZoneFault> {
        let span = rules.admit_write(BlockAddr(addr), blocks)?;
        rules.advance(span);
        Ok(())
    }

    #[test]
    fn writes_must_be_at_the_pointer_and_within_the_capacity() {
        let mut rules = ZoneRules::new(spec());
        assert_eq!(write(&mut rules, 21, 1), Err(ZoneFault::OffPointer { zone: 2, at: 1, pointer: 0 }));
        write(&mut rules, 20, 3).unwrap();
        assert_eq!(write(&mut rules, 20, 1), Err(ZoneFault::OffPointer { zone: 2, at: 0, pointer: 3 }));
        assert_eq!(write(&mut rules, 23, 6), Err(ZoneFault::PastCapacity { zone: 2, end: 9, capacity: 8 }));
        assert_eq!(rules.report(2).unwrap().write_pointer, Some(3));
        write(&mut rules, 23, 5).unwrap();
        assert_eq!(rules.report(2).unwrap().condition, ZoneCondition::Full);
        assert_eq!(write(&mut rules, 28, 1), Err(ZoneFault::Full { zone: 2 }));
        assert_eq!(write(&mut rules, 60, 1), Err(ZoneFault::NoSuchZone { zone: 6, zones: 6 }));
        rules.reset(2).unwrap();
        write(&mut rules, 20, 8).unwrap();
    }

    #[test]
    fn a_conventional_zone_takes_any_write_within_itself() {
        let mut rules = ZoneRules::new(spec());
        write(&mut rules, 5, 5).unwrap();
        write(&mut rules, 0, 1).unwrap();
        assert!(matches!(write(&mut rules, 9, 2), Err(ZoneFault::PastCapacity { .. })));
        assert_eq!((rules.slots(), rules.report(0).unwrap().write_pointer), ((0, 0), None));
    }

    #[test]
    fn the_open_limit_closes_the_oldest_and_the_active_limit_refuses() {
        let mut rules = ZoneRules::new(spec());
        write(&mut rules, 10, 1).unwrap();
        write(&mut rules, 20, 1).unwrap();
        write(&mut rules, 11, 1).unwrap();
        write(&mut rules, 30, 1).unwrap();
        assert_eq!(rules.report(2).unwrap().condition, ZoneCondition::Closed);
        assert_eq!(rules.slots(), (2, 3));
        let refused = write(&mut rules, 40, 1);
        assert_eq!(refused, Err(ZoneFault::ActiveLimit { zone: 4, limit: 3 }));
        assert_eq!(rules.report(4).unwrap().condition, ZoneCondition::Empty);
        write(&mut rules, 21, 1).unwrap();
        assert_eq!(rules.report(1).unwrap().condition, ZoneCondition::Closed);
        rules.finish(1).unwrap();
        write(&mut rules, 40, 1).unwrap();
        assert_eq!(rules.slots(), (2, 3));
    }

    #[test]
    fn a_failing_zone_is_neither_written_nor_reset() {
        let mut rules = ZoneRules::new(spec());
        write(&mut rules, 10, 2).unwrap();
        rules.force(1, ZoneCondition::ReadOnly);
        assert_eq!(write(&mut rules, 12, 1), Err(ZoneFault::ReadOnly { zone: 1 }));
        assert_eq!(rules.reset(1), Err(ZoneFault::ReadOnly { zone: 1 }));
        assert_eq!((rules.readable(1), rules.slots()), (Ok(2), (0, 0)));
        rules.force(1, ZoneCondition::Offline);
        assert_eq!(rules.finish(1), Err(ZoneFault::Offline { zone: 1 }));
        assert_eq!(rules.readable(1), Err(ZoneFault::Offline { zone: 1 }));
    }

    #[test]
    fn impossible_shapes_are_named() {
        assert!(spec().validate().is_ok());
        for bad in [
            ZonedSpec { zones: 0, ..spec() },
            ZonedSpec { capacity_blocks: 11, ..spec() },
            ZonedSpec { conventional: 6, ..spec() },
            ZonedSpec { open_max: Some(0), ..spec() },
            ZonedSpec { open_max: Some(4), ..spec() },
        ] {
            assert!(bad.validate().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn spans_break_at_zone_borders() {
        let spans: Vec<_> = spec().spans(BlockAddr(8), 14).collect();
        let span = |zone, offset, blocks| Span { zone, offset, blocks };
        assert_eq!(spans, [span(0, 8, 2), span(1, 0, 10), span(2, 0, 2)]);
    }
}
