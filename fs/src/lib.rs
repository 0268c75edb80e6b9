//! gleanfs: a copy-on-write log-structured filesystem in user space.
//!
//! Imports point one way: `fuse -> namespace -> meta -> log -> device`; `format` is pure bytes and may be
//! imported by any of them; the cleaner sits beside `namespace`, above `meta` and `log`.

pub mod cleaner;
pub mod cli;
pub mod control;
pub mod daemon;
pub mod device;
pub mod dump;
pub mod error;
pub mod format;
pub mod fsck;
pub mod fuse;
pub mod lock_order;
pub mod log;
pub mod meta;
pub mod namespace;
pub mod proxy;
pub mod repair;
pub mod scrub;
pub mod supervisor;
pub mod trial;
pub mod types;
