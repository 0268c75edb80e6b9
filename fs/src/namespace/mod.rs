//! Files and directories as POSIX has them, on top of `meta`.

pub mod api;
pub mod reference;
