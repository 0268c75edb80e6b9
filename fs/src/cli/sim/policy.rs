//! Pairs of policies by name: fixed rules, the models, controls that must gain nothing, and oracles that know the future.

use std::str::FromStr;
use std::sync::Arc;

use gleanfs_gc::features::PlacementRow;
use gleanfs_gc::learn::Online;
use gleanfs_gc::pair;
use gleanfs_gc::placement::{self, Placement};
use gleanfs_gc::sim::oracle::{Future, Oracle};
use gleanfs_gc::train::ShuffledRows;
use gleanfs_gc::victim::{self, VictimPolicy};
use serde::Serialize;

use super::models::Models;

/// The pairs that are compared when none is named.
pub const DEFAULTS: &str = "greedy/none,fifo/none,random/none,d-choices/none,windowed-greedy/none,cost-benefit/none,cost-age/none,\
     f2fs/user-cleaner,atgc/user-cleaner,cost-age/user-cleaner,cost-age/dac,cost-age/sfs,midas/midas,cost-age/sepbit,cost-age/ewma,\
     cost-age-class/ewma,cost-age-class/learned,learned/learned,cost-age/fk,cost-age/geometric";

/// What a pair stands for in a comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    Rule,
    Model,
    /// A model whose knowledge has been taken away.
    Control,
    Oracle,
}

/// `VICTIM/PLACEMENT`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    pub name: String,
    victim: Victim,
    placement: Placing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Victim {
    Fixed,
    Learned,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Placing {
    Fixed,
    Online,
    Learned,
    ShuffledRows,
    Constant,
    Fk,
    Geometric,
}

/// Names beside those of fixed rules.
const PLACINGS: [(&str, Placing); 6] = [
    ("online", Placing::Online),
    ("learned", Placing::Learned),
    ("shuffled-rows", Placing::ShuffledRows),
    ("constant", Placing::Constant),
    ("fk", Placing::Fk),
    ("geometric", Placing::Geometric),
];

/// What policies need to know beyond what they are told write by write.
pub struct Surroundings<'a> {
    pub models: &'a Models,
    pub segment_blocks: u32,
    pub seed: u64,
    /// The load's future, for those that may know it.
    pub future: &'a dyn Fn() -> Arc<Future>,
}

impl FromStr for Pair {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let Some((victims, placements)) = name.split_once('/') else {
            return Err(format!("'{name}' is not VICTIM/PLACEMENT, like cost-age/sepbit"));
        };
        let victim = match victims {
            "learned" => Victim::Learned,
            _ if victim::NAMES.contains(&victims) => Victim::Fixed,
            _ => return Err(format!("no victim policy {victims}; there are {}, learned", victim::NAMES.join(", "))),
        };
        let placement = match PLACINGS.iter().find(|(name, _)| *name == placements) {
            Some((_, placing)) => *placing,
            None if placement::NAMES.contains(&placements) => Placing::Fixed,
            None => {
                let others = PLACINGS.map(|(name, _)| name).join(", ");
                let rules = placement::NAMES.join(", ");
                return Err(format!("no placement policy {placements}; there are {rules}, {others}"));
            }
        };
        Ok(Self { name: name.to_owned(), victim, placement })
    }
}

impl Pair {
    pub fn kind(&self) -> Kind {
        match (self.victim, self.placement) {
            (_, Placing::Fk | Placing::Geometric) => Kind::Oracle,
            (_, Placing::ShuffledRows | Placing::Constant) => Kind::Control,
            (Victim::Learned, _) | (_, Placing::Learned | Placing::Online) => Kind::Model,
            (Victim::Fixed, Placing::Fixed) => Kind::Rule,
        }
    }

    /// A fresh pair.
    pub fn make(&self, around: &Surroundings<'_>) -> (Box<dyn VictimPolicy>, Box<dyn Placement>) {
        // The rules that belong together are made together.
        if let Ok(pair::Pair { victim, placement: Some(placement) }) = pair::by_name(&self.name) {
            return (victim, placement);
        }
        let (victims, placements) = self.name.split_once('/').expect("a pair's name has two halves");
        let victim = match self.victim {
            Victim::Learned => Box::new(victim::Learned::new(around.models.victim.clone())),
            Victim::Fixed => victim::by_name(victims).expect("the name was looked up when it was read"),
        };
        (victim, self.place(placements, around))
    }

    fn place(&self, name: &str, around: &Surroundings<'_>) -> Box<dyn Placement> {
        let model = || around.models.placement.clone();
        match self.placement {
            Placing::Fixed => placement::by_name(name).expect("the name was looked up when it was read"),
            Placing::Online => Box::new(Online::new(around.seed)),
            Placing::Learned => Box::new(placement::Learned::new(model()).with_whole_files()),
            Placing::ShuffledRows => {
                let shuffled = ShuffledRows::new(model(), around.seed);
                Box::new(placement::Learned::new(shuffled).with_whole_files())
            }
            Placing::Constant => {
                let answer = model().constant();
                Box::new(placement::Learned::new(move |_: &PlacementRow| answer))
            }
            Placing::Fk => Box::new(Oracle::fk((around.future)(), around.segment_blocks)),
            Placing::Geometric => Box::new(Oracle::geometric((around.future)(), around.segment_blocks)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_pairs_and_tell_what_they_stand_for() {
        let pairs: Vec<Pair> = DEFAULTS.split(',').map(|name| name.parse().expect(name)).collect();
        let of = |kind| pairs.iter().filter(|pair| pair.kind() == kind).count();
        assert_eq!((of(Kind::Model), of(Kind::Control), of(Kind::Oracle)), (2, 0, 2));
        assert_eq!("greedy/shuffled-rows".parse::<Pair>().map(|pair| pair.kind()), Ok(Kind::Control));
        for wrong in ["greedy", "best/none", "greedy/best", ""] {
            assert!(wrong.parse::<Pair>().is_err(), "{wrong}");
        }
    }
}
