//! Metadata: the key tree, the node table, the segment table and the checkpoint that names them.

pub mod tree;
pub mod view;
pub mod volume;
