//! Telemetry: what a mount's placement and cleaner were told, what they chose, and what came of it.
//!
//! | file | duty |
//! |---|---|
//! | `event` | one event and its 64 bytes |
//! | `ring` | a bounded ring of events in shared memory, from the daemon to one reader, who is not trusted |
//! | `taps` | the rings of a mount |
//! | `file` | events in a file |
//!
//! Facts are recorded, not features: features are computed from them by the same code wherever they are needed ([`crate::features`]), so a recording
//! serves models whose features did not exist when it was made.

mod event;
mod file;
mod ring;
mod taps;

pub use event::{By, Choice, EVENT_BYTES, Event, NotAnEvent};
pub use file::{FileError, HEADER_BYTES, Header, MAGIC, Writer};
pub use ring::{RING_EVENTS, RingReader, RingWriter, Taken};
pub use taps::{Tap, Taps};
