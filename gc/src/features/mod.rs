//! Features by name: the one definition of what a model may see.
//!
//! A model lists the names that it wants, so a model goes on working when features are added. Names are never reused for
//! something else; a change of meaning is a new name. `models/schema.json` is this file's export for outsiders, and a test
//! keeps the two equal.
//!
//! Lifetimes and ages are logarithms of shares of the live blocks: `log2(blocks written / live blocks)`, clamped to
//! [`LOG2_MIN`]..=[`LOG2_MAX`]. So a model that was fitted to a small volume means the same on a large one. An unknown one is [`LOG2_MAX`].

pub mod history;
mod kind;
mod likeness;
mod lives;
mod placement;
mod victim;

pub use kind::FileKind;
pub use likeness::{Likeness, LikenessMask, rounded};
pub(crate) use placement::forget_table;
pub use placement::{PLACEMENT, PlacementFeature, PlacementRow};
pub use victim::{VICTIM, VictimContext, VictimFeature, VictimRow};

use serde::Serialize;

use crate::placement::relative_log2;

/// Version of the schema and of the models' contract (`gleanfs.schema` in a model's metadata).
pub const SCHEMA: u32 = 1;
/// Least value of a relative logarithm: far below the shortest class of lifetime, and within what a small volume knows, so that a model that was
/// fitted to one meets nothing new on a large one.
pub const LOG2_MIN: f32 = -12.0;
/// Largest value of a relative logarithm, and that of an unknown one.
pub const LOG2_MAX: f32 = 6.0;

/// A feature as outsiders see it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Feature {
    pub name: &'static str,
    pub unit: Unit,
    /// Least and largest value.
    pub range: [f32; 2],
    pub meaning: &'static str,
}

/// What a feature's number counts.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// log2 of user-written blocks as a share of the live blocks.
    Log2OfLiveBlocks,
    /// log2 of a count of blocks.
    Log2Blocks,
    /// 0 or 1.
    Flag,
    /// 0 to 1.
    Share,
    /// A class of lifetime, 0 the shortest, divided by 8.
    Class,
}

/// What a model of one kind gets and gives.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct KindSchema {
    pub features: &'static [Feature],
    /// Meaning of the output `y`.
    pub output: &'static str,
}

/// The whole contract, as exported.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Schema {
    pub schema: u32,
    pub log2_min: f32,
    pub log2_max: f32,
    pub placement: KindSchema,
    pub victim: KindSchema,
}

/// The contract of this version.
pub const CONTRACT: Schema = Schema {
    schema: SCHEMA,
    log2_min: LOG2_MIN,
    log2_max: LOG2_MAX,
    placement: KindSchema {
        features: &PLACEMENT,
        output: "log2 of (residual lifetime in user-written blocks / live blocks); smaller is hotter",
    },
    victim: KindSchema {
        features: &VICTIM,
        output: "benefit of cleaning the segment now, any scale; larger is better",
    },
};

/// The contract as JSON, byte for byte what `models/schema.json` holds.
pub fn schema_json() -> String {
    // Plain structs of strings and finite numbers: there is nothing to fail.
    serde_json::to_string_pretty(&CONTRACT).map(|s| s + "\n").unwrap_or_default()
}

/// Positions of named features within a kind's rows; the first name that is unknown is the error.
pub fn select<'n>(kind: &KindSchema, names: impl IntoIterator<Item = &'n str>) -> Result<Vec<usize>, &'n str> {
    names.into_iter().map(|n| kind.features.iter().position(|f| f.name == n).ok_or(n)).collect()
}

/// log2 of `blocks / live_blocks` within the range of a feature.
fn log2_of_live(blocks: u64, live_blocks: u64) -> f32 {
    relative_log2(blocks, live_blocks).clamp(LOG2_MIN, LOG2_MAX)
}

const fn log2_of_live_feature(name: &'static str, meaning: &'static str) -> Feature {
    Feature { name, unit: Unit::Log2OfLiveBlocks, range: [LOG2_MIN, LOG2_MAX], meaning }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exported_schema_is_this_one() {
        let shipped = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../models/schema.json"));
        assert!(
            shipped == schema_json(),
            "regenerate: cargo run --release -p gleanfs-gc --example train -- --schema models/"
        );
    }

    #[test]
    fn names_are_unique_and_found() {
        for kind in [&CONTRACT.placement, &CONTRACT.victim] {
            let names: Vec<_> = kind.features.iter().map(|f| f.name).collect();
            assert_eq!(select(kind, names.iter().copied()), Ok((0..names.len()).collect()));
            for f in kind.features {
                assert!(f.range[0] < f.range[1] && !f.name.contains(','));
            }
        }
        assert_eq!(select(&CONTRACT.victim, ["utilization", "mood"]), Err("mood"));
    }
}
