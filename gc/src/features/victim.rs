//! Features of sealed segments.

use super::{Feature, LOG2_MAX, LOG2_MIN, Unit, log2_of_live, log2_of_live_feature};
use crate::segment::SegmentFacts;

/// Position of a feature in a [`VictimRow`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum VictimFeature {
    Utilization,
    Age,
    DataAge,
    Idle,
    Class,
    Capacity,
    MeanResidual,
    FreeSegments,
}

const COUNT: usize = VictimFeature::FreeSegments as usize + 1;

/// One value per feature of [`VICTIM`], in its order.
pub type VictimRow = [f32; COUNT];

/// The features of victims, in the order of [`VictimFeature`].
pub const VICTIM: [Feature; COUNT] = [
    Feature { name: "utilization", unit: Unit::Share, range: [0.0, 1.0], meaning: "live share of the segment" },
    log2_of_live_feature("age", "since the segment was sealed"),
    log2_of_live_feature("data_age", "since users wrote its blocks, on average"),
    log2_of_live_feature("idle", "since a block of it died last"),
    Feature { name: "class", unit: Unit::Class, range: [0.0, 1.0], meaning: "class of the log head that filled it" },
    Feature {
        name: "capacity",
        unit: Unit::Log2Blocks,
        range: [0.0, 32.0],
        meaning: "blocks that the segment can hold",
    },
    log2_of_live_feature(
        "mean_residual",
        "mean predicted residual lifetime of its blocks; unknown without a placement model",
    ),
    Feature { name: "free_segments", unit: Unit::Share, range: [0.0, 1.0], meaning: "free segments as a share of all" },
];

/// What a victim row needs beyond the segment.
#[derive(Clone, Copy, Debug, Default)]
pub struct VictimContext {
    /// Write clock.
    pub now: u64,
    /// Live data blocks of the filesystem.
    pub live_blocks: u64,
    /// Free segments as a share of all, 0 to 1.
    pub free_share: f32,
}

impl VictimContext {
    /// The row of a segment; `mean_residual` is a placement model's prediction in that model's unit.
    pub fn row(&self, s: &SegmentFacts, mean_residual: Option<f32>) -> VictimRow {
        let since = |clock: u64| log2_of_live(self.now.saturating_sub(clock), self.live_blocks);
        [
            (s.utilization() as f32).min(1.0),
            since(s.seal_clock),
            since(s.write_clock),
            since(s.invalidate_clock),
            f32::from(s.class.min(8)) / 8.0,
            (s.capacity.max(1) as f32).log2(),
            mean_residual.filter(|r| !r.is_nan()).map_or(LOG2_MAX, |r| r.clamp(LOG2_MIN, LOG2_MAX)),
            self.free_share.clamp(0.0, 1.0),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::VictimFeature::*;
    use super::*;

    #[test]
    fn the_row_is_in_the_order_of_the_names_and_in_range() {
        let s = SegmentFacts {
            live: 128,
            capacity: 512,
            class: 4,
            seal_clock: 512,
            write_clock: 0,
            invalidate_clock: 1023,
            ..Default::default()
        };
        let row = VictimContext { now: 1024, live_blocks: 1024, free_share: 0.1 }.row(&s, Some(f32::NAN));
        assert_eq!(row, [0.25, -1.0, 0.0, -10.0, 0.5, 9.0, 6.0, 0.1]);
        assert_eq!(VICTIM[Capacity as usize].name, "capacity");
        assert_eq!(VICTIM[FreeSegments as usize].name, "free_segments");
        let odd = VictimContext::default()
            .row(&SegmentFacts { class: 200, seal_clock: u64::MAX, ..Default::default() }, Some(1e30));
        for (value, f) in odd.iter().zip(&VICTIM) {
            assert!((f.range[0]..=f.range[1]).contains(value), "{} = {value}", f.name);
        }
    }
}
