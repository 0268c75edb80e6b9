//! Learning on the user's own load: a model that is fitted anew, again and again, to what became of recent writes.
//!
//! A fixed model meets loads that it has never seen; what is learnt here is forgotten again after eight times as many writes as there are live blocks.
//!
//! | file | duty |
//! |---|---|
//! | `watched` | writes that are watched until their blocks die |
//! | `pupil` | what is learnt from: features, writes, deaths, as they come |
//! | `online` | learning and applying in one, for the simulator |
//! | `exam` | what a choice of classes is worth on writes that came later |
//! | `trainer` | fits, examines, offers: what a trainer process does, without the process |
//! | `talk` | what trainer and daemon say to each other |
//! | `process` | the process: a ring of telemetry in, offers out |

mod exam;
mod online;
mod process;
mod pupil;
mod talk;
mod trainer;
mod watched;

pub use online::Online;
pub use process::{TrainerProcess, trainer_main};
pub use talk::{Answer, Line, ModelFollows, Report};
pub use trainer::learned_name;

/// Fits per write of all live blocks.
const FITS: u64 = 2;
/// Fewer samples teach nothing.
const SAMPLES_MIN: usize = 500;
/// log2 of the expected lifetime, as a share of the live blocks, from which on a block is of the coldest class; and by how much each class below is
/// shorter. Found with the simulator. An expected logarithm lies below the logarithm of the mean, so the bounds lie lower than those
/// of [`crate::placement::lifetime_class`].
const COLDEST: f32 = 0.2;
const CLASS_WIDTH: f32 = 1.5;
