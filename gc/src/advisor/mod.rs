//! The advisor: a model in a process of its own, and the daemon's side of it (the model proxy).
pub mod protocol;
pub mod region;
pub(crate) mod ring;
