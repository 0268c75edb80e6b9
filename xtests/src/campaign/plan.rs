//! Which unit of work comes next: each kind gets the same share of the time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use gleanfs::trial::ace::Workloads;

use super::Options;
use super::work::Kind;

/// ACE-like workloads in one unit.
const WORKLOADS_PER_UNIT: u64 = 128;

/// A unit of work.
#[derive(Clone)]
pub(super) enum Unit {
    Seed(Kind, u64),
    Workloads(Batch),
}

/// Every `stride`-th workload of a length from `first` on; so a unit is an even sample of them all.
#[derive(Clone)]
pub(super) struct Batch {
    pub length: u8,
    pub workloads: Arc<Workloads>,
    pub first: u64,
    pub stride: u64,
}

impl Batch {
    pub(super) fn count(&self) -> u64 {
        (self.workloads.count() - self.first).div_ceil(self.stride)
    }
}

impl Unit {
    fn kind(&self) -> Kind {
        match self {
            Self::Seed(kind, _) => *kind,
            Self::Workloads(_) => Kind::Ace,
        }
    }
}

/// Units of one kind, and the time that they took so far.
struct Queue {
    kind: Kind,
    took: Duration,
    units: Box<dyn Iterator<Item = Unit> + Send>,
}

/// Hands out units until the time is over or there are none left.
pub(super) struct Plan {
    queues: Vec<Queue>,
    end: Option<Instant>,
}

impl Plan {
    pub(super) fn new(options: &Options, begun: Instant) -> Result<Self> {
        let queue = |kind| {
            let units: Box<dyn Iterator<Item = Unit> + Send> = match kind {
                Kind::Ace => Box::new(workloads(options)?.into_iter()),
                kind => {
                    let end = options.seeds.map_or(u64::MAX, |seeds| options.seed.saturating_add(seeds));
                    Box::new((options.seed..end).map(move |seed| Unit::Seed(kind, seed)))
                }
            };
            Ok(Queue { kind, took: Duration::ZERO, units })
        };
        let queues = options.kinds().into_iter().map(queue).collect::<Result<_>>()?;
        Ok(Self { queues, end: options.time().map(|time| begun + time) })
    }

    /// The next unit of the kind that had the least time so far.
    pub(super) fn next(&mut self) -> Option<Unit> {
        if self.end.is_some_and(|end| Instant::now() >= end) {
            return None;
        }
        while let Some(at) = (0..self.queues.len()).min_by_key(|at| self.queues[*at].took) {
            match self.queues[at].units.next() {
                Some(unit) => return Some(unit),
                None => drop(self.queues.swap_remove(at)),
            }
        }
        None
    }

    /// Books what a unit took.
    pub(super) fn took(&mut self, unit: &Unit, took: Duration) {
        if let Some(queue) = self.queues.iter_mut().find(|queue| queue.kind == unit.kind()) {
            queue.took += took;
        }
    }

    /// No more units.
    pub(super) fn end(&mut self) {
        self.queues.clear();
    }
}

fn workloads(options: &Options) -> Result<Vec<Unit>> {
    let mut units = Vec::new();
    for length in 1..=2u8 {
        if options.length.is_some_and(|only| only != length) {
            continue;
        }
        let workloads = Arc::new(Workloads::new(usize::from(length)));
        let batch = |first, stride| Unit::Workloads(Batch { length, workloads: workloads.clone(), first, stride });
        if let Some(only) = options.workload {
            ensure!(only < workloads.count(), "there are {} workloads of this length", workloads.count());
            units.push(batch(only, u64::MAX));
            continue;
        }
        let stride = workloads.count().div_ceil(WORKLOADS_PER_UNIT);
        let (part, parts) = options.shard.unwrap_or((1, 1));
        units.extend((part - 1..stride).step_by(parts as usize).map(|first| batch(first, stride)));
    }
    Ok(units)
}
