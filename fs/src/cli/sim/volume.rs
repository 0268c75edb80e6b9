//! What is simulated: a volume, the load on it, and the part of the load that is scored.

use std::sync::Arc;

use gleanfs_gc::sim::load::Load;
use gleanfs_gc::sim::oracle::Future;
use gleanfs_gc::sim::trace::{Recording, Replay};
use gleanfs_gc::sim::{Geometry, NamedSource, Source};

/// A volume and its load.
#[derive(Clone, Debug)]
pub struct Volume {
    pub name: String,
    origin: Origin,
    pub blocks: u32,
    /// Most blocks in use at a time.
    pub live_blocks: u32,
    /// User-written blocks before the part that is scored, and in it.
    pub warm: u64,
    pub writes: u64,
}

#[derive(Clone, Debug)]
enum Origin {
    Made(Source),
    Recorded(Arc<Recording>),
}

/// How full the simulated log is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fullness {
    /// The cleaner starts when more than this share of what is stored is dead.
    Garbage(f64),
    /// The live blocks are this share of the device.
    Utilization(f64),
}

/// Places that a simulated log has at most: a run holds some forty bytes for each.
const PHYSICAL_BLOCKS_MAX: f64 = (1u32 << 28) as f64;

impl Volume {
    /// A generated load that writes the volume `times` over; the last `scored` share counts.
    pub fn made(source: &NamedSource, blocks: u32, times: f64, scored: f64) -> Self {
        let (name, made) = (source.to_string(), source.of(blocks));
        let total = (f64::from(blocks) * times) as u64;
        let (origin, live_blocks) = (Origin::Made(made), made.live_blocks(blocks));
        Self { name, origin, blocks, live_blocks, warm: 0, writes: total }.scoring(scored)
    }

    /// A recorded load, from its beginning to its end.
    pub fn recorded(name: String, recording: Recording, scored: f64) -> Self {
        let (blocks, writes) = (recording.blocks(), recording.written_blocks());
        let live_blocks = recording.live_blocks_max();
        let origin = Origin::Recorded(Arc::new(recording));
        Self { name, origin, blocks, live_blocks, warm: 0, writes }.scoring(scored)
    }

    fn scoring(self, share: f64) -> Self {
        let writes = (self.writes as f64 * share).round() as u64;
        Self { warm: self.writes - writes, writes, ..self }
    }

    /// User-written blocks from the beginning to the end.
    pub fn total(&self) -> u64 {
        self.warm + self.writes
    }

    /// Whether a seed makes a difference.
    pub fn is_random(&self) -> bool {
        matches!(self.origin, Origin::Made(_))
    }

    pub fn load(&self, seed: u64) -> Box<dyn Load> {
        match &self.origin {
            Origin::Made(source) => source.load(self.blocks, seed),
            Origin::Recorded(recording) => Box::new(Replay::new(Arc::clone(recording))),
        }
    }

    /// What will become of each write. A generated load is looked at for half as long again, so that few blocks seem to live for ever.
    pub fn future(&self, seed: u64) -> Arc<Future> {
        let total = self.total();
        let looked_at = if self.is_random() { total + total / 2 } else { total };
        Future::of(self.load(seed).as_mut(), u32::try_from(looked_at).unwrap_or(u32::MAX))
    }

    /// The log that the load goes to, or why there is none.
    pub fn geometry(&self, segment_blocks: u32, fullness: Fullness, heads: u8) -> Result<Geometry, String> {
        let segments = f64::from(self.live_blocks) / f64::from(segment_blocks);
        let name = &self.name;
        let share = match fullness {
            Fullness::Garbage(share) => 1.0 - share,
            Fullness::Utilization(share) => share,
        };
        // With room for every head's open segment, and a little more.
        let physical = (segments / share + 4.0 * f64::from(heads) + 8.0) * f64::from(segment_blocks);
        if physical > PHYSICAL_BLOCKS_MAX {
            return Err(format!(
                "{name}: a log of {physical:.0} blocks is more than the {PHYSICAL_BLOCKS_MAX} that are simulated"
            ));
        }
        let spare = segments / share - segments;
        let needed = 2.0 * f64::from(heads) + 4.0;
        if matches!(fullness, Fullness::Utilization(_)) && spare < needed {
            return Err(format!(
                "{name}: {spare:.0} spare segments are too few for {heads} heads; take smaller segments or a larger volume"
            ));
        }
        Ok(match fullness {
            Fullness::Garbage(share) => Geometry::garbage(self.live_blocks, segment_blocks, share, heads),
            Fullness::Utilization(share) => Geometry::full(self.live_blocks, segment_blocks, share, heads),
        })
    }
}

impl std::fmt::Display for Fullness {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Garbage(share) => write!(f, "garbage {:.0} %", share * 100.0),
            Self::Utilization(share) => write!(f, "{:.0} % full", share * 100.0),
        }
    }
}
