//! User writes and cleaning writes apart: what survived a cleaning is likely to be cold.
//!
//! The simplest separation (SepGC in Van Houdt, "On the Necessity of Hot and Cold Data Identification to Reduce the Write
//! Amplification in Flash-based SSDs", Performance Evaluation 82, 2014, and in SepBIT's comparisons).

use super::{MoveFacts, Placement, WriteFacts};

/// Class 0 for users, class 1 for the cleaner.
#[derive(Clone, Copy, Debug)]
pub struct UserCleaner;

impl Placement for UserCleaner {
    fn name(&self) -> &'static str {
        "user-cleaner"
    }

    fn classes(&self) -> u8 {
        2
    }

    fn user_write(&mut self, _w: &WriteFacts) -> u8 {
        0
    }

    fn cleaning_write(&mut self, _m: &MoveFacts) -> u8 {
        1
    }
}
