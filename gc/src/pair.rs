//! Pairs of policies by name: `VICTIM` or `VICTIM/PLACEMENT`.
//!
//! The place where two that belong together are introduced to each other: `midas/midas` share a plan.

use std::sync::Arc;

use crate::midas::Plan;
use crate::placement::{self, Placement};
use crate::victim::{self, VictimPolicy};

/// The two halves of a policy.
pub struct Pair {
    pub victim: Box<dyn VictimPolicy>,
    /// `None`: the name spoke of the victim only.
    pub placement: Option<Box<dyn Placement>>,
}

/// A name that no policy has.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnknownPolicy {
    #[error("no victim policy {0}; there are {names}", names = victim::NAMES.join(", "))]
    Victim(String),
    #[error("no placement policy {0}; there are {names}", names = placement::NAMES.join(", "))]
    Placement(String),
}

/// The pair of that name. Both halves must be put to use together.
pub fn by_name(name: &str) -> Result<Pair, UnknownPolicy> {
    let (victim, placement) = match name.split_once('/') {
        Some((victim, placement)) => (victim, Some(placement)),
        None => (name, None),
    };
    if (victim, placement) == ("midas", Some("midas")) {
        let plan = Arc::new(Plan::default());
        return Ok(Pair {
            victim: Box::new(victim::Midas::with(Arc::clone(&plan))),
            placement: Some(Box::new(placement::Midas::with(plan))),
        });
    }
    let unknown_victim = || UnknownPolicy::Victim(victim.to_owned());
    let of_placement = |name| placement::by_name(name).ok_or_else(|| UnknownPolicy::Placement(String::from(name)));
    Ok(Pair {
        victim: victim::by_name(victim).ok_or_else(unknown_victim)?,
        placement: placement.map(of_placement).transpose()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::load::{Overwrites, Pattern};
    use crate::sim::{Geometry, run};

    fn error(name: &str) -> String {
        by_name(name).err().map(|e| e.to_string()).unwrap_or_default()
    }

    #[test]
    fn any_two_names_make_a_pair_and_others_are_refused_with_a_list() {
        for victim in victim::NAMES {
            for placement in placement::NAMES {
                let pair = by_name(&format!("{victim}/{placement}")).expect("both are known");
                assert_eq!((pair.victim.name(), pair.placement.map(|p| p.name())), (victim, Some(placement)));
            }
            assert!(by_name(victim).is_ok_and(|pair| pair.placement.is_none()));
        }
        assert!(error("best/ewma").starts_with("no victim policy best; there are greedy, cost-benefit, "));
        assert!(error("greedy/best").starts_with("no placement policy best; there are none, "));
        assert!(error("best/best").contains("victim policy") && error("greedy/").contains("no placement policy ;"));
    }

    /// Every pair gets along with every other, and the two halves of MiDAS better together than each alone.
    #[test]
    fn all_pairs_keep_a_log_going() {
        const BLOCKS: u32 = 4096;
        let wa = |name: &str| {
            let mut pair = by_name(name).expect("both are known");
            let placement = pair.placement.as_deref_mut().expect("both are named");
            let mut load = Overwrites::new(BLOCKS, Pattern::Zipf(1.0), 5);
            let (geometry, n) = (Geometry::garbage(BLOCKS, 32, 0.15, 6), u64::from(BLOCKS));
            run(geometry, &mut load, placement, &mut *pair.victim, n, n * 2).wa()
        };
        for victim in victim::NAMES {
            for placement in placement::NAMES {
                let found = wa(&format!("{victim}/{placement}"));
                assert!((1.0..20.0).contains(&found), "{victim}/{placement}: {found}");
            }
        }
    }

    #[test]
    fn the_halves_of_midas_share_a_plan() {
        const BLOCKS: u32 = 8192;
        let hot_cold = Pattern::HotCold { traffic: 0.9, space: 0.1 };
        let wa = |pair: Pair| {
            let Pair { mut victim, placement } = pair;
            let mut placement = placement.expect("both are named");
            let mut load = Overwrites::new(BLOCKS, hot_cold, 5);
            let (geometry, n) = (Geometry::garbage(BLOCKS, 64, 0.15, 6), u64::from(BLOCKS));
            run(geometry, &mut load, &mut *placement, &mut *victim, n * 9, n * 8).wa()
        };
        let together = wa(by_name("midas/midas").expect("known"));
        let apart = wa(Pair { victim: Box::new(victim::Midas::default()), placement: placement::by_name("midas") });
        let none = wa(by_name("greedy/none").expect("known"));
        assert!(together < apart && apart < none, "{together} {apart} {none}");
    }
}
