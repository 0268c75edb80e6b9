//! MiDAS: a chain of groups whose number and sizes are found from update intervals.
//!
//! Oh et al., "MiDAS: Minimizing Write Amplification in Log-Structured Systems through Adaptive Group Number and Size Configuration",
//! FAST'24, and its published code (dgist-datalab/MiDAS, `algorithm/MiDAS`). User writes begin in group 1, or in the HOT group 0 if a two-bit counter says
//! that the block is always overwritten soon (`hot`). Each group but the last is a queue of so many segments: one that is longer is cleaned from its old end, and
//! the survivors go to the next group. The last takes the rest of the space, is cleaned where it is emptiest, and its survivors stay in it.
//!
//! Every four volumes of user writes a model of the chain (`chain`), fed with the update intervals seen (`intervals`), looks for the number and sizes of groups of least write
//! amplification; the result is adopted if it promises 5 % less than was measured. Then the live share of each group's victims is compared with
//! the prediction, and from the first group on that is off by more than 0.1 the chain goes on as before the first plan: survivors still move on a group, up to the last
//! there is, and the emptiest segment of all these is cleaned.
//!
//! What decides is in two places, [`crate::victim::Midas`] and [`crate::placement::Midas`], which share a [`Plan`]. Alone, the placement is the chain without
//! sizes, the victim greedy.
//!
//! | file | duty |
//! |---|---|
//! | `plan` | what the two share |
//! | `hot` | which blocks belong to the HOT group |
//! | `intervals` | how long versions of blocks live |
//! | `chain` | what a configuration costs |
//! | `search` | the best configuration |
//!
//! Differences to the publication. At most [`CLASSES`] groups, as many as other placements have heads, and the last is always class [`LAST`], so that nothing has to
//! be renamed when their number changes. Intervals are not sampled, because an extent says when a block was written last, nor are they counted in units of a segment, but in geometric steps. Of the intervals below
//! an age the original takes all for HOT's; here the share is measured that its counters have caught. A group that is to shrink is cleaned from its old end until it has, where the original hands its
//! oldest segments to the last group as they are.

mod chain;
mod hot;
mod intervals;
mod plan;
mod search;

pub(crate) use hot::HotBlocks;
pub(crate) use intervals::Intervals;
pub use plan::Plan;
#[cfg(test)]
pub(crate) use plan::Sizes;
pub(crate) use search::{Observed, best};

/// Groups at most, the HOT group among them.
pub const CLASSES: u8 = 6;
/// The HOT group.
pub const HOT: u8 = 0;
/// The group that recycles into itself.
pub const LAST: u8 = CLASSES - 1;
