//! What came of the cases.

use std::collections::BTreeMap;

use serde::Serialize;

use super::case::Outcome;
use super::damage::Damage;

/// Cases of blocks that were needed for one thing.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Count {
    pub cases: u64,
    /// The check had a finding or refused.
    pub found: u64,
    pub refused: u64,
    /// Some path answered EIO, and how many that were all together; all others showed what they ought to.
    pub with_holes: u64,
    pub paths_with_holes: u64,
    pub paths_whole: u64,
    /// An earlier state was shown: damage that looks like a torn write.
    pub earlier: u64,
    /// The damaged segment was emptied by the cleaner.
    pub drained: u64,
    /// The mount turned itself read-only when it was written to.
    pub latched: u64,
}

/// The books of a campaign.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Tally {
    pub images: u64,
    /// Blocks of the images, every one ever written.
    pub blocks: u64,
    pub cases: u64,
    /// Blocks that were damaged, in all cases.
    pub damaged: u64,
    /// Cases of several blocks at once.
    pub several: u64,
    pub by_damage: BTreeMap<&'static str, u64>,
    pub by_use: BTreeMap<&'static str, Count>,
    /// Findings of fsck by kind.
    pub findings: BTreeMap<String, u64>,
}

impl Tally {
    pub(super) fn count(&mut self, damage: &Damage, outcome: &Outcome) {
        self.cases += 1;
        self.damaged += outcome.blocks as u64;
        let is_single = damage.kinds.len() == 1;
        self.several += u64::from(!is_single);
        for (_, kind) in &damage.kinds {
            *self.by_damage.entry(kind.name()).or_default() += 1;
        }
        for kind in &outcome.findings {
            *self.findings.entry(kind.clone()).or_default() += 1;
        }
        let count = self.by_use.entry(if is_single { outcome.needed } else { "several" }).or_default();
        count.cases += 1;
        count.found += u64::from(outcome.is_found);
        count.refused += u64::from(outcome.is_refused);
        count.with_holes += u64::from(outcome.holes > 0);
        count.paths_with_holes += outcome.holes as u64;
        count.paths_whole += outcome.whole as u64;
        count.earlier += u64::from(outcome.is_earlier);
        count.drained += u64::from(outcome.is_drained);
        count.latched += u64::from(outcome.is_latched);
    }
}
