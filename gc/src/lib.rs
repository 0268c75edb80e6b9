//! Policies, features, placement, the advisor's protocol and worker, and the trace simulator.
//!
//! This crate sees plain-data snapshots of segments and writes and answers with choices. It knows
//! nothing of devices, trees or FUSE, so the same code runs in the mounted filesystem, in the
//! simulator and in unit tests.

pub mod features;
pub mod ghost;
pub mod index;
pub mod learn;
pub mod midas;
pub mod pair;
pub mod placement;
pub mod rng;
pub mod telemetry;

pub mod advisor;
pub mod runtime;
pub mod segment;
pub mod sim;
pub mod train;
pub mod victim;
pub mod words;
