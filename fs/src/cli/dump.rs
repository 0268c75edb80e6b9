//! `gleanfs dump`: shows the structures of an image, for people who want to look inside.

use std::path::PathBuf;

use super::assemble;
use super::failure::Result;
use crate::types::{Ino, NodeId, SegNo};

/// Show a structure of an image as text.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  gleanfs dump disk.img superblock      both slots, and which of them counts
  gleanfs dump disk.img segments        every segment that was ever used
  gleanfs dump disk.img inode 1         the root directory's items")]
pub struct Args {
    /// Device, image file or zoned image; not changed
    path: PathBuf,
    #[command(subcommand)]
    what: What,
}

/// A structure to show.
#[derive(Clone, Debug, PartialEq, Eq, clap::Subcommand)]
pub enum What {
    /// The superblock slots
    Superblock,
    /// The newest checkpoint
    Checkpoint,
    /// The segment table
    Segments,
    /// One segment's chunks and what they hold
    Segment { number: u32 },
    /// The node table
    Nodes,
    /// Every item of the key tree that belongs to an inode
    Inode { number: u64 },
    /// One node of the key tree
    Node { number: u64 },
    /// The whole key tree
    Tree,
    /// The log after the checkpoint
    Log,
}

impl From<&What> for crate::dump::What {
    fn from(what: &What) -> Self {
        match *what {
            What::Superblock => Self::Superblock,
            What::Checkpoint => Self::Checkpoint,
            What::Segments => Self::Segments,
            What::Segment { number } => Self::Segment(SegNo(number)),
            What::Nodes => Self::Nodes,
            What::Node { number } => Self::Node(NodeId(number)),
            What::Inode { number } => Self::Inode(Ino(number)),
            What::Tree => Self::Tree,
            What::Log => Self::Log,
        }
    }
}

pub fn run(arguments: &Args) -> Result<()> {
    assemble::dump(&arguments.path, (&arguments.what).into(), &mut std::io::stdout().lock())
}
