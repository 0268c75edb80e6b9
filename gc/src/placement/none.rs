//! No separation: one class for all.

use super::{MoveFacts, Placement, WriteFacts};

/// One class.
#[derive(Clone, Copy, Debug)]
pub struct NoSeparation;

impl Placement for NoSeparation {
    fn name(&self) -> &'static str {
        "none"
    }

    fn classes(&self) -> u8 {
        1
    }

    fn user_write(&mut self, _w: &WriteFacts) -> u8 {
        0
    }

    fn cleaning_write(&mut self, _m: &MoveFacts) -> u8 {
        0
    }
}
