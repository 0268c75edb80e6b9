//! Everything that may go wrong with a device, one thing at a time, with a name by which it can be had again.

use std::fmt;
use std::str::FromStr;

use gleanfs::device::memory::{Fault, FaultOp, Remains};
use gleanfs::device::{MemoryDevice, ZoneCondition};
use rustix::io::Errno;

/// One thing that goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// An operation of the device fails, once or from then on.
    Operation { op: FaultOp, spared: u64, forever: bool, is_full: bool, remains: Remains },
    /// A zone fails before a step of the work.
    Zone { step: u64, zone: u32, condition: ZoneCondition },
}

impl Trouble {
    /// Has it happen, as far as it is not a matter of steps.
    pub fn plant(&self, device: &MemoryDevice) {
        if let Self::Operation { op, spared, forever, is_full, remains } = *self {
            let fault = if forever { Fault::forever(op, spared) } else { Fault::once(op, spared) };
            let errno = if is_full { Errno::NOSPC } else { Errno::IO };
            device.plant(fault.with_errno(errno).leaving(remains));
        }
    }

    /// Has it happen if its step has come.
    pub fn come(&self, now: u64, device: &MemoryDevice) {
        if let Self::Zone { step, zone, condition } = *self
            && step == now
        {
            device.force_condition(zone, condition);
        }
    }

    /// Whether what is asked for may be gone with the device.
    pub fn takes_data(&self) -> bool {
        matches!(self, Self::Zone { condition: ZoneCondition::Offline, .. })
    }

    /// Whether superblocks have no place any more, now or soon.
    pub fn takes_superblocks(&self) -> bool {
        matches!(self, Self::Zone { zone: 0..=1, .. })
    }

    /// Whether the mount has to go on as if nothing had happened.
    pub fn must_be_survived(&self) -> bool {
        match *self {
            Self::Zone { zone, condition, .. } => zone > 1 && condition == ZoneCondition::ReadOnly,
            Self::Operation { op: FaultOp::Reset | FaultOp::Finish, forever, .. } => !forever,
            Self::Operation { op: FaultOp::Write, forever, is_full, remains, .. } => {
                !forever && !is_full && remains == Remains::Nothing
            }
            Self::Operation { op: FaultOp::Read | FaultOp::Reserve, .. } => false,
            Self::Operation { op: FaultOp::Flush, .. } => false,
        }
    }

    pub fn is_flush(&self) -> bool {
        matches!(self, Self::Operation { op: FaultOp::Flush, .. })
    }
}

/// Every operation of a kind that was seen `count` times fails.
pub fn of_operations(op: FaultOp, count: u64, is_zoned: bool) -> Vec<Trouble> {
    let mut all = Vec::new();
    let remains = match op {
        FaultOp::Write if is_zoned => vec![Remains::Nothing, Remains::Blocks(1), Remains::Garbage(1)],
        FaultOp::Write => vec![Remains::Nothing, Remains::Garbage(1)],
        _ => vec![Remains::Nothing],
    };
    let errors: &[bool] = if matches!(op, FaultOp::Write | FaultOp::Reserve) { &[false, true] } else { &[false] };
    for spared in 0..count {
        for forever in [false, true] {
            for is_full in errors.iter().copied() {
                for remains in remains.iter().copied().filter(|r| *r == Remains::Nothing || !forever && !is_full) {
                    all.push(Trouble::Operation { op, spared, forever, is_full, remains });
                }
            }
        }
    }
    all
}

/// Every zone fails before every step.
pub fn of_zones(zones: u32, steps: u64) -> Vec<Trouble> {
    let conditions = [ZoneCondition::ReadOnly, ZoneCondition::Offline];
    let at =
        |step| (0..zones).flat_map(move |zone| conditions.map(|condition| Trouble::Zone { step, zone, condition }));
    (0..steps).flat_map(at).collect()
}

const OPS: [(&str, FaultOp); 6] = [
    ("read", FaultOp::Read),
    ("write", FaultOp::Write),
    ("flush", FaultOp::Flush),
    ("reserve", FaultOp::Reserve),
    ("finish", FaultOp::Finish),
    ("reset", FaultOp::Reset),
];

/// The word for an operation.
pub fn word(op: FaultOp) -> &'static str {
    OPS.iter().find(|(_, of)| *of == op).map_or("", |(word, _)| word)
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Operation { op, spared, forever, is_full, remains } => {
                let (times, why) = (if *forever { "ever" } else { "once" }, if *is_full { "full" } else { "io" });
                let left = match remains {
                    Remains::Nothing => "nothing".into(),
                    Remains::Blocks(n) => format!("blocks{n}"),
                    Remains::Garbage(n) => format!("garbage{n}"),
                };
                write!(f, "{}:{spared}:{times}:{why}:{left}", word(*op))
            }
            Self::Zone { step, zone, condition } => {
                let condition = if *condition == ZoneCondition::ReadOnly { "read-only" } else { "offline" };
                write!(f, "zone:{zone}:{step}:{condition}")
            }
        }
    }
}

impl FromStr for Trouble {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || {
            format!(
                "`{text}` names no trouble: OPERATION:NUMBER:once|ever:io|full:LEFT or zone:ZONE:STEP:read-only|offline"
            )
        };
        let number = |word: &str| word.parse::<u64>().map_err(|_| bad());
        let parts: Vec<&str> = text.split(':').collect();
        match parts[..] {
            ["zone", zone, step, condition] => Ok(Self::Zone {
                step: number(step)?,
                zone: number(zone)? as u32,
                condition: match condition {
                    "read-only" => ZoneCondition::ReadOnly,
                    "offline" => ZoneCondition::Offline,
                    _ => return Err(bad()),
                },
            }),
            [op, spared, times, why, left] => Ok(Self::Operation {
                op: OPS.iter().find(|(word, _)| *word == op).map(|(_, op)| *op).ok_or_else(bad)?,
                spared: number(spared)?,
                forever: times == "ever",
                is_full: why == "full",
                remains: match (left.strip_prefix("blocks"), left.strip_prefix("garbage")) {
                    (Some(n), _) => Remains::Blocks(number(n)? as u32),
                    (_, Some(n)) => Remains::Garbage(number(n)? as u32),
                    _ => Remains::Nothing,
                },
            }),
            _ => Err(bad()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trouble_is_had_again_by_its_name() {
        let mut all = of_zones(3, 2);
        FaultOp::ALL.into_iter().for_each(|op| all.extend(of_operations(op, 2, true)));
        assert!(all.len() > 40);
        for trouble in all {
            assert_eq!(trouble.to_string().parse(), Ok(trouble));
        }
    }
}
