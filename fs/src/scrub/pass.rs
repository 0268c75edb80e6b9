//! One pass over everything that is live, in pieces of about a mebibyte. Its position is a stage and a number or a key, so a pass can rest as long
//! as it likes while everything moves.

use crate::error::Result;
use crate::format::key::Key;
use crate::fsck::Finding;
use crate::meta::volume::Volume;
use crate::types::BLOCK_SIZE;

use super::tally::{Summary, Tally, VisitFn};
use super::{data, metadata};

/// Where a pass goes on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Position {
    #[default]
    Slots,
    /// At this leaf of the node table, and the nodes that it names.
    Nodes(u64),
    /// At this leaf of the segment table.
    Segments(u64),
    /// At the first extent from this key on.
    Data(Key),
    End,
}

impl Position {
    fn stage(self) -> &'static str {
        match self {
            Self::Slots => "superblock",
            Self::Nodes(_) => "nodes",
            Self::Segments(_) => "segments",
            Self::Data(_) => "data",
            Self::End => "end",
        }
    }
}

/// A pass and what it has seen.
#[derive(Default)]
pub struct Pass {
    position: Position,
    tally: Tally,
}

impl Pass {
    /// A pass that tells `visit` of every block that it verifies.
    pub fn told_to(visit: VisitFn) -> Self {
        Self { tally: Tally { visit: Some(visit), ..Tally::default() }, ..Self::default() }
    }

    /// Verifies the next piece; false if that was the last one. An error ends the pass: the mount itself is not fit to go on.
    pub fn step(&mut self, volume: &Volume) -> Result<bool> {
        let tally = &mut self.tally;
        self.position = match self.position {
            Position::Slots => {
                metadata::verify_slots(volume, tally)?;
                Position::Nodes(0)
            }
            Position::Nodes(leaf) => {
                metadata::verify_nodes(volume, leaf, tally)?.map_or(Position::Segments(0), Position::Nodes)
            }
            Position::Segments(leaf) => {
                metadata::verify_segments(volume, leaf, tally)?.map_or(Position::Data(Key::MIN), Position::Segments)
            }
            Position::Data(key) => data::verify(volume, key, tally)?.map_or(Position::End, Position::Data),
            Position::End => Position::End,
        };
        let state = volume.state.read();
        let totals = &state.totals;
        tally.summary.live_bytes = (totals.data_blocks + totals.node_blocks + totals.table_blocks) * BLOCK_SIZE as u64;
        tally.summary.stage = self.position.stage().into();
        Ok(self.position != Position::End)
    }

    /// Runs to the end.
    pub fn run(&mut self, volume: &Volume) -> Result<()> {
        while self.step(volume)? {}
        Ok(())
    }

    /// Bytes read so far.
    pub fn bytes(&self) -> u64 {
        self.tally.summary.read_bytes
    }

    pub fn summary(&self) -> Summary {
        self.tally.summary.clone()
    }

    /// The findings that were kept.
    pub fn findings(&self) -> &[Finding] {
        &self.tally.findings
    }
}
